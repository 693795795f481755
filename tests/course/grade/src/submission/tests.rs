//! Submissions as students' tools pack them.

use super::*;
use crate::permitted::Permitted;
use std::io::{Cursor, Write};
use std::os::unix::fs::symlink;
use zip::unstable::write::FileOptionsExt;
use zip::write::SimpleFileOptions;

mod changes;
mod packing;

/// A file, with its path.
type Member<'a> = (&'a str, &'a [u8]);

const FORK: &str = "lib/pager/src/fork.rs";
const FAULT: &str = "lib/pager/src/fault.rs";
/// The files of the reference.
const REFERENCE: [&str; 9] = [
    FORK,
    FAULT,
    "lib/libos/src/fork.rs",
    "lib/libos/src/regions.rs",
    "lib/pager/src/ranges.rs",
    "lib/pager/src/lib.rs",
    "kern/vm/src/build.rs",
    "build.rs",
    "user/demo/src/bin/squares.rs",
];
/// The files of a lab in a student's version.
const BOTH: [Member<'static>; 2] = [(FORK, b"my fork"), (FAULT, b"my fault")];

struct Course {
    reference: Files,
    permitted: Permitted,
    partial: bool,
}

impl Course {
    fn new(files: &[&str]) -> Course {
        let patterns: Vec<String> = files.iter().map(ToString::to_string).collect();
        Course {
            reference: REFERENCE.iter().map(|path| (path.to_string(), b"one\ntwo\n".to_vec())).collect(),
            permitted: Permitted::new(&patterns).unwrap(),
            partial: false,
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted::new(&self.reference, &self.permitted, self.partial)
    }

    fn read(&self, path: &Path) -> Submission {
        Submission::read(path, &self.wanted()).unwrap()
    }

    fn read_file(&self, name: &str, data: &[u8]) -> Submission {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, data).unwrap();
        self.read(&path)
    }

    fn read_directory(&self, members: &[Member]) -> Submission {
        let directory = tempfile::tempdir().unwrap();
        for (name, data) in members {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
        self.read(directory.path())
    }
}

/// The course of these tests, with a lab of two files.
fn lab() -> Course {
    Course::new(&[FORK, FAULT])
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in members {
        let mut header = tar::Header::new_ustar();
        // As an attacker would: the library itself refuses such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, *data).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(data).unwrap();
    gzip.finish().unwrap()
}

fn zip_of(members: &[Member]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        if name.ends_with(['/', '\\']) {
            archive.add_directory(*name, SimpleFileOptions::default()).unwrap();
        } else {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            archive.write_all(data).unwrap();
        }
    }
    archive.finish().unwrap().into_inner()
}

/// A ZIP archive, byte by byte: with raw names, sizes behind the data, and Deflate64 blocks without compression.
fn raw_zip(members: &[(&[u8], &[u8])], method: u16) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let len = data.len() as u16;
        let packed = match method {
            0 => data.to_vec(),
            _ => [&[1], &len.to_le_bytes()[..], &(!len).to_le_bytes(), data].concat(),
        };
        let sizes = [crc.sum(), packed.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat();
        let at = (archive.len() as u32).to_le_bytes();
        // The common fields of both headers: version, flags (sizes follow), method, time, date.
        let both = [20, 8, method, 0, 0].map(u16::to_le_bytes).concat();
        let lengths = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
        archive.extend([b"PK\x03\x04", &both[..], &[0; 12], &lengths, name, &packed].concat());
        archive.extend([b"PK\x07\x08", &sizes[..]].concat());
        let head = [b"PK\x01\x02\x14\0", &both[..], &sizes, &lengths].concat();
        directory.extend([&head[..], &[0; 10], &at, name].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let place = [directory.len() as u32, archive.len() as u32].map(u32::to_le_bytes).concat();
    [&archive[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &place, &[0; 2]].concat()
}

fn names(submission: &Submission) -> Vec<&str> {
    submission.files.keys().map(String::as_str).collect()
}

fn status(submission: &Submission) -> Option<Status> {
    submission.problem.as_ref().map(|problem| problem.status)
}

fn why(submission: &Submission) -> &str {
    submission.problem.as_ref().map_or("", |problem| &problem.why)
}

/// Asserts that all files of the lab are there, without any remark.
#[track_caller]
fn is_whole(submission: &Submission) {
    let expected: Files = BOTH.iter().map(|(path, data)| (path.to_string(), data.to_vec())).collect();
    let found = submission.files.iter().filter(|(path, _)| expected.contains_key(*path));
    let found: Files = found.map(|(path, data)| (path.clone(), data.clone())).collect();
    assert!(found == expected && submission.problem.is_none(), "{submission:#?}");
    assert!(submission.refused.is_empty() && submission.left_out.is_empty(), "{submission:#?}");
}

/// The files of the lab with a prefix for each.
fn behind(front: &str) -> Vec<(String, &'static [u8])> {
    BOTH.iter().map(|(name, data)| (format!("{front}{name}"), *data)).collect()
}

fn members<'a>(owned: &'a [(String, &'static [u8])]) -> Vec<Member<'a>> {
    owned.iter().map(|(name, data)| (name.as_str(), *data)).collect()
}

#[test]
fn archives_of_macos() {
    let mut all = vec![("fork/", &b""[..]), ("fork/.DS_Store", b"x"), ("__MACOSX/._fork", b"x")];
    let inner = behind("fork/");
    all.extend(members(&inner));
    all.extend([("__MACOSX/fork/lib/pager/src/._fork.rs", &b"x"[..]), ("__MACOSX/fork/._.DS_Store", b"x")]);
    let submission = lab().read_file("ann.zip", &zip_of(&all));
    is_whole(&submission);
    assert_eq!(submission.read_as, ["read as the whole tree: fork/"]);
    let all = [("./lib/pager/src/._fork.rs", &b"x"[..]), ("./._lib", b"x"), BOTH[0], BOTH[1]];
    is_whole(&lab().read_file("ann.tgz", &gzip(&tar_of(&all))));
}

#[test]
fn archives_of_powershell() {
    let fork = &b"work\\lib\\pager\\src\\fork.rs"[..];
    let fault = &b"work\\lib\\pager\\src\\fault.rs"[..];
    let submission = lab().read_file("ann.zip", &raw_zip(&[(fork, BOTH[0].1), (fault, BOTH[1].1)], 0));
    is_whole(&submission);
    assert_eq!(submission.read_as, ["read as the whole tree: work/"]);
    // Some tools unpack that into files with such names, where a backslash is a letter.
    is_whole(&lab().read_directory(&[("lib\\pager\\src\\fork.rs", BOTH[0].1), BOTH[1]]));
    for evil in
        [&b"..\\..\\lib\\pager\\src\\fork.rs"[..], b"\\lib\\pager\\src\\fork.rs", b"C:\\lib\\pager\\src\\fork.rs"]
    {
        let submission = lab().read_file("ann.zip", &raw_zip(&[(evil, b"evil"), (fault, BOTH[1].1)], 0));
        assert_eq!((names(&submission), status(&submission)), (vec![FAULT], Some(Status::Refused)));
    }
}

#[test]
fn files_without_their_directories() {
    let flat = [("fork.rs", BOTH[0].1), ("fault.rs", BOTH[1].1)];
    for submission in [
        lab().read_directory(&flat),
        lab().read_file("ann.zip", &zip_of(&flat)),
        lab().read_file("ann.tar", &tar_of(&[("./pager/src/fork.rs", BOTH[0].1), ("./src/fault.rs", BOTH[1].1)])),
    ] {
        is_whole(&submission);
        assert!(submission.read_as[1].starts_with("read as lib/pager/src/fork.rs: "), "{submission:#?}");
    }
    assert_eq!(lab().read_directory(&flat).read_as[1], "read as lib/pager/src/fork.rs: fork.rs");
    // The tree has a file of this name at its top, but students may change another one.
    let build = Course::new(&["kern/vm/src/build.rs"]);
    let submission = build.read_directory(&[("build.rs", b"mine")]);
    assert_eq!(names(&submission), ["kern/vm/src/build.rs"]);
    let submission = build.read_directory(&[("build.rs", b"not mine"), ("kern/vm/src/build.rs", b"mine")]);
    assert_eq!(submission.files["kern/vm/src/build.rs"], b"mine");
    assert!(submission.files["build.rs"] == b"not mine" && submission.left_out.is_empty(), "{submission:#?}");
}

#[test]
fn names_that_several_files_have_are_not_guessed() {
    let both = Course::new(&["lib/libos/src/**", "lib/pager/src/**"]);
    let submission = both.read_directory(&[("fork.rs", b"mine"), ("fault.rs", b"mine")]);
    assert_eq!(names(&submission), [FAULT]);
    let said = "fork.rs: it could be any of lib/libos/src/fork.rs, lib/pager/src/fork.rs: put it into its directory";
    assert_eq!(submission.left_out, [said]);
    let other = lab().read_directory(&[("libos/src/fork.rs", b"not the lab's"), ("fault.rs", b"mine")]);
    assert_eq!(names(&other), [FAULT]);
    assert_eq!(other.left_out, ["libos/src/fork.rs: lib/libos/src/fork.rs may not be changed"]);
    let copies = lab().read_directory(&[("libos/fork.rs", b"1"), ("pager/fork.rs", b"2"), ("fault.rs", b"3")]);
    assert_eq!(status(&copies), Some(Status::Refused));
    assert!(why(&copies).ends_with("there are several, and they differ: libos/fork.rs, pager/fork.rs"));
}

#[test]
fn directories_of_learning_platforms() {
    let zip = zip_of(&members(&behind("project/")));
    let submission = lab().read_directory(&[("fork.ZIP", &zip), ("onlinetext.html", b"<p>here it is</p>")]);
    is_whole(&submission);
    assert_eq!(submission.read_as, ["read as the whole tree: fork.ZIP/project/"]);
    let nested = zip_of(&[("fork.tar.gz", &gzip(&tar_of(&BOTH)))]);
    is_whole(&lab().read_file("ann.zip", &nested));
    let deeper = zip_of(&[("a.zip", &nested)]);
    let submission = lab().read_file("ann.zip", &deeper);
    assert_eq!(status(&submission), Some(Status::Refused));
    assert!(why(&submission).contains("a.zip/fork.tar.gz: an archive in an archive in an archive"));
}

#[test]
fn trees_below_other_directories() {
    for front in ["work/", "ann/project/faultline-handout/", "lib/", "user/a/", "src/lib/pager/"] {
        let tree = behind(front);
        let all = [members(&tree), vec![("notes.pdf", b"%PDF"), ("work/Cargo.toml", b"")]].concat();
        let submission = lab().read_file("s.tar", &tar_of(&all));
        is_whole(&submission);
        assert_eq!(submission.read_as, [format!("read as the whole tree: {front}")]);
        is_whole(&lab().read_directory(&all));
    }
    assert!(lab().read_directory(&BOTH).read_as.is_empty());
    let other = behind("Work/").into_iter().map(|(name, data)| (name.to_uppercase(), data)).collect::<Vec<_>>();
    let submission = lab().read_directory(&members(&other));
    is_whole(&submission);
    assert_eq!(submission.read_as[1], format!("read as {FORK}: WORK/LIB/PAGER/SRC/FORK.RS"));
}

#[test]
fn what_tools_make_is_left_out() {
    let built = vec![b'x'; unpack::FILE_MOST as usize];
    let mut all = vec![
        ("w/target/debug/a.rs", &built[..]),
        ("w/target/grade/build-0/tree/lib/pager/src/fork.rs", b"old"),
        ("w/.git/lib/pager/src/fork.rs", b"old"),
        ("w/.vscode/settings.json", b"{}"),
        ("w/.history/lib/pager/src/fork.rs", b"old"),
        ("w/Thumbs.db", b""),
        ("w/lib/desktop.ini", b""),
        ("w/lib/pager/src/fork.rs~", b"old"),
        ("w/lib/pager/src/.fork.rs.swp", b"old"),
        ("w/film.mp4", &built),
    ];
    let tree = behind("w/");
    all.extend(members(&tree));
    is_whole(&lab().read_directory(&all));
    is_whole(&lab().read_file("s.tar", &tar_of(&all)));
    is_whole(&lab().read_file("s.zip", &zip_of(&all)));
    // A module may have such a name.
    let module = Course::new(&["lib/libos/src/**"]).read_directory(&[("lib/libos/src/target/mod.rs", b"")]);
    assert_eq!(names(&module), ["lib/libos/src/target/mod.rs"]);
}

#[test]
fn two_copies_of_a_file() {
    let (old, new) = (behind("old/"), behind("new/"));
    let alike = [members(&old), members(&new)].concat();
    is_whole(&lab().read_directory(&alike));
    let differ = [members(&old), vec![("new/lib/pager/src/fork.rs", b"other")]].concat();
    let submission = lab().read_directory(&differ);
    assert_eq!(status(&submission), Some(Status::Refused));
    let said = "there are several, and they differ: new/lib/pager/src/fork.rs, old/lib/pager/src/fork.rs";
    assert_eq!(why(&submission), format!("{FORK}: {said}"));
    // A file in its right place counts, and the other one is named.
    for copy in ["backup/lib/pager/src/fork.rs", "fork.rs", "backup/fork.rs"] {
        let submission = lab().read_directory(&[BOTH[0], BOTH[1], (copy, b"other")]);
        assert_eq!((&submission.files[FORK][..], status(&submission)), (BOTH[0].1, None));
        assert_eq!(submission.left_out, [format!("{copy}: another {FORK} is there, and differs: {FORK}")]);
    }
}

#[test]
fn names_that_something_was_added_to() {
    let one = lab().read_directory(&[("fork (1).rs", BOTH[0].1), ("leeann_1_22_fault-1.rs", BOTH[1].1)]);
    is_whole(&one);
    assert_eq!(one.read_as[1], "read as lib/pager/src/fork.rs: fork (1).rs");
    let two = lab().read_directory(&[("fork (1).rs", b"1"), ("fork (2).rs", b"2"), ("fault.rs", b"3")]);
    assert_eq!(status(&two), Some(Status::Refused));
    assert!(why(&two).ends_with("they differ: fork (1).rs, fork (2).rs"), "{two:#?}");
    let own = lab().read_directory(&[("fork.rs", BOTH[0].1), ("fork (1).rs", b"other"), ("fault.rs", BOTH[1].1)]);
    assert_eq!((&own.files[FORK][..], status(&own)), (BOTH[0].1, None));
    assert_eq!(own.left_out, [format!("fork (1).rs: there is a file with the name {FORK}")]);
    // Where new files are permitted, it would be one.
    let all = Course::new(&["lib/pager/src/**"]);
    let submission = all.read_directory(&[("lib/pager/src/fork - Copy.rs", b"mine"), (FAULT, b"mine")]);
    assert_eq!(names(&submission), [FAULT, FORK]);
}

#[test]
fn a_single_file() {
    let one = Course::new(&[FORK]);
    for name in ["fork.rs", "ann.rs", "Fork.RS", "leeann_1_22_fork.rs", "fork.rs.txt"] {
        let submission = one.read_file(name, b"mine");
        assert_eq!((names(&submission), status(&submission)), (vec![FORK], None), "{name}");
        assert_eq!(submission.read_as, [format!("read as {FORK}: {name}")]);
    }
    let of_two = lab().read_file("ann.rs", b"mine");
    assert_eq!(status(&of_two), Some(Status::FilesMissing));
    assert_eq!(of_two.left_out, ["ann.rs: no file that may be changed has this name"]);
    let other = one.read_directory(&[("solution.rs", b"mine")]);
    assert_eq!(status(&other), Some(Status::FilesMissing), "only a file by itself may have any name");
}

#[test]
fn texts_of_windows() {
    let utf16 = |text: &str| -> Vec<u8> {
        [0xfe_ff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    let submission = lab().read_directory(&[("fork.rs", &utf16("fn f() {}\r\n")), ("fault.rs", b"\xef\xbb\xbfx\r\n")]);
    assert_eq!(submission.files[FORK], b"fn f() {}\r\n");
    assert_eq!(submission.files[FAULT], b"\xef\xbb\xbfx\r\n", "the compiler reads that");
    assert!(submission.read_as.iter().any(|note| note == "read as UTF-8: fork.rs, which is UTF-16"));
    let patch = format!("--- a/{FORK}\r\n+++ b/{FORK}\r\n@@ -1,2 +1,2 @@\r\n one\r\n-two\r\n+three\r\n");
    let changes = Course { partial: true, ..lab() };
    for data in [patch.clone().into_bytes(), utf16(&patch)] {
        let submission = changes.read_file("ann.patch", &data);
        assert_eq!((&submission.files[FORK][..], submission.partial), (&b"one\nthree\n"[..], true));
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let bad: [Member; 4] = [("../up.rs", b"1"), ("/etc/x.rs", b"2"), ("lib/../../x.rs", b"3"), ("C:/x.rs", b"4")];
    let all = [&bad[..], &[("./lib/pager/src/fork.rs", BOTH[0].1), BOTH[1]]].concat();
    let submission = lab().read_file("s.tar", &tar_of(&all));
    assert_eq!((names(&submission), submission.refused.len()), (vec![FAULT, FORK], 4), "{submission:#?}");
    assert!(submission.problem.is_none());
    let mut archive = zip::ZipWriter::new_append(Cursor::new(zip_of(&all))).unwrap();
    archive.add_symlink("lib/pager/src/lib.rs", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let submission = lab().read_file("s.zip", &archive.finish().unwrap().into_inner());
    assert_eq!((names(&submission), submission.refused.len()), (vec![FAULT, FORK], 5), "{submission:#?}");
    for path in ["/lib/pager/src/fork.rs", "../lib/pager/src/fork.rs"] {
        let submission = lab().read_file("s.tar", &tar_of(&[(path, b"mine"), BOTH[1]]));
        assert_eq!(status(&submission), Some(Status::Refused));
        assert_eq!(why(&submission), format!("{path}: a path that leads elsewhere"));
    }
}

#[test]
fn links_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("s");
    fs::create_dir_all(root.join("lib/pager/src")).unwrap();
    symlink("/etc/passwd", root.join(FORK)).unwrap();
    symlink("/etc", root.join("lib/b")).unwrap();
    symlink("nowhere", root.join("dangling.rs")).unwrap();
    fs::write(root.join(FAULT), "c").unwrap();
    let submission = lab().read(&root);
    assert_eq!((names(&submission), submission.refused.len()), (vec![FAULT], 2), "{submission:#?}");
    assert_eq!(status(&submission), Some(Status::Refused));
    assert_eq!(why(&submission), format!("{FORK}: a symbolic link"));
    // With a submission of changes, the missing file would otherwise be the reference's.
    assert_eq!(status(&Course { partial: true, ..lab() }.read(&root)), Some(Status::Refused));
}

#[test]
fn what_is_too_large_is_refused() {
    let large = vec![0; unpack::FILE_MOST as usize + 1];
    let submission = lab().read_file("s.tar", &tar_of(&[(FORK, &large), BOTH[1]]));
    assert_eq!((names(&submission), submission.refused.len()), (vec![FAULT], 1));
    assert_eq!(status(&submission), Some(Status::Refused));
    // None of them is too large, but together they are, in one archive or in several.
    let names: Vec<String> = (0..17).map(|index| format!("lib/{index}.rs")).collect();
    let all: Vec<Member> = names.iter().map(|name| (name.as_str(), &large[1..])).collect();
    let halves = [gzip(&tar_of(&all[..9])), gzip(&tar_of(&all[9..]))];
    let nested = zip_of(&[("a.tgz", &halves[0]), ("b.tgz", &halves[1])]);
    for submission in [lab().read_file("s.tar", &tar_of(&all)), lab().read_file("s.zip", &nested)] {
        assert_eq!(status(&submission), Some(Status::Refused));
        assert_eq!(why(&submission), "more than 64 MiB of source files");
    }
}

#[test]
fn archives_that_are_damaged_or_strange() {
    let (zip, tar) = (zip_of(&BOTH), tar_of(&BOTH));
    let course = lab();
    let mut damaged = raw_zip(&[(FORK.as_bytes(), BOTH[0].1)], 0);
    damaged[30 + FORK.len()] ^= 1;
    let cut = [
        course.read_file("s.zip", &zip[..zip.len() - 30]),
        course.read_file("s.tar", &tar[..700]),
        course.read_file("s.tar", &tar[..515]),
        course.read_file("s.tar", &tar[..1540]),
        course.read_file("s.tgz", &gzip(&tar)[..60]),
        course.read_file("s.zip", b""),
        course.read_file("s.zip", b"<html>Please log in</html>"),
        course.read_directory(&[("fork.zip", &zip[..zip.len() - 30]), ("notes.txt", b"")]),
        course.read_file("s.zip", &damaged),
    ];
    for submission in cut {
        assert_eq!(status(&submission), Some(Status::Unreadable), "{submission:#?}");
        assert!(!why(&submission).is_empty());
    }
    for (name, data, kind) in
        [("s.7z", &b"7z\xbc\xaf\x27\x1c"[..], "7z"), ("s.tar.xz", b"\xfd7zXZ\0", "xz"), ("s.zip", b"Rar!", "RAR")]
    {
        let submission = course.read_file(name, data);
        assert_eq!(status(&submission), Some(Status::Refused));
        let said = format!("{name}: packed by {kind}, which the grader does not read: pack it as .zip or .tar.gz");
        assert_eq!(why(&submission), said);
        assert_eq!(why(&course.read_directory(&[(name, data)])), said);
    }
    // The content decides, whatever the name says.
    for name in ["s.zip", "s.tar", "s.tgz", "s", "s.TAR.GZ"] {
        for data in [&zip, &tar, &gzip(&tar)] {
            is_whole(&course.read_file(name, data));
        }
    }
    let encrypted = SimpleFileOptions::default().with_deprecated_encryption(b"secret");
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file(FORK, encrypted).unwrap();
    let submission = course.read_file("s.zip", &archive.finish().unwrap().into_inner());
    assert!(status(&submission) == Some(Status::Refused) && why(&submission).contains("Password"), "{submission:?}");
}

#[test]
fn nothing_is_there() {
    for submission in
        [lab().read_directory(&[]), lab().read_file("s.zip", &zip_of(&[])), lab().read_file("s.tar", &tar_of(&[]))]
    {
        assert_eq!(status(&submission), Some(Status::FilesMissing));
        assert_eq!(why(&submission), format!("there is no file in it: {FAULT}, {FORK}"));
    }
    let other = lab().read_directory(&[("report.pdf", b""), ("lib/pager/src/lib.rs", b"mine")]);
    assert_eq!(why(&other), format!("none of its files is one of these: {FAULT}, {FORK}"));
    let partial = Course { partial: true, ..lab() }.read_directory(&[("report.pdf", b"")]);
    assert_eq!(status(&partial), Some(Status::FilesMissing), "it would be the reference");
    assert_eq!(status(&lab().read_file("notes.txt", b"see my repository")), Some(Status::Refused));
}

#[test]
fn files_that_are_in_an_archive_twice() {
    let twice = tar_of(&[(FORK, b"old"), BOTH[0], BOTH[1]]);
    let submission = lab().read_file("s.tar", &twice);
    assert_eq!(submission.files[FORK], BOTH[0].1);
    assert_eq!(submission.left_out, [format!("{FORK}: found twice; the last one counts")]);
    let raw = [(FORK, &b"old"[..]), BOTH[0], BOTH[1]].map(|(name, data): Member| (name.as_bytes(), data));
    let submission = lab().read_file("s.zip", &raw_zip(&raw, 0));
    assert_eq!(submission.files[FORK], BOTH[0].1);
    assert_eq!(submission.left_out, ["s.zip: 1 of its files have the name of another one; the last counts"]);
}

#[test]
fn zips_with_other_names_and_methods() {
    // Names without the UTF-8 flag are in the DOS code page, where 0x81 is an umlaut.
    let fork = &b"M\x81ller/lib/pager/src/fork.rs"[..];
    let fault = &b"M\x81ller/lib/pager/src/fault.rs"[..];
    let deflate64 = 9;
    for method in [0, deflate64] {
        let data = raw_zip(&[(fork, BOTH[0].1), (fault, BOTH[1].1)], method);
        let submission = lab().read_file("s.zip", &data);
        is_whole(&submission);
        assert_eq!(submission.read_as, ["read as the whole tree: M\u{fc}ller/"]);
    }
    let lzma = 14;
    let submission = lab().read_file("s.zip", &raw_zip(&[(FORK.as_bytes(), b""), (fault, BOTH[1].1)], lzma));
    assert_eq!(status(&submission), Some(Status::Refused));
    assert!(why(&submission).starts_with("lib/pager/src/fork.rs: cannot be unpacked: "), "{submission:#?}");
}

#[test]
fn patches_are_changes() {
    let course = Course { partial: true, ..lab() };
    let of = |path: &str, line: &str| {
        let text = format!("What it does.\n\n--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,2 @@\n {line}\n-two\n+three\n");
        course.read_file("s.patch", text.as_bytes())
    };
    let submission = of(FORK, "one");
    assert_eq!((&submission.files[FORK][..], submission.partial), (&b"one\nthree\n"[..], true));
    assert_eq!(status(&of(FORK, "zero")), Some(Status::Refused));
    assert_eq!(status(&of("lib/none.rs", "one")), Some(Status::Refused));
    assert_eq!(status(&course.read_file("s.diff", b"nothing")), Some(Status::Refused));
    let other = of("user/demo/src/bin/squares.rs", "one");
    assert_eq!(why(&other), "it changes no file that may be changed, but user/demo/src/bin/squares.rs");
    assert_eq!(status(&other), Some(Status::FilesMissing), "it would be the reference");
}

#[test]
fn names_of_submissions() {
    let name = |path: &str| name_of(Path::new(path));
    assert_eq!(name("/x/ann.tar.gz"), Some("ann".to_owned()));
    assert_eq!(name("/x/Ann.ZIP"), Some("Ann".to_owned()));
    assert_eq!(name("/x/ann"), Some("ann".to_owned()));
    assert_eq!(name("/"), None);
}

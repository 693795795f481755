//! What somebody handed in: a directory or an archive, read as data. Nothing of it is unpacked as it is, and none of its
//! paths is trusted.

use anyhow::{Context, Result, bail, ensure};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};
use walkdir::{DirEntry, WalkDir};

/// Larger files are no source code.
const FILE_MOST: u64 = 4 << 20;
/// What all files may have together.
const MOST: u64 = 64 << 20;
/// How many there may be.
const COUNT_MOST: usize = 20_000;
/// Directories that are made by tools, and never handed in.
const MADE: [&str; 2] = ["target", ".git"];

/// What archives are called.
const ARCHIVES: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".zip"];
/// What changes to the reference are called.
const PATCH: &str = ".patch";

/// The files of a tree, by their paths with slashes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What somebody handed in.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The files.
    pub files: Files,
    /// What was not read, and why.
    pub refused: Vec<String>,
    /// These are changes: what is not here is as in the reference.
    pub partial: bool,
}

/// Whether this is something that can be handed in, and the name of who did.
#[must_use]
pub fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    if path.is_dir() {
        return Some(name.to_owned());
    }
    ARCHIVES
        .iter()
        .chain([&PATCH])
        .find_map(|end| name.strip_suffix(end))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

impl Submission {
    /// Reads a directory or an archive, or a patch for the reference.
    ///
    /// # Errors
    /// It cannot be read, is too large, or does not fit.
    pub fn read(path: &Path, reference: &Files) -> Result<Submission> {
        let name = path.to_string_lossy();
        let open = || File::open(path).with_context(|| format!("cannot open {name}"));
        let read = || -> Result<Submission> {
            if path.is_dir() {
                Submission::of_directory(path)
            } else if name.ends_with(".zip") {
                Submission::of_zip(open()?)
            } else if name.ends_with(".tar") {
                Submission::of_tar(open()?)
            } else if ARCHIVES.iter().any(|end| name.ends_with(end)) {
                Submission::of_tar(GzDecoder::new(open()?))
            } else if name.ends_with(PATCH) {
                Submission::of_patch(&fs::read_to_string(path)?, reference)
            } else {
                bail!("neither a directory nor one of {} {PATCH}", ARCHIVES.join(" "))
            }
        };
        let mut submission = read().with_context(|| format!("cannot read the submission {name}"))?;
        submission.strip_top();
        Ok(submission)
    }

    /// A tree, read as a submission is.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub fn of_directory(root: &Path) -> Result<Submission> {
        let is_made =
            |entry: &DirEntry| entry.depth() == 1 && MADE.iter().any(|made| entry.file_name() == *made);
        let mut submission = Submission::default();
        for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| !is_made(entry))
        {
            let entry = entry.context("cannot list the files")?;
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
            if entry.file_type().is_symlink() {
                submission.refuse(&path, "a symbolic link");
            } else if entry.file_type().is_file() {
                let file = File::open(entry.path());
                submission.add(&path, file.with_context(|| format!("cannot read {}", path.display()))?)?;
            } else if !entry.file_type().is_dir() {
                submission.refuse(&path, "not a file");
            }
        }
        Ok(submission)
    }

    /// What the files of a unified diff become. Whatever is in front of it is for people.
    pub(crate) fn of_patch(text: &str, reference: &Files) -> Result<Submission> {
        let start = text.find("--- ").filter(|&at| at == 0 || text.as_bytes()[at - 1] == b'\n');
        let mut submission = Submission { partial: true, ..Submission::default() };
        for patch in
            PatchSet::parse(&text[start.context("there is no unified diff")?..], ParseOptions::unidiff())
        {
            let patch = patch.context("not a unified diff")?;
            let FileOperation::Modify { modified, .. } = patch.operation().strip_prefix(1) else {
                bail!("it makes or removes a file: hand in a directory");
            };
            let old =
                reference.get(&*modified).with_context(|| format!("the reference has no {modified}"))?;
            let old = std::str::from_utf8(old).with_context(|| format!("{modified} is no text"))?;
            let patch =
                patch.patch().as_text().with_context(|| format!("the patch for {modified} is no text"))?;
            let new = diffy::apply(old, patch).with_context(|| format!("it does not fit {modified}"))?;
            submission.add(Path::new(&*modified), new.as_bytes())?;
        }
        Ok(submission)
    }

    fn of_tar(archive: impl Read) -> Result<Submission> {
        // Gzip makes a little of very much: what is skipped must be unpacked, too.
        let mut archive = tar::Archive::new(archive.take(4 * MOST));
        let mut submission = Submission::default();
        for entry in archive.entries().context("not a TAR archive")? {
            let mut entry = entry.context("the archive is broken, or too large")?;
            let path = entry.path().context("a name in the archive")?.into_owned();
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => submission.add(&path, &mut entry)?,
                tar::EntryType::Symlink | tar::EntryType::Link => submission.refuse(&path, "a link"),
                tar::EntryType::Directory | tar::EntryType::XGlobalHeader => {}
                _ => submission.refuse(&path, "not a file"),
            }
        }
        Ok(submission)
    }

    fn of_zip(archive: File) -> Result<Submission> {
        let mut archive = zip::ZipArchive::new(archive).context("not a ZIP archive")?;
        ensure!(archive.len() <= COUNT_MOST, "more than {COUNT_MOST} files");
        let mut submission = Submission::default();
        for index in 0..archive.len() {
            let entry = archive.by_index(index).context("the archive is broken")?;
            let path = Path::new(entry.name()).to_owned();
            if entry.is_symlink() {
                submission.refuse(&path, "a link");
            } else if !entry.is_dir() {
                submission.add(&path, entry)?;
            }
        }
        Ok(submission)
    }

    fn refuse(&mut self, path: &Path, why: &str) {
        self.refused.push(format!("{}: {why}", path.display()));
    }

    /// One more file, if its name is one and it is not too large.
    fn add(&mut self, path: &Path, file: impl Read) -> Result<()> {
        let Some(name) = plain(path) else {
            self.refuse(path, "a path that leads elsewhere");
            return Ok(());
        };
        if MADE.iter().any(|made| name.split('/').take(2).any(|part| part == *made)) {
            return Ok(());
        }
        let mut data = Vec::new();
        file.take(FILE_MOST + 1).read_to_end(&mut data).with_context(|| format!("cannot read {name}"))?;
        if data.len() as u64 > FILE_MOST {
            self.refuse(path, "larger than any source file");
            return Ok(());
        }
        let size: usize = self.files.values().map(Vec::len).sum();
        ensure!((size + data.len()) as u64 <= MOST, "more than {} MiB", MOST >> 20);
        ensure!(self.files.len() < COUNT_MOST, "more than {COUNT_MOST} files");
        self.files.insert(name, data);
        Ok(())
    }

    /// Archives often hold one directory with everything in it.
    fn strip_top(&mut self) {
        let tops: BTreeSet<&str> =
            self.files.keys().map(|name| name.split('/').next().unwrap_or(name)).collect();
        let [top] = tops.into_iter().collect::<Vec<_>>()[..] else { return };
        let prefix = format!("{top}/");
        let is_ours = ["kern", "lib", "tests", "user", "xtask", "docs"].contains(&top);
        if !is_ours && self.files.keys().all(|name| name.starts_with(&prefix)) {
            let files = std::mem::take(&mut self.files);
            self.files =
                files.into_iter().map(|(name, data)| (name[prefix.len()..].to_owned(), data)).collect();
        }
    }
}

/// The path with slashes, if every part of it is a name.
fn plain(path: &Path) -> Option<String> {
    let part = |component: Component| match component {
        Component::Normal(name) => {
            name.to_str().filter(|name| !name.contains(['\\', '\0'])).map(str::to_owned)
        }
        _ => None,
    };
    let mut components = path.components().peekable();
    // Archives made of `.` have it in front of every name.
    components.next_if_eq(&Component::CurDir);
    let parts: Option<Vec<String>> = components.map(part).collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("/"))
}

/// What all of this comes to: the same for the same names and bytes.
#[must_use]
pub fn digest<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for piece in pieces {
        hash.update((piece.len() as u64).to_le_bytes());
        hash.update(piece);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names and bytes of files, for [`digest`].
pub fn pieces(files: &Files) -> impl Iterator<Item = &[u8]> {
    files.iter().flat_map(|(name, data)| [name.as_bytes(), data])
}

/// Replaces a file in one go, so that whoever is interrupted leaves the old one or the new one.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let directory = path.parent().context("a file is in a directory")?;
    let write = || -> Result<()> {
        fs::create_dir_all(directory)?;
        let file = tempfile::NamedTempFile::new_in(directory)?;
        fs::write(file.path(), data)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
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

    fn read(name: &str, bytes: &[u8]) -> Result<Submission> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        Submission::read(&path, &Files::new())
    }

    fn names(submission: &Submission) -> Vec<&str> {
        submission.files.keys().map(String::as_str).collect()
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let bad: [(&str, &[u8]); 3] = [("../up", b"1"), ("/etc/x", b"2"), ("lib/../../x", b"3")];
        let members = [&bad[..], &[("./lib/a.rs", b"4")]].concat();
        let submission = read("s.tar", &tar_of(&members)).unwrap();
        assert_eq!((names(&submission), submission.refused.len()), (vec!["lib/a.rs"], 3));
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, data) in members {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(data).unwrap();
        }
        archive.add_symlink("lib/b.rs", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
        let submission = read("s.zip", &archive.finish().unwrap().into_inner()).unwrap();
        assert_eq!((names(&submission), submission.refused.len()), (vec!["lib/a.rs"], 4), "{submission:?}");
    }

    #[test]
    fn patches_are_changes() {
        let reference = Files::from([("lib/a.rs".to_owned(), b"one\ntwo\n".to_vec())]);
        let of = |path: &str, line: &str| {
            let text = format!(
                "What it does.\n\n--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,2 @@\n {line}\n-two\n+three\n"
            );
            Submission::of_patch(&text, &reference)
        };
        let submission = of("lib/a.rs", "one").unwrap();
        assert_eq!((&submission.files["lib/a.rs"][..], submission.partial), (&b"one\nthree\n"[..], true));
        assert!(of("lib/a.rs", "zero").is_err() && of("lib/b.rs", "one").is_err());
        assert!(Submission::of_patch("nothing", &reference).is_err());
    }

    #[test]
    fn links_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("s");
        fs::create_dir_all(root.join("lib")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("lib/a.rs")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("lib/b")).unwrap();
        fs::write(root.join("lib/c.rs"), "c").unwrap();
        let submission = Submission::read(&root, &Files::new()).unwrap();
        assert_eq!((names(&submission), submission.refused.len()), (vec!["lib/c.rs"], 2));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let large = vec![0; FILE_MOST as usize + 1];
        let submission = read("s.tar", &tar_of(&[("lib/a.rs", &large), ("lib/b.rs", b"b")])).unwrap();
        assert_eq!((names(&submission), submission.refused.len()), (vec!["lib/b.rs"], 1));
        // None of them is too large, and together they are.
        let names: Vec<String> = (0..17).map(|index| format!("lib/{index}.rs")).collect();
        let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &large[1..])).collect();
        let error = format!("{:#}", read("s.tar", &tar_of(&members)).unwrap_err());
        assert!(error.contains("more than 64 MiB"), "{error}");
    }

    #[test]
    fn a_directory_around_everything_is_left_out() {
        let inside = read("s.tar", &tar_of(&[("work/lib/a.rs", b"a"), ("work/Cargo.toml", b"")])).unwrap();
        assert_eq!(names(&inside), ["Cargo.toml", "lib/a.rs"]);
        let bare = read("s.tar", &tar_of(&[("lib/a.rs", b"a")])).unwrap();
        assert_eq!(names(&bare), ["lib/a.rs"]);
    }

    #[test]
    fn what_tools_make_is_left_out() {
        let submission =
            read("s.tar", &tar_of(&[("w/target/x", b"a"), ("w/.git/x", b"b"), ("w/lib/a", b"")])).unwrap();
        assert_eq!(names(&submission), ["lib/a"]);
    }

    #[test]
    fn names_of_submissions() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(name("/x/ann.tar.gz"), Some("ann".to_owned()));
        assert_eq!(name("/x/ann.zip"), Some("ann".to_owned()));
        assert_eq!([name("/x/notes.txt"), name("/x/.zip")], [None, None]);
    }
}

//! Interprets file names: the kind of a file, files that tools make, and what learning platforms and browsers add.

use regex::Regex;
use std::path::Path;
use std::sync::LazyLock;

/// The kind of a file, by the end of its name or by its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A ZIP archive.
    Zip,
    /// A TAR archive.
    Tar,
    /// A TAR archive, compressed by gzip.
    TarGz,
    /// Changes to the reference.
    Patch,
    /// A single source file.
    Source,
    /// An archive that the grader does not read, with its name.
    Foreign(&'static str),
}

/// The endings of names of each kind, the longest first.
const ENDS: [(&str, Kind); 29] = [
    (".tar.gz", Kind::TarGz),
    (".tar.xz", Kind::Foreign("xz")),
    (".tar.bz2", Kind::Foreign("bzip2")),
    (".tar.zst", Kind::Foreign("zstd")),
    (".tar.lz", Kind::Foreign("lzip")),
    (".tar.z", Kind::Foreign("compress")),
    (".rs.txt", Kind::Source),
    (".patch", Kind::Patch),
    (".diff", Kind::Patch),
    (".zipx", Kind::Foreign("zipx")),
    (".tgz", Kind::TarGz),
    (".tar", Kind::Tar),
    (".zip", Kind::Zip),
    (".txz", Kind::Foreign("xz")),
    (".tbz2", Kind::Foreign("bzip2")),
    (".tbz", Kind::Foreign("bzip2")),
    (".tzst", Kind::Foreign("zstd")),
    (".rar", Kind::Foreign("RAR")),
    (".7z", Kind::Foreign("7z")),
    (".xz", Kind::Foreign("xz")),
    (".bz2", Kind::Foreign("bzip2")),
    (".zst", Kind::Foreign("zstd")),
    (".lzma", Kind::Foreign("LZMA")),
    (".cpio", Kind::Foreign("cpio")),
    (".dmg", Kind::Foreign("DMG")),
    (".iso", Kind::Foreign("ISO")),
    (".gz", Kind::Foreign("gzip")),
    (".lzh", Kind::Foreign("LZH")),
    (".rs", Kind::Source),
];

/// Documents that are ZIP archives inside.
const DOCUMENTS: [&str; 9] = [".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".jar", ".epub", ".apk"];

/// The first bytes of archives of each kind.
const BEGINNINGS: [(&[u8], Kind); 9] = [
    (b"PK\x03\x04", Kind::Zip),
    (b"PK\x05\x06", Kind::Zip),
    (b"\x1f\x8b", Kind::TarGz),
    (b"BZh", Kind::Foreign("bzip2")),
    (b"\xfd7zXZ\0", Kind::Foreign("xz")),
    (b"7z\xbc\xaf\x27\x1c", Kind::Foreign("7z")),
    (b"Rar!", Kind::Foreign("RAR")),
    (b"\x28\xb5\x2f\xfd", Kind::Foreign("zstd")),
    (b"LZIP", Kind::Foreign("lzip")),
];
/// The offset of the magic number in a TAR archive.
const USTAR: usize = 257;
/// How many bytes of a file [`Kind::by_content`] needs.
pub const HEAD: usize = 512;

impl Kind {
    /// The kind by the end of a name, in any case, with the part before that.
    #[must_use]
    pub fn by_name(name: &str) -> Option<(&str, Kind)> {
        let lower = name.to_ascii_lowercase();
        let (end, kind) = ENDS.iter().find(|(end, _)| lower.ends_with(end))?;
        Some((&name[..name.len() - end.len()], *kind)).filter(|(stem, _)| !stem.is_empty())
    }

    /// The kind of an archive by its first bytes.
    #[must_use]
    pub fn by_content(head: &[u8]) -> Option<Kind> {
        let is_tar = head.get(USTAR..).is_some_and(|rest| rest.starts_with(b"ustar"));
        let found = BEGINNINGS.iter().find(|(start, _)| head.starts_with(start)).map(|(_, kind)| *kind);
        found.or(is_tar.then_some(Kind::Tar))
    }

    /// Whether it holds other files.
    #[must_use]
    pub fn is_archive(self) -> bool {
        !matches!(self, Kind::Patch | Kind::Source)
    }
}

/// Whether this name belongs to a document, although its first bytes are those of an archive.
#[must_use]
pub fn is_document(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    DOCUMENTS.iter().any(|end| lower.ends_with(end))
}

/// Directories that tools make.
const MADE_DIRECTORIES: [&str; 13] = [
    "__MACOSX",
    ".git",
    ".hg",
    ".svn",
    ".vscode",
    ".idea",
    ".vs",
    ".history",
    ".fseventsd",
    ".Spotlight-V100",
    ".Trashes",
    ".AppleDouble",
    "$RECYCLE.BIN",
];
/// Files that tools make.
const MADE_FILES: [&str; 4] = [".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini"];

/// The tool that made a file or directory of this name, if one did, so that nobody meant to hand it in.
#[must_use]
pub fn made(name: &str) -> Option<&'static str> {
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    if MADE_DIRECTORIES.iter().any(is) {
        Some("a directory that a tool made")
    } else if MADE_FILES.iter().any(is) {
        Some("a file that a tool made")
    } else if name.starts_with("._") {
        Some("what macOS knows about another file")
    } else if name.ends_with('~') {
        Some("a backup of an editor")
    } else {
        None
    }
}

/// Additions of browsers, file managers and platforms to a name that is taken: `fork (1)`, `fork - Copy`, `fork-1`.
static ADDED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^(?:copy of )?(.+?)(?: ?\([0-9]+\)| - copy(?: \([0-9]+\))?|[ _-]copy(?: [0-9]+)?|[ _-][0-9]+)?$")
});
/// Names by Moodle: `Ann Lee_123_assignsubmission_file_fork.zip`, or a directory without the last part.
static MOODLE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?<who>.+_[0-9]+)_assignsubmission_[a-z]+(?:_(?<file>.*))?$"));
/// Names by Blackboard: `Lab 3_ann_attempt_2026-01-31-23-59-00_fork.zip`, and a text beside it.
static BLACKBOARD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?<who>.+_attempt_[0-9]{4}(?:-[0-9]{2}){5})(?:_(?<file>.+)|\.txt)?$"));
/// Names by Canvas: `leeann_123_456_fork.rs`, with `LATE` behind the name of students who were late.
static CANVAS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?<who>[^_ ]+(?:_LATE)?_[0-9]+)_[0-9]+_(?<file>.+)$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file is right")
}

/// The parts of a file name that a platform has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Platform {
    /// The student: all entries with this prefix are one submission.
    pub who: String,
    /// The original name of the file.
    pub file: String,
    /// Whether the name can be nothing else. People also choose names like those of Canvas.
    pub is_certain: bool,
}

/// Parses a name that a platform has made.
#[must_use]
pub fn platform(name: &str) -> Option<Platform> {
    [(&MOODLE, true), (&BLACKBOARD, true), (&CANVAS, false)].into_iter().find_map(|(pattern, is_certain)| {
        let found = pattern.captures(name)?;
        let file = found.name("file").map_or("", |file| file.as_str()).to_owned();
        Some(Platform { who: found["who"].to_owned(), file, is_certain })
    })
}

/// The path with the original name of its file; `None` if nothing was added to the name, or it is not a source.
#[must_use]
pub fn original(path: &str) -> Option<String> {
    let (directory, name) = path.rsplit_once('/').map_or(("", path), |(directory, name)| (directory, name));
    let own = platform(name).map_or(name.to_owned(), |platform| platform.file);
    let (stem, _) = Kind::by_name(&own).filter(|(_, kind)| *kind == Kind::Source)?;
    let lower = stem.to_ascii_lowercase();
    let stem = ADDED.captures(&lower).map_or(lower.as_str(), |found| found.get(1).map_or("", |m| m.as_str()));
    let original = Path::new(directory).join(format!("{stem}.rs")).to_string_lossy().into_owned();
    (!original.eq_ignore_ascii_case(path)).then_some(original)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_names_and_by_content() {
        let of = |name| Kind::by_name(name);
        assert_eq!(of("Ann.ZIP"), Some(("Ann", Kind::Zip)));
        assert_eq!(of("ann.tar.gz"), Some(("ann", Kind::TarGz)));
        assert_eq!(of("ann.tar.xz"), Some(("ann", Kind::Foreign("xz"))));
        assert_eq!(of("fork.rs.txt"), Some(("fork", Kind::Source)));
        assert_eq!([of(".zip"), of("notes.txt")], [None, None]);
        let mut tar = [0; HEAD];
        tar[USTAR..USTAR + 5].copy_from_slice(b"ustar");
        assert_eq!(Kind::by_content(&tar), Some(Kind::Tar));
        assert_eq!(Kind::by_content(b"PK\x03\x04.."), Some(Kind::Zip));
        assert_eq!([Kind::by_content(b""), Kind::by_content(b"fn main() {}")], [None, None]);
    }

    #[test]
    fn what_is_added_to_names_is_taken_off() {
        let fork = Some("a/fork.rs".to_owned());
        for name in [
            "fork (1).rs",
            "fork(2).rs",
            "fork - Copy.rs",
            "fork - Copy (2).rs",
            "fork copy.rs",
            "fork 2.rs",
            "fork-1.rs",
            "Copy of fork.rs",
            "fork.rs.txt",
            "leeann_LATE_123_456_fork-1.rs",
            "Ann Lee_77_assignsubmission_file_fork.rs",
            "Lab 3_ann_attempt_2026-01-31-23-59-00_fork.rs",
        ] {
            assert_eq!(original(&format!("a/{name}")), fork, "{name}");
        }
        assert_eq!([original("a/fork.rs"), original("Fork.RS"), original("a/fork.c")], [None, None, None]);
    }

    #[test]
    fn platforms_say_whose_it_is() {
        let of = |name: &str| platform(name).map(|platform| (platform.who, platform.file));
        let is = |who: &str, file: &str| Some((who.to_owned(), file.to_owned()));
        assert_eq!(of("Ann Lee_77_assignsubmission_file_"), is("Ann Lee_77", ""));
        assert_eq!(of("Ann Lee_77_assignsubmission_file_a_1.zip"), is("Ann Lee_77", "a_1.zip"));
        assert_eq!(of("leeann_1_22_fork.rs"), is("leeann_1", "fork.rs"));
        let attempt = "Lab_ann_attempt_2026-01-31-23-59-00";
        assert_eq!(of(&format!("{attempt}_a.zip")), is(attempt, "a.zip"));
        assert_eq!(of(&format!("{attempt}.txt")), is(attempt, ""));
        assert_eq!([of("ann.zip"), of("ann_lee.zip")], [None, None]);
    }
}

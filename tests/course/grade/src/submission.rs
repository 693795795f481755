//! A submission: a directory or an archive, read as data. Nothing of it is unpacked to disk, and none of its paths is
//! trusted.

use crate::names::{HEAD, Kind, is_document};
use crate::place::{Placed, Wanted, is_patch, is_source, utf8};
use crate::result::Status;
use crate::unpack::{self, Refused, Unpacker, shown};
use anyhow::{Context, Result, bail, ensure};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

pub use crate::unpack::Files;

/// The accepted kinds, for messages.
pub const KINDS: &str = "a directory, .zip, .tar, .tar.gz, .tgz, .rs, or with --partial .patch";

/// The reason for refusing changes: files that they do not touch are the reference's, and the reference is the
/// solution.
const ONLY_PARTIAL: &str = "changes are read only with --partial";
/// The reason for refusing a patch beside other files.
const ONLY_ALONE: &str = "changes are read only if they are all that is handed in";

/// How many of the files that were looked for are named.
const SHOWN: usize = 8;

/// The files that one student handed in.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The files.
    pub files: Files,
    /// Files that were not read, with the reason.
    pub refused: Vec<String>,
    /// Files that were read as another one, where that is not obvious.
    pub read_as: Vec<String>,
    /// Files that were left out, with the reason.
    pub left_out: Vec<String>,
    /// The reason why it cannot be graded at all.
    pub problem: Option<Problem>,
    /// Whether the submission is a set of changes: missing files are as in the reference.
    pub partial: bool,
}

/// The reason why a submission cannot be graded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The status.
    pub status: Status,
    /// The explanation.
    pub why: String,
}

/// A file or directory that was handed in, with its name in messages.
pub type Piece<'a> = (&'a str, &'a Path);

/// The name of the student: the name of the file or directory.
#[must_use]
pub fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let stem = Kind::by_name(&name).filter(|_| !path.is_dir()).map_or(&*name, |(stem, _)| stem);
    Some(shown(stem)).filter(|stem| !stem.is_empty())
}

/// The kind of a submission file: by its name, or else by its first bytes.
///
/// # Errors
/// The file cannot be read.
pub fn kind_of(path: &Path) -> Result<Option<Kind>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some((_, kind)) = Kind::by_name(&name) {
        return Ok(Some(kind));
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(Kind::by_content(&head).filter(|_| !is_document(&name)))
}

impl Submission {
    /// Reads a directory or an archive, or a patch for the reference, or a single source file. Anything wrong with it
    /// becomes the submission's `problem`.
    ///
    /// # Errors
    /// There is nothing at this path.
    pub fn read(path: &Path, wanted: &Wanted) -> Result<Submission> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fs::metadata(path).with_context(|| format!("cannot read the submission {}", path.display()))?;
        Ok(Submission::of_pieces(&[(&name, path)], wanted))
    }

    /// Reads the submission of one student, in one piece or in several.
    #[must_use]
    pub fn of_pieces(pieces: &[Piece], wanted: &Wanted) -> Submission {
        match Submission::try_pieces(pieces, wanted) {
            Ok(submission) => submission,
            Err(error) => Submission::without(Status::Refused, format!("{error:#}")),
        }
    }

    /// A submission of which nothing can be graded.
    #[must_use]
    pub fn without(status: Status, why: String) -> Submission {
        Submission { problem: Some(Problem { status, why }), ..Submission::default() }
    }

    fn try_pieces(pieces: &[Piece], wanted: &Wanted) -> Result<Submission> {
        let use_of = |path: &str| wanted.use_of(path);
        let mut unpacker = Unpacker::new(&use_of);
        let mut is_single = false;
        for &(name, path) in pieces {
            let front = if pieces.len() > 1 { name } else { "" };
            if path.is_dir() {
                unpacker.path(front, path)?;
                continue;
            }
            // Opening a pipe would block.
            ensure!(path.is_file(), "{name}: neither a file nor a directory");
            match kind_of(path) {
                Ok(Some(Kind::Patch)) if pieces.len() == 1 => {
                    return Submission::of_patch_file(name, path, wanted);
                }
                Ok(Some(kind)) if kind.is_archive() => match File::open(path) {
                    Ok(file) => unpacker.archive_at(front, name, file, 1)?,
                    Err(error) => unpacker.unreadable(name, &error),
                },
                Ok(Some(_)) => {
                    is_single = pieces.len() == 1;
                    unpacker.path(name, path)?;
                }
                Ok(None) if pieces.len() == 1 => bail!("it is none of these: {KINDS}"),
                Ok(None) => {}
                Err(error) => unpacker.unreadable(name, error),
            }
        }
        Ok(Submission::of_unpacked(unpacker, is_single, wanted))
    }

    fn of_unpacked(unpacker: Unpacker, is_single: bool, wanted: &Wanted) -> Submission {
        let placed = wanted.place(&unpacker.found, is_single);
        let problem = problem(&unpacker, &placed, wanted);
        let refused = unpacker.refused.iter().map(|refusal| format!("{}: {}", refusal.path, refusal.why));
        if problem.as_ref().is_some_and(|problem| problem.status == Status::FilesMissing)
            && let Some(changes) = Submission::of_changes(&unpacker.found, &placed, wanted)
        {
            return Submission { refused: refused.collect(), ..changes };
        }
        let notes = unpacker.notes.into_iter();
        Submission {
            refused: refused.collect(),
            files: placed.files,
            read_as: placed.read_as,
            left_out: notes.chain(placed.left_out).map(|note| shown(&note)).collect(),
            problem,
            partial: false,
        }
    }

    /// Reads a tree as it is: everything but links, build output, and Git's files.
    ///
    /// # Errors
    /// The tree cannot be read, or is too large.
    pub fn of_directory(root: &Path) -> Result<Submission> {
        Ok(Submission { files: unpack::tree(root)?, ..Submission::default() })
    }

    /// Reads the changes in an archive or a directory without a file of the lab, if it holds any.
    fn of_changes(found: &Files, placed: &Placed, wanted: &Wanted) -> Option<Submission> {
        let patches: Vec<&str> = found.keys().map(String::as_str).filter(|path| is_patch(path)).collect();
        let [path] = patches[..] else {
            let refused = || Submission::without(Status::Refused, format!("{ONLY_ALONE}: {}", patches.join(", ")));
            return (!patches.is_empty()).then(refused);
        };
        let sources = found.keys().filter(|path| is_source(path));
        if let Some(other) = sources.chain(placed.files.keys()).next() {
            let why = format!("{ONLY_ALONE}: {path}, and there is {other}");
            return Some(Submission::without(Status::Refused, why));
        }
        let read = Submission::of_patch_data(path, found[path].clone(), wanted);
        let mut submission =
            read.unwrap_or_else(|error| Submission::without(Status::Refused, format!("{path}: {error:#}")));
        if submission.problem.is_none() {
            submission.read_as.push(format!("read as changes: {path}"));
        }
        Some(submission)
    }

    fn of_patch_file(name: &str, path: &Path, wanted: &Wanted) -> Result<Submission> {
        let mut data = Vec::new();
        let read = File::open(path).and_then(|file| file.take(unpack::FILE_MOST + 1).read_to_end(&mut data));
        if let Err(error) = read {
            return Ok(Submission::without(Status::Unreadable, format!("cannot be read: {error}")));
        }
        ensure!(data.len() as u64 <= unpack::FILE_MOST, "larger than any patch");
        Submission::of_patch_data(name, data, wanted)
    }

    /// Reads a patch that is the whole submission.
    fn of_patch_data(name: &str, data: Vec<u8>, wanted: &Wanted) -> Result<Submission> {
        if !wanted.is_partial() {
            return Ok(Submission::without(Status::Refused, format!("{name}: {ONLY_PARTIAL}")));
        }
        let text = utf8(&data).or_else(|| String::from_utf8(data).ok()).context("the patch is not text")?;
        let mut submission = Submission::of_patch(&text.replace("\r\n", "\n"), wanted.reference)?;
        if !submission.files.keys().any(|path| wanted.allows(path)) {
            let changed: Vec<&str> = submission.files.keys().map(String::as_str).collect();
            let why = format!("it changes no file that may be changed, but {}", changed.join(", "));
            submission.problem = Some(Problem { status: Status::FilesMissing, why });
        }
        Ok(submission)
    }

    /// Applies a unified diff to the reference. Text before the diff is ignored.
    pub(crate) fn of_patch(text: &str, reference: &Files) -> Result<Submission> {
        let start = text.find("--- ").filter(|&at| at == 0 || text.as_bytes()[at - 1] == b'\n');
        let mut submission = Submission { partial: true, ..Submission::default() };
        for patch in PatchSet::parse(&text[start.context("there is no unified diff")?..], ParseOptions::unidiff()) {
            let patch = patch.context("not a unified diff")?;
            let FileOperation::Modify { modified, .. } = patch.operation().strip_prefix(1) else {
                bail!("it makes or removes a file: hand in a directory");
            };
            let old = reference.get(&*modified).with_context(|| format!("the reference has no {modified}"))?;
            let old = std::str::from_utf8(old).with_context(|| format!("{modified} is not text"))?;
            let patch = patch.patch().as_text().with_context(|| format!("the patch for {modified} is not text"))?;
            let new = diffy::apply(old, patch).with_context(|| format!("it does not fit {modified}"))?;
            submission.files.insert(modified.into_owned(), new.into_bytes());
        }
        Ok(submission)
    }
}

/// The reason why unpacked files cannot be graded, if there is one.
fn problem(unpacker: &Unpacker, placed: &Placed, wanted: &Wanted) -> Option<Problem> {
    if !placed.unclear.is_empty() {
        return Some(Problem { status: Status::Refused, why: placed.unclear.join("\n") });
    }
    if let Some((what, why)) = wanted.blocked(placed, &unpacker.refused) {
        let status = if what == Refused::Unreadable { Status::Unreadable } else { Status::Refused };
        return Some(Problem { status, why: why.join("\n") });
    }
    if placed.files.keys().any(|path| wanted.allows(path)) {
        return None;
    }
    let looked_for: Vec<&str> = wanted.changeable().take(SHOWN).collect();
    let more = if wanted.changeable().nth(SHOWN).is_some() { ", ..." } else { "" };
    let found = if unpacker.names() == 0 { "there is no file in it" } else { "none of its files is one of these" };
    let why = format!("{found}: {}{more}", looked_for.join(", "));
    Some(Problem { status: Status::FilesMissing, why })
}

/// A digest: equal for equal names and bytes.
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

/// Replaces a file atomically: after an interruption there is the old file or the new one.
///
/// # Errors
/// The file cannot be written.
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
mod tests;

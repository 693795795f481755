//! The tree that is built: the reference, with only the permitted files of a submission laid over it.

use crate::permitted::{Permitted, globs};
use crate::submission::{Files, Submission};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;
use xtask::workspace::Workspace;

/// The files of the reference that a build of programs needs.
const NEEDED: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "rust-toolchain.toml",
    "linker.ld",
    "kern/**",
    "lib/**",
    "tests/**",
    "user/**",
    "xtask/**",
];

/// Reads the files of a reference tree that a build needs.
///
/// # Errors
/// The tree cannot be read.
pub fn reference(root: &Path) -> Result<Files> {
    let needed = globs(&NEEDED)?;
    let mut files = Submission::of_directory(root).context("cannot read the reference")?.files;
    files.retain(|path, _| needed.is_match(path) && !path.starts_with("tests/course/mutants/"));
    Ok(files)
}

/// A tree to build, and its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Laid {
    /// All its files.
    pub files: Files,
    /// Files of the submission that differ from the reference, and were kept as in the reference.
    pub restored: Vec<String>,
    /// Permitted files of the reference that the submission does not have.
    pub missing: Vec<String>,
}

/// Lays the permitted files of a submission over the reference. Permitted files that the submission lacks are left out,
/// because the reference's might be the solution; with `partial` they are the reference's.
#[must_use]
pub fn lay(reference: &Files, submission: &Submission, permitted: &Permitted, partial: bool) -> Laid {
    let partial = partial || submission.partial;
    let mut files = reference.clone();
    let (mut restored, mut missing) = (Vec::new(), Vec::new());
    files.retain(|path, _| {
        let gone = permitted.allows(path) && !submission.files.contains_key(path);
        missing.extend((gone && !partial).then(|| path.clone()));
        partial || !gone
    });
    for (path, data) in &submission.files {
        if permitted.allows(path) {
            files.insert(path.clone(), data.clone());
        } else if reference.get(path).is_some_and(|ours| ours != data) {
            restored.push(path.clone());
        }
    }
    Laid { files, restored, missing }
}

/// A directory in which one tree after the other is built, so that their common parts are built once. A lock keeps
/// others out.
pub struct BuildDir {
    root: PathBuf,
    _lock: File,
}

impl BuildDir {
    /// One of the directories below `home` that nobody uses.
    ///
    /// # Errors
    /// None can be made.
    pub fn below(home: &Path) -> Result<BuildDir> {
        for number in 0.. {
            let root = home.join(format!("build-{number}"));
            let lock = fs::create_dir_all(&root).and_then(|()| File::create(root.join("lock")));
            let lock = lock.with_context(|| format!("cannot make {}", root.display()))?;
            match lock.try_lock() {
                Ok(()) => return Ok(BuildDir { root, _lock: lock }),
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => {
                    return Err(error).context("cannot lock a directory to build in");
                }
            }
        }
        bail!("no directory to build in")
    }

    /// Makes its tree one of these files. Returns the workspace that they are; its programs are those of `reference`.
    ///
    /// # Errors
    /// The tree cannot be changed.
    pub fn lay(&self, reference: &Workspace, files: &Files) -> Result<Workspace> {
        let root = self.root.join("tree");
        sync(&root, files)?;
        Ok(Workspace { root, target: self.root.join("target"), ..reference.clone() })
    }
}

/// Makes a directory hold these files and no others. A file that is already right is not touched: cargo goes by
/// modification times, and builds only what changed.
///
/// # Errors
/// The directory cannot be changed.
pub fn sync(root: &Path, files: &Files) -> Result<()> {
    let present = present(root)?;
    for path in present.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(root.join(path)).with_context(|| format!("cannot remove {path}"))?;
    }
    // A file of this tree may have the name of a directory of the previous one.
    let directories = WalkDir::new(root).min_depth(1).contents_first(true).into_iter().flatten();
    for directory in directories.filter(|entry| entry.file_type().is_dir()) {
        let removed = fs::remove_dir(directory.path());
        let is_used = removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::DirectoryNotEmpty);
        if !is_used {
            removed.with_context(|| format!("cannot remove {}", directory.path().display()))?;
        }
    }
    for (path, data) in files.iter().filter(|(path, data)| present.get(*path) != Some(data)) {
        let place = root.join(path);
        let directory = place.parent().context("a file is in a directory")?;
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&place, data));
        written.with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}

fn present(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    let mut found = BTreeMap::new();
    for entry in WalkDir::new(root) {
        let entry = entry.with_context(|| format!("cannot list {}", root.display()))?;
        if !entry.file_type().is_dir() {
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_string_lossy().into_owned();
            found.insert(path, fs::read(entry.path()).unwrap_or_default());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, text)| (path.to_string(), text.as_bytes().to_vec())).collect()
    }

    fn permitted() -> Permitted {
        Permitted::new(&["lib/libos/**".to_owned()]).unwrap()
    }

    const REFERENCE: [(&str, &str); 4] =
        [("Cargo.toml", "m"), ("kern/a.rs", "k"), ("lib/libos/a.rs", "solution"), ("lib/libos/Cargo.toml", "m")];

    #[test]
    fn only_permitted_files_are_laid_over() {
        let handed_in = files(&[
            ("Cargo.toml", "evil"),
            ("build.rs", "evil"),
            ("kern/a.rs", "evil"),
            ("lib/libos/Cargo.toml", "evil"),
            ("lib/libos/build.rs", "evil"),
            ("lib/libos/.cargo/config.toml", "evil"),
            ("lib/libos/a.rs", "mine"),
            ("lib/libos/new.rs", "mine"),
        ]);
        let laid =
            lay(&files(&REFERENCE), &Submission { files: handed_in, ..Submission::default() }, &permitted(), false);
        let expected = files(&[
            ("Cargo.toml", "m"),
            ("kern/a.rs", "k"),
            ("lib/libos/Cargo.toml", "m"),
            ("lib/libos/a.rs", "mine"),
            ("lib/libos/new.rs", "mine"),
        ]);
        assert_eq!(laid.files, expected);
        assert_eq!(laid.restored, ["Cargo.toml", "kern/a.rs", "lib/libos/Cargo.toml"]);
    }

    #[test]
    fn what_is_missing_is_not_the_solution() {
        let nothing = Submission::default();
        let laid = lay(&files(&REFERENCE), &nothing, &permitted(), false);
        assert!(!laid.files.contains_key("lib/libos/a.rs"));
        assert_eq!(laid.missing, ["lib/libos/a.rs"]);
        let laid = lay(&files(&REFERENCE), &nothing, &permitted(), true);
        assert_eq!(laid.files, files(&REFERENCE));
    }

    #[test]
    fn trees_follow_and_leave_alone_what_is_right() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        sync(&root, &files(&[("a", "1"), ("d/b", "2"), ("d/c", "3")])).unwrap();
        let time = |path: &str| fs::metadata(root.join(path)).unwrap().modified().unwrap();
        let (before, other) = (time("a"), time("d/b"));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let wanted = files(&[("a", "1"), ("d/b", "other"), ("e/f", "4")]);
        sync(&root, &wanted).unwrap();
        assert_eq!(present(&root).unwrap(), wanted);
        assert_eq!(time("a"), before);
        assert!(time("d/b") > other);
    }

    #[test]
    fn files_and_directories_take_turns() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        let turns = [[("a/b/c", "1"), ("d", "2")], [("a", "1"), ("d/e", "2")], [("a/b", "1"), ("d", "2")]];
        for turn in &turns {
            sync(&root, &files(turn)).unwrap();
            assert_eq!(present(&root).unwrap(), files(turn));
        }
        sync(&root, &files(&[("x", "1")])).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "empty directories stay");
    }
}

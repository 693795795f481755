//! The files of the solution, and of a handout.

use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};

/// A file, with its path in the tree.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path, as the rubric writes it.
    pub path: String,
    /// Its contents.
    pub content: Vec<u8>,
}

/// While exercises are open, much is not used, also by what the exercises would call.
const ALLOW: &str = "#![allow(unused)] // While exercises are open. Delete this line when you are done.";

impl File {
    /// A text.
    pub fn new(path: &str, text: String) -> File {
        File { path: path.to_owned(), content: text.into_bytes() }
    }

    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.content).ok()
    }

    /// Let the compiler not complain of what is not used in this crate.
    pub fn allow_unused(&mut self) {
        let text = self.text().unwrap_or_default();
        let head: usize = text.split_inclusive('\n').take_while(|line| line.starts_with("//!")).map(str::len).sum();
        let text = format!("{}\n{ALLOW}\n{}", &text[..head], &text[head..]);
        self.content = text.into_bytes();
    }
}

/// Every file of the solution that belongs to it: those that Git knows, or without Git those that are not ignored.
///
/// # Errors
/// A file cannot be read.
pub fn read(root: &Path) -> Result<Vec<File>> {
    let mut paths = tracked(root).map_or_else(|| walked(root, root), Ok)?;
    paths.sort();
    read_all(root, paths)
}

/// Every file below a directory of the solution that is not ignored; none if there is no such directory.
///
/// # Errors
/// A file cannot be read.
pub fn read_directory(root: &Path, directory: &str) -> Result<Vec<File>> {
    let directory = root.join(directory);
    let mut paths = if directory.is_dir() { walked(root, &directory)? } else { Vec::new() };
    paths.sort();
    read_all(root, paths)
}

fn read_all(root: &Path, paths: Vec<String>) -> Result<Vec<File>> {
    let exists = paths.into_iter().filter(|path| root.join(path).is_file());
    exists
        .map(|path| {
            let content = fs::read(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
            Ok(File { path, content })
        })
        .collect()
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().ok()?;
    let names = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let paths: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

fn walked(root: &Path, directory: &Path) -> Result<Vec<String>> {
    let walk = ignore::WalkBuilder::new(directory).hidden(false).require_git(false).parents(false).build();
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.context("cannot list the files of the solution")?;
        let path = entry.path().strip_prefix(root).context("a file outside the solution")?;
        let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) && !path.starts_with(".git/") {
            paths.push(path.to_owned());
        }
    }
    Ok(paths)
}

/// Writes a tree. `root` has the files from which rights are taken: scripts stay executable.
///
/// # Errors
/// There is something at `directory` already, or it cannot be written.
pub fn write(root: &Path, directory: &Path, files: &[File]) -> Result<()> {
    let is_free = !directory.exists() || fs::read_dir(directory).is_ok_and(|mut inside| inside.next().is_none());
    ensure!(is_free, "{} exists already, and is not empty: name another directory", directory.display());
    for file in files {
        let path = directory.join(&file.path);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))?;
        if let Ok(of_solution) = fs::metadata(root.join(&file.path)) {
            fs::set_permissions(&path, of_solution.permissions())
                .with_context(|| format!("cannot set the rights of {}", path.display()))?;
        }
    }
    Ok(())
}

//! Which files students may change.

use crate::unpack::Files;
use anyhow::{Context, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Files that students may never change, whatever patterns say: they run on the host, or decide what does.
const NEVER: [&str; 10] = [
    "build.rs",
    "*/build.rs",
    "*/*/build.rs",
    "**/Cargo.toml",
    "Cargo.lock",
    "**/.cargo/**",
    "rust-toolchain*",
    "**/linker.ld",
    "tests/**",
    "xtask/**",
];
/// The files from which the kernel is built.
const KERNELS: [&str; 2] = ["kern/**", "lib/{abi,executable,mem}/**"];
/// Patterns of the files that students may change.
#[derive(Clone, Debug)]
pub struct Permitted {
    /// The patterns.
    pub patterns: Vec<String>,
    yes: GlobSet,
    no: GlobSet,
}

pub(crate) fn globs<P: AsRef<str>>(patterns: &[P]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.with_context(|| format!("`{pattern}` is not a pattern for files"))?);
    }
    set.build().context("the patterns for files")
}

impl Permitted {
    /// A set of files by these patterns, without the files that decide about the grade.
    ///
    /// # Errors
    /// A pattern has a mistake.
    pub fn new(patterns: &[String]) -> Result<Permitted> {
        Ok(Permitted { patterns: patterns.to_vec(), yes: globs(patterns)?, no: globs(&NEVER)? })
    }

    /// Whether any of these files is part of the kernel and may be changed, so that the kernel is the students', too.
    ///
    /// # Errors
    /// None: the patterns are built in.
    pub fn changes_kernel(&self, files: &Files) -> Result<bool> {
        let kernels = globs(&KERNELS)?;
        Ok(files.keys().any(|path| kernels.is_match(path) && self.allows(path)))
    }

    /// Whether students may change this file.
    #[must_use]
    pub fn allows(&self, path: &str) -> bool {
        self.yes.is_match(path) && !self.no.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, text)| (path.to_string(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn modules_are_not_build_scripts() {
        let permitted = Permitted::new(&["kern/vm/src/*.rs".to_owned(), "kern/vm/build.rs".to_owned()]).unwrap();
        assert!(permitted.allows("kern/vm/src/build.rs"));
        assert!(!permitted.allows("kern/vm/build.rs") && !permitted.allows("kern/vm/src/deep/a.rs"));
        assert!(permitted.changes_kernel(&files(&[("kern/vm/src/a.rs", "")])).unwrap());
        assert!(!permitted.changes_kernel(&files(&[("kern/vm/README", ""), ("kern/src/main.rs", "")])).unwrap());
    }
}

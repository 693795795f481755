//! Programs outside the checkout: a crate anywhere that depends on libos.
//!
//! Such a crate is built like the programs of the checkout, with the same flags and linker script, in a directory below
//! its own `target`. Its programs come into the boot archive beside those of the checkout.

use crate::cargo::Executable;
use crate::workspace::{self, Program, near};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate outside the checkout.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Its manifest.
    pub manifest: PathBuf,
    /// The directory in which it is built.
    pub target: PathBuf,
    /// Its programs.
    pub programs: Vec<Program>,
}

/// Whether a word of the command line is the path of a crate, and not the name of a program.
#[must_use]
pub fn is_path(word: &str) -> bool {
    word.contains('/') || word == "." || word == ".."
}

impl Outside {
    /// The crate in this directory.
    ///
    /// # Errors
    /// There is none, its manifest has a mistake, or it has no program.
    pub fn load(path: &Path) -> Result<Outside> {
        let directory = if path.ends_with("Cargo.toml") { path.parent().unwrap_or(path) } else { path };
        let manifest = std::path::absolute(directory.join("Cargo.toml")).context("the current directory")?;
        ensure!(
            manifest.is_file(),
            "there is no crate in {}: no Cargo.toml (`cargo xtask new PATH` makes one)",
            directory.display()
        );
        let no_manifest = || format!("{} is not the manifest of a crate", manifest.display());
        let metadata = workspace::metadata(&manifest).with_context(no_manifest)?;
        Outside::from_metadata(&metadata, manifest)
    }

    fn from_metadata(metadata: &Value, manifest: PathBuf) -> Result<Outside> {
        let target = metadata["target_directory"].as_str().context("cargo metadata: no target_directory")?;
        let packages: Vec<&Value> = metadata["packages"].as_array().into_iter().flatten().collect();
        let is_it = |package: &&Value| package["manifest_path"].as_str().map(Path::new) == Some(&manifest);
        // A virtual workspace is not a package itself.
        let own: Vec<&Value> = packages.iter().copied().filter(is_it).collect();
        let own = if own.is_empty() { packages } else { own };
        let programs: Vec<Program> = own.into_iter().flat_map(Program::of_package).collect();
        ensure!(!programs.is_empty(), "the crate of {} has no program", manifest.display());
        // The path is in the flags, and crates that share a directory by links are to have the same flags.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.into());
        Ok(Outside { target: target.join("faultline"), manifest, programs })
    }

    /// The program to boot: the one that is named, or the only one.
    ///
    /// # Errors
    /// There is none of that name, or there are several to choose from.
    pub fn program(&self, wanted: Option<&str>) -> Result<&Program> {
        let names: Vec<&str> = self.programs.iter().map(|program| program.name.as_str()).collect();
        match (wanted, &self.programs[..]) {
            (Some(wanted), all) => all.iter().find(|program| program.name == wanted).with_context(|| {
                format!("the crate has no program `{wanted}`{}; it has: {}", near(wanted, &names), names.join(", "))
            }),
            (None, [only]) => Ok(only),
            (None, _) => {
                bail!("the crate has several programs: {}; --bin NAME says which to boot", names.join(", "))
            }
        }
    }
}

/// The programs of the checkout and those of a crate. If names collide, the crate's program is taken.
#[must_use]
pub fn together(inside: Vec<Executable>, outside: Vec<Executable>) -> Vec<Executable> {
    let is_replaced = |program: &Executable| outside.iter().any(|other| other.name == program.name);
    let mut all: Vec<Executable> = inside.into_iter().filter(|program| !is_replaced(program)).collect();
    all.extend(outside);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outside(bins: &[&str]) -> Result<Outside> {
        let bins = bins.iter().map(|name| json!({"name": name, "kind": ["bin"], "src_path": "/x"}));
        let targets: Vec<Value> = bins.chain([json!({"name": "part", "kind": ["lib"]})]).collect();
        let other = json!({"manifest_path": "/a b/Cargo.toml", "targets": [{"name": "x", "kind": ["bin"]}]});
        let package = json!({"manifest_path": "/a b/c/Cargo.toml", "targets": targets});
        let metadata = json!({"target_directory": "/a b/c/target", "packages": [other, package]});
        Outside::from_metadata(&metadata, "/a b/c/Cargo.toml".into())
    }

    #[test]
    fn paths_are_told_from_names() {
        assert!(["./prog", "/a/b", ".", "..", "prog/"].into_iter().all(is_path));
        assert!(!["prog", "hello", "faultread"].into_iter().any(is_path));
    }

    #[test]
    fn the_only_program_needs_no_name() {
        let one = outside(&["prog"]).unwrap();
        assert_eq!(one.target, Path::new("/a b/c/target/faultline"));
        assert_eq!(one.program(None).unwrap().name, "prog");
        let two = outside(&["prog", "other"]).unwrap();
        assert_eq!(two.program(Some("other")).unwrap().name, "other");
        let error = two.program(None).unwrap_err().to_string();
        assert!(error.contains("prog, other") && error.contains("--bin"), "{error}");
        let error = two.program(Some("othr")).unwrap_err().to_string();
        assert!(error.contains("`othr`") && error.contains("similar: other"), "{error}");
        assert!(outside(&[]).unwrap_err().to_string().contains("no program"));
    }

    #[test]
    fn of_two_with_one_name_the_crates_is_taken() {
        let program = |name: &str, path: &str| Executable { name: name.into(), path: path.into() };
        let inside = vec![program("hello", "in"), program("sh", "in")];
        let all = together(inside, vec![program("hello", "out"), program("mine", "out")]);
        assert_eq!(all, [program("hello", "out"), program("mine", "out"), program("sh", "in")]);
    }
}

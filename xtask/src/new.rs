//! `cargo xtask new`: makes a crate with a program, in any directory.
//!
//! The crate is its own workspace, depends on libos, and needs nothing else of the checkout to be written and checked.
//! To run it, its runner (`.cargo/run`) asks cargo where the dependency on libos leads, and so finds the checkout.

use crate::{say, workspace::Workspace};
use abi::ExitStatus;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::{fs, os::unix::fs::PermissionsExt};

/// The command line of `new`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where to make it; must not exist, or be empty. The last part is its name
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// With a pager, and a test of it that runs on the host
    #[arg(long)]
    pub pager: bool,
    /// Depend on libos in this Git repository, and not in this checkout
    #[arg(long, value_name = "URL")]
    pub git: Option<String>,
}

/// The files of every crate: path, contents, whether it can be executed.
const COMMON: [(&str, &str, bool); 3] = [
    (".gitignore", "/target\n", false),
    (".cargo/config.toml", include_str!("new/config.toml"), false),
    (".cargo/run", include_str!("new/run.sh"), true),
];
const PROGRAM: [(&str, &str, bool); 1] = [("src/main.rs", include_str!("new/main.rs"), false)];
const PAGER: [(&str, &str, bool); 2] = [
    ("src/main.rs", include_str!("new/pager_main.rs"), false),
    ("src/lib.rs", include_str!("new/pager_lib.rs"), false),
];

/// Makes the crate.
///
/// # Errors
/// The name is not a valid crate name, the path is taken, or a file cannot be written.
pub fn main(args: &Args) -> Result<ExitStatus> {
    let root = Workspace::load()?.root;
    let path = std::path::absolute(&args.path).context("the current directory")?;
    let name = crate_name(&path)?;
    let is_free = fs::read_dir(&path).map_or(true, |mut entries| entries.next().is_none());
    ensure!(is_free && !path.is_file(), "{} exists already, and is not empty", path.display());
    let manifest = manifest(&name, &dependency(&root, args.git.as_deref()));
    let files: &[(&str, &str, bool)] = if args.pager { &PAGER } else { &PROGRAM };
    write(&path.join("Cargo.toml"), &manifest, false)?;
    for (file, text, is_executable) in COMMON.iter().chain(files) {
        write(&path.join(file), &text.replace("CRATE", &name.replace('-', "_")), *is_executable)?;
    }
    // The versions with which everything here is tested. Cargo removes those that the crate does not use.
    let lock = root.join("Cargo.lock");
    fs::copy(&lock, path.join("Cargo.lock")).with_context(|| format!("cannot copy {}", lock.display()))?;
    say!("{}: `cargo run` there boots it, and so does `cargo xtask run` with its path here", path.display());
    Ok(ExitStatus::SUCCESS)
}

/// The name of the crate: cargo and the boot archive must accept it.
fn crate_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    ensure!(
        begins && name.chars().all(is_fine) && name.len() <= 32,
        "`{name}` is not a name for a crate: use at most 32 letters, digits, `-` and `_`, and begin with a letter"
    );
    ensure!(!["test", "libos"].contains(&name), "a crate cannot be called `{name}`");
    Ok(name.to_owned())
}

fn dependency(root: &Path, git: Option<&str>) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    match git {
        Some(url) => format!("{{ git = {} }}", quoted(url)),
        None => format!("{{ path = {} }}", quoted(&root.join("lib/libos").display().to_string())),
    }
}

fn manifest(name: &str, libos: &str) -> String {
    include_str!("new/manifest.toml").replace("NAME", name).replace("LIBOS", libos)
}

fn write(path: &Path, text: &str, is_executable: bool) -> Result<()> {
    let directory = path.parent().context("a file is in a directory")?;
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, text));
    let mode = if is_executable { 0o755 } else { 0o644 };
    let written = written.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_or_the_archive_would_refuse() {
        for good in ["/a b/prog", "my-pager", "x_1"] {
            assert!(crate_name(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["/a/my prog", "1st", "/", "test", "-x", "p.rs", &"x".repeat(33)] {
            let error = crate_name(Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains("crate"), "{bad}: {error}");
        }
    }

    #[test]
    fn manifests_can_be_read_whatever_the_path() {
        let root = Path::new("/a \"b\\c/x");
        let text = manifest("prog", &dependency(root, None));
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["dependencies"]["libos"]["path"].as_str(), Some("/a \"b\\c/x/lib/libos"));
        assert_eq!(parsed["package"]["name"].as_str(), Some("prog"));
        let text = manifest("prog", &dependency(root, Some("https://host/x.git")));
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["dependencies"]["libos"]["git"].as_str(), Some("https://host/x.git"));
    }
}

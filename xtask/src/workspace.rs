//! The directories of the workspace, and its programs. Cargo is asked, so that nothing is listed twice.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{ffi::OsString, fs};

/// The directory of the packages whose binaries are the programs.
const PROGRAMS: &str = "user";

/// Cargo's name for this host, whatever target its configuration prefers.
pub const HOST: &str = "host-tuple";

/// This workspace, as cargo describes it.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The directory of the workspace.
    pub root: PathBuf,
    /// The target directory.
    pub target: PathBuf,
    /// The packages of the user programs.
    pub program_packages: Vec<String>,
    /// The user programs, by name.
    pub programs: Vec<Program>,
}

/// A user program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in the boot archive.
    pub name: String,
    /// Its main source file.
    pub source: PathBuf,
    /// Whether it needs a disk.
    pub needs_disk: bool,
}

impl Workspace {
    /// Loads the description of the workspace from cargo.
    ///
    /// # Errors
    /// Cargo cannot be run, or a manifest has a mistake.
    pub fn load() -> Result<Workspace> {
        let metadata = metadata(&root().join("Cargo.toml"))?;
        Workspace::from_metadata(&metadata)
    }

    fn from_metadata(metadata: &Value) -> Result<Workspace> {
        let path = |key: &str| {
            let text = metadata[key].as_str().with_context(|| format!("cargo metadata: no {key}"));
            text.map(PathBuf::from)
        };
        let root = path("workspace_root")?;
        let is_of_programs = |package: &&Value| {
            let manifest = package["manifest_path"].as_str().map(Path::new);
            manifest.is_some_and(|manifest| manifest.starts_with(root.join(PROGRAMS)))
        };
        let packages = metadata["packages"].as_array().into_iter().flatten().filter(is_of_programs);
        let name = |package: &Value| package["name"].as_str().map(str::to_owned);
        let mut programs: Vec<Program> = packages.clone().flat_map(Program::of_package).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        let program_packages = packages.filter_map(name).collect();
        Ok(Workspace { target: path("target_directory")?, program_packages, programs, root })
    }

    /// Runs a program of this workspace on the host. It is built when it is first needed, so that a first run does not
    /// wait for code that few use. `options` are for cargo. (It is not named by its package, for which cargo would
    /// compile dependencies with other features than those of the tests.)
    ///
    /// # Errors
    /// Cargo cannot be run.
    pub fn run_binary(&self, name: &str, options: &[&str], words: &[OsString]) -> Result<ExitStatus> {
        let mut command = Command::new(cargo());
        command.args(["run", "--quiet", "--target", HOST]).args(options);
        command.args(["--bin", name, "--manifest-path"]);
        command.arg(self.root.join("Cargo.toml")).arg("--").args(words);
        command.status().context("cannot run cargo")
    }

    /// The program of this name.
    ///
    /// # Errors
    /// There is none; the message names programs with a similar name.
    pub fn program(&self, name: &str) -> Result<&Program> {
        match self.programs.iter().find(|program| program.name == name) {
            Some(program) => Ok(program),
            None => bail!("there is no program `{name}`{}\n  `cargo xtask list` shows all of them", self.hint(name)),
        }
    }

    fn hint(&self, name: &str) -> String {
        near(name, &self.programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>())
    }
}

/// The directory of the repository from which this tool was built.
#[must_use]
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The packages of a manifest's workspace, as cargo lists them.
///
/// # Errors
/// Cargo cannot be run, or a manifest has a mistake.
pub fn metadata(manifest: &Path) -> Result<Value> {
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"])
        .arg(manifest)
        .current_dir("/")
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}

impl Program {
    /// The programs of a package. Its manifest names those that need a disk, under `package.metadata.faultline`:
    ///
    /// ```toml
    /// needs-disk = ["bigsort"]
    /// ```
    pub fn of_package(package: &Value) -> impl Iterator<Item = Program> + use<'_> {
        let targets = package["targets"].as_array().into_iter().flatten();
        targets.filter_map(|target| {
            let is_bin = target["kind"].as_array()?.iter().any(|kind| kind == "bin");
            let name = target["name"].as_str()?.to_owned();
            let source = PathBuf::from(target["src_path"].as_str()?);
            let with_disk = package["metadata"]["faultline"]["needs-disk"].as_array();
            let needs_disk = with_disk.is_some_and(|names| names.iter().any(|other| *other == name));
            is_bin.then_some(Program { name, source, needs_disk })
        })
    }

    /// A description of the program: the first line of its documentation.
    #[must_use]
    pub fn summary(&self) -> String {
        let source = fs::read_to_string(&self.source).unwrap_or_default();
        let line = source.lines().find_map(|line| line.strip_prefix("//!"));
        line.unwrap_or("").trim().to_owned()
    }
}

/// The names that are similar to this one, as the end of a message.
#[must_use]
pub fn near(wanted: &str, names: &[&str]) -> String {
    let likeness = |name: &&str| strsim::jaro_winkler(name, wanted);
    let mut near: Vec<&str> = names.iter().copied().filter(|name| likeness(name) > 0.75).collect();
    near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    near.truncate(4);
    if near.is_empty() { String::new() } else { format!("; similar: {}", near.join(", ")) }
}

/// The cargo that started this tool, or the one in the path.
#[must_use]
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// The toolchain that this checkout is built with.
#[must_use]
pub fn pinned_toolchain(root: &Path) -> String {
    let text = fs::read_to_string(root.join("rust-toolchain.toml")).unwrap_or_default();
    let channel = text.lines().find_map(|line| line.strip_prefix("channel = "));
    channel.unwrap_or("").trim_matches('"').to_owned()
}

/// Cargo's home directory.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(std::env::home_dir()?.join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workspace() -> Workspace {
        let target = |name: &str, kind: &str| json!({"name": name, "kind": [kind], "src_path": "/x"});
        let some = json!([target("primes", "bin"), target("hello", "bin"), target("b", "custom-build")]);
        let metadata = json!({
            "workspace_root": "/w",
            "target_directory": "/t",
            "packages": [
                {"name": "xtask", "manifest_path": "/w/xtask/Cargo.toml", "targets": [target("xtask", "bin")]},
                {"name": "some", "manifest_path": "/w/user/some/Cargo.toml", "targets": some},
                {"name": "more", "manifest_path": "/w/user/more/Cargo.toml", "targets": [target("cat", "bin")],
                 "metadata": {"faultline": {"needs-disk": ["cat"]}}},
            ],
        });
        Workspace::from_metadata(&metadata).unwrap()
    }

    #[test]
    fn programs_are_the_binaries_of_the_packages_below_user() {
        let workspace = workspace();
        let names: Vec<_> = workspace.programs.into_iter().map(|program| program.name).collect();
        assert_eq!(names, ["cat", "hello", "primes"]);
        assert_eq!(workspace.program_packages, ["some", "more"]);
    }

    #[test]
    fn manifests_say_who_needs_a_disk() {
        let need: Vec<_> = workspace().programs.into_iter().filter(|program| program.needs_disk).collect();
        assert_eq!(need.iter().map(|program| program.name.as_str()).collect::<Vec<_>>(), ["cat"]);
    }

    #[test]
    fn unknown_program_names_near_ones() {
        let error = workspace().program("prime").unwrap_err().to_string();
        assert!(error.contains("`prime`") && error.contains("primes"), "{error}");
        assert!(!error.contains("hello"), "{error}");
    }
}

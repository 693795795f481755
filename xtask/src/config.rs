//! The configuration of cargo under which images are built.
//!
//! Images depend on the checkout and nothing else. But cargo merges its configuration from every directory above, from
//! the user's own, and from the environment, and a table that is set once cannot be removed: `--config` only adds. So
//! images are built from `/`, where no file lies above, with a cargo directory (`CARGO_HOME`) of their own. Settings of
//! the caller that say where packages come from and how they are fetched are copied there; so is the number of
//! compilers that run at a time. Downloaded packages, locks and credentials stay the user's: links lead to them.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{collections::BTreeSet, env, fs, io, io::Write, os::unix::fs::symlink, process::Command};
use tempfile::NamedTempFile;
use toml::{Table, Value};

/// Tables that say where packages come from, and how to fetch them.
const HONOURED: [&str; 6] = ["credential-alias", "http", "net", "registries", "registry", "source"];
/// Tables that change nothing that is built.
const HARMLESS: [&str; 7] = ["alias", "cache", "cargo-new", "doc", "future-incompat-report", "install", "term"];
/// Prefixes of variables of the caller on which images might depend. Variables of rustup, of [`HONOURED`] tables, and
/// [`KEPT`] ones are kept.
const FOREIGN: [&str; 5] = ["CARGO", "__CARGO", "RUST", "LLD_", "LLVM_"];
const KEPT: [&str; 2] = ["CARGO_BUILD_JOBS", "CARGO_MAKEFLAGS"];
/// Prefixes of variables for [`HONOURED`] tables, and of those for the installation of toolchains.
const KEPT_PREFIXES: [&str; 7] = [
    "CARGO_CREDENTIAL_ALIAS_",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "RUSTUP_",
];
/// Kept variables that hold a path, possibly a relative one.
const PATHS: [&str; 2] = ["CARGO_HTTP_CAINFO", "CARGO_HTTP_PROXY_CAINFO"];
/// Entries of cargo's directory that belong to the user. Names with `/` are directories.
const SHARED: [&str; 9] = [
    "registry/",
    "git/",
    "bin/",
    "credentials.toml",
    "credentials",
    ".package-cache",
    ".package-cache-mutate",
    ".global-cache",
    ".crates2.json",
];
/// The directory of packages as messages of panics show it, wherever this user keeps them.
const PACKAGES: &str = "cargo/registry/src";

/// A cargo directory that holds nothing that could change an image.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    config: Table,
}

impl Home {
    /// Brings the directory up to date for this checkout.
    ///
    /// # Errors
    /// A configuration has a mistake, or cannot be set aside.
    pub fn prepare(path: &Path, root: &Path) -> Result<Home> {
        let users = workspace::cargo_home().context("no home directory; CARGO_HOME names cargo's")?;
        let users = std::path::absolute(&users).context("CARGO_HOME")?;
        ensure_nothing_above()?;
        let mut config = callers(root, &users)?;
        // Packages that nothing here uses may be in use elsewhere: cargo must not clean them away.
        let never = Table::from_iter([("auto-clean-frequency".to_owned(), Value::from("never"))]);
        config.insert("cache".to_owned(), never.into());
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        write(path, &config.to_string())?;
        for name in SHARED {
            share(&users, path, name)?;
        }
        Ok(Home { path: path.to_owned(), config })
    }

    /// Flags for rustc that give every package the same path, whatever source it comes from.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn remaps(&self) -> Result<Vec<String>> {
        let registries = entries(&self.path.join("registry/src"))?;
        let mut remaps: Vec<_> = registries.into_iter().map(|registry| (registry, PACKAGES.to_owned())).collect();
        let sources = self.config.get("source").and_then(Value::as_table);
        for source in sources.into_iter().flat_map(Table::values) {
            if let Some(directory) = source.get("directory").and_then(Value::as_str) {
                for package in entries(Path::new(directory))? {
                    remaps.extend(full_name(&package).map(|name| (package, format!("{PACKAGES}/{name}"))));
                }
            }
        }
        let flag = |(from, to): (PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        Ok(remaps.into_iter().map(flag).collect())
    }

    /// Makes a command line of cargo independent of the caller.
    ///
    /// # Errors
    /// There is no current directory.
    pub fn apply(&self, command: &mut Command, toolchain: &str) -> Result<()> {
        for (name, value) in env::vars_os() {
            if is_foreign(&name) {
                command.env_remove(&name);
            } else if PATHS.iter().any(|path| name == *path) && !value.is_empty() {
                command.env(&name, std::path::absolute(&value).context("the current directory")?);
            }
        }
        command.current_dir("/").env("CARGO_HOME", &self.path).env("RUSTUP_TOOLCHAIN", toolchain);
        Ok(())
    }
}

/// Whether images might depend on this variable, so that it must be removed.
fn is_foreign(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    FOREIGN.iter().any(|prefix| name.starts_with(prefix))
        && !KEPT.contains(&name.as_ref())
        && !KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The toolchain that the checkout pins, and whether the caller's cargo belongs to it. Without rustup there is no
/// choice.
#[must_use]
pub fn toolchain(pinned: &str, chosen: Option<OsString>) -> (String, bool) {
    match chosen.map(|name| name.to_string_lossy().into_owned()) {
        None => (pinned.to_owned(), true),
        Some(name) if name == pinned || name.starts_with(&format!("{pinned}-")) => (name, true),
        Some(_) => (pinned.to_owned(), false),
    }
}

/// The honoured tables of the caller's configuration: of the user's file, and of the files above the checkout. Nearer
/// files take precedence.
fn callers(root: &Path, users: &Path) -> Result<Table> {
    let mut directories: Vec<PathBuf> = root.ancestors().map(|above| above.join(".cargo")).collect();
    // Most users keep their checkouts below the directory that holds `.cargo`.
    if !directories.iter().any(|directory| directory == users) {
        directories.push(users.to_owned());
    }
    let mut merged = Table::new();
    for file in directories.iter().rev().filter_map(|directory| file_in(directory)) {
        merge(&mut merged, honoured(load(&file, 0)?));
    }
    Ok(merged)
}

/// The configuration file that cargo reads in this directory.
fn file_in(directory: &Path) -> Option<PathBuf> {
    ["config", "config.toml"].iter().map(|name| directory.join(name)).find(|path| path.is_file())
}

/// Refuses a configuration in `/.cargo` that could change images: cargo reads it even from `/`.
fn ensure_nothing_above() -> Result<()> {
    let Some(file) = file_in(Path::new("/.cargo")) else { return Ok(()) };
    let mut table = load(&file, 0)?;
    table.retain(|key, _| !HONOURED.contains(&key) && !HARMLESS.contains(&key));
    if let Some(Value::Table(build)) = table.get_mut("build") {
        build.remove("jobs");
    }
    table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
    let keys = table.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    ensure!(
        keys.is_empty(),
        "{} would change what is built ({keys}), and cargo reads it everywhere; move that to a directory further down",
        file.display()
    );
    Ok(())
}

/// A configuration file of cargo with its includes, and with absolute paths.
fn load(file: &Path, depth: usize) -> Result<Table> {
    let shown = file.display();
    ensure!(depth < 16, "{shown} includes itself");
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let mut own: Table = text.parse().with_context(|| format!("{shown} is not a configuration of cargo"))?;
    let directory = file.parent().context("a file is in a directory")?;
    let base = directory.parent().unwrap_or(directory);
    make_absolute(&mut own, base);
    let mut merged = Table::new();
    let included = match own.remove("include") {
        Some(Value::Array(files)) => files,
        other => other.into_iter().collect(),
    };
    for entry in &included {
        let optional = entry.get("optional").and_then(Value::as_bool).unwrap_or(false);
        let name = entry.as_str().or_else(|| entry.get("path")?.as_str());
        let path = directory.join(name.with_context(|| format!("an include without a path in {shown}"))?);
        if path.exists() || !optional {
            merge(&mut merged, load(&path, depth + 1)?);
        }
    }
    merge(&mut merged, own);
    Ok(merged)
}

/// Makes the paths in a file absolute: they are relative to the directory that holds `.cargo`.
fn make_absolute(table: &mut Table, base: &Path) {
    let join = |value: Option<&mut Value>| {
        if let Some(Value::String(path)) = value {
            *path = base.join(&*path).to_string_lossy().into_owned();
        }
    };
    if let Some(Value::Table(http)) = table.get_mut("http") {
        join(http.get_mut("cainfo"));
        join(http.get_mut("proxy-cainfo"));
    }
    if let Some(Value::Table(sources)) = table.get_mut("source") {
        for source in sources.iter_mut().filter_map(|(_, source)| source.as_table_mut()) {
            join(source.get_mut("directory"));
            join(source.get_mut("local-registry"));
        }
    }
}

fn honoured(mut table: Table) -> Table {
    let jobs = table.get("build").and_then(|build| build.get("jobs")).cloned();
    table.retain(|key, _| HONOURED.contains(&key));
    if let Some(jobs) = jobs {
        table.insert("build".to_owned(), Table::from_iter([("jobs".to_owned(), jobs)]).into());
    }
    table
}

/// Merges tables as cargo does: tables are merged, arrays are joined, and of everything else the stronger value counts.
fn merge(into: &mut Table, stronger: Table) {
    for (key, value) in stronger {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(weak)), Value::Table(strong)) => merge(weak, strong),
            (Some(Value::Array(weak)), Value::Array(strong)) => weak.extend(strong),
            (_, value) => _ = into.insert(key, value),
        }
    }
}

/// The name and version of the package in this directory.
fn full_name(package: &Path) -> Option<String> {
    let manifest: Table = fs::read_to_string(package.join("Cargo.toml")).ok()?.parse().ok()?;
    let of = |key: &str| manifest.get("package")?.get(key)?.as_str();
    Some(format!("{}-{}", of("name")?, of("version")?))
}

/// The entries of a directory, in order; none if it does not exist.
fn entries(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let shown = || format!("cannot list {}", directory.display());
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        entries => entries.with_context(shown)?.map(|entry| Ok(entry.with_context(shown)?.path())).collect(),
    }
}

/// Writes the configuration atomically, because other threads or tools may read or write it at the same time. Only the
/// user may read it: it may hold tokens.
fn write(home: &Path, text: &str) -> Result<()> {
    let path = home.join("config.toml");
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let written = NamedTempFile::new_in(home).and_then(|mut fresh| {
        fresh.write_all(text.as_bytes())?;
        Ok(fresh.persist(&path)?)
    });
    written.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a link to an entry of the user's directory.
fn share(users: &Path, home: &Path, name: &str) -> Result<()> {
    let (from, to) = (home.join(name.trim_end_matches('/')), users.join(name.trim_end_matches('/')));
    if name.ends_with('/') {
        // No directory can be made through a link that leads nowhere. If creating it is not permitted, it is not
        // needed.
        let _ = fs::create_dir_all(&to);
    }
    if fs::read_link(&from).is_ok_and(|there| there == to) {
        return Ok(());
    }
    // Made under another name and renamed: a concurrent tool finds the old one or the new one.
    let made = tempfile::Builder::new().make_in(home, |fresh| symlink(&to, fresh)).and_then(|fresh| {
        if fs::symlink_metadata(&from).is_ok_and(|there| there.is_dir()) {
            fs::remove_dir_all(&from)?;
        }
        Ok(fresh.into_temp_path().persist(&from)?)
    });
    made.with_context(|| format!("cannot make the link {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Kernels and programs are built at the same time, and other tools may run, too.
    #[test]
    fn several_prepare_at_the_same_time() {
        let scratch = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let home = scratch.path().join(round.to_string());
            std::thread::scope(|scope| {
                let all: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| Home::prepare(&home, scratch.path()).map(drop))).collect();
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
            assert!(fs::read_link(home.join("registry")).is_ok(), "a link to the user's");
            let mode = fs::metadata(home.join("config.toml")).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "there may be tokens in it");
            let mut names: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.retain(|name| !SHARED.iter().any(|shared| *name == *shared.trim_end_matches('/')));
            assert_eq!(names, ["config.toml"], "nothing is left over");
        }
    }

    #[test]
    fn only_variables_that_change_nothing_are_kept() {
        for foreign in [
            "CARGO_PROFILE_KERNEL_STRIP",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_UNSTABLE_BUILD_STD",
            "CARGO_INCREMENTAL",
            "CARGO_RESOLVER_LOCKFILE_PATH",
            "__CARGO_DEFAULT_LIB_METADATA",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUSTFLAGS",
            "RUST_TARGET_PATH",
        ] {
            assert!(is_foreign(foreign.as_ref()), "{foreign}");
        }
        for kept in [
            "PATH",
            "https_proxy",
            "CARGO_BUILD_JOBS",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_MIRROR_TOKEN",
            "RUSTUP_HOME",
        ] {
            assert!(!is_foreign(kept.as_ref()), "{kept}");
        }
    }

    #[test]
    fn the_pinned_toolchain_builds() {
        let chosen = |name: &str| toolchain("1.95.0", Some(name.into()));
        assert_eq!(toolchain("1.95.0", None), ("1.95.0".to_owned(), true));
        assert!(chosen("1.95.0-x86_64-unknown-linux-gnu").1);
        assert_eq!(chosen("nightly"), ("1.95.0".to_owned(), false));
        assert_eq!(chosen("1.95.01"), ("1.95.0".to_owned(), false));
    }

    /// A checkout `a/b` and a user's directory, with a configuration each.
    fn files() -> tempfile::TempDir {
        let files = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = files.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            "home/config.toml",
            "net.retry = 1\nregistry.global-credential-providers = ['cargo:token']\nprofile.release.strip = true\n\
             [source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = 'sparse+https://mirror/'\n",
        );
        put(
            "a/.cargo/config.toml",
            "include = ['more.toml', { path = 'none.toml', optional = true }]\nnet.retry = 2\n",
        );
        put(
            "a/.cargo/more.toml",
            "net.retry = 3\nbuild.jobs = 5\nbuild.target = 'thumbv7m-none-eabi'\npaths = ['x']\n",
        );
        put(
            "a/b/.cargo/config.toml",
            "env.X = 'y'\nregistry.global-credential-providers = ['libsecret']\nhttp.cainfo = 'cert.pem'\n\
             [source.vendored]\ndirectory = 'vendor'\n[patch.crates-io]\nspin.path = 'spin'\n[unstable]\nx = true\n",
        );
        put("a/b/vendor/spin/Cargo.toml", "[package]\nname = 'spin'\nversion = '0.12.3'\n");
        files
    }

    #[test]
    fn where_packages_come_from_is_the_callers() {
        let files = files();
        let found = callers(&files.path().join("a/b"), &files.path().join("home")).unwrap();
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(keys, ["build", "http", "net", "registry", "source"]);
        assert_eq!(found["build"], Table::from_iter([("jobs".to_owned(), Value::from(5))]).into());
        assert_eq!(found["net"]["retry"].as_integer(), Some(2), "the nearer file, and what it includes comes first");
        assert_eq!(found["registry"]["global-credential-providers"].as_array().unwrap().len(), 2);
        assert_eq!(found["source"]["crates-io"]["replace-with"].as_str(), Some("mirror"));
        let absolute = |name: &str| files.path().join("a/b").join(name).to_string_lossy().into_owned();
        assert_eq!(found["source"]["vendored"]["directory"].as_str(), Some(absolute("vendor").as_str()));
        assert_eq!(found["http"]["cainfo"].as_str(), Some(absolute("cert.pem").as_str()));
    }

    #[test]
    fn packages_seem_to_lie_at_one_place() {
        let files = files();
        let path = files.path().join("private");
        fs::create_dir_all(path.join("registry/src/mirror-12")).unwrap();
        let config = callers(&files.path().join("a/b"), &files.path().join("home")).unwrap();
        let remaps = Home { path: path.clone(), config }.remaps().unwrap();
        let from = [path.join("registry/src/mirror-12"), files.path().join("a/b/vendor/spin")];
        let expected = from.map(|from| format!("--remap-path-prefix={}=cargo/registry/src", from.display()));
        assert_eq!(remaps, [expected[0].clone(), format!("{}/spin-0.12.3", expected[1])]);
    }
}

//! `cargo xtask doctor`: what is installed, what is missing, and the command that installs it.

use crate::emulator::Version;
use crate::install::{self, Manager, QEMU};
use crate::workspace::{self, Workspace};
use abi::ExitStatus;
use anyhow::Result;
use std::{ffi::OsStr, fs, path::Path, process::Command};

/// The disk space that a build of everything takes.
const DISK_LEAST: u64 = 2 << 30;

/// The result of one check.
enum Finding {
    Good(String),
    /// Useful but not needed.
    Optional(String, String),
    /// Needed, with the remedy.
    Missing(String, String),
}

use Finding::{Good, Missing, Optional};

/// Prints a line for each check; fails if something that is needed is missing.
///
/// # Errors
/// Cargo cannot tell where the workspace is.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let findings = [
        ("rustc", rustc(&workspace.root)),
        ("rust-lld", linker()),
        ("rustfmt", component("rustfmt", "rustfmt")),
        ("clippy", component("clippy-driver", "clippy")),
        ("qemu", qemu()),
        ("gdb", gdb()),
        ("kvm", kvm()),
        ("disk", disk(&workspace.target)),
    ];
    let mut healthy = true;
    for (name, finding) in findings {
        healthy &= !matches!(finding, Missing(..));
        println!("{}", finding.line(name));
    }
    Ok(if healthy { ExitStatus::SUCCESS } else { ExitStatus::FAILURE })
}

impl Finding {
    fn line(&self, name: &str) -> String {
        match self {
            Good(what) => format!("ok       {name:9} {what}"),
            Optional(what, remedy) => format!("optional {name:9} {what}{}", arrow(remedy)),
            Missing(what, remedy) => format!("MISSING  {name:9} {what}{}", arrow(remedy)),
        }
    }
}

fn arrow(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!("\n         {:9} -> {remedy}", "") }
}

/// The first line of a program's output.
fn ask(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or("").to_owned())
}

fn rustc(root: &Path) -> Finding {
    let pinned = workspace::pinned_toolchain(root);
    let remedy = format!("rustup toolchain install {pinned} --component rustfmt,clippy");
    match ask("rustc", &["--version"]) {
        Some(version) if version.split(' ').nth(1) == Some(&pinned) => Good(version),
        Some(version) => Missing(format!("{version}; rust-toolchain.toml pins {pinned}"), remedy),
        None => Missing("not installed".to_owned(), remedy),
    }
}

/// Checks the linker. It lies in the toolchain, where rustc looks for it first.
fn linker() -> Finding {
    let host = ask("rustc", &["--print", "host-tuple"]).unwrap_or_default();
    let sysroot = ask("rustc", &["--print", "sysroot"]).unwrap_or_default();
    let path = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if path.is_file() {
        return Good(path.display().to_string());
    }
    match install::find("rust-lld".as_ref()) {
        Some(path) => Good(path.display().to_string()),
        None => Missing(
            format!("not at {}", path.display()),
            "install the toolchain with rustup: distributions leave rust-lld out".to_owned(),
        ),
    }
}

fn component(program: &str, name: &str) -> Finding {
    match ask(program, &["--version"]) {
        Some(version) => Good(version),
        None => Missing("not installed".to_owned(), format!("rustup component add {name}")),
    }
}

fn qemu() -> Finding {
    let remedy = match Manager::of_host() {
        Some(manager) => manager.qemu_line(),
        None => format!("install {QEMU} with your system's package manager"),
    };
    let named = std::env::var_os(install::QEMU_VARIABLE).is_some_and(|name| !name.is_empty());
    let rename = format!("unset {0}, or let {0} name another", install::QEMU_VARIABLE);
    let path = match install::find_qemu() {
        Ok(Some(path)) => path,
        Ok(None) => return Missing("not installed".to_owned(), remedy),
        Err(error) => return Missing(error.to_string(), rename),
    };
    let remedy = if named { rename } else { remedy };
    let text = ask(&path, &["--version"]).unwrap_or_default();
    let Some(version) = Version::parse(&text) else {
        return Missing(format!("{} prints no version", path.display()), remedy);
    };
    if version < Version::LEAST {
        return Missing(format!("{text}; {} is the oldest that works", Version::LEAST), remedy);
    }
    match version.caveat() {
        None => Good(text),
        Some(caveat) => Optional(format!("{text}; {caveat}"), install::newer_qemu()),
    }
}

fn gdb() -> Finding {
    match ask("gdb", &["--version"]) {
        Some(version) => Good(version),
        None => Optional(
            "not installed; `cargo xtask gdb` needs it".to_owned(),
            Manager::of_host().map(|manager| manager.gdb_line()).unwrap_or_default(),
        ),
    }
}

fn kvm() -> Finding {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Good("usable".to_owned()),
        Err(error) => Optional(format!("not usable ({error}); emulation is the default"), String::new()),
    }
}

fn disk(target: &Path) -> Finding {
    let there = target.ancestors().find(|path| path.exists()).unwrap_or(target);
    let shown = target.display();
    let writable = tempfile::tempfile_in(there);
    if let Err(error) = writable {
        return Missing(format!("cannot write to {shown}: {error}"), "set CARGO_TARGET_DIR".to_owned());
    }
    match rustix::fs::statvfs(there) {
        Ok(disk) if disk.f_bavail * disk.f_frsize < DISK_LEAST => {
            let free = (disk.f_bavail * disk.f_frsize) >> 20;
            Missing(format!("{free} MiB free for {shown}"), "make room, or set CARGO_TARGET_DIR".to_owned())
        }
        Ok(disk) => Good(format!("{} GiB free for {shown}", (disk.f_bavail * disk.f_frsize) >> 30)),
        Err(error) => Optional(format!("cannot read the free space for {shown}: {error}"), String::new()),
    }
}

//! `cargo xtask doctor`: what is installed, what is missing, and the command that installs it.

use crate::emulator::Version;
use crate::install::{self, Manager, QEMU};
use crate::workspace::{self, Workspace};
use abi::ExitStatus;
use anyhow::Result;
use std::{ffi::OsStr, fs, path::Path, process::Command};

/// The disk space that a build of everything takes.
const DISK_LEAST: u64 = 2 << 30;

/// The parts of an emulator that disks need: the question whose answer lists such parts, and their names.
const DISK_PARTS: [([&str; 2], &[&str]); 2] =
    [(["-machine", "help"], &["q35"]), (["-device", "help"], &["intel-iommu", "virtio-blk-pci"])];
/// The parts that fault injection in disks needs.
const FAULT_PARTS: [([&str; 2], &[&str]); 1] = [(["-drive", "format=help"], &["blkdebug", "blklogwrites", "throttle"])];

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
        ("devices", devices()),
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

/// A program's output.
fn output(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first line of a program's output.
fn ask(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    output(program, args).map(|text| text.lines().next().unwrap_or("").to_owned())
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

fn devices() -> Finding {
    let Ok(Some(qemu)) = install::find_qemu() else {
        return Optional("no emulator that could have any".to_owned(), String::new());
    };
    let lacks = |parts: &[([&str; 2], &'static [&str])]| -> Vec<&str> {
        parts.iter().flat_map(|(question, names)| absent(&output(&qemu, question).unwrap_or_default(), names)).collect()
    };
    let remedy = || format!("let {} name a complete QEMU", install::QEMU_VARIABLE);
    match (lacks(&DISK_PARTS).join(", "), lacks(&FAULT_PARTS).join(", ")) {
        (disks, _) if !disks.is_empty() => Optional(format!("QEMU lacks {disks}; `--disk` needs them"), remedy()),
        (_, faults) if !faults.is_empty() => Optional(format!("QEMU lacks {faults}; some tests need them"), remedy()),
        _ => Good("QEMU has an IOMMU, disks, and fault injection for tests".to_owned()),
    }
}

/// The names that are no words of the list.
fn absent<'a>(list: &str, names: &[&'a str]) -> Vec<&'a str> {
    let is_there = |name: &&str| list.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == *name);
    names.iter().copied().filter(|name| !is_there(name)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_words_of_the_list() {
        let list = "name \"virtio-blk-pci-non-transitional\", bus PCI\nname \"intel-iommu\", bus System\n";
        assert_eq!(absent(list, &["intel-iommu", "virtio-blk-pci", "PCI"]), ["virtio-blk-pci"]);
        assert_eq!(absent("", &["q35"]), ["q35"]);
    }
}

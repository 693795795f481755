//! Finds the emulator, and installs it if it is missing and can be installed.

use crate::{emulator::Version, say, terminal};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, Write, stderr, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{env, ffi::OsStr, fs};

/// The name of the emulator's executable.
pub const QEMU: &str = "qemu-system-x86_64";
/// The environment variable that names another emulator.
pub const QEMU_VARIABLE: &str = "FAULTLINE_QEMU";

/// A package manager and its commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manager {
    program: &'static str,
    /// The command to run first, if one is needed.
    refresh: Option<&'static str>,
    install: &'static str,
    /// The package of the emulator.
    qemu: &'static str,
    gdb: &'static str,
    needs_root: bool,
}

/// The known package managers, in the order in which they are looked for.
const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        refresh: Some("apt-get update"),
        install: "apt-get install -y --no-install-recommends",
        qemu: "qemu-system-x86",
        gdb: "gdb",
        needs_root: true,
    },
    Manager {
        program: "dnf",
        refresh: None,
        install: "dnf install -y",
        qemu: "qemu-system-x86-core",
        gdb: "gdb",
        needs_root: true,
    },
    Manager {
        program: "pacman",
        refresh: None,
        install: "pacman -Sy --noconfirm",
        qemu: "qemu-system-x86",
        gdb: "gdb",
        needs_root: true,
    },
    Manager {
        program: "zypper",
        refresh: None,
        install: "zypper --non-interactive install",
        qemu: "qemu-x86",
        gdb: "gdb",
        needs_root: true,
    },
    Manager {
        program: "apk",
        refresh: None,
        install: "apk add",
        qemu: "qemu-system-x86_64",
        gdb: "gdb",
        needs_root: true,
    },
    Manager { program: "brew", refresh: None, install: "brew install", qemu: "qemu", gdb: "gdb", needs_root: false },
];

/// The emulator. Installs it if needed.
///
/// # Errors
/// There is none, and it could not be installed; the message holds the command to type.
pub fn qemu() -> Result<PathBuf> {
    if let Some(path) = find_qemu()? {
        return Ok(path);
    }
    let Some(manager) = Manager::of_host() else {
        bail!(
            "{QEMU} is missing, and xtask knows no package manager of this system; install QEMU 7.2 or later, \
             or set {QEMU_VARIABLE} to its path"
        );
    };
    manager.install_qemu()?;
    find_qemu()?.with_context(|| format!("{} finished, but {QEMU} is still missing", manager.program))
}

/// The emulator, if it is installed.
///
/// # Errors
/// [`QEMU_VARIABLE`] names something that cannot be run.
pub fn find_qemu() -> Result<Option<PathBuf>> {
    match env::var_os(QEMU_VARIABLE).filter(|name| !name.is_empty()) {
        None => Ok(find(QEMU.as_ref())),
        Some(name) => match find(&name) {
            Some(path) => Ok(Some(path)),
            None => {
                bail!("{QEMU_VARIABLE} names {}, which is not an executable file", Path::new(&name).display())
            }
        },
    }
}

/// The executable of this name in `PATH`.
#[must_use]
pub fn find(name: &OsStr) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return Some(PathBuf::from(name)).filter(|path| can_run(path));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|path| can_run(path))
}

fn can_run(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

impl Manager {
    /// The package manager of this host.
    #[must_use]
    pub fn of_host() -> Option<Manager> {
        MANAGERS.iter().find(|manager| find(manager.program.as_ref()).is_some()).copied()
    }

    /// The command that installs the emulator: the newest that the host's package sources offer, if their default
    /// version does not isolate programs from the kernel.
    #[must_use]
    pub fn qemu_line(&self) -> String {
        let suite = newest_suite(&self.offers());
        self.line(&suite.map_or_else(|| self.qemu.to_owned(), |suite| format!("-t {suite} {}", self.qemu)))
    }

    /// The offers of the configured sources, from `apt-cache madison`; empty for managers that keep one version.
    fn offers(&self) -> String {
        if self.program != "apt-get" {
            return String::new();
        }
        let output = Command::new("apt-cache").args(["madison", self.qemu]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// The command that installs the debugger.
    #[must_use]
    pub fn gdb_line(&self) -> String {
        self.line(self.gdb)
    }

    fn line(&self, package: &str) -> String {
        let sudo = self.sudo();
        let refresh = self.refresh.map(|refresh| format!("{sudo}{refresh} && "));
        format!("{}{sudo}{} {package}", refresh.unwrap_or_default(), self.install)
    }

    fn sudo(&self) -> &'static str {
        if self.needs_root && !is_root() { "sudo " } else { "" }
    }

    fn install_qemu(&self) -> Result<()> {
        let line = self.qemu_line();
        if !self.permitted(&line) {
            bail!("{QEMU} is missing. This installs it:\n  {line}");
        }
        if let Some(refresh) = self.refresh.filter(|_| self.offers().is_empty()) {
            // Without a refresh it is not known what the sources offer.
            run(&format!("{}{refresh}", self.sudo()))?;
        }
        let line = self.qemu_line();
        say!("{QEMU} is missing; installing it: {line}");
        let status = run(&line)?;
        if !status.success() {
            bail!("{QEMU} is missing, and installing it failed ({status}). This should install it:\n  {line}");
        }
        Ok(())
    }

    /// Whether to go on: asks the user if there is one, else checks whether the installation can work.
    fn permitted(&self, line: &str) -> bool {
        if terminal::is_interactive() {
            let _ = write!(stderr(), "xtask: {QEMU} is missing. Run `{line}`? [Y/n] ");
            let mut answer = String::new();
            let _ = stdin().lock().read_line(&mut answer);
            return matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes") && !answer.is_empty();
        }
        !self.needs_root || is_root() || can_sudo()
    }
}

/// Runs a command of a package manager. Its output is not the guest's, so it goes to stderr.
fn run(line: &str) -> Result<ExitStatus> {
    Command::new("sh")
        .args(["-c", &format!("{{ {line}; }} >&2")])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("cannot run sh")
}

/// The suite with the newest emulator, from lines `PACKAGE | VERSION | URL SUITE/COMPONENT ARCHITECTURE Packages`; none
/// if that emulator isolates no better than the others.
fn newest_suite(offers: &str) -> Option<String> {
    let offer = |line: &str| {
        let [_, version, source] = line.split('|').collect::<Vec<_>>()[..] else { return None };
        let suite = source.split_whitespace().nth(1)?.split('/').next()?;
        Some((Version::parse(version.trim())?, suite.to_owned()))
    };
    let (version, suite) = offers.lines().filter_map(offer).max()?;
    (version >= Version::ISOLATING).then_some(suite)
}

/// How to get an emulator that isolates programs from the kernel: a command to type, if one is known.
#[must_use]
pub fn newer_qemu() -> String {
    let manager = Manager::of_host();
    if let Some(manager) = manager.filter(|manager| newest_suite(&manager.offers()).is_some()) {
        return manager.qemu_line();
    }
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    match manager {
        Some(manager) if system.contains("VERSION_CODENAME=bookworm") => {
            let (sudo, suite) = (manager.sudo(), "bookworm-backports");
            format!(
                "echo 'deb http://deb.debian.org/debian {suite} main' | {sudo}tee /etc/apt/sources.list.d/{suite}.list \
                 && {}",
                manager.line(&format!("-t {suite} {}", manager.qemu))
            )
        }
        _ => format!(
            "your package sources have no newer QEMU; {QEMU_VARIABLE} can name one that you have built or unpacked"
        ),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn can_sudo() -> bool {
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        assert!(find("sh".as_ref()).is_some());
        assert!(find("/bin/sh".as_ref()).is_some());
        assert_eq!(find("no-such-program-here".as_ref()), None);
        assert_eq!(find("/etc".as_ref()), None, "a directory");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(find(manifest.as_ref()), None, "no program");
    }

    #[test]
    fn the_newest_source_counts_if_it_isolates() {
        let stable = "qemu-system-x86 | 1:7.2+dfsg-7 | http://deb.debian.org/debian bookworm/main amd64 Packages\n";
        let newer = "qemu-system-x86 | 1:9.2.0+ds-2~bpo12+1 | http://deb.debian.org/debian bookworm-backports/main amd64 Packages\n";
        assert_eq!(newest_suite(&format!("{stable}{newer}")).as_deref(), Some("bookworm-backports"));
        assert_eq!(newest_suite(&format!("{newer}{stable}")).as_deref(), Some("bookworm-backports"));
        assert_eq!(newest_suite(stable), None);
        assert_eq!(newest_suite("N: Unable to locate package qemu-system-x86\n"), None);
    }

    #[test]
    fn lines_name_the_package() {
        for manager in MANAGERS {
            assert!(manager.qemu_line().contains(manager.qemu), "{manager:?}");
            assert!(manager.qemu_line().contains(manager.program), "{manager:?}");
        }
    }
}

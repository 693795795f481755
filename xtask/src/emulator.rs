//! The version of the emulator, and what it means for isolation.
//!
//! QEMU's own emulation of x86 (TCG, the default) once executed parts of `call far`, `retf` and `iretq` with the
//! kernel's rights, even in a program. So a program with machine code of its own could read and write memory of the
//! kernel. Version 9.1.0 fixed the returns, 9.1.2 the call. A host's processor (`--accel kvm`) never had this bug.

use std::{fmt, path::Path, process::Command};

/// A version of the emulator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The oldest version that works.
    pub const LEAST: Version = Version(7, 2, 0);
    /// The oldest version in which a program cannot reach the kernel's memory.
    pub const ISOLATING: Version = Version(9, 1, 2);

    /// The version in `QEMU emulator version 7.2.22 (...)`, or in a package's `1:9.2.0+ds-2~bpo12+1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.split("version ").last()?;
        // A package's epoch.
        let text = match text.split_once(':') {
            Some((epoch, version)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => version,
            _ => text,
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|number| number.parse().ok());
        Some(Version(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }

    /// The version of this emulator, if it prints one.
    #[must_use]
    pub fn of(qemu: &Path) -> Option<Version> {
        let output = Command::new(qemu).arg("--version").output().ok()?;
        Version::parse(String::from_utf8_lossy(&output.stdout).lines().next()?)
    }

    /// Conditions besides the kernel on which a verdict with this version depends, if there are any.
    #[must_use]
    pub fn caveat(self) -> Option<String> {
        let isolating = Version::ISOLATING;
        (self < isolating).then(|| {
            format!(
                "on QEMU {self} a program with machine code of its own can read and write the kernel's memory; from \
                 {isolating} on it cannot"
            )
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let read = Version::parse;
        assert_eq!(read("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"), Some(Version(7, 2, 22)));
        assert_eq!(read("QEMU emulator version 10.0"), Some(Version(10, 0, 0)));
        assert_eq!(read("1:9.2.0+ds-2~bpo12+1"), Some(Version(9, 2, 0)));
        assert_eq!(read("1:7.2+dfsg-7+deb12u18"), Some(Version(7, 2, 0)));
        assert_eq!(read("something else"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn older_versions_do_not_isolate() {
        for old in [Version::LEAST, Version(9, 0, 4), Version(9, 1, 1)] {
            assert!(old.caveat().unwrap().contains("9.1.2"), "{old}");
        }
        for new in [Version(9, 1, 2), Version(9, 2, 0), Version(10, 0, 0)] {
            assert_eq!(new.caveat(), None, "{new}");
        }
    }
}

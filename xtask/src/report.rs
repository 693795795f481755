//! The kernel's report, and whether it agrees with the emulator's exit code.

use abi::{ExitStatus, boot};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::process::ExitStatus as HostStatus;

/// The kernel's last message, on a channel that user programs cannot reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The nonce of the command line.
    pub nonce: String,
    /// The exit status of the first environment, or of the machine.
    pub status: u8,
    /// Frames that were free before the first environment was made.
    pub free_start: u64,
    /// Frames that were free at the end.
    pub free_end: u64,
    /// Instructions of the longest kernel entry, where that is counted.
    pub longest: u64,
}

impl Report {
    /// Reads the line `faultline nonce=... status=... free_start=... free_end=... longest=...`.
    ///
    /// # Errors
    /// The text is not such a line.
    pub fn parse(text: &str) -> Result<Report> {
        let words = text.lines().last().and_then(|line| line.strip_prefix("faultline "));
        let words = words.with_context(|| format!("not a report: {text:?}"))?;
        let value = |key: &str| {
            let mut pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
            let found = pairs.find(|(name, _)| *name == key).map(|(_, value)| value);
            found.with_context(|| format!("no {key} in the report {words:?}"))
        };
        let number = |key: &str| -> Result<u64> {
            value(key)?.parse().with_context(|| format!("bad {key} in the report {words:?}"))
        };
        Ok(Report {
            nonce: value("nonce")?.to_owned(),
            status: u8::try_from(number("status")?).context("status in the report")?,
            free_start: number("free_start")?,
            free_end: number("free_end")?,
            longest: number("longest")?,
        })
    }

    /// Frames that were not freed.
    #[must_use]
    pub fn missing_frames(&self) -> i64 {
        self.free_start.cast_signed() - self.free_end.cast_signed()
    }
}

/// The machine was reset. Emulators do that after a triple fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(
            "the machine was reset, as a triple fault does, or the emulator was told to quit\n  \
             the usual cause is a kernel page table that is missing or read-only; \
             `cargo xtask gdb PROGRAM` stops at the first instruction",
        )
    }
}

impl std::error::Error for Reset {}

/// The status of the machine: the emulator's exit code, if the report agrees.
///
/// # Errors
/// There is no verdict (a [`Reset`], for example), or there are two. A kernel that panics, or that cannot use the
/// processor, may find that out before it can report.
pub fn verdict(exit: HostStatus, report: &str, nonce: &str) -> Result<(ExitStatus, Option<Report>)> {
    if exit.code() == Some(0) {
        return Err(Reset.into());
    }
    let Some(status) = exit.code().and_then(boot::status_of_exit).map(ExitStatus) else {
        bail!("the emulator ended without a verdict ({exit}){}", explain(exit));
    };
    let may_be_early = [ExitStatus::KERNEL_PANIC, ExitStatus::UNFIT_PROCESSOR].contains(&status);
    if may_be_early && report.trim().is_empty() {
        return Ok((status, None));
    }
    let report = Report::parse(report).context("the kernel did not report")?;
    ensure!(report.nonce == nonce, "the report belongs to another run: nonce {}, expected {nonce}", report.nonce);
    ensure!(
        report.status == status.0,
        "the emulator returned status {}, the kernel reported {}",
        status.0,
        report.status
    );
    Ok((status, Some(report)))
}

fn explain(exit: HostStatus) -> &'static str {
    match exit.code() {
        Some(1) => ": it could not start the machine",
        Some(_) => "",
        None => ": it was killed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const LINE: &str = "faultline nonce=ab12 status=78 free_start=100 free_end=98 longest=7\n";

    fn exit(status: u8) -> HostStatus {
        HostStatus::from_raw(((2 * boot::exit_code(status) + 1) << 8) as i32)
    }

    #[test]
    fn reports_are_read() {
        let report = Report::parse(LINE).unwrap();
        assert_eq!((report.status, report.missing_frames(), report.longest), (78, 2, 7));
        for bad in ["", "hello", "faultline nonce=1 status=300 free_start=1 free_end=1 longest=1"] {
            assert!(Report::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_must_agree() {
        assert_eq!(verdict(exit(78), LINE, "ab12").unwrap().0, ExitStatus(78));
        assert!(verdict(exit(0), LINE, "ab12").is_err());
        assert!(verdict(exit(78), LINE, "ab13").is_err());
        assert!(verdict(exit(78), "", "ab12").is_err());
        assert!(verdict(HostStatus::from_raw(0), LINE, "ab12").unwrap_err().is::<Reset>());
        assert_eq!(verdict(exit(126), "", "ab12").unwrap(), (ExitStatus::KERNEL_PANIC, None));
        assert_eq!(verdict(exit(122), "", "ab12").unwrap(), (ExitStatus::UNFIT_PROCESSOR, None));
    }
}

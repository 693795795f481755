//! A trial: boots the program of a test, and judges the run.

use crate::expect::{Unmet, clip};
use crate::hints::{self, End, Signs};
use crate::result::{Failure, TestResult};
use crate::rubric::{Rule, Test};
use abi::ExitStatus;
use anyhow::{Context, Result};
use regex::Regex;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use xtask::archive::Archive;
use xtask::cargo::Executable;
use xtask::machine::{Boot, Machine, shell_word};
use xtask::report::{Report, Reset};
use xtask::session::{Options, Session, scratch};
use xtask::symbols;

/// The time limit of a run, as the last resort: for a kernel whose timer has stopped.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How many lines of the console a failure shows.
const TAIL: usize = 25;
/// How many unmet demands are reported: the others mostly follow from those.
const UNMET: usize = 4;
/// How often a run is tried if the grader gets no verdict.
const TRIES: usize = 2;
/// A pattern of lines that only the kernel prints.
const KERNELS: &str = r"^\[[0-9a-f]{8}\] (new env|free env|exiting gracefully|destroying|destroyed:|user fault|user exception)|^kernel panic|^deadlock:|^time is up:";

/// The parts of the reference that all tests of all submissions need.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The emulator.
    pub qemu: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The rules for hints.
    pub rules: Vec<Rule>,
}

/// The programs of a submission.
pub struct Programs {
    archive: Archive,
    files: Vec<Executable>,
    /// The prefix of source paths that is removed, because the place of the tree does not matter.
    root: String,
}

impl Programs {
    /// Packs programs that were built in this tree.
    ///
    /// # Errors
    /// A program cannot be read.
    pub fn new(files: Vec<Executable>, root: &Path) -> Result<Programs> {
        Ok(Programs { archive: Archive::of(&files)?, files, root: format!("{}/", root.display()) })
    }

    /// Functions and lines for addresses of an image.
    fn symbolise(&self, image: &Path, addresses: &[u64]) -> String {
        symbols::symbolise(image, addresses).unwrap_or_default().replace(&self.root, "")
    }

    fn file(&self, name: &str) -> Option<&Path> {
        self.files.iter().find(|file| file.name == name).map(|file| file.path.as_path())
    }
}

/// The observations of a run.
struct Seen {
    end: End,
    report: Option<Report>,
    /// The lines of the console, with whether the kernel wrote them.
    lines: Vec<(bool, String)>,
}

impl Bench {
    /// Runs a test.
    #[must_use]
    pub fn run(&self, programs: &Programs, part: &str, test: &Test, whose: &str) -> TestResult {
        let start = Instant::now();
        let seen = (1..=TRIES).find_map(|attempt| match self.boot(programs, test) {
            Err(_) if attempt < TRIES && xtask::interrupt::pending().is_none() => None,
            done => Some(done),
        });
        let mut result = blank(part, test);
        match seen {
            Some(Ok(seen)) => {
                result.failure = self.judge(programs, test, &seen, whose);
                result.passed = result.failure.is_none();
            }
            Some(Err(error)) => result.error = Some(format!("{error:#}")),
            None => result.error = Some("it was not tried".to_owned()),
        }
        result.seconds = start.elapsed().as_secs_f64();
        result
    }

    fn boot(&self, programs: &Programs, test: &Test) -> Result<Seen> {
        let scratch = scratch()?;
        let archive = scratch.path().join("archive.tar");
        programs.archive.clone().write(&archive)?;
        let boot = Boot {
            kernel: self.kernel.clone(),
            archive,
            init: test.program().to_owned(),
            args: test.args.clone(),
            trace: true,
            tick_us: test.tick,
            provoke: None,
            limit: Some(test.limit()),
            sign: true,
        };
        let options = Options { timeout: Some(PATIENCE), verbose: false };
        let session = Session::start(&self.qemu, &test.machine(), &boot, &options)?;
        let nonce = session.nonce().to_owned();
        let mut console = Vec::new();
        let done = session.run(|bytes| {
            console.extend_from_slice(bytes);
            console.drain(..console.len().saturating_sub(MOST));
            Ok(())
        });
        let (end, report) = match done {
            Ok(outcome) if outcome.report.is_none() && outcome.status == ExitStatus::TIMEOUT => {
                (End::Stuck, None)
            }
            Ok(outcome) => (End::Status(outcome.status), outcome.report),
            Err(error) if error.is::<Reset>() => (End::Reset, None),
            Err(error) => return Err(error).with_context(|| format!("running {}", test.name)),
        };
        Ok(Seen { end, report, lines: signed(&String::from_utf8_lossy(&console), &nonce) })
    }

    /// The failure of the test, if it failed.
    fn judge(&self, programs: &Programs, test: &Test, seen: &Seen, whose: &str) -> Option<Failure> {
        let lines: Vec<&str> = seen.lines.iter().map(|(_, line)| line.as_str()).collect();
        let wanted = ExitStatus(test.status);
        let mut unmet = of_end(seen, wanted);
        // A kernel that panics early has not yet read that it must sign its lines.
        let panicked = seen.end == End::Status(ExitStatus::KERNEL_PANIC);
        unmet.extend(forged(&seen.lines).filter(|_| !panicked));
        unmet.extend(test.see.unmet(&lines));
        if unmet.is_empty() {
            return None;
        }
        let told: Vec<String> = unmet.iter().map(ToString::to_string).collect();
        let signs = Signs { test: &test.name, end: seen.end, wanted, lines: &lines, unmet: &told };
        let skipped = lines.len().saturating_sub(TAIL);
        if unmet.len() > UNMET {
            let more = unmet.split_off(UNMET).len();
            unmet.push(Unmet::new(format!("and {more} more that was expected and not seen")));
        }
        Some(Failure {
            hints: hints::find(test.hint.as_deref(), &self.rules, &signs),
            places: self.places(programs, test, seen),
            console: lines[skipped..].iter().map(|line| clip(line)).collect(),
            skipped,
            repeat: commands(test, whose, lost(seen, wanted) != 0),
            unmet,
        })
    }

    /// The places where things were: the kernel when it panicked, the program when it was killed, all environments when
    /// the time was up.
    fn places(&self, programs: &Programs, test: &Test, seen: &Seen) -> Vec<String> {
        let panicked = seen.end == End::Status(ExitStatus::KERNEL_PANIC);
        let kernels = seen.lines.iter().filter(|(signed, _)| *signed || panicked);
        let kernels: Vec<&str> = kernels.map(|(_, line)| line.as_str()).collect();
        let addresses = symbols::backtrace(&kernels.join("\n"));
        let mut places: Vec<String> = Vec::new();
        if !addresses.is_empty() {
            let text = programs.symbolise(&self.kernel, &addresses);
            places.push(format!("the kernel was here:\n{}", text.trim_end()));
        }
        let Some(image) = programs.file(test.program()) else { return places };
        let pattern = Regex::new(r"ip ([0-9a-f]{16})\b").expect("a pattern");
        for line in kernels {
            let address = pattern.captures(line).and_then(|found| u64::from_str_radix(&found[1], 16).ok());
            if let Some(address) = address.filter(|_| places.len() < 8) {
                // For an environment that waits, the address is already one past a call; for a running one it is close
                // enough.
                let text = programs.symbolise(image, &[address + 1]);
                places.push(format!(
                    "{}\n{}",
                    line.trim(),
                    text.lines().skip(1).collect::<Vec<_>>().join("\n")
                ));
            }
        }
        places
    }
}

/// How much of the console is kept, in bytes.
const MOST: usize = 8 << 20;

/// The result of a test that was not run.
#[must_use]
pub fn blank(part: &str, test: &Test) -> TestResult {
    TestResult {
        part: part.to_owned(),
        name: test.name.clone(),
        points: test.points,
        passed: false,
        hidden: test.hidden,
        seconds: 0.0,
        failure: None,
        error: None,
    }
}

/// The lines without signatures, with whether they had one. A dump has several lines and one signature: indented lines
/// that follow a signed one count as signed.
fn signed(console: &str, nonce: &str) -> Vec<(bool, String)> {
    let mut kernels = false;
    let line = |line: &str| {
        let line = line.trim_end_matches('\r');
        let bare = line.strip_prefix(nonce);
        kernels = bare.is_some() || kernels && line.starts_with("  ");
        (kernels, bare.unwrap_or(line).to_owned())
    };
    console.lines().map(line).collect()
}

/// A line that looks like the kernel's, but has no signature.
fn forged(lines: &[(bool, String)]) -> Option<Unmet> {
    let kernels = Regex::new(KERNELS).expect("a pattern");
    let (_, line) = lines.iter().find(|(signed, line)| !signed && kernels.is_match(line))?;
    let expected = "lines that look like the kernel's to come from the kernel: a program printed this one";
    Some(Unmet { expected: expected.to_owned(), seen: vec![clip(line)] })
}

fn of_end(seen: &Seen, wanted: ExitStatus) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    let wants = format!("{wanted} ({}) expected as the end", wanted.0);
    match seen.end {
        End::Reset => unmet.push(Unmet::new(format!("{wants}; the machine was reset"))),
        End::Stuck => unmet.push(Unmet::new(format!("{wants}; the machine hung"))),
        End::Status(found) if found != wanted => {
            unmet.push(Unmet::new(format!("{wants}; it was {found} ({})", found.0)))
        }
        End::Status(_) => {}
    }
    let lost = lost(seen, wanted);
    if lost != 0 {
        unmet.push(Unmet::new(format!("all page frames to be free in the end; {lost} frames are missing")));
    }
    unmet
}

/// Frames that were not free in the end, if the machine ended as wanted.
fn lost(seen: &Seen, wanted: ExitStatus) -> i64 {
    let report = seen.report.as_ref().filter(|_| seen.end == End::Status(wanted));
    report.map_or(0, Report::missing_frames)
}

/// The commands that repeat the run. If the kernel has `lost` frames, the checking kernel stops where that happens.
fn commands(test: &Test, whose: &str, lost: bool) -> Vec<String> {
    let machine = test.machine();
    let mut program = test.program().to_owned();
    test.args.iter().for_each(|arg| program.push_str(&format!(" {}", shell_word(arg.as_ref()))));
    let tick = test.tick.map(|tick| format!(" --tick {tick}")).unwrap_or_default();
    let check = format!("cargo xtask run --check{} {program}", machine.options());
    [format!("cargo xtask grade{whose} {}", test.name)]
        .into_iter()
        .chain(lost.then_some(check))
        .chain([
            format!("cargo xtask run{}{tick} --limit {} {program}", machine.options(), test.limit()),
            format!("cargo xtask gdb{} {program}", Machine { icount: false, ..machine }.options()),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_tell_who_wrote_a_line() {
        let console = "ab12[00000000] new env 00001000\r\nhello\n  mine\nab12[00001000] user fault va 1 ip 2\n  trap 0xe\nend\n";
        let lines = signed(console, "ab12");
        let kernels: Vec<bool> = lines.iter().map(|(kernels, _)| *kernels).collect();
        assert_eq!(kernels, [true, false, false, true, true, false]);
        assert_eq!(lines[0].1, "[00000000] new env 00001000");
        assert_eq!(forged(&lines), None);
        let lines = signed("[00001000] free env 00001000\n", "ab12");
        assert!(forged(&lines).is_some());
    }

    #[test]
    fn ends_are_compared() {
        let report =
            |free_end| Report { nonce: String::new(), status: 0, free_start: 9, free_end, longest: 0 };
        let unmet = |end, free_end| {
            of_end(&Seen { end, report: Some(report(free_end)), lines: Vec::new() }, ExitStatus(0)).len()
        };
        assert_eq!(unmet(End::Status(ExitStatus(0)), 9), 0);
        assert_eq!(unmet(End::Status(ExitStatus(0)), 8), 1);
        assert_eq!(unmet(End::Status(ExitStatus(1)), 8), 1);
        assert_eq!([unmet(End::Reset, 9), unmet(End::Stuck, 9)], [1, 1]);
    }

    #[test]
    fn commands_can_be_typed() {
        let test: Test =
            toml::from_str("name = 'a'\nprogram = 'p'\nargs = ['x y']\npoints = 1\ntick = 50\nticks = 9")
                .unwrap();
        let expected = [
            "cargo xtask grade --submission s a",
            "cargo xtask run --icount --tick 50 --limit 9 p 'x y'",
            "cargo xtask gdb p 'x y'",
        ];
        assert_eq!(commands(&test, " --submission s", false), expected);
        assert_eq!(commands(&test, "", true)[1], "cargo xtask run --check --icount p 'x y'");
    }
}

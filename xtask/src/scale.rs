//! `cargo xtask bench --cpus`: the throughput of all processors of a machine.
//!
//! The program `scale` runs on machines with one processor, two, and so on, which share the processors of the host.
//! More processors than the host has would show nothing. Time is real, so no two runs are alike.

use crate::images::{Builder, Flavor, Images};
use crate::machine::{Boot, CommandLine, Machine, Memory};
use crate::session::{Options, Session, scratch};
use crate::{archive::Archive, install, say, workspace::Workspace};
use abi::{ExitStatus, window::LockKind};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::{thread, time::Duration};

const MEMORY: Memory = Memory(256 << 20);
/// The time limit of each boot.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Microseconds between timer ticks: long, so that ticks disturb little.
const TICK_US: u64 = 50_000;

/// The result for one kind of operation on one machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Measurement {
    /// The kind of operation.
    pub kind: String,
    /// Processors of the machine.
    pub cpus: u32,
    /// Processors that took part.
    pub worked: u32,
    /// Operations of all processors in a round.
    pub operations: u64,
    /// The time of the quickest round, in ticks of the time stamp counter.
    pub ticks: u64,
    /// Ticks of the time stamp counter in a second; 0 if the machine had no timer.
    pub hz: u64,
    /// How often a lock was found taken in all rounds, by [`LockKind`].
    pub contended: [u64; LockKind::COUNT],
}

impl Measurement {
    /// Parses `scale KIND cpus N worked N operations N ticks N hz N contended N..`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Measurement> {
        let mut words = line.split_whitespace();
        let mut value = |name: &str| words.next().filter(|word| *word == name).and_then(|_| words.next());
        let kind = value("scale")?.to_owned();
        let cpus = value("cpus")?.parse().ok()?;
        let worked = value("worked")?.parse().ok()?;
        let operations = value("operations")?.parse().ok()?;
        let ticks = value("ticks")?.parse().ok()?;
        let hz = value("hz")?.parse().ok()?;
        let mut contended = [0; LockKind::COUNT];
        words.next().filter(|word| *word == "contended")?;
        for count in &mut contended {
            *count = words.next()?.parse().ok()?;
        }
        Some(Measurement { kind, cpus, worked, operations, ticks, hz, contended })
    }

    /// Operations per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.operations as f64 * self.hz as f64 / self.ticks as f64
    }

    fn to_json(&self) -> Value {
        let contended =
            LockKind::ALL.into_iter().map(|kind| (kind.name().to_owned(), self.contended[kind as usize].into()));
        json!({
            "kind": self.kind, "cpus": self.cpus, "worked": self.worked, "operations": self.operations,
            "seconds": self.ticks as f64 / self.hz as f64, "per_second": self.rate(),
            "contended": Value::Object(contended.collect()),
        })
    }
}

/// Measures with 1 to `most` processors (by default as many as the host has), prints and writes.
///
/// # Errors
/// The tool could not do its work.
pub fn main(most: Option<u32>, json: Option<&Path>) -> Result<ExitStatus> {
    let here = thread::available_parallelism().map_or(1, usize::from) as u32;
    let most = most.unwrap_or(here);
    let workspace = Workspace::load()?;
    let qemu = install::qemu()?;
    let images = Builder::of(&workspace).build(&[Flavor::Plain])?;
    say!("measuring on {here} processors of this machine");
    let measurements: Result<Vec<_>> = (1..=most).map(|cpus| measure(&qemu, &images, cpus)).collect();
    let measurements = measurements?.concat();
    print(&measurements);
    if let Some(path) = json {
        let rows: Vec<Value> = measurements.iter().map(Measurement::to_json).collect();
        let text = serde_json::to_string_pretty(&json!({"host_cpus": here, "rows": rows}))? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitStatus::SUCCESS)
}

fn measure(qemu: &Path, images: &Images, cpus: u32) -> Result<Vec<Measurement>> {
    let scratch = scratch()?;
    let archive: PathBuf = scratch.path().join("archive.tar");
    Archive::of(&images.programs)?.write(&archive)?;
    let machine = Machine { memory: MEMORY, cpus, ..Machine::default() };
    let line = CommandLine { init: "scale".to_owned(), tick_us: Some(TICK_US), ..CommandLine::default() };
    let boot = Boot { kernel: images.kernels[0].clone(), archive, line };
    let options = Options { timeout: Some(TIMEOUT), verbose: false };
    let outcome = Session::start(qemu, &machine, &boot, &options)?.run(|_| Ok(()))?;
    let console = String::from_utf8_lossy(&outcome.console);
    ensure!(outcome.status.is_success(), "the program `scale` failed: {}\n{}", outcome.status, console.trim_end());
    let measurements: Vec<Measurement> = console.lines().filter_map(Measurement::parse).collect();
    for found in &measurements {
        ensure!(found.hz != 0 && found.ticks != 0, "no time was measured: {found:?}");
        ensure!(found.worked == cpus, "{} of {cpus} processors worked: {found:?}", found.worked);
    }
    Ok(measurements)
}

/// Prints the results by kind, with the gain over one processor.
fn print(measurements: &[Measurement]) {
    println!("{:12} {:>4} {:>11} {:>6}   locks found taken", "", "CPUs", "per second", "gain");
    print!("{:37}", "");
    LockKind::ALL.into_iter().for_each(|kind| print!(" {:>10}", kind.name()));
    println!();
    for alone in measurements.iter().filter(|row| row.cpus == 1) {
        for row in measurements.iter().filter(|row| row.kind == alone.kind) {
            let gain = row.rate() / alone.rate();
            print!("{:12} {:>4} {:>11.0} {gain:>6.2} ", row.kind, row.cpus, row.rate());
            LockKind::ALL.into_iter().for_each(|kind| print!(" {:>10}", row.contended[kind as usize]));
            println!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "scale faults cpus 2 worked 1 operations 1000 ticks 500 hz 250 contended 1 2 3 4 5\r";
        let found = Measurement::parse(line).unwrap();
        assert_eq!((found.cpus, found.worked, found.contended), (2, 1, [1, 2, 3, 4, 5]));
        assert!((found.rate() - 500.0).abs() < 1e-9, "{}", found.rate());
        for bad in ["", "row a", "scale faults cpus 2", &line[..line.len() - 3], &line.replace("hz", "ms")] {
            assert_eq!(Measurement::parse(bad), None, "{bad}");
        }
    }
}

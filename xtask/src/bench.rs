//! `cargo xtask bench`: counts instructions. (With `--cpus` it measures time: [`crate::scale`].)
//!
//! The program `bench` runs on a machine whose time stamp counter counts instructions, so every run gives the same
//! numbers. Three kernels are measured. The plain one gives the instructions of a row (gross). The counting one gives
//! how many of them only zeroed or copied page frames (net is the rest). A traced one gives which expensive
//! instructions were among them ([`crate::cycle_costs`]).
//!
//! The program `swapbench` measures what needs a disk. The answers of a disk depend on the host, so the counts of its rows
//! differ by some percent from run to run.

use crate::disk::{Disk, Faults};
use crate::disk_image::{ScratchFile, Size};
use crate::images::{Builder, Flavor, Images};
use crate::machine::{Boot, CommandLine, Machine, Memory};
use crate::session::{Listener, Options, Outcome, Session, scratch};
use crate::workspace::{Workspace, near};
use crate::{archive::Archive, comparison, cycle_costs, install, row::Row, say, scale};
use abi::window::{CpuInfo, MachineInfo};
use abi::{Call, ExitStatus, Vector};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, fs::OpenOptions, process::ChildStderr, thread, time::Duration};

/// The largest row forks a GiB of memory.
const MEMORY: Memory = Memory(1536 << 20);
/// The memory of the machine that swaps.
const MEMORY_OF_SWAP: Memory = Memory(128 << 20);
/// The percentage by which a row that waits for a disk may differ from run to run. Rows in order have many pages in a
/// request, and it depends on the host how many are free when the next request begins.
fn tolerance(row: &str) -> u64 {
    if row.contains("-seq-") { 35 } else { 10 }
}

/// The programs that measure: the one that needs no disk, and the one that needs one.
pub const PROGRAMS: [&str; 2] = ["bench", "swapbench"];
/// The time limit of each boot.
const TIMEOUT: Duration = Duration::from_secs(900);
/// Rows with more instructions than this in all samples together are not traced, because tracing is slow.
const TRACED: u64 = 3_000_000;
/// Rows that make much memory dirty between their samples: each takes minutes to trace, so they are traced only if they
/// are named.
const DIRTY: &[&str] = &[
    "fork-64m",
    "fork-1g",
    "fork-by-page-64m",
    "first-write-after-fork",
    "fork-exit-wait-64m",
    "fork-write-all",
    "fork-write-all-by-page",
    "touch-seq",
    "touch-random",
    "populate-write",
    "unmap-64m",
    "protect-64m",
    "reopen-64m",
    "move-64m",
    "first-write-2m-alone",
];

/// The command line of `bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only these rows
    rows: Vec<String>,
    /// Write the results to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Record the results: from now on a test fails if a count is greater
    #[arg(long, conflicts_with = "rows")]
    update: bool,
    /// Measure operations per second on 1, 2, .. MAX processors, not instructions [default: the processors of the host]
    #[arg(long, value_name = "MAX", conflicts_with_all = ["rows", "update", "no_cycles"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CpuInfo::MAX as i64))]
    cpus: Option<Option<u32>>,
    /// Measure the code of a program in an upcall in nanoseconds on the host's processor, not instructions
    #[arg(long, conflicts_with_all = ["rows", "update", "no_cycles", "cpus", "json"])]
    native: bool,
    /// Leave the estimated cycles out: they take longer than the rest
    #[arg(long)]
    no_cycles: bool,
}

/// All results of a run.
#[derive(Clone, Debug)]
pub struct Results {
    /// The rows, in the order of the program.
    pub rows: Vec<Row>,
    /// The longest kernel entry: its instructions and its cause.
    pub longest: Option<(u64, String)>,
}

impl Results {
    /// The results in the format of the JSON file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        let longest = self.longest.as_ref().map(|(count, what)| json!({"instructions": count, "entry": what}));
        json!({"rows": rows, "longest": longest})
    }
}

/// The file of recorded counts, which must not grow.
#[must_use]
pub fn record(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/counts.json")
}

/// Counts instructions, prints the results and writes them.
///
/// # Errors
/// The tool could not do its work.
pub fn main(args: &Args) -> Result<ExitStatus> {
    if let Some(path) = &args.json {
        ensure_writable(path)?;
    }
    if let Some(most) = args.cpus {
        return scale::main(most, args.json.as_deref());
    }
    let workspace = Workspace::load()?;
    let builder = Builder::of(&workspace);
    if args.native {
        let images = builder.build(&[])?;
        return native(&workspace, &["--release"], &images.program("bench")?.path);
    }
    let rows = Rows::load(&workspace)?.only(&args.rows)?;
    let qemu = install::qemu()?;
    let images = builder.build(&[Flavor::Plain, Flavor::Count])?;
    say!("counting; this takes a minute");
    let results = Bench { qemu, images, rows }.measure(!args.no_cycles)?;
    print(&results);
    print!("\n{}", comparison::table(&comparison::load(&workspace)?, &results.rows));
    if let Some(path) = &args.json {
        write(path, &results)?;
    }
    if args.update {
        write(&record(&workspace), &results)?;
    }
    Ok(ExitStatus::SUCCESS)
}

/// Checks before minutes of counting that the results can be written.
fn ensure_writable(path: &Path) -> Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// The rows of the program `bench`, from the table in its source.
#[must_use]
pub fn row_names(source: &str) -> Vec<&str> {
    let table = source.split_once("const ROWS").and_then(|(_, rest)| rest.split_once("];"));
    let rows = table.into_iter().flat_map(|(table, _)| table.lines());
    rows.filter_map(|row| row.trim().strip_prefix("(\"")?.split('"').next()).collect()
}

/// Rows to count.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The rows of the program that needs no disk; empty: none.
    pub plain: Vec<String>,
    /// The rows of the program that needs a disk.
    pub with_disk: Vec<String>,
    /// Whether these are all rows.
    pub all: bool,
}

impl Rows {
    /// All rows.
    ///
    /// # Errors
    /// The source of a program cannot be read.
    pub fn load(workspace: &Workspace) -> Result<Rows> {
        let names = |program| -> Result<Vec<String>> {
            let source = &workspace.program(program)?.source;
            let source =
                std::fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
            Ok(row_names(&source).into_iter().map(str::to_owned).collect())
        };
        let [plain, with_disk] = PROGRAMS.map(names);
        Ok(Rows { plain: plain?, with_disk: with_disk?, all: true })
    }

    /// The rows with these names; none are all.
    ///
    /// # Errors
    /// There is no such row.
    pub fn only(self, wanted: &[String]) -> Result<Rows> {
        if wanted.is_empty() {
            return Ok(self);
        }
        let known: Vec<&str> = self.plain.iter().chain(&self.with_disk).map(String::as_str).collect();
        for name in wanted {
            ensure!(
                known.contains(&name.as_str()),
                "there is no row `{name}`{}\n  the rows are: {}",
                near(name, &known),
                known.join(", ")
            );
        }
        let those = |rows: &[String]| rows.iter().filter(|row| wanted.contains(row)).cloned().collect();
        Ok(Rows { plain: those(&self.plain), with_disk: those(&self.with_disk), all: false })
    }
}

/// Times the code of this program on the host, by the package `native`. `options` are for cargo.
///
/// # Errors
/// Cargo cannot be run.
pub fn native(workspace: &Workspace, options: &[&str], program: &Path) -> Result<ExitStatus> {
    let status = workspace.run_binary("native", options, &[program.into()])?;
    Ok(if status.success() { ExitStatus::SUCCESS } else { ExitStatus::TOOL_FAILED })
}

/// A prepared measurement: emulator, kernels, programs.
pub struct Bench {
    /// The emulator.
    pub qemu: PathBuf,
    /// The plain and the counting kernel, and the programs.
    pub images: Images,
    /// The rows to count.
    pub rows: Rows,
}

impl Bench {
    /// Boots all machines that are needed, at the same time.
    ///
    /// # Errors
    /// A machine failed, or the program does not know a row.
    pub fn measure(&self, cycles: bool) -> Result<Results> {
        if self.rows.plain.is_empty() {
            return Ok(Results { rows: self.with_disk()?, longest: None });
        }
        let (plain, counted) = thread::scope(|scope| {
            let plain = scope.spawn(|| self.console(0));
            let counted = scope.spawn(|| self.console(1));
            (plain.join(), counted.join())
        });
        let lost = |_| anyhow!("the thread that boots a machine panicked");
        let (plain, counted) = (plain.map_err(lost)??, counted.map_err(lost)??);
        let mut rows: Vec<Row> = plain.lines().filter_map(Row::parse).collect();
        let frames = frames(&counted);
        for row in &mut rows {
            row.frames = *frames.get(&row.id).with_context(|| format!("no frames for {}", row.id))?;
        }
        if cycles {
            self.add_cycles(&mut rows)?;
        }
        rows.extend(self.with_disk()?);
        Ok(Results { rows, longest: longest(&counted) })
    }

    /// Counts the rows that need a disk, one boot for each.
    fn with_disk(&self) -> Result<Vec<Row>> {
        let count = |row: &String| {
            let size = Size::of_bytes(4 * MEMORY_OF_SWAP.bytes())?;
            let image = ScratchFile::of_size(&std::env::temp_dir(), size)?;
            let disk = Disk { image: image.path(), read_only: false, faults: Faults::default() };
            let machine = Machine { memory: MEMORY_OF_SWAP, icount: true, disks: vec![disk], ..Machine::default() };
            let outcome = self.boot(0, PROGRAMS[1], std::slice::from_ref(row), machine, None)?;
            let console = String::from_utf8_lossy(&outcome.console);
            ensure!(outcome.status.is_success(), "`{} {row}` failed: {}\n{console}", PROGRAMS[1], outcome.status);
            let row = console.lines().find_map(Row::parse).with_context(|| format!("{row} printed no count"))?;
            Ok(Row { tolerance: tolerance(&row.id), ..row })
        };
        self.rows.with_disk.iter().map(count).collect()
    }

    /// Traces the short rows, and extrapolates to the long ones.
    fn add_cycles(&self, rows: &mut [Row]) -> Result<()> {
        let is_slow = |row: &Row| self.rows.all && DIRTY.contains(&row.id.as_str());
        let is_short = |row: &&Row| row.whole() * row.samples <= TRACED && !is_slow(row);
        let mut short: Vec<Row> = rows.iter().filter(is_short).cloned().collect();
        if !short.is_empty() {
            let ids: Vec<String> = short.iter().map(|row| row.id.clone()).collect();
            add_surcharges(&mut short, &self.trace(&ids)?);
        }
        for row in rows.iter_mut() {
            row.surcharge = match short.iter().find(|known| known.id == row.id) {
                Some(known) => known.surcharge,
                None => extend(&row.id, &short),
            };
        }
        Ok(())
    }

    /// The output of the program under this kernel.
    fn console(&self, kernel: usize) -> Result<String> {
        // All: then the program leaves those out for which the machine is too small.
        let rows = if self.rows.all { &[][..] } else { &self.rows.plain };
        let outcome = self.boot(kernel, PROGRAMS[0], rows, machine(Vec::new()), None)?;
        ensure!(
            outcome.status.is_success(),
            "the program `bench` failed: {}\n{}",
            outcome.status,
            String::from_utf8_lossy(&outcome.console).trim_end()
        );
        Ok(String::from_utf8_lossy(&outcome.console).into_owned())
    }

    /// The surcharges between pairs of readings of the time stamp counter, in order.
    fn trace(&self, rows: &[String]) -> Result<Vec<u64>> {
        let program = &self.images.program("bench")?.path;
        let sites = cycle_costs::Sites::find(&self.images.kernels[0], program)?;
        let arguments = sites.emulator_arguments();
        let (sender, receiver) = std::sync::mpsc::channel();
        let listener = move |log: ChildStderr| {
            let _ = sender.send(sites.follow(log));
            String::new()
        };
        let outcome = self.boot(0, PROGRAMS[0], rows, machine(arguments), Some(Box::new(listener)))?;
        ensure!(outcome.status.is_success(), "the traced program `bench` failed: {}", outcome.status);
        receiver.recv().context("the thread that reads the trace ended early")
    }

    fn boot(
        &self,
        kernel: usize,
        program: &str,
        rows: &[String],
        machine: Machine,
        listener: Option<Listener>,
    ) -> Result<Outcome> {
        let scratch = scratch()?;
        let archive = scratch.path().join("archive.tar");
        Archive::of(&self.images.programs)?.write(&archive)?;
        let boot = Boot {
            kernel: self.images.kernels[kernel].clone(),
            archive,
            line: CommandLine { init: program.to_owned(), args: rows.to_vec(), ..CommandLine::default() },
        };
        let options = Options { timeout: Some(TIMEOUT), verbose: false };
        Session::listening(&self.qemu, &machine, &boot, &options, listener)?.run(|_| Ok(()))
    }
}

/// The machine that has no disk, with more arguments for the emulator.
fn machine(extra: Vec<String>) -> Machine {
    Machine { memory: MEMORY, icount: true, extra, ..Machine::default() }
}

/// Parses lines `frames ID N`. Rows without such a line touch no frame.
fn frames(console: &str) -> BTreeMap<String, u64> {
    let rows = console.lines().filter_map(Row::parse).map(|row| (row.id, 0));
    let mut frames: BTreeMap<String, u64> = rows.collect();
    for line in console.lines() {
        if let ["frames", id, count] = line.split_whitespace().collect::<Vec<_>>()[..] {
            frames.insert(id.to_owned(), count.parse().unwrap_or(0));
        }
    }
    frames
}

/// Parses the line `longest INSTRUCTIONS CAUSE`.
fn longest(console: &str) -> Option<(u64, String)> {
    let line = console.lines().find_map(|line| line.strip_prefix("longest "))?;
    let (count, cause) = line.trim().split_once(' ')?;
    let cause: u64 = cause.parse().ok()?;
    let what = match Call::from_number(cause) {
        Some(call) => call.name().to_owned(),
        None if cause == MachineInfo::SWITCH => "a switch".to_owned(),
        None if cause == MachineInfo::ENDING => "a slice of ending".to_owned(),
        None => format!("vector {} ({})", cause.saturating_sub(MachineInfo::VECTOR), Vector(cause as u8)),
    };
    Some((count.parse().ok()?, what))
}

/// Rows whose samples are an average: the number of repetitions in one reading.
const REPEATED: &[(&str, u64)] =
    &[("appel2", 100), ("fault-around", 16), ("fork-write-all", 16384), ("fork-write-all-by-page", 16384)];

/// Gives each row its part of the surcharges. The program takes its samples in the order of the rows, after some that
/// measure the cost of a sample itself.
fn add_surcharges(rows: &mut [Row], pairs: &[u64]) {
    let samples: u64 = rows.iter().map(|row| row.samples).sum();
    let Some(first) = pairs.len().checked_sub(samples as usize) else {
        say!("no cycles: {samples} samples, but only {} were seen in the trace", pairs.len());
        return;
    };
    let mut rest = &pairs[first..];
    for row in rows {
        let (own, others) = rest.split_at(row.samples as usize);
        rest = others;
        let mut own = own.to_vec();
        own.sort_unstable();
        let times = REPEATED.iter().find(|(id, _)| *id == row.id).map_or(1, |&(_, times)| times);
        row.surcharge = own.get(own.len() / 2).map(|median| row.scaled(median / times));
    }
}

/// The surcharge of a row `NAME-PAGES` that was not traced. The number of expensive instructions is linear in the
/// number of pages, so the surcharge lies on the line through the two largest traced rows of that name.
fn extend(id: &str, traced: &[Row]) -> Option<u64> {
    let split = |id: &str| {
        let (name, pages) = id.rsplit_once('-')?;
        Some((name.to_owned(), pages.parse::<u64>().ok()?))
    };
    let (name, pages) = split(id)?;
    let point = |row: &Row| {
        let (other, pages) = split(&row.id)?;
        Some((pages, row.surcharge?)).filter(|_| other == name)
    };
    let mut points: Vec<(u64, u64)> = traced.iter().filter_map(point).collect();
    points.sort_unstable();
    let [.., (p, a), (q, b)] = points[..] else { return None };
    Some(b + b.saturating_sub(a) * (pages.checked_sub(q)?) / (q - p))
}

fn print(results: &Results) {
    println!("{:22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>8}", "", "net", "gross", "cycles", "min", "max", "samples");
    for row in &results.rows {
        let cycles = row.cycles().map_or_else(|| "-".to_owned(), |cycles| row.each_text(cycles));
        let [net, gross, min, max] = [row.net(), row.gross, row.min, row.max].map(|count| row.each_text(count));
        println!("{:22} {net:>10} {gross:>10} {cycles:>10} {min:>10} {max:>10} {:>8}", row.id, row.samples);
    }
    if let Some((count, what)) = &results.longest {
        let bound = MachineInfo::LONGEST_BOUND;
        println!("longest entry to the kernel: {count} instructions, {what} (bound: {bound})");
    }
}

fn write(path: &Path, results: &Results) -> Result<()> {
    let text = serde_json::to_string_pretty(&results.to_json())? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The rows that grew since they were recorded, and those that are not recorded, one line for each.
///
/// # Errors
/// The record cannot be read.
pub fn grown(record: &Path, results: &Results) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(record)
        .with_context(|| format!("cannot read {}; `cargo xtask bench --update` writes it", record.display()))?;
    let recorded: Value = serde_json::from_str(&text).context("the record is not JSON")?;
    let Some(rows) = recorded["rows"].as_array() else { bail!("no rows in {}", record.display()) };
    let mut grown = Vec::new();
    for old in rows {
        let id = old["id"].as_str().unwrap_or("");
        let Some(new) = results.rows.iter().find(|row| row.id == id) else {
            grown.push(format!("{id}: recorded, but not counted"));
            continue;
        };
        for (what, before, now) in [("net", &old["net"], new.net()), ("gross", &old["gross"], new.gross)] {
            if before.as_u64().is_none_or(|before| now > before + before * new.tolerance / 100) {
                grown.push(format!("{id}: {what} {now}, recorded {before}"));
            }
        }
    }
    let is_recorded = |row: &&Row| rows.iter().any(|old| old["id"] == row.id);
    grown.extend(results.rows.iter().filter(|row| !is_recorded(row)).map(|row| format!("{}: not recorded", row.id)));
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "row a gross 1100 min 1 max 2000 samples 2\nrow b gross 7 min 7 max 7 samples 1\n";

    fn rows() -> Vec<Row> {
        PLAIN.lines().filter_map(Row::parse).collect()
    }

    #[test]
    fn net_leaves_frames_out() {
        let frames = frames(&format!("{PLAIN}frames a 2\n"));
        let mut rows = rows();
        rows[0].frames = frames["a"];
        assert_eq!((rows[0].net(), rows[1].net(), frames["b"]), (76, 7, 0));
    }

    #[test]
    fn surcharges_go_to_their_rows() {
        let mut rows = rows();
        add_surcharges(&mut rows, &[9, 9, 9, 30, 20, 5]);
        assert_eq!((rows[0].surcharge, rows[1].surcharge), (Some(30), Some(5)));
        add_surcharges(&mut rows, &[1]);
    }

    #[test]
    fn long_rows_are_extended() {
        let traced = |id: &str, surcharge| Row { id: id.into(), surcharge: Some(surcharge), ..rows()[0].clone() };
        let known = [traced("fork-16", 999), traced("fork-256", 1000), traced("fork-128", 600), traced("x-1", 1)];
        assert_eq!(extend("fork-1024", &known), Some(1000 + 400 * 6));
        assert_eq!(extend("x-2", &known), None);
        assert_eq!(extend("ipc", &known), None);
    }

    #[test]
    fn causes_have_names() {
        assert_eq!(longest("longest 500 270\n"), Some((500, "vector 14 (Page Fault)".to_owned())));
        let destroy = abi::Call::Destroy as u64;
        assert_eq!(longest(&format!("x\nlongest 9 {destroy}\n")), Some((9, "destroy".to_owned())));
    }

    #[test]
    fn growth_is_noticed() {
        let record = tempfile::NamedTempFile::new().unwrap();
        let results = Results { rows: rows(), longest: None };
        write(record.path(), &results).unwrap();
        assert_eq!(grown(record.path(), &results).unwrap(), Vec::<String>::new());
        let mut worse = results;
        worse.rows[1].gross += 1;
        assert_eq!(grown(record.path(), &worse).unwrap().len(), 2);
        // Seven, and 15 % of it.
        worse.rows[1].tolerance = 15;
        assert_eq!(grown(record.path(), &worse).unwrap(), Vec::<String>::new());
        worse.rows[1].gross += 1;
        assert_eq!(grown(record.path(), &worse).unwrap().len(), 2);
        worse.rows[1].id = "c".to_owned();
        assert_eq!(grown(record.path(), &worse).unwrap(), ["b: recorded, but not counted", "c: not recorded"]);
    }

    #[test]
    fn names_are_checked() {
        let known =
            row_names("const ROWS: &[Row] = &[\n    (\"trap\", trap),\n    (\"yield\", there),\n];\n    (\"x\", 1)\n");
        assert_eq!(known, ["trap", "yield"]);
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rows = Rows { plain: owned(&known), with_disk: owned(&["swap"]), all: true };
        let some = rows.clone().only(&owned(&["swap", "yield"])).unwrap();
        assert_eq!((some.plain, some.with_disk, some.all), (owned(&["yield"]), owned(&["swap"]), false));
        assert!(rows.clone().only(&[]).unwrap().all);
        let error = rows.only(&owned(&["trip"])).unwrap_err().to_string();
        assert_eq!(error, "there is no row `trip`; similar: trap\n  the rows are: trap, yield, swap");
    }
}

//! `cargo xtask run`: boots a program, the shell, or the tour.

use crate::disk_option::{self, Attached, DiskOption};
use crate::images::{self, Builder, Flavor, Images};
use crate::input::{self, Chunks, Source};
use crate::machine::{Accel, Boot, CommandLine, Debugger, Machine, Memory, shell_word};
use crate::outside::{self, Outside};
use crate::session::{Options, Outcome, Session, Step, scratch};
use crate::workspace::{Program, Workspace};
use crate::{archive::Archive, install, interrupt, say, symbols, terminal};
use abi::{ExitStatus, window::CpuInfo};
use anyhow::{Context, Result, ensure};
use std::io::{Write, stdout};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The time limit of a named program when no user is there to press Ctrl-C.
const BOUND: Duration = Duration::from_secs(60);
/// The time limit of programs that wait for a disk, and under a checking kernel, which is much slower.
const SLOW_BOUND: Duration = Duration::from_secs(300);
/// How long the shell waits for input on a silent stdin.
const PATIENCE: Duration = Duration::from_secs(10);
/// A guest that has printed nothing for this long is idle.
const IDLE: Duration = Duration::from_secs(1);
/// After this time a guest that is never idle, or that goes on after its input has ended, is ended.
const GRACE: Duration = Duration::from_secs(60);

/// The command line of `run`.
#[derive(clap::Args, Clone, Debug)]
#[command(override_usage = "cargo xtask run [OPTIONS] [PROGRAM [ARGS]...]")]
pub struct Args {
    /// How many processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CpuInfo::MAX as i64))]
    pub cpus: u32,
    /// How much memory: 32M, 1G, ...
    #[arg(long, value_name = "SIZE", default_value_t = Memory::DEFAULT)]
    pub memory: Memory,
    /// Attach a disk, with its bytes in FILE; `scratch` is a disk that vanishes with the run
    ///
    /// If there is no FILE, it is made, with 64M or SIZE; an existing one keeps its size. With `ro` the machine can
    /// only read. A comma in the name of the file is written twice. Each `--disk` attaches another disk.
    #[arg(long = "disk", value_name = "FILE[,size=SIZE][,ro]")]
    pub disks: Vec<DiskOption>,
    /// What executes guest code
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    /// The model of the processors, as QEMU's `-cpu` has it: Haswell, EPYC, max,-smap [default: all that QEMU emulates]
    #[arg(long, value_name = "MODEL")]
    pub processor: Option<String>,
    /// Measure time in executed instructions, of all processors together: every run is the same
    #[arg(long)]
    #[arg(conflicts_with = "accel")]
    pub icount: bool,
    /// End the machine after this time [default: none on a terminal, else 60 for a named program, and 300
    /// with a disk or --check]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub timeout: Option<u64>,
    /// Microseconds between timer ticks (1,000, or 10,000 with --check); 0: none, and a time slice ends only when a
    /// program gives it up
    #[arg(long, value_name = "MICROSECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=4_000_000))]
    pub tick: Option<u64>,
    /// End the machine after this many timer ticks, and print the place of each environment
    #[arg(long, value_name = "TICKS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Wait for a debugger before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// Print the exact commands
    #[arg(long, short)]
    pub verbose: bool,
    /// Use the kernel that checks its tables after every call
    #[arg(long)]
    pub check: bool,
    /// Use the kernel that counts the instructions of every entry
    #[arg(long, requires = "icount", conflicts_with = "check")]
    pub count: bool,
    /// Print the creation and end of environments [default: with a named program]
    #[arg(long, overrides_with = "no_trace")]
    pub trace: bool,
    /// Turn --trace off
    #[arg(long)]
    pub no_trace: bool,
    /// Which program of a crate outside to boot, if it has several
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
    /// The program to boot, or the path of a crate outside the checkout; and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub command: Vec<String>,
}

/// The program to boot.
struct Wanted {
    program: String,
    /// Whether the machine needs a disk.
    needs_disk: bool,
    /// Its crate, if that is outside the checkout.
    outside: Option<Outside>,
}

impl Wanted {
    fn find(args: &Args, workspace: &Workspace) -> Result<Wanted> {
        let Some(word) = args.command.first() else {
            // The tour ends in the shell, and has programs that need a disk, as the user of the shell may.
            return Ok(Wanted { program: "sh".to_owned(), needs_disk: true, outside: None });
        };
        if outside::is_path(word) {
            let outside = Outside::load(Path::new(word))?;
            let Program { name, needs_disk, .. } = outside.program(args.bin.as_deref())?.clone();
            return Ok(Wanted { program: name, needs_disk, outside: Some(outside) });
        }
        ensure!(
            args.bin.is_none(),
            "--bin names a program of a crate outside, and `{word}` is not the path of a crate"
        );
        let needs_disk = workspace.program(word)?.needs_disk;
        Ok(Wanted { program: word.clone(), needs_disk, outside: None })
    }

    /// Builds the images, as far as they can be built.
    fn build(&self, builder: &Builder, flavor: Flavor) -> Result<Images> {
        let Some(outside) = &self.outside else { return builder.build_for(&[flavor], &self.program) };
        let images = builder.build_for(&[flavor], "sh")?;
        let programs = builder.outside(outside).run_for(&self.program)?;
        programs.iter().try_for_each(images::check)?;
        Ok(Images { programs: outside::together(images.programs, programs), ..images })
    }
}

/// Everything that a boot needs, already built.
#[derive(Clone)]
struct Kit<'a> {
    args: &'a Args,
    qemu: PathBuf,
    machine: Machine,
    images: Images,
    scratch: Arc<TempDir>,
    /// Keeps the images of scratch disks.
    _attached: Arc<Attached>,
}

/// Boots the program of the command line.
///
/// # Errors
/// The tool could not do its work.
pub fn main(args: &Args) -> Result<ExitStatus> {
    let is_counted = args.limit.is_none() || args.tick != Some(0);
    ensure!(is_counted, "--limit counts ticks, and with --tick 0 there are none; --timeout counts seconds");
    let workspace = Workspace::load()?;
    let wanted = Wanted::find(args, &workspace)?;
    let kit = Kit::prepare(args, &workspace, &wanted)?;
    match args.command.split_first() {
        Some((_, rest)) => kit.run_program(&wanted.program, rest),
        None if terminal::is_interactive() => kit.run_shell(),
        None => kit.run_tour(input::stdin()),
    }
}

impl<'a> Kit<'a> {
    fn prepare(args: &'a Args, workspace: &Workspace, wanted: &Wanted) -> Result<Kit<'a>> {
        if args.accel == Accel::Kvm {
            ensure_kvm()?;
        }
        let disks = disk_option::or_scratch(&args.disks, wanted.needs_disk, args.memory)?;
        let attached = Attached::new(&disks, &workspace.target)?;
        let qemu = install::qemu()?;
        let flavor = match (args.check, args.count) {
            (true, _) => Flavor::Check,
            (_, true) => Flavor::Count,
            _ => Flavor::Plain,
        };
        let images = wanted.build(&Builder { verbose: args.verbose, ..Builder::of(workspace) }, flavor)?;
        let scratch = Arc::new(scratch()?);
        Archive::of(&images.programs)?.write(&scratch.path().join("archive.tar"))?;
        let machine = Machine {
            cpus: args.cpus,
            memory: args.memory,
            accel: args.accel,
            processor: args.processor.clone(),
            icount: args.icount,
            disks: attached.disks.clone(),
            debugger: args.gdb.then(|| announce_debugger(&images.kernels[0])).transpose()?,
            extra: Vec::new(),
        };
        Ok(Kit { args, qemu, machine, images, scratch, _attached: Arc::new(attached) })
    }

    fn has_disk(&self) -> bool {
        !self.machine.disks.is_empty()
    }

    fn start(&self, init: &str, args: &[String], timeout: Option<Duration>) -> Result<Session> {
        let line = CommandLine {
            init: init.to_owned(),
            args: args.to_vec(),
            trace: self.args.trace || (!self.args.command.is_empty() && !self.args.no_trace),
            tick_us: self.args.tick,
            limit: self.args.limit,
            ..CommandLine::default()
        };
        let archive = self.scratch.path().join("archive.tar");
        let boot = Boot { kernel: self.images.kernels[0].clone(), archive, line };
        let timeout = self.args.timeout.map(Duration::from_secs).or(timeout);
        let options = Options { timeout, verbose: self.args.verbose };
        Session::start(&self.qemu, &self.machine, &boot, &options)
    }

    fn run_program(&self, name: &str, rest: &[String]) -> Result<ExitStatus> {
        let bound = if self.args.check || self.has_disk() { SLOW_BOUND } else { BOUND };
        let attended = terminal::is_attended() || self.args.gdb;
        let session = self.start(name, rest, (!attended).then_some(bound))?;
        let raw = terminal::Raw::enter();
        session.forward(None, input::stdin(), source(raw.as_ref()));
        self.conclude(name, session.run(print)?)
    }

    fn run_shell(&self) -> Result<ExitStatus> {
        let _ = writeln!(
            std::io::stderr(),
            "Faultline: {} of memory, {} CPU. `help` shows what there is, Ctrl-D or `exit` ends it, \
             Ctrl-C kills it.\n",
            self.machine.memory,
            self.machine.cpus
        );
        let session = self.start("sh", &[], None)?;
        let raw = terminal::Raw::enter();
        session.forward(None, input::stdin(), source(raw.as_ref()));
        self.conclude("sh", session.run(print)?)
    }

    /// The kit for the tour, which shows costs: time counts instructions, where possible.
    fn deterministic(&self) -> Kit<'_> {
        let icount = self.machine.icount || (self.machine.accel == Accel::Tcg && self.machine.cpus == 1);
        let machine = Machine { icount, ..self.machine.clone() };
        Kit { machine, ..self.clone() }
    }

    /// Runs the tour; then, if anything arrives on stdin, a shell that gets it.
    fn run_tour(&self, chunks: Chunks) -> Result<ExitStatus> {
        let session = self.deterministic().start("tour", &[], Some(SLOW_BOUND))?;
        let status = self.conclude("tour", session.run(print)?)?;
        if !status.is_success() {
            return Ok(status);
        }
        match input::first(&chunks, PATIENCE) {
            None => Ok(ExitStatus::SUCCESS),
            Some(first) => self.feed_shell(first, chunks),
        }
    }

    fn feed_shell(&self, first: Vec<u8>, chunks: Chunks) -> Result<ExitStatus> {
        let mut session = self.start("sh", &[], None)?;
        session.forward(Some(first), chunks, Source::Pipe);
        let mut quiet = Quiet::new();
        let outcome = loop {
            match session.step()? {
                Step::Console(bytes) => quiet.note_output(&bytes)?,
                Step::Input => quiet.input = Instant::now(),
                Step::InputEnd => quiet.end = Some(Instant::now()),
                Step::Nothing => {}
                Step::Ended => break session.finish()?,
                Step::TimeUp => break session.give_up(),
            }
            if quiet.is_over() && session.end_input() {
                quiet.end = Some(Instant::now());
            }
            if quiet.is_stuck() {
                break session.give_up();
            }
        };
        let status = self.conclude("sh", outcome)?;
        // The status of the shell's last command is not the status of this run.
        let machine_failed = status >= ExitStatus::UNFIT_PROCESSOR;
        Ok(if machine_failed { status } else { ExitStatus::SUCCESS })
    }

    /// Prints what the exit code alone does not say.
    fn conclude(&self, name: &str, outcome: Outcome) -> Result<ExitStatus> {
        let _ = stdout().flush();
        let seconds = outcome.elapsed.as_secs_f32();
        match outcome.status {
            ExitStatus::SUCCESS => {}
            ExitStatus::TIMEOUT => say!("{name}: {}", time_up(&outcome, self.args.limit)),
            ExitStatus::UNFIT_PROCESSOR => say!(
                "{name}: {}: its last line names the features\n  without --processor, QEMU emulates a processor that has all of them; \
                 with --accel kvm, the firmware's settings may hide NX",
                outcome.status
            ),
            status => say!("{name}: {status}"),
        }
        if outcome.status == ExitStatus::KERNEL_PANIC {
            self.explain_panic(&outcome);
        }
        if let (true, Some(report)) = (self.args.verbose, &outcome.report) {
            say!("{name}: {seconds:.2} s, {} page frames free before, {} after", report.free_start, report.free_end);
        }
        Ok(outcome.status)
    }

    fn explain_panic(&self, outcome: &Outcome) {
        let addresses = symbols::backtrace(&String::from_utf8_lossy(&outcome.console));
        match symbols::symbolise(&self.images.kernels[0], &addresses) {
            Ok(text) => say!("the kernel was here:\n{text}"),
            Err(error) => say!("no symbols for the backtrace: {error:#}"),
        }
    }
}

/// The message about a time limit: if the kernel reported, its limit in ticks has ended the machine.
fn time_up(outcome: &Outcome, limit: Option<u64>) -> String {
    match (limit, &outcome.report) {
        (Some(ticks), Some(_)) => {
            format!("ended because it was not finished after {ticks} ticks (--limit TICKS sets another limit)")
        }
        _ => {
            let seconds = outcome.elapsed.as_secs_f32();
            format!("ended because it was not finished after {seconds:.0} s (--timeout SECONDS sets another limit)")
        }
    }
}

/// The kind of stdin: keys, if the terminal was handed over.
fn source(raw: Option<&terminal::Raw>) -> Source {
    if raw.is_some() { Source::Keys } else { Source::Pipe }
}

/// Decides when a shell that is fed from a pipe is finished.
struct Quiet {
    input: Instant,
    output: Instant,
    /// When the guest was told that its input has ended.
    end: Option<Instant>,
}

impl Quiet {
    fn new() -> Quiet {
        Quiet { input: Instant::now(), output: Instant::now(), end: None }
    }

    fn note_output(&mut self, bytes: &[u8]) -> Result<()> {
        self.output = Instant::now();
        print(bytes)
    }

    /// Whether nothing has arrived for long, and the guest is idle.
    fn is_over(&self) -> bool {
        let silence = self.input.elapsed();
        let idle = self.output.elapsed() > IDLE || silence > GRACE;
        self.end.is_none() && silence > PATIENCE && idle
    }

    /// Whether the guest goes on long after the end of its input.
    fn is_stuck(&self) -> bool {
        self.end.is_some_and(|end| end.elapsed() > GRACE)
    }
}

/// Prints guest output, byte for byte, at once. If the reader has gone away, the machine ends, like every other program
/// in a pipe.
fn print(bytes: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    if printed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        interrupt::raise(signal_hook::consts::SIGPIPE);
    }
    printed.context("cannot print the output of the guest")
}

fn ensure_kvm() -> Result<()> {
    let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    usable.context("--accel kvm needs /dev/kvm; --accel tcg works everywhere").map(drop)
}

/// Chooses a port that is free at this moment.
fn announce_debugger(kernel: &Path) -> Result<Debugger> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.context("no free port for the debugger")?.port();
    ensure!(port != 0, "no free port for the debugger");
    let kernel = shell_word(kernel.as_os_str());
    say!("the machine waits for a debugger: gdb -ex 'target remote localhost:{port}' {kernel}");
    Ok(Debugger::Port(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    #[test]
    fn the_limit_that_ended_a_machine_is_the_one_that_is_named() {
        let report = Report { nonce: "n".into(), status: 124, free_start: 1, free_end: 1, longest: 0 };
        let outcome = |report| Outcome {
            status: ExitStatus::TIMEOUT,
            report,
            console: Vec::new(),
            elapsed: Duration::from_secs(3),
        };
        let by_kernel = time_up(&outcome(Some(report)), Some(7));
        assert!(by_kernel.contains("7 ticks") && by_kernel.contains("--limit"), "{by_kernel}");
        assert!(!by_kernel.contains("--timeout"), "{by_kernel}");
        let by_tool = time_up(&outcome(None), Some(7));
        assert!(by_tool.contains("3 s") && by_tool.contains("--timeout"), "{by_tool}");
    }
}

//! One run of a machine: its console, its input, its end.
//!
//! Threads move bytes to and from the emulator. The owner of the [`Session`] takes one step after the other, none of
//! which waits long. However a session ends, the emulator ends with it.

use crate::input::{self, Chunks, Source};
use crate::machine::{Boot, Files, Machine, Memory, shell_words};
use crate::report::{Report, verdict};
use crate::{interrupt, kill_on_exit, say};
use abi::ExitStatus;
use anyhow::{Context, Result, anyhow, bail};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::process::{Child, ChildStderr, ExitStatus as ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::mpsc::{channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, path::Path};
use tempfile::TempDir;

/// The longest wait of a step, and so the latency with which a signal or a deadline is noticed.
const STEP: Duration = Duration::from_millis(50);
/// The longest wait for a kernel that never reports that it listens. A kernel that starts may lose what the serial port
/// has already received, so input waits for that report.
const SILENT_START: Duration = Duration::from_secs(60);
/// How often the marker of the end of input is written at a time.
const END_MARKS: usize = 256;
/// How much of the console is remembered.
const TRANSCRIPT: usize = 16 << 20;
/// How much of the emulator's stderr is remembered.
const MESSAGES: usize = 16 << 10;

/// A machine that runs.
pub struct Session {
    child: Child,
    events: Receiver<Step>,
    notify: Sender<Step>,
    feed: SyncSender<Feed>,
    messages: Option<JoinHandle<String>>,
    scratch: TempDir,
    nonce: String,
    start: Instant,
    timeout: Option<Duration>,
    memory: Memory,
    console: Vec<u8>,
}

/// Reads the emulator's stderr to its end, and returns the text for an error message.
pub type Listener = Box<dyn FnOnce(ChildStderr) -> String + Send>;

/// A message to the thread that writes to the emulator.
enum Feed {
    /// Write these bytes, already encoded for the serial line.
    Bytes(Vec<u8>),
    /// The input has ended.
    End,
}

/// The next event of a session.
#[derive(Debug)]
pub enum Step {
    /// The guest printed this.
    Console(Vec<u8>),
    /// Input arrived for the guest, and was handed over.
    Input,
    /// The input has ended, and the guest was told.
    InputEnd,
    /// Nothing happened for a moment.
    Nothing,
    /// The console was closed: the machine has ended.
    Ended,
    /// The time limit was reached.
    TimeUp,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The status of the first environment, or of the machine.
    pub status: ExitStatus,
    /// The kernel's report; none after a timeout or an early panic.
    pub report: Option<Report>,
    /// All that the guest printed (if it is very much, the last part).
    pub console: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Options of a run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The time after which the machine is ended.
    pub timeout: Option<Duration>,
    /// Whether to print the emulator's command line.
    pub verbose: bool,
}

impl Session {
    /// The random word that identifies this run.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Starts the emulator.
    ///
    /// # Errors
    /// The emulator cannot be started, or the arguments cannot be passed.
    pub fn start(qemu: &Path, machine: &Machine, boot: &Boot, options: &Options) -> Result<Session> {
        Session::listening(qemu, machine, boot, options, None)
    }

    /// Starts the emulator, with a listener for its stderr.
    ///
    /// # Errors
    /// See [`Session::start`].
    pub fn listening(
        qemu: &Path,
        machine: &Machine,
        boot: &Boot,
        options: &Options,
        listener: Option<Listener>,
    ) -> Result<Session> {
        interrupt::arm();
        let scratch = scratch()?;
        let nonce = format!("{:016x}", RandomState::new().build_hasher().finish());
        let files = Files { report: scratch.path().join("report") };
        let line = boot.line.text(&nonce)?;
        let command = machine.command(qemu, boot, &line, &files);
        if options.verbose {
            say!("{}", shell_words(&command));
        }
        let mut child = spawn(&command).with_context(|| format!("cannot run {}", qemu.display()))?;
        let stderr = child.stderr.take().context("the emulator has no stderr")?;
        let listener = listener.unwrap_or_else(|| Box::new(|stderr| last_of(stderr, MESSAGES)));
        let messages = Some(thread::spawn(move || listener(stderr)));
        let mut session = Session::around(child, scratch, nonce, options, machine.memory)?;
        session.messages = messages;
        Ok(session)
    }

    fn around(mut child: Child, scratch: TempDir, nonce: String, options: &Options, memory: Memory) -> Result<Session> {
        let (notify, events) = channel();
        let stdout = child.stdout.take().context("the emulator has no stdout")?;
        let stdin = child.stdin.take().context("the emulator has no stdin")?;
        let (feed, chunks) = sync_channel(1);
        let printed = notify.clone();
        thread::spawn(move || relay_console(stdout, &printed));
        thread::spawn(move || relay_input(stdin, &chunks));
        Ok(Session {
            child,
            events,
            notify,
            feed,
            messages: None,
            scratch,
            nonce,
            start: Instant::now(),
            timeout: options.timeout,
            memory,
            console: Vec::new(),
        })
    }

    /// Hands over to the guest all further input from `chunks`, and the end of the input when no more will arrive.
    pub fn forward(&self, first: Option<Vec<u8>>, chunks: Chunks, source: Source) {
        let (feed, notify) = (self.feed.clone(), self.notify.clone());
        let report = self.scratch.path().join("report");
        thread::spawn(move || {
            wait_for_kernel(&report, SILENT_START);
            for chunk in first.into_iter().chain(chunks) {
                let bytes = Feed::Bytes(input::encode(&chunk, source));
                if feed.send(bytes).is_err() || notify.send(Step::Input).is_err() {
                    return;
                }
            }
            let _ = feed.send(Feed::End);
            let _ = notify.send(Step::InputEnd);
        });
    }

    /// Hands over these bytes, as from a pipe, and then the end of the input.
    pub fn pipe_in(&self, bytes: Vec<u8>) {
        let (_, nothing_more) = sync_channel(1);
        self.forward(Some(bytes), nothing_more, Source::Pipe);
    }

    /// Tells the guest that its input ends; false if it has not yet read the input before that.
    pub fn end_input(&self) -> bool {
        !matches!(self.feed.try_send(Feed::End), Err(TrySendError::Full(_)))
    }

    /// Waits a moment for the next event.
    ///
    /// # Errors
    /// A signal arrived.
    pub fn step(&mut self) -> Result<Step> {
        if let Some(signal) = interrupt::pending() {
            bail!("interrupted by signal {signal}");
        }
        if self.timeout.is_some_and(|timeout| self.start.elapsed() > timeout) {
            return Ok(Step::TimeUp);
        }
        let step = match self.events.recv_timeout(STEP) {
            Ok(step) => step,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Step::Nothing,
        };
        if let Step::Console(bytes) = &step {
            self.remember(bytes);
        }
        Ok(step)
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.console.extend_from_slice(bytes);
        if self.console.len() > TRANSCRIPT {
            self.console.drain(..TRANSCRIPT / 2);
        }
    }

    /// Takes all steps to the end; the guest's output goes to `console`.
    ///
    /// # Errors
    /// [`Session::step`], [`Session::finish`] or `console` fails.
    pub fn run(mut self, mut console: impl FnMut(&[u8]) -> Result<()>) -> Result<Outcome> {
        loop {
            match self.step()? {
                Step::Console(bytes) => console(&bytes)?,
                Step::Ended => return self.finish(),
                Step::TimeUp => return Ok(self.give_up()),
                Step::Input | Step::InputEnd | Step::Nothing => {}
            }
        }
    }

    /// The verdict of a machine that has [ended](Step::Ended).
    ///
    /// # Errors
    /// There is no verdict: the emulator failed, or its exit code and the kernel's report disagree.
    pub fn finish(mut self) -> Result<Outcome> {
        let exit = self.child.wait().context("cannot wait for the emulator")?;
        let report = fs::read(self.scratch.path().join("report")).unwrap_or_default();
        let report = String::from_utf8_lossy(&report);
        match verdict(exit, &report, &self.nonce) {
            Ok((status, report)) => Ok(self.outcome(status, report)),
            Err(error) => Err(self.blame(error, exit)),
        }
    }

    /// Ends a machine that has reached its time limit.
    #[must_use]
    pub fn give_up(mut self) -> Outcome {
        self.kill();
        self.outcome(ExitStatus::TIMEOUT, None)
    }

    fn outcome(&mut self, status: ExitStatus, report: Option<Report>) -> Outcome {
        let console = std::mem::take(&mut self.console);
        Outcome { status, report, console, elapsed: self.start.elapsed() }
    }

    /// The error, with the emulator's messages, and a remedy.
    fn blame(&mut self, error: anyhow::Error, exit: ExitCode) -> anyhow::Error {
        let messages = self.messages.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let error = match exit.code() {
            Some(1) => anyhow!("{error:#}; {}", advice(&messages, self.memory)),
            _ => error,
        };
        match messages.trim_end() {
            "" => error,
            said => error.context(format!("the emulator printed:\n{said}\nthe error")),
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A remedy for an emulator that could not start a machine with this much memory.
fn advice(messages: &str, memory: Memory) -> String {
    if let Some(file) = locked_file(messages) {
        return format!(
            "another machine uses {file}; end that one, or attach another file (several machines can use a file if \
             all of them attach it with `ro`)"
        );
    }
    if !messages.contains("cannot set up guest memory") {
        return "`cargo xtask doctor` shows what is missing".to_owned();
    }
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let host = match (meminfo(&text, "MemTotal:"), meminfo(&text, "MemAvailable:")) {
        (Some(total), Some(free)) => format!(", which has {total}M, of which {free}M are free"),
        _ => String::new(),
    };
    format!("{memory} of memory are more than this host can provide{host}; use --memory to ask for less")
}

/// The file that the emulator could not lock, because another process has locked it.
fn locked_file(messages: &str) -> Option<&str> {
    let (_, rest) = messages.split_once("Is another process using the image [")?;
    rest.lines().next()?.strip_suffix("]?")
}

/// The value of a line of `/proc/meminfo`, in megabytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes >> 10)
}

/// A directory for the files of one run, which is removed with it.
///
/// # Errors
/// The directory cannot be made.
pub fn scratch() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("faultline-").tempdir();
    directory
        .with_context(|| format!("cannot make a directory in {}; TMPDIR names another", std::env::temp_dir().display()))
}

/// Starts the command in a process group of its own, so that Ctrl-C reaches the tool first.
fn spawn(command: &std::process::Command) -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    kill_on_exit::wrap(command)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits until the kernel has written the first line of its report.
fn wait_for_kernel(report: &Path, patience: Duration) {
    let deadline = Instant::now() + patience;
    let is_ready = || fs::read(report).is_ok_and(|text| text.contains(&b'\n'));
    while !is_ready() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}

fn relay_console(mut stdout: impl Read, notify: &Sender<Step>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stdout.read(&mut buffer) {
        if notify.send(Step::Console(buffer[..count].to_vec())).is_err() {
            return;
        }
    }
    let _ = notify.send(Step::Ended);
}

/// Writes the input, and then the end of the input until nobody reads any more, because every program must see it. (The
/// emulator accepts only as much as programs read.)
fn relay_input(mut stdin: impl Write, chunks: &Receiver<Feed>) {
    for feed in chunks {
        let written = match feed {
            Feed::Bytes(bytes) => stdin.write_all(&bytes).and_then(|()| stdin.flush()),
            Feed::End => break,
        };
        if written.is_err() {
            return;
        }
    }
    let end = input::END.repeat(END_MARKS);
    while stdin.write_all(&end).and_then(|()| stdin.flush()).is_ok() {}
}

/// The last bytes of a stream, read to its end.
fn last_of(mut stream: impl Read, most: usize) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(most);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::console::{Decoder, Input};

    #[test]
    fn too_much_memory_is_not_an_emulator_that_is_too_old() {
        let said = "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory";
        let advice = |said| super::advice(said, Memory(40 << 30));
        assert!(advice(said).starts_with("40960M of memory") && advice(said).contains("--memory"));
        assert!(!advice(said).contains("doctor"));
        assert!(advice("qemu-system-x86_64: -accel tcg: invalid option").contains("doctor"));
    }

    #[test]
    fn a_disk_that_is_in_use_is_named() {
        let said = "qemu-system-x86_64: -device virtio-blk-pci,drive=disk0: Failed to get \"write\" lock\n\
             Is another process using the image [a [1]?.img]?\n";
        let advice = advice(said, Memory::DEFAULT);
        assert!(advice.starts_with("another machine uses a [1]?.img; end that one"), "{advice}");
        assert!(advice.contains("`ro`"), "{advice}");
    }

    #[test]
    fn the_memory_of_the_host_is_read() {
        let text = "MemTotal:       24612345 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!((meminfo(text, "MemTotal:"), meminfo(text, "MemAvailable:")), (Some(24035), Some(2)));
        assert_eq!(meminfo(text, "SwapTotal:"), None);
    }

    /// A serial line that accepts this many bytes, and is then closed.
    struct Line(Vec<u8>, usize);

    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.len().min(self.1 - self.0.len());
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// However much is read, the input has ended, and the bytes before the end are those that were piped.
    #[test]
    fn the_end_of_input_comes_for_ever() {
        let piped: Vec<u8> = (0..=255).collect();
        for told in [true, false] {
            let (feed, chunks) = channel();
            feed.send(Feed::Bytes(input::encode(&piped, Source::Pipe))).unwrap();
            if told {
                feed.send(Feed::End).unwrap();
            }
            let kept = told.then_some(feed); // otherwise nobody is left to tell
            let mut line = Line(Vec::new(), 5000);
            relay_input(&mut line, &chunks);
            drop(kept);
            let mut decoder = Decoder::new();
            let found: Vec<_> = line.0.iter().filter_map(|&byte| decoder.push(byte)).collect();
            let (data, end) = found.split_at(256);
            assert!(data.iter().zip(&piped).all(|(input, &byte)| *input == Input::Byte(byte)));
            assert!(end.len() > 2000 && end.iter().all(|input| *input == Input::End));
        }
    }
}

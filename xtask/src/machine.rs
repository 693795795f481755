//! A machine to boot: its parts, and the emulator's command line for it.

use crate::disk::Disk;
use crate::size;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::{ffi::OsStr, fmt, process::Command, str::FromStr};

/// The executor of guest code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Accel {
    /// Emulation: works everywhere.
    Tcg,
    /// The host's processor: Linux with `/dev/kvm` only.
    Kvm,
}

/// An amount of memory, in bytes: `32M`, `1G`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory(pub u64);

impl Memory {
    /// Enough for everything but tests of exhaustion.
    pub const DEFAULT: Memory = Memory(128 << 20);
    /// The kernel image, the boot archive and a few programs fit.
    pub const LEAST: Memory = Memory(16 << 20);
    /// The emulated processor has 40 address bits, and devices take the addresses above this.
    pub const MOST: Memory = Memory(1000 << 30);

    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// The text of every message about a bad size.
const SIZES: &str = "a size is 16M to 1000G, in whole megabytes, such as 32M or 1G";

impl FromStr for Memory {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Memory> {
        let bytes = size::bytes(text).context(SIZES)?;
        ensure!(bytes >= Memory::LEAST.0, "the kernel needs more: {SIZES}");
        ensure!(bytes <= Memory::MOST.0, "the emulated processor cannot reach so much: {SIZES}");
        ensure!(bytes.is_multiple_of(1 << 20), SIZES);
        Ok(Memory(bytes))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}M", self.0 >> 20)
    }
}

/// The address where the emulator waits for a debugger; the machine does not start before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Debugger {
    /// A TCP port of this host.
    Port(u16),
    /// A socket in the file system.
    Socket(PathBuf),
}

/// The configuration of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The number of processors.
    pub cpus: u32,
    /// The amount of memory.
    pub memory: Memory,
    /// The executor of guest code.
    pub accel: Accel,
    /// The model of the processors and its features, in the form of the emulator's `-cpu`: `Haswell`, `max,-smap`.
    /// Without one, all that the emulator or the host can do.
    pub processor: Option<String>,
    /// Time is the number of executed instructions, so every run is the same. Several processors execute in turn, and
    /// time advances with the instructions of all.
    pub icount: bool,
    /// The disks.
    pub disks: Vec<Disk>,
    /// Whether the machine waits for a debugger.
    pub debugger: Option<Debugger>,
    /// More arguments for the emulator.
    pub extra: Vec<String>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            cpus: 1,
            memory: Memory::DEFAULT,
            accel: Accel::Tcg,
            processor: None,
            icount: false,
            disks: Vec::new(),
            debugger: None,
            extra: Vec::new(),
        }
    }
}

/// The kernel, archive and command line to boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boot {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The boot archive.
    pub archive: PathBuf,
    /// Its command line.
    pub line: CommandLine,
}

/// The kernel's command line.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CommandLine {
    /// The first program.
    pub init: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The kernel prints the creation and end of environments.
    pub trace: bool,
    /// Microseconds between timer ticks, if not the kernel's default.
    pub tick_us: Option<u64>,
    /// Fault injection: one of the words that [`abi::boot`] lists.
    pub provoke: Option<&'static str>,
    /// After this many ticks the kernel prints where each environment is, and ends the machine.
    pub limit: Option<u64>,
    /// The kernel's lines begin with the nonce.
    pub sign: bool,
}

impl CommandLine {
    /// The text, with the word that identifies the run.
    ///
    /// # Errors
    /// An argument cannot be passed.
    pub fn text(&self, nonce: &str) -> Result<String> {
        let mut line = format!("init={} nonce={nonce}", self.init);
        if self.trace {
            line.push_str(" trace");
        }
        if let Some(tick) = self.tick_us {
            line.push_str(&format!(" tick={tick}"));
        }
        if let Some(limit) = self.limit {
            line.push_str(&format!(" limit={limit}"));
        }
        if self.sign {
            line.push_str(" sign");
        }
        if let Some(word) = self.provoke {
            line.push_str(&format!(" {word}"));
        }
        let mut args = String::new();
        for arg in &self.args {
            ensure!(
                !arg.contains([abi::boot::ARG_SEPARATOR, '\0']),
                "the argument {arg:?} contains a character that separates arguments"
            );
            args.push(abi::boot::ARG_SEPARATOR);
            args.push_str(arg);
        }
        let most = abi::window::MachineInfo::MAX_ARGS;
        ensure!(args.len() <= most, "{} bytes of arguments; {most} fit", args.len());
        if !args.is_empty() {
            line.push_str(&format!("{} {args}", abi::boot::ARGS_MARK));
        }
        Ok(line)
    }
}

/// The files of one run.
#[derive(Clone, Debug)]
pub struct Files {
    /// The file for the kernel's report.
    pub report: PathBuf,
}

impl Machine {
    /// The options of `cargo xtask run` for this machine, each with a space before it.
    #[must_use]
    pub fn options(&self) -> String {
        let standard = Machine::default();
        let mut options = String::new();
        if self.memory != standard.memory {
            options.push_str(&format!(" --memory {}", self.memory));
        }
        if self.cpus != standard.cpus {
            options.push_str(&format!(" --cpus {}", self.cpus));
        }
        if let Some(model) = &self.processor {
            options.push_str(&format!(" --processor {}", shell_word(model.as_ref())));
        }
        if self.icount {
            options.push_str(" --icount");
        }
        for disk in &self.disks {
            options.push_str(&format!(" --disk {}", shell_word(disk.to_string().as_ref())));
        }
        options
    }

    /// The emulator's command line. The guest's console is its stdin and stdout.
    #[must_use]
    pub fn command(&self, qemu: &Path, boot: &Boot, line: &str, files: &Files) -> Command {
        let mut command = Command::new(qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-machine", self.board(), "-m", &self.memory.to_string()])
            .args(["-smp", &self.cpus.to_string()])
            .args(self.accelerator())
            .args(["-cpu", self.model()])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .arg("-chardev")
            .arg(option("file,id=report,path=", &files.report))
            .args(["-device", "isa-debugcon,iobase=0xe9,chardev=report"])
            .args(self.devices())
            .args(self.debugger_arguments())
            .args(&self.extra)
            .arg("-kernel")
            .arg(&boot.kernel)
            .arg("-initrd")
            .arg(&boot.archive)
            .args(["-append", line]);
        command
    }

    /// Whether the machine has devices that access memory on their own.
    fn has_devices(&self) -> bool {
        !self.disks.is_empty()
    }

    /// The emulator's board. Only `q35` has an IOMMU. Its firmware takes more memory, so counts are taken on `pc`.
    fn board(&self) -> &'static str {
        if self.has_devices() { "q35" } else { "pc" }
    }

    /// The devices that access memory on their own, behind the IOMMU. It must come before them.
    fn devices(&self) -> Vec<String> {
        if !self.has_devices() {
            return Vec::new();
        }
        let mut words = vec!["-device".to_owned(), "intel-iommu,aw-bits=48".to_owned()];
        words.extend(self.disks.iter().enumerate().flat_map(|(index, disk)| disk.arguments(index)));
        words
    }

    fn accelerator(&self) -> &'static [&'static str] {
        match (self.accel, self.icount) {
            (Accel::Kvm, _) => &["-accel", "kvm"],
            (Accel::Tcg, false) => &["-accel", "tcg"],
            (Accel::Tcg, true) => {
                &["-accel", "tcg", "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"]
            }
        }
    }

    fn model(&self) -> &str {
        match (&self.processor, self.accel) {
            (Some(model), _) => model,
            (None, Accel::Kvm) => "host",
            (None, Accel::Tcg) => "max",
        }
    }

    fn debugger_arguments(&self) -> Vec<std::ffi::OsString> {
        match &self.debugger {
            None => Vec::new(),
            Some(Debugger::Port(port)) => {
                vec!["-S".into(), "-gdb".into(), format!("tcp:127.0.0.1:{port}").into()]
            }
            Some(Debugger::Socket(path)) => {
                let mut chardev = option("socket,id=gdb,path=", path);
                chardev.push(",server=on,wait=off");
                vec!["-S".into(), "-chardev".into(), chardev, "-gdb".into(), "chardev:gdb".into()]
            }
        }
    }
}

/// A `key=value` option that ends with a path, in which commas are doubled.
fn option(start: &str, path: &Path) -> std::ffi::OsString {
    format!("{start}{}", path.to_string_lossy().replace(',', ",,")).into()
}

/// The command in the form in which one would type it.
#[must_use]
pub fn shell_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(shell_word).collect::<Vec<_>>().join(" ")
}

/// A word in the form in which one would type it.
#[must_use]
pub fn shell_word(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else if word.contains(|c: char| c.is_control()) {
        format!("$'{}'", word.escape_default())
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Faults;

    #[test]
    fn memory_sizes() {
        assert_eq!("32M".parse::<Memory>().unwrap(), Memory(32 << 20));
        assert_eq!("1g".parse::<Memory>().unwrap().to_string(), "1024M");
        assert_eq!("16384KiB".parse::<Memory>().unwrap(), Memory(16 << 20));
        for bad in
            ["", "128", "M", "12X", "-5M", "1M", "16385K", "1001G", "1T", "99999999999G", "99999999999999999999T"]
        {
            let error = bad.parse::<Memory>().expect_err(bad).to_string();
            assert!(error.contains("16M to 1000G"), "{bad}: {error}");
        }
        assert_eq!(("16M".parse().unwrap(), "1000G".parse().unwrap()), (Memory::LEAST, Memory::MOST));
    }

    fn text(args: &[&str]) -> Result<String> {
        let args = args.iter().map(ToString::to_string).collect();
        let line = CommandLine { init: "hello".into(), args, trace: true, tick_us: Some(5), ..Default::default() };
        line.text("n")
    }

    #[test]
    fn command_lines() {
        assert_eq!(text(&[]).unwrap(), "init=hello nonce=n trace tick=5");
        assert_eq!(text(&["a b", ""]).unwrap(), "init=hello nonce=n trace tick=5 -- \x1fa b\x1f");
        assert!(text(&["a\x1fb"]).is_err());
        assert!(text(&["a".repeat(4000).as_str()]).is_err());
    }

    /// The emulator's command line, without the parts that every machine has.
    fn arguments(machine: &Machine) -> Vec<String> {
        let boot = Boot { kernel: "k".into(), archive: "a".into(), line: CommandLine::default() };
        let command = machine.command("qemu".as_ref(), &boot, "line", &Files { report: "r,".into() });
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_machine_without_devices_is_the_one_whose_counts_are_recorded() {
        let machine = Machine { icount: true, ..Machine::default() };
        let expected = "-nodefaults -no-user-config -no-reboot -display none -machine pc -m 128M -smp 1 -accel tcg \
             -icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm -cpu max \
             -chardev stdio,id=console,signal=off -serial chardev:console \
             -device isa-debug-exit,iobase=0xf4,iosize=0x04 -chardev file,id=report,path=r,, \
             -device isa-debugcon,iobase=0xe9,chardev=report -kernel k -initrd a -append line";
        assert_eq!(arguments(&machine).join(" "), expected);
    }

    #[test]
    fn disks_are_behind_the_iommu_of_a_machine_that_is_otherwise_the_same() {
        let disk = |image: &str| Disk { image: image.into(), read_only: false, faults: Faults::default() };
        let without = Machine { icount: true, cpus: 2, debugger: Some(Debugger::Port(7)), ..Machine::default() };
        let machine = Machine { disks: vec![disk("a,b"), disk("c")], ..without.clone() };
        assert_eq!(machine.options(), " --cpus 2 --icount --disk a,,b --disk c");
        let mut words = arguments(&machine);
        let board = words.iter().position(|word| word == "q35").unwrap();
        words[board] = "pc".to_owned();
        let iommu = words.iter().position(|word| word == "intel-iommu,aw-bits=48").unwrap();
        let devices: Vec<String> = words.drain(iommu - 1..iommu + 9).collect();
        let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
        let ends = |word: &str, end: &str| word.starts_with("virtio-blk-pci,") && word.contains(end);
        let ["-device", _, "-blockdev", first, "-device", disk0, "-blockdev", second, "-device", disk1] = devices[..]
        else {
            panic!("{devices:?}")
        };
        assert!(first.contains(r#""filename":"a,b""#) && second.contains(r#""filename":"c""#), "{devices:?}");
        assert!(ends(disk0, "drive=disk0,serial=disk0,addr=0x1,") && ends(disk1, "drive=disk1,serial=disk1,addr=0x2,"));
        assert_eq!(words, arguments(&without));
    }

    #[test]
    fn words_can_be_typed() {
        assert_eq!(shell_word("a=b".as_ref()), "a=b");
        assert_eq!(shell_word("it's".as_ref()), "'it'\\''s'");
        assert_eq!(shell_word("a\x1fb".as_ref()), "$'a\\u{1f}b'");
    }
}

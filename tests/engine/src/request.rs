//! What to boot, and the commands that repeat it by hand.

use crate::disk::Disk;
use std::collections::BTreeMap;
use std::time::Duration;
use xtask::images::Flavor;
use xtask::machine::{CommandLine, Machine, shell_word};

/// The time limit of a run. Emulated machines on a busy host are slow; a machine that takes longer than this hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The program to boot, its surroundings, and the machine.
#[derive(Clone, Debug)]
pub struct Request {
    /// The kernel's command line: the program, its arguments, and more.
    pub line: CommandLine,
    /// More members for the boot archive.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The bytes that are piped to the console, before its input ends.
    pub input: Option<Vec<u8>>,
    /// The disks, besides those that the machine has.
    pub disks: Vec<Disk>,
    /// The machine.
    pub machine: Machine,
    /// The time limit of the run.
    pub timeout: Duration,
    /// How often the run is tried if there is no verdict: the emulator failed.
    pub tries: u32,
}

impl Request {
    /// A request for this program on a machine of the usual kind. The kernel prints what happens to environments.
    #[must_use]
    pub fn of(program: &str) -> Request {
        Request {
            line: CommandLine { init: program.to_owned(), trace: true, ..CommandLine::default() },
            files: BTreeMap::new(),
            input: None,
            disks: Vec::new(),
            machine: Machine::default(),
            timeout: TIMEOUT,
            tries: 1,
        }
    }

    /// The command that repeats the run. A limit of ticks makes a time limit unnecessary.
    #[must_use]
    pub fn command(&self, flavor: Flavor) -> String {
        let mut command = String::from("cargo xtask run");
        command.push_str(match flavor {
            Flavor::Plain => "",
            Flavor::Check => " --check",
            Flavor::Count => " --count",
        });
        command.push_str(&self.options(&self.machine));
        command.extend(self.line.tick_us.map(|tick| format!(" --tick {tick}")));
        command.push_str(if self.line.trace { "" } else { " --no-trace" });
        command.push_str(&match self.line.limit {
            Some(ticks) => format!(" --limit {ticks}"),
            None => format!(" --timeout {}", self.timeout.as_secs()),
        });
        command.push_str(&self.typed());
        let Some(input) = &self.input else { return command };
        let input = String::from_utf8_lossy(input);
        format!("printf %s {} | {command}", shell_word(input.as_ref().as_ref()))
    }

    /// The command that runs the program on the checking kernel, with the usual ticks and without a limit.
    #[must_use]
    pub fn check_command(&self) -> String {
        format!("cargo xtask run --check{}{}", self.options(&self.machine), self.typed())
    }

    /// The command that runs the program in the debugger.
    #[must_use]
    pub fn debug_command(&self) -> String {
        let machine = Machine { icount: false, ..self.machine.clone() };
        format!("cargo xtask gdb{}{}", self.options(&machine), self.typed())
    }

    /// The options for this machine with the disks.
    fn options(&self, machine: &Machine) -> String {
        let disks = self.disks.iter().enumerate().map(|(index, disk)| disk.option(index).to_string());
        let disks = disks.map(|disk| format!(" --disk {}", shell_word(disk.as_ref())));
        machine.options() + &disks.collect::<String>()
    }

    /// The program and its arguments, as words that follow a command.
    fn typed(&self) -> String {
        let words = [&self.line.init].into_iter().chain(&self.line.args);
        words.map(|word| format!(" {}", shell_word(word.as_ref()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use xtask::disk::{Errno, InjectedError, RequestKind};

    #[test]
    fn commands_can_be_typed() {
        let machine = Machine {
            memory: "32M".parse().unwrap(),
            processor: Some("max,-smap".to_owned()),
            icount: true,
            ..Machine::default()
        };
        let mut request = Request { machine, input: Some(b"x\n".to_vec()), ..Request::of("sh") };
        request.line.args = vec!["a b".to_owned()];
        assert_eq!(
            request.command(Flavor::Check),
            "printf %s $'x\\n' | cargo xtask run --check --memory 32M --processor max,-smap --icount --timeout 120 sh 'a b'"
        );
        let line = CommandLine { trace: false, tick_us: Some(9), limit: Some(7), ..request.line };
        let request = Request { input: None, line, ..request };
        assert_eq!(
            request.command(Flavor::Plain),
            "cargo xtask run --memory 32M --processor max,-smap --icount --tick 9 --no-trace --limit 7 sh 'a b'"
        );
    }

    #[test]
    fn commands_have_the_disks() {
        let error = InjectedError { request: RequestKind::Write, sector: Some(7), errno: Errno::IO, once: true };
        let empty = Disk::empty("2M").failing(error).limited(NonZeroU32::MIN);
        let disks = vec![empty, Disk::of(vec![1; 512]).logged(), Disk::of(vec![1; 512]).read_only()];
        let request = Request { disks, ..Request::of("hello") };
        let options =
            "--disk scratch,size=2M,fail-once=write@7,iops=1 --disk disk1.img,log=disk1.log --disk disk2.img,ro";
        assert_eq!(request.command(Flavor::Plain), format!("cargo xtask run {options} --timeout 120 hello"));
        assert_eq!(request.check_command(), format!("cargo xtask run --check {options} hello"));
        assert_eq!(request.debug_command(), format!("cargo xtask gdb {options} hello"));
    }
}

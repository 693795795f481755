//! The command line: what can be typed, and the exit code that comes back.

use crate::{bench, ci, clippy, doc, doctor, gdb, grade, interrupt, kill_on_exit, list, new, picture, run, say, test};
use abi::ExitStatus;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, boots, tests and measures Faultline.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const CODES: &str = "\
Exit codes of `run`:
  0..=63   the program's own
  64 + N   the program was killed by exception N (78: page fault)
  96       the program was destroyed
  122      the processor lacks what the kernel needs
  123      deadlock: nothing could run any more
  124      the time limit was reached
  125      the tool could not do its work
  126      the kernel panicked";

#[derive(Subcommand, Debug)]
enum Command {
    /// Boot a program; without one, the shell (on a terminal) or the tour
    Run(run::Args),
    /// Make a crate with a program, in any directory
    New(new::Args),
    /// Run the host tests, and the guest tests in the emulator
    Test(test::Args),
    /// Count the instructions of system calls, faults, forks, ...
    Bench(bench::Args),
    /// Boot a program under gdb
    Gdb(gdb::Args),
    /// Show what is installed, what is missing, and how to install it
    Doctor,
    /// List the programs
    List,
    /// Lint the bare-metal code with the flags that it is built with
    Clippy,
    /// Build the API documentation, with README.md as its front page
    Doc,
    /// Draw the picture in README.md anew, from what the commands in it print
    Picture,
    /// Check everything that must hold before a change is merged: format, lints, documentation, tests
    Ci,
    /// Grade this checkout, or what others handed in
    #[command(disable_help_flag = true)]
    Grade(grade::Args),
    /// Make the students' tree of a lab from the solution
    #[command(disable_help_flag = true)]
    Handout(grade::Args),
}

/// The entry point of the executable.
#[must_use]
pub fn main() -> ExitCode {
    kill_on_exit::init();
    let status = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command),
        Err(error) => {
            let _ = error.print();
            // Help and version are not errors.
            Ok(if error.use_stderr() { ExitStatus::TOOL_FAILED } else { ExitStatus::SUCCESS })
        }
    };
    interrupt::obey();
    let status = status.unwrap_or_else(|error| {
        say!("{error:#}");
        ExitStatus::TOOL_FAILED
    });
    ExitCode::from(status.0)
}

fn dispatch(command: Command) -> Result<ExitStatus> {
    match command {
        Command::Run(args) => run::main(&args),
        Command::New(args) => new::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Gdb(args) => gdb::main(&args),
        Command::Doctor => doctor::main(),
        Command::List => list::main(),
        Command::Clippy => clippy::main(),
        Command::Doc => doc::main(),
        Command::Picture => picture::main(),
        Command::Ci => ci::main(),
        Command::Grade(args) => Ok(grade::grade(&args)),
        Command::Handout(args) => grade::main("handout", &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_after_the_program_are_the_programs() {
        let cli = Cli::try_parse_from(["xtask", "run", "--cpus", "1", "hello", "--cpus", "-x"]).unwrap();
        let Command::Run(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.command, ["hello", "--cpus", "-x"]);
    }

    #[test]
    fn each_disk_is_an_option_of_its_own() {
        let cli = Cli::try_parse_from(["xtask", "run", "--disk", "a,ro", "--disk", "scratch", "hello", "b"]).unwrap();
        let Command::Run(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.disks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a,ro", "scratch"]);
        assert_eq!(args.command, ["hello", "b"]);
    }

    #[test]
    fn steps_of_ci_are_commands() {
        let ours: Vec<_> = ci::STEPS.iter().filter(|step| step[0] == "xtask").collect();
        assert!(!ours.is_empty());
        for step in ours {
            assert!(Cli::try_parse_from(*step).is_ok(), "{step:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let bad: [&[&str]; 6] = [
            &["run", "--disk", "d.img,rw"],
            &["run", "--memory", "lots"],
            &["run", "--cpus", "0"],
            &["run", "--accel", "warp"],
            &["run", "--icount", "--accel", "kvm"],
            &["walk"],
        ];
        for words in bad {
            let words = ["xtask"].iter().chain(words);
            assert!(Cli::try_parse_from(words.clone()).is_err(), "{words:?}");
        }
    }
}

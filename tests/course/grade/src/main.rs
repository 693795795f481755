//! The executable behind `cargo xtask grade` and `cargo xtask handout`.

#![forbid(unsafe_code)]

use clap::Parser;
use grade::{cli, grade as grading, handout};
use std::process::ExitCode;

/// Grades, and makes handouts.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Grade this checkout, or what others handed in
    Grade(Box<grading::Args>),
    /// Make the students' tree of a lab from the solution
    Handout(handout::Args),
}

/// The exit code if not everything was graded: distinct from a bad grade.
const COULD_NOT: u8 = 2;

fn main() -> ExitCode {
    xtask::kill_on_exit::init();
    let done = match Command::parse() {
        Command::Grade(args) => cli::main(&args).map(|full| u8::from(!full)),
        Command::Handout(args) => handout::main(&args).map(|()| 0),
    };
    xtask::interrupt::obey();
    ExitCode::from(done.unwrap_or_else(|error| {
        xtask::say!("{error:#}");
        COULD_NOT
    }))
}

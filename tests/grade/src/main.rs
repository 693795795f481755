//! What `cargo xtask grade` and `cargo xtask handout` do.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`rubric`] | what is graded, from `tests/rubric.toml` |
//! | [`handout`] | the solution without its answers |

#![forbid(unsafe_code)]

mod handout;
mod rubric;

use abi::ExitStatus;
use clap::Parser;
use std::process::ExitCode;

/// Grades, and makes handouts.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Make the students' tree of a lab from the solution
    Handout(handout::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Handout(args) => handout::main(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            xtask::say!("{error:#}");
            ExitCode::from(ExitStatus::TOOL_FAILED.0)
        }
    }
}

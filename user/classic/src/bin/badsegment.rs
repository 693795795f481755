//! Loads a segment that is not for users.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, println, raw};

libos::entry!(main);

fn main() -> ExitCode {
    raw::load_segment(0x28);
    println!("I loaded a system segment!");
    ExitCode::FAILURE
}

//! Divides by zero.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, println, raw};

libos::entry!(main);

fn main() -> ExitCode {
    raw::divide_by_zero();
    println!("1/0 is something!");
    ExitCode::FAILURE
}

//! Executes `int 14`: users may not, so that is a general protection fault, not a page fault.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, println, raw};

libos::entry!(main);

fn main() -> ExitCode {
    raw::software_interrupt_14();
    println!("I pretended a page fault!");
    ExitCode::FAILURE
}

//! A fault handler that prints and exits.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, Fault, println, raw, upcall};

libos::entry!(main);

fn handler(fault: &mut Fault) -> upcall::Outcome {
    println!("i faulted at va {:x}, err {:x}", fault.address, fault.error & 7);
    libos::exit(0)
}

fn main() -> ExitCode {
    upcall::set_handler(handler);
    raw::write_u8(0xdead_beef, 0);
    ExitCode::FAILURE
}

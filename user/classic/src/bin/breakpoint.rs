//! Two breakpoints: one with a handler, which goes on, and one without.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::upcall::{self, Outcome};
use libos::{ExitCode, Fault, Vector, println, raw};

libos::entry!(main);

fn handler(fault: &mut Fault) -> Outcome {
    if fault.vector() != Vector::BREAKPOINT {
        return Outcome::Unhandled;
    }
    // The exception comes after `int3`, so there is nothing to skip.
    println!("breakpoint: rip {:#x}", fault.rip);
    Outcome::Resume
}

fn main() -> ExitCode {
    upcall::set_handler(handler);
    raw::breakpoint();
    println!("and on it goes");
    upcall::clear_handler();
    raw::breakpoint();
    println!("still here!");
    ExitCode::FAILURE
}

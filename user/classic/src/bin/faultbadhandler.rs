//! An upcall at an unmapped address: faults nest until the exception stack is full.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{EnvId, ExitCode, println, raw, sys, upcall};

libos::entry!(main);

fn main() -> sys::Result<ExitCode> {
    // The address itself is valid, so it is accepted.
    sys::set_upcall(EnvId::SELF, 0xdead_beef, upcall::STACK_LOW, upcall::STACK_PAGES)?;
    raw::write_u8(0, 0);
    println!("I wrote to location 0!");
    Ok(ExitCode::FAILURE)
}

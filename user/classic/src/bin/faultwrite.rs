//! Writes to address 0 without an upcall, and is destroyed for it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, println, raw, sys, upcall};

libos::entry!(main);

fn main() -> sys::Result<ExitCode> {
    upcall::remove()?;
    raw::write_u8(0, 0);
    println!("I wrote to location 0!");
    Ok(ExitCode::FAILURE)
}

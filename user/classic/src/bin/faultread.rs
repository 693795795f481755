//! Reads address 0 without an upcall, and is destroyed for it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, println, raw, sys, upcall};

libos::entry!(main);

fn main() -> sys::Result<ExitCode> {
    upcall::remove()?;
    println!("I read {:#x} from location 0!", raw::read_u8(0));
    Ok(ExitCode::FAILURE)
}

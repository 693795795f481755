//! Asks for an upcall without having an exception stack, is refused, and faults.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, Va, abi::Error, layout, println, raw, sys, upcall};

libos::entry!(main);

fn main() -> sys::Result<ExitCode> {
    upcall::remove()?;
    let nowhere = Va(0xdead_b000);
    let refused = sys::set_upcall(libos::EnvId::SELF, layout::TEXT.0, nowhere, 1);
    println!("an upcall without a stack: {refused:x?}");
    assert_eq!(refused, Err(Error::NotMapped(nowhere.0)));
    raw::write_u8(0, 0);
    println!("I wrote to location 0!");
    Ok(ExitCode::FAILURE)
}

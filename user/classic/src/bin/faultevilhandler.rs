//! Upcalls at a kernel address and at an impossible one are refused, and nothing changes.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, abi::Error, layout, println, raw, sys};

libos::entry!(main);

fn handler(fault: &mut Fault) -> Outcome {
    fault.rip += 2; // skip the `ud2`
    Outcome::Resume
}

fn main() {
    for entry in [layout::KERNEL_IMAGE.0 + 0x10_0000, 0x8000_0000_0000, layout::UVPT.0] {
        let result = sys::set_upcall(EnvId::SELF, entry, upcall::STACK_LOW, upcall::STACK_PAGES);
        println!("an upcall at {entry:x}: {result:x?}");
        assert_eq!(result, Err(Error::BadAddress(entry)));
    }
    // The previous upcall is still registered.
    upcall::set_handler(handler);
    raw::undefined();
    println!("the old upcall still works");
}

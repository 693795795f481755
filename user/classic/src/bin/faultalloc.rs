//! A fault handler that maps the missing page, and that once faults itself while it does.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Perms, Va, println, raw, stats, sys};

libos::entry!(main);

fn handler(fault: &mut Fault) -> Outcome {
    println!("fault {:x}", fault.address);
    let page = Va(fault.address).page();
    if let Err(error) = sys::alloc(EnvId::SELF, page, 1, Perms::WRITE) {
        println!("allocating at {page} in the fault handler: {error}");
        return Outcome::Unhandled;
    }
    // Near the end of a page this runs into the next one: a fault within the handler.
    let text = format_args!("this string was faulted in at {:x}", fault.address);
    raw::write_text(fault.address, text);
    Outcome::Resume
}

fn main() {
    upcall::set_handler(handler);
    println!("{}", raw::TextAt(0xdead_beef));
    println!("{}", raw::TextAt(0xcafe_bffe));
    assert_eq!(stats::get().by_program, 3, "faults");
}

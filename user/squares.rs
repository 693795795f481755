//! A table of squares that takes no memory until it is read: a fault computes the page it hits.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, PAGE_SIZE, Perms, Va, println, raw, sys};

libos::entry!(main);

const TABLE: Va = Va(0x2000_0000_0000); // the square of n is at TABLE + 8 * n

fn compute(fault: &mut Fault) -> Outcome {
    let page = Va(fault.address).page();
    if page < TABLE || sys::alloc(EnvId::NONE, page, 1, Perms::WRITE).is_err() {
        return Outcome::Unhandled;
    }
    for at in (page.0..page.0 + PAGE_SIZE).step_by(8) {
        let n = (at - TABLE.0) / 8;
        raw::write_u64(at, n * n);
    }
    println!("a fault at {:#x}: computed the page", fault.address);
    Outcome::Resume
}

fn main() {
    upcall::set_handler(compute);
    for n in [3, 12, 1_000_000_000] {
        println!("{n} * {n} = {}", raw::read_u64(TABLE.0 + 8 * n));
    }
}

//! Passes an unmapped buffer to the console call: the kernel refuses it, and libos maps it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::abi::{Call, Error};
use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Perms, Va, console, println, raw, stats, sys};

libos::entry!(main);

const BUFFER: u64 = 0xdead_beef;
const TEXT: &str = "this string was faulted in at deadbeef\n";

fn handler(fault: &mut Fault) -> Outcome {
    println!("fault {:x}", fault.address);
    let page = Va(fault.address).page();
    match sys::alloc(EnvId::SELF, page, 1, Perms::WRITE) {
        Ok(()) => raw::write_text(fault.address, format_args!("{TEXT}")),
        Err(_) => return Outcome::Unhandled,
    }
    Outcome::Resume
}

fn main() {
    upcall::set_handler(handler);

    // The bare call: the kernel never faults on user memory, and maps nothing.
    let (rax, rdx) = raw::syscall(Call::Write as u64, [BUFFER, TEXT.len() as u64, 0, 0, 0, 0]);
    let result = Error::decode(rax, rdx);
    println!("the bare call: {result:x?}");
    assert_eq!(result, Err(Error::Fault(BUFFER)));
    assert_eq!(stats::get().by_program, 0, "the bare call must not fault");

    // Through libos: the buffer is touched, and the call is repeated.
    console::write_all(raw::bytes_at(BUFFER, TEXT.len()));
    assert_eq!(stats::get().by_program, 1, "faults");
}

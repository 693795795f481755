//! Passes a wild pointer to the console call; the kernel reports the bad address.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::abi::{Call, Error};
use libos::{println, raw};

libos::entry!(main);

fn main() {
    let (rax, rdx) = raw::syscall(Call::Write as u64, [1, 1, 0, 0, 0, 0]);
    let result = Error::decode(rax, rdx);
    println!("write(1, 1): {result:x?}");
    assert_eq!(result, Err(Error::Fault(1)));
}

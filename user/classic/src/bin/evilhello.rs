//! Passes a pointer into the kernel to the console call; it is refused.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::abi::{Call, Error};
use libos::{layout, println, raw};

libos::entry!(main);

fn main() {
    let kernel = layout::KERNEL_IMAGE.0 + 0x10_000c;
    let (rax, rdx) = raw::syscall(Call::Write as u64, [kernel, 100, 0, 0, 0, 0]);
    let result = Error::decode(rax, rdx);
    println!("write({kernel:#x}, 100): {result:x?}");
    assert!(matches!(result, Err(Error::BadAddress(at) | Error::Fault(at)) if at == kernel));
}

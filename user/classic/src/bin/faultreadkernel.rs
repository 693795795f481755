//! Reads kernel memory, and is destroyed for it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, layout, println, raw};

libos::entry!(main);

fn main() -> ExitCode {
    let kernel = layout::KERNEL_IMAGE.0 + 0x11_0000;
    println!("I read {:#x} from location {kernel:#x}!", raw::read_u8(kernel));
    ExitCode::FAILURE
}

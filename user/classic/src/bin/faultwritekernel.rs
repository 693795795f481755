//! Writes to kernel memory, and is destroyed for it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{ExitCode, layout, println, raw};

libos::entry!(main);

fn main() -> ExitCode {
    raw::write_u8(layout::KERNEL_IMAGE.0 + 0x11_0000, 0);
    println!("I wrote to the kernel!");
    ExitCode::FAILURE
}

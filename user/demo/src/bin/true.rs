//! Does nothing, and succeeds at it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

libos::entry!(main);

fn main() {}

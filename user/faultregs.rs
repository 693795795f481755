//! Soon.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

libos::entry!(main);

fn main() {}

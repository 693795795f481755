//! Reads a table of squares that is a tebibyte long.

#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use CRATE::{Squares, number};
use libos::{Error, println, mmap::MmapOptions};

libos::entry!(main);

fn main() -> Result<(), Error> {
    let table = MmapOptions::new().len(1 << 40).map_with(&Squares)?.make_read_only()?;
    for n in [3, 12, 1_000_000_000] {
        println!("{n} * {n} = {}", number(&table, n));
    }
    Ok(())
}

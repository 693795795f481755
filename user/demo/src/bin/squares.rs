//! A table of squares that takes no memory until it is read: a pager computes the page that is touched.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use bytemuck::{cast_slice, cast_slice_mut};
use libos::{Cause, Error, Pager, Region, Resolution, Sys, Touch, mmap::MmapOptions, pages, println, sys};

libos::entry!(main);

struct Squares; // the n-th number of the table is the square of n

impl Pager<Sys> for Squares {
    fn name(&self) -> &'static str {
        "squares"
    }

    fn fault(&self, _: &mut Sys, touch: &Touch, region: &Region) -> sys::Result<Resolution> {
        let first = (touch.va.page().0 - region.start.0) / 8;
        pages::fill(touch.va, region.perms, |page| {
            let squares = cast_slice_mut::<u8, u64>(page);
            squares.iter_mut().zip(first..).for_each(|(square, n)| *square = n * n);
        })?;
        println!("a fault at {}: computed the page", touch.va);
        Ok(Resolution::Resume(Cause::Custom))
    }
}

fn main() -> Result<(), Error> {
    let table = MmapOptions::new().len(1 << 40).map_with(&Squares)?.make_read_only()?;
    let squares: &[u64] = cast_slice(&table);
    for n in [3, 12, 1_000_000_000] {
        println!("{n} * {n} = {}", squares[n]);
    }
    Ok(())
}

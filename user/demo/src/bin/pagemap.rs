//! Prints the contents of an address space: its own, with a few mappings as examples.
//!
//! `pagemap [pages]`: prints every page with its frame, too.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use libos::pagemap::{self, Usage};
use libos::{Args, Error, PAGE_SIZE, archive, mmap::MmapOptions};

libos::entry!(main);

const PAGE: usize = PAGE_SIZE as usize;

fn main(mut args: Args) -> Result<(), Error> {
    let _small = Box::new(1);
    let mut private = MmapOptions::new().len(1 << 30).map_anon()?;
    let zeros: u32 = private.iter().step_by(PAGE).take(5).map(|&byte| u32::from(byte)).sum();
    private[3 * PAGE] = 1;
    let shared = MmapOptions::new().len(4 * PAGE).populate().map_shared_anon()?;
    let file = MmapOptions::new().map(&archive::find("hello")?)?;
    assert!(zeros == 0 && file.starts_with(b"\x7fELF"));

    pagemap::print(args.next() == Some("pages"));

    let expect = |range, resident, shared, dirty| {
        assert_eq!(pagemap::usage(range), Usage { resident, shared, dirty, marks: 0 });
    };
    expect(private.range(), 5, 4, 1);
    expect(shared.range(), 4, 0, 0);
    expect(file.range(), 1, 1, 0);
    Ok(())
}

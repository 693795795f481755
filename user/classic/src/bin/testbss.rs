//! Four megabytes of memory that start as zeros; then a wild write beyond them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use libos::{ExitCode, println, raw};

libos::entry!(main);

static BIG: [AtomicU32; 1 << 20] = [const { AtomicU32::new(0) }; 1 << 20];

fn main() -> ExitCode {
    println!("Making sure bss works right...");
    for (i, word) in BIG.iter().enumerate() {
        assert_eq!(word.load(Relaxed), 0, "bigarray[{i}] isn't cleared!");
    }
    for (i, word) in BIG.iter().enumerate() {
        word.store(i as u32, Relaxed);
    }
    for (i, word) in BIG.iter().enumerate() {
        assert_eq!(word.load(Relaxed), i as u32, "bigarray[{i}] didn't hold its value!");
    }
    println!("Yes, good.  Now doing a wild write off the end...");
    raw::write_u8(BIG.as_ptr_range().end as u64 + (1 << 20), 0);
    println!("SHOULD HAVE TRAPPED!!!");
    ExitCode::FAILURE
}

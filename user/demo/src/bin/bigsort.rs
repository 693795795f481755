//! Sorts four times the memory of the machine: `bigsort [TIMES [SEED]]`.
//!
//! The records are an ordinary slice, and the sort is that of the standard library. Neither knows that most pages are on
//! the disk at any time.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use core::error::Error;
use core::sync::atomic::Ordering::Relaxed;
use libos::disk::Disk;
use libos::{Args, PAGE_SIZE, println, swap, time, windows};

libos::entry!(main);

/// A record: a key, and what belongs to it.
type Record = [u8; 128];

/// The bytes of the key.
const KEY: usize = 8;
/// One frame of this number is left for page tables and for the memory of the pager.
const LEFT: u64 = 6;

fn main(mut args: Args) -> Result<(), Box<dyn Error>> {
    let times = args.next().map_or(Ok(4), str::parse::<u64>)?;
    let seed = args.next().map_or(Ok(1), str::parse)?;
    let total = windows::machine().total_frames.load(Relaxed);
    let free = windows::free_frames();
    let (pages, frames) = (times * total, free - free / LEFT);
    println!("{} of memory, {} to sort, {} of frames for them", mib(total), mib(pages), mib(frames));

    let disk = Disk::open(0)?;
    swap::begin(disk, frames as usize)?;
    let mut memory = swap::map((pages * PAGE_SIZE) as usize)?;
    let (records, _) = memory.as_chunks_mut::<{ size_of::<Record>() }>();
    let filled = measure("fill", pages, || fill(records, seed));
    measure("sort", pages, || records.sort_unstable_by_key(key));
    let found = measure("check", pages, || check(records))?;
    if found != filled {
        return Err("records were lost".into());
    }
    println!("{} records are in order, and all are there", records.len());
    Ok(())
}

fn mib(pages: u64) -> alloc::string::String {
    alloc::format!("{} MiB", (pages * PAGE_SIZE) >> 20)
}

fn key(record: &Record) -> u64 {
    record.first_chunk::<KEY>().map_or(0, |key| u64::from_be_bytes(*key))
}

/// What stands in a record with this key.
fn contents(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

/// Fills records with random keys. Returns the sum of all keys.
fn fill(records: &mut [Record], seed: u64) -> u64 {
    let mut state = seed;
    let mut sum = 0_u64;
    for record in records {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = contents(state);
        record[..KEY].copy_from_slice(&key.to_be_bytes());
        record[KEY..2 * KEY].copy_from_slice(&contents(key).to_ne_bytes());
        sum = sum.wrapping_add(key);
    }
    sum
}

/// Checks that the keys ascend, and that each record has the contents of its key. Returns the sum of all keys.
fn check(records: &[Record]) -> Result<u64, Box<dyn Error>> {
    let (mut last, mut sum) = (0, 0_u64);
    for (number, record) in records.iter().enumerate() {
        let key = key(record);
        if key < last || record[KEY..2 * KEY] != contents(key).to_ne_bytes() {
            return Err(alloc::format!("record {number}, {key:#x}, is wrong: {record:x?}, after {last:#x}").into());
        }
        last = key;
        sum = sum.wrapping_add(key);
    }
    Ok(sum)
}

/// Prints what a step cost: the time stamp counter counts instructions under `--icount`, and cycles otherwise.
fn measure<T>(step: &str, pages: u64, run: impl FnOnce() -> T) -> T {
    let now = || (time::ticks(), windows::idle(), swap::counts().unwrap_or_default());
    let before = now();
    let value = run();
    let after = now();
    let (took, idle) = (after.0 - before.0, after.1 - before.1);
    let difference = |count: fn(&swap::Counts) -> u64| count(&after.2) - count(&before.2);
    let page_ins = difference(|counts| counts.page_ins);
    println!(
        "{step:<6} {:>8} page-ins, {:>8} pages written, {:>8} requests; {:>6} million ticks, {:>2} % idle, {} per page",
        page_ins,
        difference(|counts| counts.written),
        difference(|counts| counts.requests),
        took / 1_000_000,
        100 * idle / took.max(1),
        (took - idle) / pages,
    );
    value
}

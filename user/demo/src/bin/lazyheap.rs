//! A heap that is reserved, and takes frames only when it is touched; and what happens when memory runs out.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::cell::RefCell;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos::faults::{self, Outcome};
use libos::windows::free_frames;
use libos::{Error, ExitStatus, Fork, PAGE_SIZE, Va, Vector, fork, mmap::MmapOptions, println, regions, stats};

libos::entry!(main);

const MIB: usize = 1 << 20;
const PAGE: usize = PAGE_SIZE as usize;

fn main() -> Result<(), Error> {
    // The allocator's one-time needs are met before anything is counted.
    drop(Box::new(1));
    growing();
    sparse();
    impossible();
    exhausted()?;
    a_policy()
}

/// A vector that grows by doubling moves its pages, and copies none of them.
fn growing() {
    const WORDS: usize = 64 * MIB / 8;
    let (free, before) = (free_frames(), stats::get());
    let mut numbers = Vec::new();
    let mut least = free;
    for number in 0..WORDS as u64 {
        numbers.push(number);
        if number % 512 == 0 {
            least = least.min(free_frames());
        }
    }
    let sum: u64 = black_box(&numbers).iter().sum();
    let faults = stats::get().zero_fills - before.zero_fills;
    println!("a vector grown to 64 MiB: {faults} faults, at most {} frames at once", free - least);
    let words = WORDS as u64;
    assert_eq!(sum, words * (words - 1) / 2);
    // One fault for each table, and a few more where it begins to grow. 16,384 pages, and what the small arena needed on
    // the way; page tables on top.
    assert!((32..200).contains(&faults) && (16_384..16_600).contains(&(free - least)));
    drop(numbers);
    println!("dropped: {} frames are still in use", free - free_frames());
    assert!(free - free_frames() <= 20, "the small arena does not shrink, the large pieces are gone");
}

/// Memory for 16 GiB, of which ten pages are used.
fn sparse() {
    let (free, before) = (free_frames(), stats::get().zero_fills);
    let mut table = black_box(alloc::vec![0_u8; 16 << 30]);
    for index in 0..10 {
        table[index * (1 << 30)] = index as u8 + 1;
    }
    let sum: u32 = (0..10).map(|index| u32::from(table[index << 30])).sum();
    let (pages, frames) = (stats::get().zero_fills - before, free - free_frames());
    println!("a table of 16 GiB, ten bytes written: {pages} pages, {frames} frames with their tables");
    assert!(sum == 55 && pages == 10 && frames < 40);
    drop(table);
    assert!(free - free_frames() < 4, "given back");
}

/// A request for more bytes than there are addresses is an error, not the end of the program.
fn impossible() {
    let mut numbers: Vec<u8> = Vec::new();
    let result = numbers.try_reserve(1 << 46);
    println!("64 TiB at once and then twice that: {:?}, {:?}", result.is_ok(), {
        let mut more: Vec<u8> = Vec::new();
        more.try_reserve(1 << 47).is_ok()
    });
    assert!(result.is_ok(), "reserving costs nothing");
}

/// A child that takes all memory is ended with a message, and everything is freed.
fn exhausted() -> Result<(), Error> {
    let free = free_frames();
    let child = match fork()? {
        Fork::Child => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(alloc::vec![1_u8; 100 * PAGE]);
            }
        }
        Fork::Parent(child) => child,
    };
    let status = child.wait()?;
    println!("a child that took all memory: {status}; {} frames are missing", free - free_frames());
    assert_eq!(status, ExitStatus::killed_by(Vector::PAGE_FAULT));
    assert_eq!(free_frames(), free);
    Ok(())
}

/// Memory that can be freed when memory is short: the start and the pages of a cache.
static CACHE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// A program may free memory of its own to continue.
fn a_policy() -> Result<(), Error> {
    let free = free_frames() as usize;
    let cache = RefCell::new(MmapOptions::new().len(free / 2 * PAGE).map_anon()?);
    cache.borrow_mut().iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    let range = cache.borrow().range();
    CACHE[0].store(range.start.0, Relaxed);
    CACHE[1].store(range.end.0, Relaxed);
    faults::on_exhaustion(|va, error| {
        let range = Va(CACHE[0].load(Relaxed))..Va(CACHE[1].swap(0, Relaxed));
        if range.end == Va(0) {
            return Outcome::Unhandled;
        }
        println!("no page for {va} ({error}): giving up the cache");
        match regions::advise(&range, regions::Advice::DontNeed) {
            Ok(()) => Outcome::Resume,
            Err(_) => Outcome::Unhandled,
        }
    });
    let wanted = free / 4 * 3;
    let mut memory = MmapOptions::new().len(wanted * PAGE).map_anon()?;
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 7);
    let kept = memory.iter().step_by(PAGE).all(|&byte| byte == 7);
    println!("with a cache in half of the memory, three quarters were filled all the same: {kept}");
    assert!(kept && CACHE[1].load(Relaxed) == 0, "the policy was asked");
    Ok(())
}

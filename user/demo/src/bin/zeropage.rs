//! One shared page of zeros: reading a gibibyte of untouched memory takes page tables only.
//!
//! `zeropage [MEBIBYTES]`
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::windows::{free_frames, refs};
use libos::{Args, Error, PAGE_SIZE, Va, mmap::MmapOptions, println, stats, uvpt};

libos::entry!(main);

const PAGE: usize = PAGE_SIZE as usize;
/// The range that a page table translates.
const SPAN: usize = 512 * PAGE;

fn main(mut args: Args) -> Result<(), Error> {
    let mebibytes: usize = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(1024);
    let bytes = mebibytes << 20;
    let free = free_frames();
    let mut memory = MmapOptions::new().len(bytes).map_anon()?;
    println!("{mebibytes} MiB reserved: {} frames taken", free - free_frames());

    let sum: u64 = memory.iter().step_by(PAGE).map(|&byte| u64::from(byte)).sum();
    let (taken, pages) = (free - free_frames(), bytes / PAGE);
    // A page table for each 2 MiB, and one or two of each level above.
    let tables = bytes.div_ceil(SPAN) as u64;
    println!("{pages} pages read, all zeros: {taken} frames taken, {tables} of them page tables of level 1");
    println!("faults: {:?}", stats::get());
    assert_eq!((sum, stats::get().zero_maps), (0, pages as u64));
    assert!((tables..=tables + 4).contains(&taken), "reading takes no pages");

    let zeros = frame_at(&memory, 0);
    let same = (0..pages).filter(|&page| frame_at(&memory, page) == zeros).count();
    println!("{same} pages are one frame: {zeros:?}, which has {:?} references", refs(zeros));
    assert_eq!(same, pages);

    for (page, value) in [(0, 1), (7, 2), (pages - 1, 3)] {
        memory[page * PAGE + 5] = value;
        let own = frame_at(&memory, page);
        println!("page {page} written: {own:?}, which has {:?} reference", refs(own));
        assert!(own != zeros && refs(own) == Some(1));
        assert_eq!(memory[page * PAGE..][..8], [0, 0, 0, 0, 0, value, 0, 0]);
    }
    println!("3 pages written: {} frames more", free - free_frames() - taken);
    assert_eq!((free - free_frames() - taken, stats::get().copies), (3, 3));
    assert!(memory[PAGE..2 * PAGE].iter().all(|&byte| byte == 0), "a neighbour changed");

    drop(memory);
    println!("unmapped: {} frames taken", free - free_frames());
    assert_eq!(free_frames(), free);
    Ok(())
}

fn frame_at(memory: &[u8], page: usize) -> libos::Frame {
    uvpt::pte(Va(memory.as_ptr() as u64 + (page * PAGE) as u64)).frame()
}

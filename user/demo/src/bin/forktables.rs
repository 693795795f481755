//! Forks of a program with much memory share whole page tables; all relatives write, and each sees its own values.
//!
//! `forktables [ROUNDS]`: how often several environments write to the same page table at the same time.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use libos::windows::free_frames;
use libos::{
    Args, Child, Command, Error, Fork, Level, PAGE_SIZE, Va, fork, mmap::MmapOptions, println, raw, sys, uvpt,
};

libos::entry!(main);

/// Four page tables and a bit.
const PAGES: u64 = 4 * 512 + 100;
/// The address of the memory: at the beginning of a page table.
const MEMORY: Va = Va(0x3000_0000_0000);

fn main(mut args: Args) -> Result<(), Error> {
    let rounds = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(20);
    let memory = MmapOptions::new().at(MEMORY).len((PAGES * PAGE_SIZE) as usize).map_anon()?;
    fill(0);
    generations()?;
    shared()?;
    execs()?;
    at_once(rounds)?;
    drop(memory);
    Ok(())
}

fn at(page: u64) -> u64 {
    MEMORY.add_pages(page).0 + page % 512 * 8
}

/// The word of a page: it differs between pages and between generations.
fn word(page: u64, generation: u64) -> u64 {
    page << 8 | generation
}

fn fill(generation: u64) {
    (0..PAGES).for_each(|page| raw::write_u64(at(page), word(page, generation)));
}

/// Whether every page is as this generation left it.
fn holds(generation: u64) -> bool {
    (0..PAGES).all(|page| raw::read_u64(at(page)) == word(page, generation))
}

/// Forks a child that runs `body` and reports whether it succeeded.
fn child(body: impl FnOnce() -> bool) -> Result<Child, Error> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => sys::exit(u8::from(!body())),
    }
}

fn expect(child: Child, who: &str) -> Result<(), Error> {
    let status = child.wait()?;
    assert!(status.is_success(), "{who}: {status}");
    Ok(())
}

/// All generations write everything, and each sees its own values.
fn generations() -> Result<(), Error> {
    let free = free_frames();
    let first = child(|| {
        let second = child(|| {
            let inherited = holds(0);
            fill(2);
            inherited && holds(2)
        });
        fill(1);
        second.is_ok_and(|second| expect(second, "grandchild").is_ok()) && holds(1)
    })?;
    let above = Level::TABLES.map(|level| uvpt::entry(MEMORY, level));
    assert!(above.iter().flatten().any(|entry| entry.is_shared_table()), "the fork shared a table: {above:?}");
    println!("a fork of {PAGES} pages took {} frames", free.saturating_sub(free_frames()).min(PAGES));
    fill(3);
    expect(first, "child")?;
    assert!(holds(3), "the parent's memory");
    // Only a few pages are written: the others are still shared.
    let few = child(|| {
        (0..PAGES).step_by(700).for_each(|page| raw::write_u64(at(page), 9));
        (0..PAGES).all(|page| raw::read_u64(at(page)) == if page % 700 == 0 { 9 } else { word(page, 3) })
    })?;
    expect(few, "child that writes little")?;
    assert!(holds(3), "the parent's memory");
    println!("three generations wrote, and each saw its own");
    fill(0);
    Ok(())
}

/// Memory that is shared on purpose stays shared.
fn shared() -> Result<(), Error> {
    const WORDS: usize = 64;
    let memory = MmapOptions::new().at(Va(0x3100_0000_0000)).len(WORDS * PAGE_SIZE as usize).map_shared_anon()?;
    let start = memory.range().start;
    let place = |n: usize| start.add_pages(n as u64).0;
    (0..WORDS).for_each(|n| raw::write_u64(place(n), n as u64));
    let first = child(|| {
        let second = child(|| {
            (0..WORDS).for_each(|n| raw::write_u64(place(n), raw::read_u64(place(n)) + 1));
            true
        });
        second.is_ok_and(|second| expect(second, "grandchild").is_ok())
    })?;
    expect(first, "child")?;
    assert!((0..WORDS).all(|n| raw::read_u64(place(n)) == n as u64 + 1), "what the grandchild wrote");
    println!("what is shared on purpose stayed shared");
    Ok(())
}

/// A child with all that memory becomes another program: all of the memory is freed.
fn execs() -> Result<(), Error> {
    let free = free_frames();
    for writes in [false, true] {
        let next = child(|| {
            if writes {
                fill(4);
            }
            println!("not become: {}", Command::new("true").exec());
            false
        })?;
        expect(next, "`true`")?;
        assert!(holds(0), "the parent's memory");
    }
    fill(0);
    assert!(free_frames() >= free, "{} frames are missing", free - free_frames());
    println!("children became other programs, and their frames came back");
    Ok(())
}

/// A parent and three children own the same page tables at the same time, again and again.
fn at_once(rounds: u64) -> Result<(), Error> {
    let free = free_frames();
    for round in 0..rounds {
        let places: Vec<_> = (0..4).map(|table| table * 512 + round % 500).collect();
        let write = |who: u64| {
            let before = places.iter().all(|page| raw::read_u64(at(*page)) == word(*page, 0));
            places.iter().for_each(|page| raw::write_u64(at(*page), word(*page, who)));
            before && places.iter().all(|page| raw::read_u64(at(*page)) == word(*page, who))
        };
        let children: Vec<_> = (1..4).map(|who| child(|| write(who))).collect::<Result<_, _>>()?;
        assert!(write(4), "round {round}");
        for child in children {
            expect(child, "child")?;
        }
        assert!(places.iter().all(|page| raw::read_u64(at(*page)) == word(*page, 4)), "round {round}");
        places.iter().for_each(|page| raw::write_u64(at(*page), word(*page, 0)));
        assert!(free_frames() + 64 >= free, "round {round}: {} frames are missing", free - free_frames());
    }
    assert!(holds(0), "the parent's memory");
    println!("{rounds} rounds at once");
    Ok(())
}

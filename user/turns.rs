//! A program that gives up its turn before the timer would end it: the others have whole turns all the same.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use libos::mmap::{MmapOptions, MmapShared};
use libos::{Error, Fork, fork, println, sys, windows};

libos::entry!(main);

/// How many turns the greedy one has.
const TURNS: u64 = 40;

fn main() -> Result<(), Error> {
    let board: MmapShared = MmapOptions::new().len(16).populate().map_shared_anon()?;
    let [greedy, other] = [&board[0], &board[1]];
    wait_for_tick(greedy);
    let tick = wait_for_tick(greedy);
    let Fork::Parent(child) = fork()? else {
        loop {
            wait_for_tick(other);
        }
    };
    for _ in 0..TURNS {
        // This begins at a tick: it interrupted the other one.
        (0..tick / 2).for_each(|_| _ = step(greedy));
        sys::yield_now();
    }
    let turns = other.load(SeqCst) / tick;
    child.kill()?;
    child.wait()?;
    println!("the other one had {turns} turns while {TURNS} ended early");
    assert!(turns >= TURNS * 3 / 2, "not fair");
    Ok(())
}

/// What both do all the time. Returns which tick it is.
fn step(count: &AtomicU64) -> u64 {
    count.fetch_add(1, SeqCst);
    windows::machine().ticks.load(SeqCst)
}

/// Go on until the next tick; returns how many steps that took.
fn wait_for_tick(count: &AtomicU64) -> u64 {
    let tick = step(count);
    (1..).find(|_| step(count) != tick).unwrap_or(0)
}

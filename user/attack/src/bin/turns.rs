//! A program that gives up its time slice before its end: the others have whole time slices nevertheless.
//!
//! With `heirs`: a program leaves many children with much memory, and all of them end while another one goes on. With
//! `ticks`: ticks are still counted while nothing runs, and an environment with much memory ends.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use libos::mmap::{MmapOptions, MmapShared};
use libos::{Args, EnvId, Error, Fork, Perms, Status, Va, fork, println, sys, time, windows};

libos::entry!(main);

/// The number of time slices of the greedy environment.
const TURNS: u64 = 40;

/// The number of children, of page tables of level 1 for each, and of the pages in one.
const HEIRS: u64 = 40;
const TABLES: u64 = 16;
const TABLE: u64 = 512;
const BASE: Va = Va(0x2000_0000_0000);

fn main(mut args: Args) -> Result<(), Error> {
    match args.next() {
        Some("heirs") => heirs(),
        Some("ticks") => ticks(),
        _ => early(),
    }
}

fn early() -> Result<(), Error> {
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
        // This slice begins at a tick, which interrupted the other environment.
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

/// The work of both environments. Returns the current tick.
fn step(count: &AtomicU64) -> u64 {
    count.fetch_add(1, SeqCst);
    windows::machine().ticks.load(SeqCst)
}

/// Works until the next tick; returns how many steps that took.
fn wait_for_tick(count: &AtomicU64) -> u64 {
    let tick = step(count);
    (1..).find(|_| step(count) != tick).unwrap_or(0)
}

fn heirs() -> Result<(), Error> {
    let board: MmapShared = MmapOptions::new().len(8).populate().map_shared_anon()?;
    wait_for_tick(&board[0]);
    let tick = wait_for_tick(&board[0]);
    let Fork::Parent(testator) = fork()? else {
        let me = EnvId::SELF;
        sys::alloc(me, BASE, TABLE, Perms::WRITE)?;
        for _ in 0..HEIRS {
            let heir = sys::exofork()?;
            (0..TABLES)
                .try_for_each(|table| sys::map(me, BASE, heir, BASE.add_pages(TABLE * table), TABLE, Perms::READ))?;
        }
        libos::exit(0)
    };
    while windows::env(testator.id()).is_some_and(|env| env.status() != Status::Zombie) {
        sys::yield_now();
    }
    let start = board[0].load(SeqCst);
    let are_ending = || windows::envs().iter().any(|env| env.status() == Status::Dying);
    while are_ending() {
        (0..tick / 4).for_each(|_| _ = step(&board[0]));
    }
    testator.wait()?;
    let turns = (board[0].load(SeqCst) - start) / tick;
    println!("{turns} turns while others ended");
    assert!(turns >= TABLES, "not fair");
    Ok(())
}

/// Where the time stamp counter counts instructions, each is a nanosecond.
fn ticks() -> Result<(), Error> {
    let me = EnvId::SELF;
    sys::alloc(me, BASE, TABLE, Perms::WRITE)?;
    let heir = sys::exofork()?;
    (0..4 * TABLES)
        .try_for_each(|table| sys::map(me, BASE, heir, BASE.add_pages(TABLE * table), TABLE, Perms::READ))?;
    let machine = windows::machine();
    let (start, first) = (time::ticks(), machine.ticks.load(SeqCst));
    sys::destroy(heir)?;
    sys::wait(heir)?;
    let passed = (time::ticks() - start) / machine.tick_ns.load(SeqCst);
    let counted = machine.ticks.load(SeqCst) - first;
    println!("{counted} ticks were counted while {passed} passed");
    assert!(passed > 5 && counted + 3 > passed * 4 / 5, "ticks were lost");
    Ok(())
}

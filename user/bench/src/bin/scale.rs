//! Measures the throughput of all processors together. Arguments: how many operations of each kind.
//!
//! On each processor a worker performs a fixed number of operations on its own memory, in rounds that all workers begin
//! together. For each kind it prints a line `scale KIND cpus N worked N operations N ticks T hz F` and, behind
//! `contended`, how often each kind of lock was found taken. `operations` are those of all workers in a round, `ticks`
//! is the time of the quickest round in ticks of the time stamp counter, `hz` is the number of those in a second, and
//! `worked` is the number of processors on which workers ran.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use libos::abi::window::{CpuInfo, LockKind};
use libos::mmap::{MmapOptions, MmapShared};
use libos::time::ticks;
use libos::{Args, EnvId, Error, ExitCode, Fork, PAGE_SIZE, Perms, Va, env, fork, ipc, print, println, sys, windows};

libos::entry!(main);

/// The work of a worker: this many operations.
type Work = Box<dyn FnMut(u64) -> Result<(), Error>>;

/// A kind of operation: its name, the number of operations in a round, and the preparation of a worker.
struct Kind(&'static str, u64, fn() -> Result<Work, Error>);

const KINDS: [Kind; 3] =
    [Kind("faults", 20_000, faults), Kind("page-calls", 40_000, page_calls), Kind("round-trips", 10_000, round_trips)];

const ROUNDS: usize = 9;
const PAGE: Va = Va(0x2000_0000_0000);
/// The number of timer ticks that calibrate the time stamp counter.
const CALIBRATION: u64 = 3;

fn main(mut args: Args) -> Result<ExitCode, Error> {
    let operations = args.next().and_then(|arg| arg.parse().ok());
    let hz = hz();
    for Kind(name, most, begin) in KINDS {
        let board = Board::new()?;
        measure(&board, operations.unwrap_or(most), begin)?;
        board.print(name, operations.unwrap_or(most), hz);
    }
    Ok(ExitCode::SUCCESS)
}

/// Ticks of the time stamp counter in a second; 0 if there is no timer.
fn hz() -> u64 {
    let machine = windows::machine();
    let ns = machine.tick_ns.load(SeqCst);
    if ns == 0 {
        return 0;
    }
    let edge = |count| {
        while machine.ticks.load(SeqCst) < count {
            core::hint::spin_loop();
        }
        ticks()
    };
    let first = machine.ticks.load(SeqCst) + 1;
    let start = edge(first);
    (edge(first + CALIBRATION) - start) * 1_000_000_000 / (CALIBRATION * ns)
}

fn cpus() -> u64 {
    windows::machine().cpus.load(SeqCst).into()
}

/// Starts a worker for each processor. All other environments wait in the kernel, so there is a processor for every
/// worker.
fn measure(board: &Board, operations: u64, begin: fn() -> Result<Work, Error>) -> Result<(), Error> {
    let mut children = Vec::new();
    for _ in 0..cpus() {
        match fork()? {
            Fork::Child => {
                work(board, operations, begin()?)?;
                env::exit(0)
            }
            Fork::Parent(child) => children.push(child),
        }
    }
    for child in children {
        let status = child.wait()?;
        assert!(status.is_success(), "{}: {status}", child.id());
    }
    Ok(())
}

fn work(board: &Board, operations: u64, mut work: Work) -> Result<(), Error> {
    // Page faults that still result from the fork happen now.
    work(operations / 100 + 1)?;
    for round in 0..ROUNDS {
        board.gather(|| board.start());
        board.see_processor();
        work(operations)?;
        board.gather(|| board.stop(round));
    }
    Ok(())
}

/// First writes to pages, which are then unmapped.
fn faults() -> Result<Work, Error> {
    const PAGES: u64 = 100;
    let mut memory = MmapOptions::new().len((PAGES * PAGE_SIZE) as usize).map_anon()?;
    Ok(Box::new(move |count| {
        for first in (0..count).step_by(PAGES as usize) {
            let pages = PAGES.min(count - first) as usize;
            memory.chunks_mut(PAGE_SIZE as usize).take(pages).for_each(|page| page[0] = 1);
            memory.discard(0..pages * PAGE_SIZE as usize)?;
        }
        Ok(())
    }))
}

/// A page is mapped, protected, owned again, and unmapped: four calls.
fn page_calls() -> Result<Work, Error> {
    const ME: EnvId = EnvId::SELF;
    // The page table of the page stays.
    sys::mark(ME, PAGE.add_pages(1), 1, 1)?;
    Ok(Box::new(|count| {
        for _ in 0..count.div_ceil(4) {
            sys::alloc(ME, PAGE, 1, Perms::WRITE)?;
            sys::protect(ME, PAGE, 1, Perms::COW)?;
            sys::own(PAGE, 1)?;
            sys::unmap(ME, PAGE, 1)?;
        }
        Ok(())
    }))
}

/// Round trips to a partner, which answers as long as this environment lives.
fn round_trips() -> Result<Work, Error> {
    let me = env::id();
    match fork()? {
        Fork::Child => {
            let mut message = ipc::recv_from(me);
            while let Ok(question) = message {
                message = ipc::call(me, question.value);
            }
            env::exit(0)
        }
        Fork::Parent(partner) => Ok(Box::new(move |count| {
            for number in 0..count {
                let answer = ipc::call(partner.id(), number)?;
                assert_eq!(answer.value, number, "another question was answered");
            }
            Ok(())
        })),
    }
}

/// The memory that workers share.
struct Board(MmapShared);

/// Words: arrivals at the barrier; its completed rounds; the start time of the round; processors that worked, one bit
/// for each.
const GATHERED: usize = 0;
const GO: usize = 1;
const START: usize = 2;
const WORKED: usize = 3;
/// How often locks were found taken: before the round, and in all rounds.
const BEFORE: usize = 8;
const CONTENDED: usize = BEFORE + LockKind::COUNT;
const TIMES: usize = CONTENDED + LockKind::COUNT;
const WORDS: usize = TIMES + ROUNDS;

impl Board {
    fn new() -> Result<Board, Error> {
        Ok(Board(MmapOptions::new().len(8 * WORDS).populate().map_shared_anon()?))
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        &self.0[word]
    }

    /// Waits until all workers have arrived; the last one runs `last` before all go on. The wait does not yield: that
    /// spreads the workers over the processors.
    fn gather(&self, last: impl FnOnce()) {
        let place = self.word(GATHERED).fetch_add(1, SeqCst);
        let turn = place / cpus() + 1;
        if place % cpus() == cpus() - 1 {
            last();
            self.word(GO).store(turn, SeqCst);
        }
        while self.word(GO).load(SeqCst) < turn {
            core::hint::spin_loop();
        }
    }

    fn start(&self) {
        for (kind, count) in contended().into_iter().enumerate() {
            self.word(BEFORE + kind).store(count, SeqCst);
        }
        self.word(START).store(ticks(), SeqCst);
    }

    fn stop(&self, round: usize) {
        self.word(TIMES + round).store(ticks() - self.word(START).load(SeqCst), SeqCst);
        for (kind, count) in contended().into_iter().enumerate() {
            self.word(CONTENDED + kind).fetch_add(count - self.word(BEFORE + kind).load(SeqCst), SeqCst);
        }
    }

    fn see_processor(&self) {
        self.word(WORKED).fetch_or(1 << env::cpu(), SeqCst);
    }

    fn print(&self, name: &str, operations: u64, hz: u64) {
        let worked = self.word(WORKED).load(SeqCst).count_ones();
        let times = (0..ROUNDS).map(|round| self.word(TIMES + round).load(SeqCst));
        // A disturbance makes a round longer, never shorter.
        let (all, least) = (cpus() * operations, times.min().unwrap_or(0));
        print!("scale {name} cpus {} worked {worked} operations {all} ticks {least} hz {hz} contended", cpus());
        (0..LockKind::COUNT).for_each(|kind| print!(" {}", self.word(CONTENDED + kind).load(SeqCst)));
        println!();
    }
}

/// How often each kind of lock was found taken since the machine was started.
fn contended() -> [u64; LockKind::COUNT] {
    LockKind::ALL.map(|kind| CpuInfo::contended(windows::cpus(), kind))
}

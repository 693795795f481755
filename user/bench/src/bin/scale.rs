//! Measures what all processors do at the same time. Arguments: how many operations of each kind.
//!
//! On each processor a worker does so many operations on what is its own, in rounds that all begin together. For
//! each kind a line `scale KIND cpus N worked N operations N ticks T hz F` and, behind `contended`, how often each
//! kind of lock was found taken: `operations` are those of all workers in a round, `ticks` of the time stamp counter
//! is what the quickest round took, and of those there are `hz` in a second. `worked` is on how many processors
//! workers were seen.
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
use libos::{
    Args, EnvId, Error, ExitCode, Fork, PAGE_SIZE, Perms, Va, env, fork, ipc, print, println, sys, windows,
};

libos::entry!(main);

/// What a worker does: so many operations.
type Work = Box<dyn FnMut(u64) -> Result<(), Error>>;

/// A kind of operation: its name, how many there are in a round, and a worker's beginning.
struct Kind(&'static str, u64, fn() -> Result<Work, Error>);

const KINDS: [Kind; 3] = [
    Kind("faults", 20_000, faults),
    Kind("page-calls", 40_000, page_calls),
    Kind("round-trips", 10_000, round_trips),
];

const ROUNDS: usize = 9;
const PAGE: Va = Va(0x2000_0000_0000);
/// The timer ticks that find out how fast the time stamp counter is.
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

/// A worker for each processor. Who has nothing to do meanwhile waits in the kernel: so there is a processor for
/// every worker.
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
    // Whatever is still to come from the fork comes now.
    work(operations / 100 + 1)?;
    for round in 0..ROUNDS {
        board.gather(|| board.start());
        board.see_processor();
        work(operations)?;
        board.gather(|| board.stop(round));
    }
    Ok(())
}

/// First writes to pages, which then go away again.
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

/// A page comes, is protected, made one's own again, and goes: four calls.
fn page_calls() -> Result<Work, Error> {
    const ME: EnvId = EnvId::SELF;
    // The table that the page is in stays.
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

/// A partner answers, for as long as this environment lives.
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

/// What workers share.
struct Board(MmapShared);

/// Words: who has gathered, and how often all had; the round's beginning; processors that worked, one bit for each.
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

    /// Wait until all workers are here; the last one does something before all go on. Nobody lets others run
    /// meanwhile: that is what spreads the workers.
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
        // What disturbs a round makes it longer, never shorter.
        let (all, least) = (cpus() * operations, times.min().unwrap_or(0));
        print!(
            "scale {name} cpus {} worked {worked} operations {all} ticks {least} hz {hz} contended",
            cpus()
        );
        (0..LockKind::COUNT).for_each(|kind| print!(" {}", self.word(CONTENDED + kind).load(SeqCst)));
        println!();
    }
}

/// How often each kind of lock was found taken, since the machine was started.
fn contended() -> [u64; LockKind::COUNT] {
    LockKind::ALL.map(|kind| CpuInfo::contended(windows::cpus(), kind))
}

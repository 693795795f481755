//! Measures the costs of calls, faults and forks. Arguments: rows; none means all of them.
//!
//! For each row it prints a line `row ID gross MEDIAN min MIN max MAX samples N`: ticks of the time stamp counter,
//! which are instructions under `--icount`, without those that read the counter. The line ends with `pages N` if a
//! sample is of N pages, and the row is told for one of them. If the kernel was built to count there is a line
//! `frames ID N` too: frames zeroed and copied in a sample; and, at the end, `longest TICKS CAUSE`: the longest kernel
//! entry.
//!
//! Nothing depends on time or chance: the same kernel gives the same counts, every time. A machine of 160 MiB is
//! enough, except for `fork-1g`, which is left out where memory is too small unless it is requested.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod bulk;
mod calls;
mod faults;
mod forks;
mod memory;

use alloc::{format, vec::Vec};
use bulk::*;
use calls::*;
use core::sync::atomic::Ordering::Relaxed;
use faults::*;
use forks::*;
use libos::{Args, EnvId, Error, ExitCode, Perms, Va, fork, println, raw, sys, time::ticks, uvpt, windows};
use memory::*;

libos::entry!(main);

type Result = core::result::Result<(), Error>;

/// A row: its id, and the function that takes its samples.
type Row = (&'static str, fn(&mut Samples) -> Result);

const ROWS: &[Row] = &[
    ("null-call", null_call),
    ("trap-entry", trap_entry),
    ("trap", trap),
    ("demand-zero-read", demand_zero_read),
    ("demand-zero-write", demand_zero_write),
    ("zero-break", zero_break),
    ("stack-growth", stack_growth),
    ("file-page", file_page),
    ("fault-around", fault_around),
    ("mmap-munmap", mmap_munmap),
    ("mmap-munmap-256", mmap_munmap_populated),
    ("alloc1", alloc1),
    ("map1", map1),
    ("prot1", prot1),
    ("unprot1", unprot1),
    ("unmap1", unmap1),
    ("alloc100", alloc100),
    ("map100", map100),
    ("prot100", prot100),
    ("unprot100", unprot100),
    ("unmap100", unmap100),
    ("prot100-scattered", prot100_scattered),
    ("trap-any", trap_any),
    ("appel1", appel1),
    ("appel2", appel2),
    ("dirty", dirty),
    ("fork-0", |samples| fork_alone(samples, 0)),
    ("fork-1m", |samples| fork_alone(samples, MIB)),
    ("fork-4m", |samples| fork_alone(samples, 4 * MIB)),
    ("fork-64m", |samples| fork_alone(samples, 64 * MIB)),
    ("fork-1g", |samples| fork_once(samples, 1024 * MIB)),
    ("fork-by-page-1m", |samples| fork_by_page(samples, MIB)),
    ("fork-by-page-64m", |samples| fork_by_page(samples, 64 * MIB)),
    ("first-write-after-fork", |samples| first_write(samples, 64 * MIB)),
    ("fork-exit-wait-0", |samples| fork_exit_wait(samples, 0)),
    ("fork-exit-wait-64m", |samples| fork_exit_wait(samples, 64 * MIB)),
    ("fork-write-all", |samples| fork_write_all(samples, 64 * MIB, fork)),
    ("fork-write-all-by-page", |samples| fork_write_all(samples, 64 * MIB, fork::by_page)),
    ("cow-break", cow_break),
    ("cow-break-sole", cow_break_sole),
    ("ipc", ipc_round_trip),
    ("yield", yield_there_and_back),
    ("spawn", spawn),
    ("touch-seq", touch_seq),
    ("touch-random", touch_random),
    ("populate-write", populate_write),
    ("unmap-64m", unmap_bulk),
    ("protect-64m", protect_bulk),
    ("reopen-64m", reopen_bulk),
    ("move-64m", move_bulk),
    ("file-seq", file_seq),
    ("first-write-2m-alone", first_write_alone),
];

const ME: EnvId = EnvId::SELF;
/// Two ranges that nothing else uses.
const PAGES: Va = Va(0x2000_0000_0000);
const OTHERS: Va = Va(0x2001_0000_0000);
/// An address where nothing is ever mapped.
const NOWHERE: Va = Va(0x2002_0000_0000);
/// Pages of a run, and samples of fast operations.
const MANY: u32 = 100;
/// Samples of slow operations.
const FEW: u32 = 9;
/// Pages in a MiB.
const MIB: u32 = 256;

fn main(args: Args) -> ExitCode {
    let mut wrong = args.clone().filter(|id| ROWS.iter().all(|row| row.0 != *id));
    if let Some(id) = wrong.next() {
        println!("there is no row `{id}`");
        return ExitCode::FAILURE;
    }
    let mut samples = Samples::new();
    for (id, take) in ROWS {
        let all = args.clone().next().is_none() && has_room_for(id);
        if all || args.clone().any(|wanted| wanted == *id) {
            if let Err(error) = take(&mut samples) {
                println!("{id}: {error}");
                return ExitCode::FAILURE;
            }
            samples.print(id);
        }
    }
    let machine = windows::machine();
    let longest = machine.longest_entry.load(Relaxed);
    if longest != 0 {
        println!("longest {longest} {}", machine.longest_cause.load(Relaxed));
    }
    ExitCode::SUCCESS
}

/// Whether the machine is large enough for a row.
fn has_room_for(id: &str) -> bool {
    *id != *"fork-1g" || windows::free_frames() > u64::from(1100 * MIB)
}

/// The samples of a row.
struct Samples {
    /// The ticks between two readings of the counter.
    overhead: u64,
    ticks: Vec<u64>,
    frames: Vec<u64>,
    /// The pages of each sample, if the row is told for one page but the samples are not divided.
    pages: Option<u32>,
}

impl Samples {
    fn new() -> Samples {
        let most = 2 * MANY as usize;
        let (ticks, frames) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut samples = Samples { overhead: 0, ticks, frames, pages: None };
        for _ in 0..MANY {
            samples.time(|| ());
        }
        samples.overhead = median(&mut samples.ticks);
        samples.clear();
        samples
    }

    fn clear(&mut self) {
        self.ticks.clear();
        self.frames.clear();
        self.pages = None;
    }

    /// Takes one sample: the time of `what`.
    #[inline(always)]
    fn time<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let frames = frames();
        let start = ticks();
        let result = what();
        let end = ticks();
        self.add(end - start, frames, 1);
        result
    }

    /// Adds a sample of something that was done `times` times since these counts.
    #[inline(never)]
    fn add(&mut self, ticks: u64, frames_before: u64, times: u32) {
        let times = u64::from(times);
        // Before anything is stored, because the store may be a first write, too.
        let frames = (frames() - frames_before) / times;
        self.ticks.push(ticks.saturating_sub(self.overhead) / times);
        self.frames.push(frames);
    }

    /// Adds a sample of this many pages. It is not divided: what a page takes may be less than one tick.
    fn add_pages(&mut self, ticks: u64, frames_before: u64, pages: u32) {
        self.add(ticks, frames_before, 1);
        self.pages = Some(pages);
    }

    /// Prints the row, and begins the next one.
    fn print(&mut self, id: &str) {
        let n = self.ticks.len();
        let median_ticks = median(&mut self.ticks);
        let (min, max) = (self.ticks[0], self.ticks[n - 1]);
        let pages = self.pages.map_or_else(Default::default, |pages| format!(" pages {pages}"));
        println!("row {id} gross {median_ticks} min {min} max {max} samples {n}{pages}");
        // A counting kernel has zeroed a frame or two before there was any program.
        if frames() != 0 {
            println!("frames {id} {}", median(&mut self.frames));
        }
        self.clear();
    }
}

/// Sorts the values; returns the one in the middle.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Frames zeroed and copied so far, if the kernel counts them.
fn frames() -> u64 {
    windows::cpus().iter().map(|cpu| cpu.frames_zeroed.load(Relaxed) + cpu.frames_copied.load(Relaxed)).sum()
}

/// Writes to a page, as a program does.
#[inline(always)]
fn touch(page: Va) {
    raw::write_u8(page.0, 1);
}

/// The pages of a run.
fn run(first: Va, pages: u32) -> impl Iterator<Item = Va> {
    (0..pages.into()).map(move |page| first.add_pages(page))
}

/// The pages of a run in an order that looks random, and differs with the seed.
fn random_order(first: Va, pages: u32, seed: u32) -> Vec<Va> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(seed) << 32;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut pages: Vec<Va> = run(first, pages).collect();
    for left in (1..pages.len()).rev() {
        pages.swap(left, random(left + 1));
    }
    pages
}

/// Pages that are writable and dirty. They are unmapped when this is dropped.
struct Dirty(Va, u32);

impl Dirty {
    /// Maps one more page, which stays untouched, so that the page table is not freed when the last dirty page is
    /// unmapped.
    fn new(first: Va, pages: u32) -> core::result::Result<Dirty, Error> {
        sys::alloc(ME, first, u64::from(pages) + 1, Perms::WRITE)?;
        let dirty = Dirty(first, pages);
        dirty.touch();
        Ok(dirty)
    }

    fn touch(&self) {
        run(self.0, self.1).for_each(touch);
    }
}

impl Drop for Dirty {
    fn drop(&mut self) {
        for page in run(self.0, self.1 + 1).filter(|page| uvpt::pte(*page).is_present()) {
            sys::unmap(ME, page, 1).expect("a page that is there can go");
        }
    }
}

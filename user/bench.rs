//! Measures what calls, faults and forks cost. Arguments: rows; none means all of them.
//!
//! For each row a line `row ID gross MEDIAN min MIN max MAX samples N`: ticks of the time stamp
//! counter, which are instructions under `--icount`, without those that read the counter. If the
//! kernel was built to count there is a line `frames ID N` too: frames zeroed and copied in a
//! sample; and, at the end, `longest TICKS CAUSE`: the longest entry to the kernel.
//!
//! Nothing here depends on time or chance: the same kernel gives the same counts, every time.
//! A machine of 80 MiB is enough; `fork-16384` is what needs most of it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use libos::time::ticks;
use libos::upcall::{self, Outcome};
use libos::{
    Args, Child, Command, EnvId, Error, ExitCode, Fault, Fork, PAGE_SIZE, PageOp, Perms, Pte, Va, env, fork,
    ipc, println, raw, sys, uvpt, windows,
};

libos::entry!(main);

type Result = core::result::Result<(), Error>;

/// A row: its id, and what takes its samples.
type Row = (&'static str, fn(&mut Samples) -> Result);

const ROWS: &[Row] = &[
    ("null-call", null_call),
    ("trap-entry", trap_entry),
    ("trap", trap),
    ("demand-zero-write", demand_zero_write),
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
    ("appel1", appel1),
    ("appel2", appel2),
    ("dirty", dirty),
    ("fork-0", |samples| fork_alone(samples, 0)),
    ("fork-16", |samples| fork_alone(samples, 16)),
    ("fork-256", |samples| fork_alone(samples, 256)),
    ("fork-1024", |samples| fork_alone(samples, 1024)),
    ("fork-16384", |samples| fork_alone(samples, 16384)),
    ("fork-exit-wait-0", |samples| fork_exit_wait(samples, 0)),
    ("fork-exit-wait-16", |samples| fork_exit_wait(samples, 16)),
    ("fork-exit-wait-256", |samples| fork_exit_wait(samples, 256)),
    ("fork-exit-wait-1024", |samples| fork_exit_wait(samples, 1024)),
    ("fork-exit-wait-16384", |samples| fork_exit_wait(samples, 16384)),
    ("cow-break", cow_break),
    ("cow-break-sole", cow_break_sole),
    ("ipc", ipc_round_trip),
    ("yield", yield_there_and_back),
    ("spawn", spawn),
];

const ME: EnvId = EnvId::NONE;
/// Two ranges that nothing else uses.
const PAGES: Va = Va(0x2000_0000_0000);
const OTHERS: Va = Va(0x2001_0000_0000);
/// Nothing is ever mapped here.
const NOWHERE: Va = Va(0x2002_0000_0000);
/// Pages of a run, and samples of what is quick.
const MANY: u32 = 100;
/// Samples of what is slow.
const FEW: u32 = 9;

fn main(args: Args) -> ExitCode {
    let mut wrong = args.clone().filter(|id| ROWS.iter().all(|row| row.0 != *id));
    if let Some(id) = wrong.next() {
        println!("there is no row `{id}`");
        return ExitCode::FAILURE;
    }
    let mut samples = Samples::new();
    for (id, take) in ROWS {
        if args.clone().next().is_none() || args.clone().any(|wanted| wanted == *id) {
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

/// The samples of a row.
struct Samples {
    /// What reading the counter twice takes.
    overhead: u64,
    ticks: Vec<u64>,
    frames: Vec<u64>,
}

impl Samples {
    fn new() -> Samples {
        let most = 2 * MANY as usize;
        let (ticks, frames) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut samples = Samples { overhead: 0, ticks, frames };
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
    }

    /// One sample: do it, and see how long it takes.
    #[inline(always)]
    fn time<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let frames = frames();
        let start = ticks();
        let result = what();
        let end = ticks();
        self.add(end - start, frames, 1);
        result
    }

    /// A sample of something that was done so many times, since the counts were those.
    fn add(&mut self, ticks: u64, frames_before: u64, times: u32) {
        let times = u64::from(times);
        self.ticks.push(ticks.saturating_sub(self.overhead) / times);
        self.frames.push((frames() - frames_before) / times);
    }

    /// Print the row, and begin the next one.
    fn print(&mut self, id: &str) {
        let n = self.ticks.len();
        let median_ticks = median(&mut self.ticks);
        let (min, max) = (self.ticks[0], self.ticks[n - 1]);
        println!("row {id} gross {median_ticks} min {min} max {max} samples {n}");
        // A counting kernel has zeroed a frame or two before there was any program.
        if frames() != 0 {
            println!("frames {id} {}", median(&mut self.frames));
        }
        self.clear();
    }
}

/// Sorts the values; the one in the middle.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Frames zeroed and copied so far, if the kernel counts them.
fn frames() -> u64 {
    let machine = windows::machine();
    machine.frames_zeroed.load(Relaxed) + machine.frames_copied.load(Relaxed)
}

/// Write to a page, as a program does.
#[inline(always)]
fn touch(page: Va) {
    raw::write_u8(page.0, 1);
}

/// The pages of a run.
fn run(first: Va, pages: u32) -> impl Iterator<Item = Va> {
    (0..pages.into()).map(move |page| first.add_pages(page))
}

/// Pages that can be written, and have been. They go away with this value.
struct Dirty(Va, u32);

impl Dirty {
    /// One page more than asked for stays untouched, so that the last of the others does not take
    /// the table with it when it is unmapped.
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

// Calls.

fn null_call(samples: &mut Samples) -> Result {
    for _ in 0..MANY {
        samples.time(|| black_box(sys::id()));
    }
    Ok(())
}

fn alloc1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    sys::unmap(ME, PAGES, MANY.into())?;
    run(dirty.0, MANY)
        .try_for_each(|page| samples.time(|| sys::alloc(ME, page, 1, Perms::WRITE)).map_err(Error::from))
}

fn map1(samples: &mut Samples) -> Result {
    let (from, to) = (Dirty::new(PAGES, MANY)?, Dirty::new(OTHERS, MANY)?);
    sys::unmap(ME, OTHERS, MANY.into())?;
    run(from.0, MANY).zip(run(to.0, MANY)).try_for_each(|(from, to)| {
        samples.time(|| sys::map(ME, from, ME, to, 1, Perms::WRITE)).map_err(Error::from)
    })
}

fn prot1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    run(dirty.0, MANY)
        .try_for_each(|page| samples.time(|| sys::protect(ME, page, 1, Perms::READ)).map_err(Error::from))
}

fn unprot1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    sys::protect(ME, PAGES, MANY.into(), Perms::READ)?;
    run(dirty.0, MANY)
        .try_for_each(|page| samples.time(|| sys::protect(ME, page, 1, Perms::WRITE)).map_err(Error::from))
}

fn unmap1(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    run(dirty.0, MANY).try_for_each(|page| samples.time(|| sys::unmap(ME, page, 1)).map_err(Error::from))
}

/// One operation on a run of pages, in a batch.
#[inline(always)]
fn batch(samples: &mut Samples, ops: &[PageOp]) -> Result {
    samples.time(|| sys::page_ops(black_box(ops))).map_err(|(_, error)| error.into())
}

fn alloc100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        sys::unmap(ME, PAGES, MANY.into())?;
        batch(samples, &[PageOp::alloc(ME, PAGES, MANY, Perms::WRITE)])?;
    }
    Ok(())
}

fn map100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let (_from, _to) = (Dirty::new(PAGES, MANY)?, Dirty::new(OTHERS, MANY)?);
        sys::unmap(ME, OTHERS, MANY.into())?;
        batch(samples, &[PageOp::map(ME, PAGES, ME, OTHERS, MANY, Perms::WRITE)])?;
    }
    Ok(())
}

fn prot100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        batch(samples, &[PageOp::protect(ME, PAGES, MANY, Perms::READ)])?;
    }
    Ok(())
}

fn unprot100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        sys::protect(ME, PAGES, MANY.into(), Perms::READ)?;
        batch(samples, &[PageOp::protect(ME, PAGES, MANY, Perms::WRITE)])?;
    }
    Ok(())
}

fn unmap100(samples: &mut Samples) -> Result {
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, MANY)?;
        batch(samples, &[PageOp::unmap(ME, PAGES, MANY)])?;
    }
    Ok(())
}

/// Every other page, so that each is an operation of its own: two calls, for so many.
fn prot100_scattered(samples: &mut Samples) -> Result {
    let protect = |page| PageOp::protect(ME, page, 1, Perms::READ);
    let ops: Vec<PageOp> = run(PAGES, 2 * MANY).step_by(2).map(protect).collect();
    for _ in 0..FEW {
        let _dirty = Dirty::new(PAGES, 2 * MANY)?;
        batch(samples, &ops)?;
    }
    Ok(())
}

/// Look at the D bit of one entry.
fn dirty(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    for page in run(dirty.0, MANY) {
        let is_dirty = samples.time(|| black_box(uvpt::pte(black_box(page)).has(Pte::DIRTY)));
        assert!(is_dirty, "{page} was written");
    }
    Ok(())
}

// Faults.

/// Where `trap_entry` notes the time of its fault, and whom it tells.
static START: AtomicU64 = AtomicU64::new(0);
static PARENT: AtomicU64 = AtomicU64::new(0);

/// From an exception to the first instruction of whoever handles it: here that is not the upcall of
/// libos but a function without any way back, so a child does it.
fn trap_entry(samples: &mut Samples) -> Result {
    PARENT.store(sys::id().0.into(), Relaxed);
    for _ in 0..FEW {
        let before = frames();
        match fork()? {
            Fork::Child => {
                START.store(0, Relaxed); // while it can still be copied: later this would be the fault
                let handler = first_handler_instruction as *const () as u64;
                sys::set_upcall(ME, handler, upcall::STACK_LOW, upcall::STACK_PAGES)?;
                START.store(ticks(), Relaxed);
                touch(NOWHERE);
            }
            Fork::Parent(child) => {
                let elapsed = ipc::recv_from(child.id())?.value;
                child.wait()?;
                samples.add(elapsed, before, 1);
            }
        }
    }
    // What the frames were used for was the fork.
    samples.frames.fill(0);
    Ok(())
}

extern "C" fn first_handler_instruction() -> ! {
    let elapsed = ticks() - START.load(Relaxed);
    let parent = EnvId(PARENT.load(Relaxed) as u32);
    let _ = ipc::send(parent, elapsed);
    sys::exit(0)
}

/// A page fault, a handler that does as little as can be done, and back. The fault is a call of
/// an address where nothing is; the handler returns from that call.
fn trap(samples: &mut Samples) -> Result {
    upcall::set_handler(|fault| {
        fault.rip = raw::read_u64(fault.rsp);
        fault.rsp += 8;
        Outcome::Resume
    });
    for _ in 0..MANY {
        samples.time(|| raw::call(NOWHERE.0));
    }
    upcall::clear_handler();
    Ok(())
}

/// The first touch of heap pages: libos gets a page of zeros for each.
fn demand_zero_write(samples: &mut Samples) -> Result {
    let memory: Vec<u8> = Vec::with_capacity((MANY as usize + 2) * PAGE_SIZE as usize);
    let first = Va(memory.as_ptr() as u64).page_up();
    for page in run(first, MANY).filter(|page| uvpt::pte(*page).is_empty()) {
        samples.time(|| touch(page));
    }
    Ok(())
}

/// The pages of Appel and Li's measurements, in the order in which they are touched.
static ORDER: [AtomicU64; MANY as usize] = [const { AtomicU64::new(0) }; MANY as usize];
static TURN: AtomicUsize = AtomicUsize::new(0);

/// The page whose turn it is, or a later one.
fn in_turn(later: usize) -> Va {
    Va(ORDER[(TURN.load(Relaxed) + later) % ORDER.len()].load(Relaxed))
}

/// Put the pages in an order that looks random, and is another one in each round.
fn shuffle(round: u32) {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(round) << 32;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut pages: Vec<Va> = run(PAGES, MANY).collect();
    for left in (1..pages.len()).rev() {
        pages.swap(left, random(left + 1));
    }
    ORDER.iter().zip(pages).for_each(|(place, page)| place.store(page.0, Relaxed));
    TURN.store(0, Relaxed);
}

/// Touch a page that is protected; the handler protects another one and unprotects this one.
fn appel1(samples: &mut Samples) -> Result {
    let _dirty = Dirty::new(PAGES, MANY)?;
    shuffle(0);
    upcall::set_handler(|fault| unprotect(fault, || sys::protect(ME, in_turn(1), 1, Perms::READ)));
    sys::protect(ME, in_turn(0), 1, Perms::READ)?;
    for turn in 0..MANY as usize {
        TURN.store(turn, Relaxed);
        let page = in_turn(0);
        samples.time(|| touch(page));
    }
    upcall::clear_handler();
    Ok(())
}

/// Protect all pages at once, touch them one by one; the handler unprotects. For one page.
fn appel2(samples: &mut Samples) -> Result {
    let _dirty = Dirty::new(PAGES, MANY)?;
    upcall::set_handler(|fault| unprotect(fault, || Ok(())));
    for round in 0..FEW {
        shuffle(round);
        let (before, start) = (frames(), ticks());
        sys::protect(ME, PAGES, MANY.into(), Perms::READ)?;
        ORDER.iter().for_each(|page| touch(Va(page.load(Relaxed))));
        samples.add(ticks() - start, before, MANY);
    }
    upcall::clear_handler();
    Ok(())
}

#[inline(always)]
fn unprotect(fault: &Fault, first: impl FnOnce() -> sys::Result<()>) -> Outcome {
    let page = Va(fault.address).page();
    match first().and_then(|()| sys::protect(ME, page, 1, Perms::WRITE)) {
        Ok(()) => Outcome::Resume,
        Err(_) => Outcome::Unhandled,
    }
}

// Forks. A page that was forked is copy-on-write; touching it once the child is gone makes it what
// it was before.

/// Fork; the child does this and ends.
#[inline(always)]
fn fork_child(work: impl FnOnce()) -> core::result::Result<Child, Error> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            work();
            sys::exit(0)
        }
    }
}

/// What the parent sees of it: the child does not run before `wait`.
fn fork_alone(samples: &mut Samples, pages: u32) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..FEW {
        dirty.touch();
        let child = samples.time(|| fork_child(|| ()))?;
        child.wait()?;
    }
    Ok(())
}

fn fork_exit_wait(samples: &mut Samples, pages: u32) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..FEW {
        dirty.touch();
        samples.time(|| fork_child(|| ())?.wait().map_err(Error::from))?;
    }
    Ok(())
}

/// The first write to a page that the child has too.
fn cow_break(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    let child = fork_child(|| {
        let _ = ipc::recv();
    })?;
    run(dirty.0, MANY).for_each(|page| samples.time(|| touch(page)));
    ipc::send(child.id(), 0)?;
    child.wait()?;
    Ok(())
}

/// The first write to a page that the child had too.
fn cow_break_sole(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    fork_child(|| ())?.wait()?;
    run(dirty.0, MANY).for_each(|page| samples.time(|| touch(page)));
    Ok(())
}

// Switches.

/// A word to the child and one back.
fn ipc_round_trip(samples: &mut Samples) -> Result {
    let parent = env::id();
    let child = fork_child(|| {
        let mut answer = ipc::recv();
        while let Ok(message) = answer {
            answer = ipc::call(parent, message.value + 1);
        }
    })?;
    ipc::call(child.id(), 0)?;
    for value in 0..u64::from(MANY) {
        let answer = samples.time(|| ipc::call(child.id(), value))?;
        assert!(answer.value == value + 1, "the child's answer");
    }
    end(child)
}

/// To the child and back.
fn yield_there_and_back(samples: &mut Samples) -> Result {
    let parent = env::id();
    let child = fork_child(|| while sys::yield_to(parent).is_ok() {})?;
    sys::yield_to(child.id())?;
    for _ in 0..MANY {
        samples.time(|| sys::yield_to(child.id()))?;
    }
    end(child)
}

fn end(child: Child) -> Result {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A program that does nothing, from the boot archive, waited for.
fn spawn(samples: &mut Samples) -> Result {
    let command = Command::new("true");
    for _ in 0..FEW {
        let status = samples.time(|| command.status())?;
        assert!(status.is_success(), "true: {status}");
    }
    Ok(())
}

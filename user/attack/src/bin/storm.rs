//! Plays random calls against the kernel and prints digests: `storm MODE SEED FIRST EPISODES [verbose [KEEP]]`.
//!
//! The operations, and their expected results, are in `tests/storm`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::{fmt, hint::black_box};
use libos::abi::window::EnvInfo;
use libos::layout::{EXCEPTION_STACK_TOP, USER_LIMIT};
use libos::upcall::{self, Outcome};
use libos::{
    EnvId, ExitCode, Fault, Level, PAGE_SIZE, Perms, Status, Va, Vector, env, println, raw, sys, uvpt, windows,
};
use storm::place::{BALLAST, CODE, DESK, FIXTURES};
use storm::play::{Entry, Env, Table};
use storm::{Mode, PREFIX, Plan, World, plan, puppet};

libos::entry!(main);

fn main(args: libos::Args) -> ExitCode {
    let Some(plan) = Plan::parse(args) else {
        println!("storm plenty|tight|crowd SEED FIRST EPISODES [verbose [INDEX,INDEX,...]]");
        return ExitCode::FAILURE;
    };
    if let Err(error) = set_up(plan.mode) {
        println!("no set-up: {error}");
        return ExitCode::FAILURE;
    }
    let mut kernel = Kernel;
    describe(&mut kernel);
    let calls = storm::play(&mut kernel, &plan);
    kernel.print(format_args!("end after {calls} calls"));
    ExitCode::SUCCESS
}

/// Sets up memory and the handler. Afterwards this program must not fault by itself: free frames are counted.
fn set_up(mode: Mode) -> sys::Result<()> {
    touch_stack();
    upcall::set_handler(step_over);
    for page in [CODE, DESK] {
        sys::alloc(EnvId::SELF, Va(page), 1, Perms::WRITE)?;
    }
    for (word, value) in puppet::code().into_iter().enumerate() {
        raw::write_u64(CODE + 8 * word as u64, value);
    }
    let mut at = Va(BALLAST);
    while mode == Mode::Tight && windows::free_frames() > plan::SPARE_FRAMES {
        let pages = (windows::free_frames() - plan::SPARE_FRAMES).div_ceil(2);
        sys::alloc(EnvId::SELF, at, pages, Perms::WRITE)?;
        at = at.add_pages(pages);
    }
    Ok(())
}

/// Touches as much stack as will ever be used, below the frame of the caller.
#[inline(never)]
fn touch_stack() {
    black_box(&mut [1_u8; 64 << 10]);
}

/// Describes the machine to the model.
fn describe(kernel: &mut Kernel) {
    kernel.print(format_args!("stack {:x} {:x}", upcall::STACK_LOW.0, EXCEPTION_STACK_TOP.0));
    let (mut first, mut pages) = (0, 0);
    for (va, _) in uvpt::entries(Va(0)..USER_LIMIT) {
        if va.0 != first + pages * PAGE_SIZE {
            kernel.print(format_args!("pages {first:x} {pages:x}"));
            (first, pages) = (va.0, 0);
        }
        pages += 1;
    }
    kernel.print(format_args!("pages {first:x} {pages:x}"));
    for at in FIXTURES {
        let refs = windows::refs(uvpt::pte(Va(at)).frame()).unwrap_or(0);
        kernel.print(format_args!("fixture {at:x} {refs:x} {}", Words(at)));
    }
    let free = windows::free_frames();
    kernel.print(format_args!("machine {free:x} {:x} {:x}", kernel.slots(), kernel.me()));
    kernel.print(format_args!("begin"));
}

/// The words of a page that are not 0.
struct Words(u64);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for offset in (0..PAGE_SIZE).step_by(8) {
            let word = raw::read_u64(self.0 + offset);
            if word != 0 {
                write!(f, "{offset:x}={word:x} ")?;
            }
        }
        Ok(())
    }
}

/// Whether [`World::access`] expects a page fault.
static EXPECTED: AtomicBool = AtomicBool::new(false);
static CODE_OF_FAULT: AtomicU64 = AtomicU64::new(0);
static ADDRESS_OF_FAULT: AtomicU64 = AtomicU64::new(0);

/// Records a page fault, and skips the instruction.
fn step_over(fault: &mut Fault) -> Outcome {
    if fault.vector() != Vector::PAGE_FAULT || !EXPECTED.swap(false, Relaxed) {
        return Outcome::Unhandled;
    }
    CODE_OF_FAULT.store(fault.error, Relaxed);
    ADDRESS_OF_FAULT.store(fault.address, Relaxed);
    // The length of a prefix, `mov`, and the address: perhaps one more byte for the base register, perhaps one of
    // displacement.
    let form = raw::read_u8(fault.rip + 2);
    fault.rip += 3 + u64::from(form & 7 == 4) + u64::from(form >> 6 == 1);
    Outcome::Resume
}

struct Kernel;

impl World for Kernel {
    fn call(&mut self, number: u64, args: [u64; 6]) -> (u64, u64) {
        raw::syscall(number, args)
    }

    fn settle(&mut self) {
        let waits = |info: &EnvInfo| matches!(info.status(), Status::Runnable | Status::Dying);
        while windows::envs().iter().any(waits) {
            sys::yield_now();
        }
    }

    fn access(&mut self, at: u64, write: Option<u64>) -> Result<u64, (u64, u64)> {
        EXPECTED.store(true, Relaxed);
        if let Some(word) = write {
            raw::write_u64(at, word);
        }
        let word = if EXPECTED.load(Relaxed) { raw::read_u64(at) } else { 0 };
        if EXPECTED.swap(false, Relaxed) {
            return Ok(word);
        }
        Err((CODE_OF_FAULT.load(Relaxed), ADDRESS_OF_FAULT.load(Relaxed)))
    }

    fn load(&self, at: u64) -> u64 {
        raw::read_u64(at)
    }

    fn store(&mut self, at: u64, word: u64) {
        raw::write_u64(at, word);
    }

    fn env(&self, id: u32) -> Option<Env> {
        let info = windows::env(EnvId(id))?;
        Some(Env { status: info.status() as u32, parent: info.parent().0, exit: info.exit().0.into() })
    }

    fn entries(&self, start: u64, end: u64, f: &mut dyn FnMut(Entry)) {
        for (va, pte) in uvpt::entries(Va(start)..Va(end)) {
            f(if pte.is_present() {
                let (bits, frame) = (pte.0 & !libos::Pte::FRAME, pte.frame());
                let refs = windows::refs(frame).unwrap_or(0);
                Entry { va: va.0, bits, refs, frame: frame.0.into() }
            } else {
                Entry { va: va.0, bits: pte.0, refs: 0, frame: u64::MAX }
            });
        }
    }

    fn table(&self, va: u64, level: Level) -> Option<Table> {
        let entry = uvpt::entry(Va(va), level).filter(|entry| entry.is_present())?;
        let (open, sealed) = (!entry.is_shared_table(), entry.has(libos::Pte::SEALED));
        Some(Table { open, sealed, refs: windows::refs(entry.frame()).unwrap_or(0) })
    }

    fn free(&self) -> u64 {
        windows::free_frames()
    }

    fn slots(&self) -> usize {
        windows::envs().len()
    }

    fn me(&self) -> u32 {
        env::id().0
    }

    fn print(&mut self, line: fmt::Arguments) {
        println!("{PREFIX}{line}");
    }
}

//! Every register, flag and byte of the red zone survives a fault and its handler.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use libos::raw::{self, PROBE_PAGE, State};
use libos::upcall::{self, Outcome};
use libos::{EnvId, ExitCode, Fault, PAGE_SIZE, Perms, Va, Vector, abi::env::USER_RFLAGS, println, sys};

libos::entry!(main);

static MISMATCHES: AtomicU32 = AtomicU32::new(0);
/// The pattern that was loaded: flags clear, or set.
static FLAGS: AtomicBool = AtomicBool::new(false);
/// The value of `rsp` at the last fault.
static RSP: AtomicU64 = AtomicU64::new(0);
/// Whether to single-step the faulting instruction.
static STEP: AtomicBool = AtomicBool::new(false);
/// The number of single-step traps.
static STEPS: AtomicU32 = AtomicU32::new(0);
/// The trap flag.
const TF: u64 = 1 << 8;
/// A stack that libos does not know.
const OTHER_STACK: Va = Va(0x6000_0000);

fn check<T: PartialEq + core::fmt::LowerHex>(name: &str, found: T, expected: T) {
    if found != expected {
        println!("  {name}: {found:#x}, not {expected:#x}: MISMATCH");
        MISMATCHES.fetch_add(1, Relaxed);
    }
}

fn check_general(found: &State, expected: &State) {
    for (i, name) in State::NAMES.iter().enumerate() {
        check(name, found.general[i], expected.general[i]);
    }
    check("flags", found.rflags & USER_RFLAGS, expected.rflags & USER_RFLAGS);
}

fn verdict(what: &str) {
    let word = if MISMATCHES.load(Relaxed) == 0 { "OK" } else { "MISMATCH" };
    println!("Registers {what} {word}");
}

/// Checks the registers that the kernel saved, maps the page, and changes every register.
fn handler(fault: &mut Fault) -> Outcome {
    let expected = State::pattern(FLAGS.load(Relaxed));
    if fault.vector() == Vector::BREAKPOINT {
        // Repeats the test from the handler: a fault in a handler, on the exception stack.
        run_on("the exception stack", None);
        return Outcome::Resume;
    }
    if fault.vector() == Vector::DEBUG {
        // One instruction further: the eight bytes of `mov byte ptr [PROBE_PAGE], 1`.
        check("rip after a step", fault.rip, raw::fault_address() + 8);
        STEPS.fetch_add(1, Relaxed);
        fault.rflags &= !TF;
        return Outcome::Resume;
    }
    check("address", fault.address, PROBE_PAGE.0);
    check("rip", fault.rip, raw::fault_address());
    check_general(&State::from(&*fault), &expected);
    verdict("in UTrapframe");
    RSP.store(fault.rsp, Relaxed);
    if sys::alloc(EnvId::SELF, PROBE_PAGE, 1, Perms::WRITE).is_err() {
        return Outcome::Unhandled;
    }
    if STEP.load(Relaxed) {
        fault.rflags |= TF;
    }
    raw::scramble();
    Outcome::Resume
}

/// Faults with known registers, with all flags clear and with all flags set; checks them afterwards.
fn run_on(what: &str, stack: Option<u64>) {
    println!("on {what}:");
    for flags in [false, true] {
        FLAGS.store(flags, Relaxed);
        let before = State::pattern(flags);
        let after = raw::probe(&before, stack);
        check_general(&after, &before);
        check("rsp", after.rsp, RSP.load(Relaxed));
        check("mxcsr", after.mxcsr, before.mxcsr);
        for i in 0..16 {
            check("xmm", after.xmm[i], before.xmm[i]);
            check("red zone", after.red_zone[i], before.red_zone[i]);
        }
        verdict("after page-fault");
        if sys::unmap(EnvId::SELF, PROBE_PAGE, 1).is_err() {
            MISMATCHES.fetch_add(1, Relaxed);
        }
    }
}

fn main() -> sys::Result<ExitCode> {
    upcall::set_handler(handler);
    run_on("the stack", None);
    sys::alloc(EnvId::SELF, OTHER_STACK, 1, Perms::WRITE)?;
    let top = OTHER_STACK.0 + PAGE_SIZE;
    run_on("another stack", Some(top));
    run_on("another stack, unaligned", Some(top - 13));
    raw::breakpoint();
    STEP.store(true, Relaxed);
    run_on("the stack, step by step", None);
    check("steps", STEPS.load(Relaxed), 2);
    Ok(if MISMATCHES.load(Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

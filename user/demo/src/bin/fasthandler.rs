//! A fault handler that touches no vector register, so that none need be saved for it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos::abi::env::USER_RFLAGS;
use libos::raw::{self, PROBE_PAGE, State};
use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Fork, PageOp, Perms, Va, Vector, fast_handler, fork, mmap, println, stats, sys};

libos::entry!(main);

fast_handler! {
    /// Brings in the page that [`raw::probe`] writes to.
    fn BRING_IN(fault: &mut Fault) -> Outcome {
        let page = Va(fault.address).page();
        if page == PROBE_PAGE && sys::op_fast(PageOp::alloc(EnvId::SELF, page, 1, Perms::WRITE)) {
            Outcome::Resume
        } else {
            Outcome::Unhandled
        }
    }
}

/// A page that holds nothing else.
#[repr(align(4096))]
struct Page(AtomicU64);

/// The number of skipped instructions.
static STEPPED: Page = Page(AtomicU64::new(0));

fast_handler! {
    /// Skips instructions that do not exist, and counts them, on a page that is missing the first time.
    fn STEP_OVER(fault: &mut Fault) -> Outcome {
        if fault.vector() != Vector::INVALID_OPCODE {
            return Outcome::Unhandled;
        }
        STEPPED.0.fetch_add(1, Relaxed);
        fault.rip += 2;
        Outcome::Resume
    }
}

fn by_program() -> u64 {
    stats::get().by_program
}

/// Loads all registers, faults, and compares.
fn registers(who: &str) {
    let before = State::pattern(true);
    let mut after = raw::probe(&before, None);
    assert_eq!(after.rflags & USER_RFLAGS, before.rflags & USER_RFLAGS, "flags");
    (after.rsp, after.rflags) = (before.rsp, before.rflags);
    assert!(after == before, "{after:x?}, not {before:x?}");
    println!("{who}: every register as it was");
}

fn main() {
    upcall::set_fast_handler(BRING_IN);
    registers("parent");
    assert_eq!(by_program(), 1, "faults");

    // Faults that it does not handle go their usual way: to libos, and to the handler that may be any function.
    let memory = mmap::MmapOptions::new().len(8192).map_anon().expect("memory");
    let start = memory.range().start.0;
    raw::write_u8(start, 1);
    assert!(raw::attempt(|va| _ = raw::read_u8(va), PROBE_PAGE.0 + 4096).is_some(), "nothing is there");
    assert_eq!(by_program(), 2, "faults");
    println!("what it leaves goes to the others");

    // A child has the handler, too.
    match fork().expect("a child") {
        Fork::Child => {
            sys::unmap(EnvId::SELF, PROBE_PAGE, 1).expect("the page that was brought in");
            registers("child");
            assert_eq!(by_program(), 1, "faults");
            return;
        }
        Fork::Parent(child) => assert!(child.wait().expect("an exit status").is_success()),
    }

    // The handler may fault itself.
    upcall::set_fast_handler(STEP_OVER);
    let faults = stats::get().upcalls;
    raw::undefined();
    assert_eq!(stats::get().upcalls, faults + 2, "its own fault, and the one that it was called for");
    raw::undefined();
    assert_eq!((STEPPED.0.load(Relaxed), by_program()), (2, 4), "faults");
    println!("it faults itself, and steps over what is undefined");

    upcall::clear_fast_handler();
    assert!(raw::attempt(|_| raw::undefined(), 0).is_some(), "nobody steps over it");
    println!("and is gone");
}

//! Exceptions, and their handlers.

use crate::{Dirty, FEW, MANY, ME, NOWHERE, PAGES, Result, Samples, frames, random_order, touch};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Fork, PageOp, Perms, Va, fast_handler, fork, ipc, raw, sys, time::ticks};

/// The time of the fault of `trap_entry`, and the environment to which it is reported.
static START: AtomicU64 = AtomicU64::new(0);
static PARENT: AtomicU64 = AtomicU64::new(0);

/// Times an exception up to the first instruction of its handler. The handler is not the upcall of libos but a function
/// that cannot return, so a child does this.
pub fn trap_entry(samples: &mut Samples) -> Result {
    PARENT.store(sys::id().0.into(), Relaxed);
    for _ in 0..FEW {
        let before = frames();
        match fork()? {
            Fork::Child => {
                START.store(0, Relaxed); // copy the page now: later this would be the fault
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
    // The frames were used for the fork.
    samples.frames.fill(0);
    Ok(())
}

extern "C" fn first_handler_instruction() -> ! {
    let elapsed = ticks() - START.load(Relaxed);
    let parent = EnvId(PARENT.load(Relaxed) as u32);
    let _ = ipc::send(parent, elapsed);
    sys::exit(0)
}

/// Times a page fault, a minimal handler, and the return. The fault is a call to an unmapped address; the handler
/// returns from that call.
pub fn trap(samples: &mut Samples) -> Result {
    upcall::set_fast_handler(RETURN);
    for _ in 0..MANY {
        samples.time(|| raw::call(NOWHERE.0));
    }
    upcall::clear_fast_handler();
    Ok(())
}

fast_handler! {
    /// Behaves as if there were a function at [`NOWHERE`].
    fn RETURN(fault: &mut Fault) -> Outcome {
        fault.rip = raw::read_u64(fault.rsp);
        fault.rsp += 8;
        Outcome::Resume
    }
}

/// Times a page fault like `trap`, with a handler that may be any function.
pub fn trap_any(samples: &mut Samples) -> Result {
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

/// The pages of Appel and Li's measurements, in the order of their touches.
static ORDER: [AtomicU64; MANY as usize] = [const { AtomicU64::new(0) }; MANY as usize];
/// The page that is touched after this one.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn in_turn(turn: usize) -> Va {
    Va(ORDER[turn % ORDER.len()].load(Relaxed))
}

/// Puts the pages in an order that differs in each round.
fn shuffle(round: u32) {
    let pages = random_order(PAGES, MANY, round);
    ORDER.iter().zip(pages).for_each(|(place, page)| place.store(page.0, Relaxed));
}

/// Touches a protected page; the handler protects another one and unprotects this one.
pub fn appel1(samples: &mut Samples) -> Result {
    let _dirty = Dirty::new(PAGES, MANY)?;
    shuffle(0);
    upcall::set_fast_handler(UNPROTECT_AND_PROTECT);
    sys::protect(ME, in_turn(0), 1, Perms::READ)?;
    for turn in 0..MANY as usize {
        NEXT.store(in_turn(turn + 1).0, Relaxed);
        let page = in_turn(turn);
        samples.time(|| touch(page));
    }
    upcall::clear_fast_handler();
    Ok(())
}

/// Protects all pages at once, and touches them one by one; the handler unprotects. The time is for one page.
pub fn appel2(samples: &mut Samples) -> Result {
    let _dirty = Dirty::new(PAGES, MANY)?;
    upcall::set_fast_handler(UNPROTECT);
    for round in 0..FEW {
        shuffle(round);
        let (before, start) = (frames(), ticks());
        sys::protect(ME, PAGES, MANY.into(), Perms::READ)?;
        ORDER.iter().for_each(|page| touch(Va(page.load(Relaxed))));
        samples.add(ticks() - start, before, MANY);
    }
    upcall::clear_fast_handler();
    Ok(())
}

fast_handler! {
    /// Also protects the next page, so that the next touch faults.
    fn UNPROTECT_AND_PROTECT(fault: &mut Fault) -> Outcome {
        let next = Va(NEXT.load(Relaxed));
        if sys::op_fast(PageOp::protect(ME, next, 1, Perms::READ)) { unprotect(fault) } else { Outcome::Unhandled }
    }
}

fast_handler! {
    fn UNPROTECT(fault: &mut Fault) -> Outcome {
        unprotect(fault)
    }
}

#[inline(always)]
fn unprotect(fault: &Fault) -> Outcome {
    let page = Va(fault.address).page();
    if sys::op_fast(PageOp::protect(ME, page, 1, Perms::WRITE)) { Outcome::Resume } else { Outcome::Unhandled }
}

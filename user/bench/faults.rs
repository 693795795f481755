//! Exceptions, and what a handler can do about them.

use crate::{Dirty, FEW, MANY, ME, NOWHERE, PAGES, Result, Samples, frames, run, touch};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use libos::time::ticks;
use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Fork, Perms, Va, fork, ipc, raw, sys};

/// Where `trap_entry` notes the time of its fault, and whom it tells.
static START: AtomicU64 = AtomicU64::new(0);
static PARENT: AtomicU64 = AtomicU64::new(0);

/// From an exception to the first instruction of whoever handles it: here that is not the upcall of
/// libos but a function without any way back, so a child does it.
pub fn trap_entry(samples: &mut Samples) -> Result {
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
pub fn trap(samples: &mut Samples) -> Result {
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
pub fn appel1(samples: &mut Samples) -> Result {
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
pub fn appel2(samples: &mut Samples) -> Result {
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

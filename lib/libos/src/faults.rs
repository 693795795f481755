//! A page fault of this environment: to the pager of its region, and what is left to say when there is
//! no memory.
//!
//! Nothing on this path allocates, takes a lock or writes outside resident memory: it runs while the
//! program may be in the middle of anything.

use crate::kernel::Sys;
use crate::layout::USER_LIMIT;
use crate::resident::Local;
use crate::{Fault, Va, Vector, env, println, space, stats, windows};
use pager::Resolution;
use pager::quick::{self, Quick};

/// Whether a fault was resolved, for fault handlers of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The interrupted instruction can be run again.
    Resume,
    /// Somebody else must see to it; if nobody does, the program ends.
    Unhandled,
}

/// Is asked when a page was wanted and the machine has none: the address, and the kernel's error. If it
/// can give memory back it does so and says [`Outcome::Resume`]; the instruction is then run again.
pub type Policy = fn(Va, abi::Error) -> Outcome;

#[unsafe(link_section = ".resident")]
static POLICY: Local<Option<Policy>> = Local::new(None);

/// What to do when a page is wanted and there is none. Without a policy the program ends, with a
/// message. The policy runs in the fault handler; what it gives back must suffice some time, or the
/// program asks it for ever.
pub fn on_exhaustion(policy: Policy) {
    POLICY.set(Some(policy));
}

/// Resolve a page fault if a page call does it, and nobody needs to be asked.
#[inline(always)]
pub(crate) fn resolve_quickly(fault: &Fault) -> Quick {
    space::known(|known| {
        quick::resolve(&mut Sys, known, Va(fault.address), fault.page_fault(), stats::count_quick)
    })
}

/// Resolve a page fault, if copy-on-write or the pager of a region can.
#[inline]
pub(crate) fn resolve(fault: &Fault) -> Outcome {
    let va = Va(fault.address);
    if fault.vector() != Vector::PAGE_FAULT || va >= USER_LIMIT {
        return Outcome::Unhandled;
    }
    match pager::resolve(&mut Sys, space::find, va, fault.page_fault()) {
        Ok(Resolution::Resume(cause)) => {
            stats::count(cause);
            Outcome::Resume
        }
        Ok(Resolution::Unhandled) => Outcome::Unhandled,
        Err(error) => no_page(va, error),
    }
}

/// The kernel has no page to give, most likely.
#[cold]
#[inline(never)]
fn no_page(va: Va, error: abi::Error) -> Outcome {
    if let Some(policy) = POLICY.get()
        && policy(va, error) == Outcome::Resume
    {
        return Outcome::Resume;
    }
    let region = space::find(va).map_or("memory", |region| region.pager.name());
    println!("[{}] no page for {va} ({region}): {error}; {} frames free", env::id(), windows::free_frames());
    Outcome::Unhandled
}

//! Page faults of this environment: dispatch to the pager of the region, and the policy for exhausted memory.
//!
//! Nothing on this path allocates, takes a lock or writes outside resident memory: the fault may have interrupted the
//! program in the middle of anything.

use crate::resident::Local;
use crate::{
    Fault, Va, Vector, env, layout::USER_LIMIT, page_calls, page_calls::Sys, println, regions, stats, windows,
};
use pager::Resolution;
use pager::fast::{self, FastResolution};

/// Whether a fault was resolved, for fault handlers of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The interrupted instruction can run again.
    Resume,
    /// The fault is for the next handler; if no handler resolves it, the program ends.
    Unhandled,
}

/// A function that is called when a page was wanted and the machine has none: with the address, and the kernel's
/// error. If it can give memory back it does so and returns [`Outcome::Resume`]; the instruction then runs again.
pub type Policy = fn(Va, abi::Error) -> Outcome;

#[unsafe(link_section = ".resident")]
static POLICY: Local<Option<Policy>> = Local::new(None);

/// Sets the policy for exhausted memory. Without a policy the program ends, with a message. The policy runs in the
/// fault handler; the memory that it gives back must suffice eventually, or the program calls it forever.
pub fn on_exhaustion(policy: Policy) {
    POLICY.set(Some(policy));
}

/// Resolves a page fault if a single page call can, without asking a pager.
#[inline(always)]
pub(crate) fn resolve_fast(fault: &Fault) -> FastResolution {
    page_calls::known(|known| {
        fast::resolve_fast(&mut Sys, known, Va(fault.address), fault.page_fault(), stats::count_fast)
    })
}

/// Resolves a page fault, if copy-on-write or the pager of a region can.
#[inline]
pub(crate) fn resolve(fault: &Fault) -> Outcome {
    let va = Va(fault.address);
    if fault.vector() != Vector::PAGE_FAULT || va >= USER_LIMIT {
        return Outcome::Unhandled;
    }
    match pager::resolve(&mut Sys, regions::find, va, fault.page_fault()) {
        Ok(Resolution::Resume(cause)) => {
            stats::count(cause);
            Outcome::Resume
        }
        Ok(Resolution::Unhandled) => Outcome::Unhandled,
        Err(error) => no_page(va, error),
    }
}

/// Prints why the pager of a region did not resolve a fault, if the pager says so.
pub(crate) fn explain(va: Va) {
    if let Some(region) = regions::find(va) {
        region.pager.explain(&mut |reason| println!("[{}] {}: {reason}", env::id(), region.pager.name()));
    }
}

/// Handles an error of the kernel, most likely that it has no free page.
#[cold]
#[inline(never)]
fn no_page(va: Va, error: abi::Error) -> Outcome {
    if let Some(policy) = POLICY.get()
        && policy(va, error) == Outcome::Resume
    {
        return Outcome::Resume;
    }
    let region = regions::find(va).map_or("memory", |region| region.pager.name());
    println!("[{}] no page for {va} ({region}): {error}; {} frames free", env::id(), windows::free_frames());
    Outcome::Unhandled
}

//! What happens on a page fault, before the program's own handler is asked.
//!
//! | where | what | resolution |
//! | --- | --- | --- |
//! | a page marked [`Perms::COW`] | is written | [`own`](sys::own): a private copy, or the page itself if nobody else has it |
//! | the heap, as far as it is reserved | is touched | a zeroed page |
//! | the stack, down to its limit | is touched | a zeroed page |
//!
//! Nothing here allocates, takes a lock or writes outside resident memory: it runs while the
//! program may be in the middle of anything.

use crate::layout::{STACK_TOP, USER_LIMIT};
use crate::resident::Local;
use crate::stats::{self, Stats};
use crate::{EnvId, Fault, PAGE_SIZE, Perms, Va, Vector, heap, println, sys, uvpt};

/// Whether a fault was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The interrupted instruction can be run again.
    Resume,
    /// Somebody else must see to it; if nobody does, the program ends.
    Unhandled,
}

/// How far the stack may grow if the program does not say otherwise: 1 MiB.
pub const DEFAULT_STACK_BYTES: u64 = 1 << 20;

/// The lowest address of the stack.
#[unsafe(link_section = ".resident")]
static STACK_LOW: Local<Va> = Local::new(Va(STACK_TOP.0 - DEFAULT_STACK_BYTES));

/// Let the stack grow to so many bytes (rounded up to pages), at most 512 MiB.
pub fn set_stack_limit(bytes: u64) {
    let bytes = bytes.clamp(PAGE_SIZE, 512 << 20);
    STACK_LOW.set(Va(STACK_TOP.0 - bytes).page());
}

/// The lowest address to which the stack may grow.
#[inline]
#[must_use]
pub fn stack_low() -> Va {
    STACK_LOW.get()
}

/// Resolve a fault if it is one of those in the table above.
#[inline]
pub fn resolve(fault: &Fault) -> Outcome {
    let (va, code) = (Va(fault.address), fault.page_fault());
    if fault.vector() != Vector::PAGE_FAULT || va >= USER_LIMIT {
        Outcome::Unhandled
    } else if !code.is_protection() {
        missing(va)
    } else if code.is_write() && uvpt::leaf(va).has(Perms::COW.bits()) {
        done(va, sys::own(va.page(), 1), |stats| stats.copy_on_write += 1)
    } else {
        Outcome::Unhandled
    }
}

/// Nothing is mapped at `va`.
#[inline]
fn missing(va: Va) -> Outcome {
    if heap::contains(va) {
        fill(va, |stats| stats.heap_pages += 1)
    } else if va < STACK_TOP && va >= STACK_LOW.get() {
        fill(va, |stats| stats.stack_pages += 1)
    } else {
        Outcome::Unhandled
    }
}

/// A fresh page for `va`.
#[inline(never)]
fn fill(va: Va, count: fn(&mut Stats)) -> Outcome {
    if !uvpt::pte(va).is_empty() {
        return Outcome::Unhandled; // a mark: whoever left it knows what it means
    }
    done(va, sys::alloc(EnvId::NONE, va.page(), 1, Perms::WRITE), count)
}

#[inline]
fn done(va: Va, result: sys::Result<()>, count: impl FnOnce(&mut Stats)) -> Outcome {
    match result {
        Ok(()) => {
            stats::count(count);
            Outcome::Resume
        }
        Err(error) => no_page(va, error),
    }
}

/// The kernel has no page to give, most likely.
#[cold]
#[inline(never)]
fn no_page(va: Va, error: sys::Error) -> Outcome {
    println!("[{}] no page for {va}: {error}", sys::id());
    Outcome::Unhandled
}

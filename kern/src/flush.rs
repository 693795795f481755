//! What processors have cached of page tables that change.
//!
//! Whoever takes a page or a right away from an address space that another processor has loaded asks that
//! processor to forget all of it, and waits until it has, before the frame can get another owner. The
//! asking one holds the lock of the address space, and the other one may be waiting for just that lock with
//! interrupts off: so whoever waits in the kernel, for anything, [serves](serve) such requests.

use crate::cpu;
use crate::memory::load_root;
use abi::Frame;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The requests to a processor: how many there were, and how many have been seen to. Not a flag: a request
/// that comes while another is seen to must not be lost.
pub struct Flushes {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Flushes {
    pub const fn new() -> Flushes {
        Flushes { asked: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// Ask. Returns what to wait for.
    fn ask(&self) -> u64 {
        self.asked.fetch_add(1, SeqCst) + 1
    }

    fn is_done(&self, ticket: u64) -> bool {
        self.done.load(SeqCst) >= ticket
    }

    /// Called by the processor itself: everything that was asked for until now is done by one flush.
    fn serve(&self, flush: impl FnOnce()) {
        let asked = self.asked.load(SeqCst);
        if self.done.load(SeqCst) < asked {
            flush();
            self.done.store(asked, SeqCst);
        }
    }
}

/// See to the requests of others.
#[inline]
pub fn serve() {
    let cpu = cpu::this();
    // SAFETY: the page map that is loaded already.
    cpu.flushes.serve(|| unsafe { load_root(cpu.root()) });
}

/// Wait a moment, in a loop that waits for others.
pub fn relax() {
    serve();
    core::hint::spin_loop();
}

/// Whether another processor has this page map loaded.
#[inline]
pub fn is_elsewhere(root: Frame) -> bool {
    cpu::count() > 1 && {
        // What was written to page tables before this is seen by whoever loads the page map after it.
        core::sync::atomic::fence(SeqCst);
        cpu::others().any(|other| other.root() == root)
    }
}

/// Let all processors forget this page map, and wait until they have.
pub fn flush_elsewhere(root: Frame) {
    for other in cpu::others().filter(|other| other.root() == root) {
        let ticket = other.flushes.ask();
        other.interrupt();
        while !other.flushes.is_done(ticket) {
            relax();
        }
    }
}

//! What processors have cached of page tables that change.
//!
//! Whoever takes a page or a right away from an address space that another processor has loaded asks that
//! processor to forget all of it, and waits until it has, before the frame can get another owner. The
//! asking one holds the lock of the address space, and the other one may be waiting for just that lock with
//! interrupts off: so whoever waits in the kernel, for anything, [serves](serve) such requests. What the
//! processors tell each other is in the crate `smp`, where the tests try every order of it.

use crate::machine::cpu::load_root;
use crate::machine::{count, cpu};
use abi::Frame;

/// See to the requests of others.
#[inline]
pub fn serve() {
    let cpu = cpu::this();
    // SAFETY: the page map that is loaded already.
    cpu.flushes.serve(|| unsafe { load_root(cpu, cpu.root()) });
}

/// Wait a moment, in a loop that waits for others.
pub fn relax() {
    count::waiting(|| {
        serve();
        core::hint::spin_loop();
    });
}

/// Whether another processor may have this page map loaded, or may load it at any moment: unless this one has. (Only
/// who holds an environment has its page map loaded.)
#[inline]
pub fn is_elsewhere(root: Frame) -> bool {
    cpu::count() > 1 && cpu::this().root() != root
}

/// Let all processors forget this page map, and wait until they have.
pub fn flush_elsewhere(root: Frame) {
    for other in cpu::others().filter(|other| other.root.may_be(root.0)) {
        let ticket = other.flushes.ask();
        other.interrupt();
        while !other.flushes.is_done(ticket) {
            relax();
        }
    }
}

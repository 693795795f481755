//! TLB shootdown: makes other processors invalidate what they have cached of a page map.
//!
//! `docs/decisions.md` (Several processors) explains when that is necessary. A processor that waits in the kernel, for
//! anything, [serves](serve) such requests: the one that asks may hold the lock that it waits for. The crate `smp` has
//! the protocol, where the tests try every order of events.

use crate::machine::{count, cpu, cpu::load_root};
use abi::Frame;

/// Serves the pending flush requests of other processors.
pub fn serve() {
    let cpu = cpu::this();
    // SAFETY: the root of the page map that is loaded already.
    cpu.flushes.serve(|| unsafe { load_root(cpu, cpu.root()) });
}

/// Waits a moment, in a loop that waits for other processors.
pub fn relax() {
    count::waiting(|| {
        serve();
        core::hint::spin_loop();
    });
}

/// Whether another processor may have this page map loaded, or may load it at any moment. Not if this processor has it
/// loaded: only the processor that holds an environment loads its page map.
pub fn is_elsewhere(root: Frame) -> bool {
    cpu::count() > 1 && cpu::this().root() != root
}

/// Makes all other processors flush this page map from their TLBs, and waits until they have.
pub fn flush_elsewhere(root: Frame) {
    for other in cpu::others().filter(|other| other.root.may_be(root.0)) {
        let ticket = other.flushes.ask();
        other.interrupt();
        while !other.flushes.is_done(ticket) {
            relax();
        }
    }
}

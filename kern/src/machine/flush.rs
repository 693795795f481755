//! TLB shootdown, as the processors see it that are asked to invalidate what they have cached of a page map. (The one
//! that asks is in `hardware`.)
//!
//! `docs/decisions.md` (Several processors) explains when that is necessary. A processor that waits in the kernel, for
//! anything, [serves](serve) such requests: the one that asks may hold the lock that it waits for. The crate `smp` has
//! the protocol, where the tests try every order of events.

use crate::machine::cpu::{self, load_root};

/// Serves the pending flush requests of other processors.
pub fn serve() {
    let cpu = cpu::this();
    // SAFETY: the root of the page map that is loaded already.
    cpu.flushes.serve(|| unsafe { load_root(cpu, cpu.root()) });
}

/// Waits a moment, in a loop that waits for other processors.
pub fn relax() {
    #[cfg(feature = "count")]
    cpu::COUNTER.wait(cpu::here(), cpu::time_stamp);
    serve();
    core::hint::spin_loop();
    #[cfg(feature = "count")]
    cpu::COUNTER.go_on(cpu::here(), cpu::time_stamp);
}

//! Fault injection: faults that tests request on the command line, to see that the kernel finds them.

use crate::machine::{cpu, registers::Saved, vectors};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// The time between ticks if the command line does not set it. Longer in a checking kernel: each entry takes a check,
/// and on a busy host the kernel would check and do nothing else.
pub const DEFAULT_TICK_US: u64 = abi::boot::DEFAULT_TICK_US * if cfg!(feature = "check") { 10 } else { 1 };

/// Whether processors take environments that others hold (`hold-twice`): tests see that the checks find it.
pub static TWICE: AtomicBool = AtomicBool::new(false);

/// Whether the fault `hold-twice` is injected.
pub fn holds_twice() -> bool {
    cfg!(feature = "check") && TWICE.load(Relaxed)
}

/// The local APIC of a processor that is to start too late (`late=`), so that tests see the consequences; [`u32::MAX`]:
/// none.
pub static LATE: AtomicU32 = AtomicU32::new(u32::MAX);

/// Whether this processor is to start too late.
pub fn is_late(apic_id: u8) -> bool {
    cfg!(feature = "check") && LATE.load(Relaxed) == u32::from(apic_id)
}

/// Whether a debug exception interrupts every system call before its first instruction (`break-entries`), so that tests
/// see that the kernel finds its data there.
pub static BREAKS: AtomicBool = AtomicBool::new(false);

/// The address of the breakpoint, if one was requested; otherwise 0.
pub fn breakpoint() -> u64 {
    if cfg!(feature = "check") && BREAKS.load(Relaxed) { vectors::syscall_entry as *const () as u64 } else { 0 }
}

/// Handles a debug exception that came while the kernel ran. At the requested breakpoint, GS must be the kernel's by
/// now, and the exception must not come again.
pub fn stopped(saved: &mut Saved) {
    const RESUME: u64 = 1 << 16;
    if breakpoint() != 0 {
        assert!(cpu::this().number.get() < cpu::count(), "GS is a program's at {:#x}", saved.rip);
        saved.rflags |= RESUME;
    }
}

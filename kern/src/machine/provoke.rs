//! Faults that tests ask for on the command line, to see that they are found.

use crate::machine::registers::Saved;
use crate::machine::{cpu, vectors};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Time between ticks where the command line does not say: turns are longer where each begins with a check, or a busy host
/// would check and do nothing else.
pub const DEFAULT_TICK_US: u64 = abi::boot::DEFAULT_TICK_US * if cfg!(feature = "check") { 10 } else { 1 };

/// A bug to have, so that tests see it found: processors hold what others hold.
static TWICE: AtomicBool = AtomicBool::new(false);

/// The command line asks for that bug.
pub fn hold_twice() {
    TWICE.store(cfg!(feature = "check"), Relaxed);
}

/// Whether this kernel has that bug.
pub fn holds_twice() -> bool {
    cfg!(feature = "check") && TWICE.load(Relaxed)
}

/// The local APIC of a processor that is to come too late, so that tests see what becomes of it; [`u32::MAX`]: none.
static LATE: AtomicU32 = AtomicU32::new(u32::MAX);

/// The command line asks for that.
pub fn be_late(apic_id: u32) {
    LATE.store(apic_id, Relaxed);
}

/// Whether this processor is to come too late.
pub fn is_late(apic_id: u8) -> bool {
    cfg!(feature = "check") && LATE.load(Relaxed) == u32::from(apic_id)
}

/// Every system call is interrupted before its first instruction, so that tests see that the kernel knows its processor there.
static BREAKS: AtomicBool = AtomicBool::new(false);

/// The command line asks for that.
pub fn break_entries() {
    BREAKS.store(cfg!(feature = "check"), Relaxed);
}

/// Where debug exceptions are to come, if that was asked for.
pub fn breakpoint() -> u64 {
    if BREAKS.load(Relaxed) { vectors::syscall_address().as_u64() } else { 0 }
}

/// A debug exception came while the kernel ran. One at that place comes once: the processor's GS is the kernel's now.
pub fn stopped(saved: &mut Saved) {
    const RESUME: u64 = 1 << 16;
    if breakpoint() != 0 {
        assert!(cpu::this().number.get() < cpu::count(), "GS is a program's at {:#x}", saved.rip);
        saved.rflags |= RESUME;
    }
}

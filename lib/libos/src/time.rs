//! The only clock of a program: the processor's time stamp counter.

/// The time stamp counter.
///
/// On ordinary machines it counts at a constant rate, some fraction of nanoseconds. Under `cargo xtask run --icount`
/// it counts the executed instructions, and a program sees equal numbers in every run.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: reads a counter that every x86-64 processor has, and that the kernel does not forbid.
    unsafe { core::arch::x86_64::_rdtsc() }
}

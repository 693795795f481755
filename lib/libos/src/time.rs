//! Time, as far as there is any: the processor's time stamp counter.

/// The time stamp counter.
///
/// On ordinary machines it counts some constant fraction of nanoseconds. Under
/// `cargo xtask run --icount` it counts the instructions that the processor has executed, one by
/// one, and the same program gives the same numbers every time.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: reads a counter that every x86-64 processor has, and that the kernel does not forbid.
    unsafe { core::arch::x86_64::_rdtsc() }
}

//! How many instructions entries take, in kernels that count.
//!
//! The feature `count` is for emulators whose time stamp counter counts executed instructions. With several processors
//! the emulator executes them by turns, in one thread, and one counter goes on with the instructions of all. A processor
//! has the emulator for long and loses it in three cases: it waits for others ([`waiting`]), it halts ([`halting`]), or
//! the emulator runs a timer. What passes while it waits is not its own, and is left out. The third case may hit an entry
//! anywhere, and then nobody knows how much of it was whose. So the entry is left out as a whole if another processor
//! was in the kernel meanwhile ([`LAST`]). Where the kernel has timers of its own, that case is frequent, and an entry
//! counts only if all other processors halted or waited when it ended ([`BUSY`]). (Where it has none, a program on
//! another processor that never enters the kernel is not seen. Tests let those execute nothing but `pause`, which gives
//! the emulator back.)

use crate::machine::cpu::{self, here};
use crate::machine::windows;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const IS_ON: bool = cfg!(feature = "count");

/// The processor that was seen in the kernel last.
static LAST: AtomicU32 = AtomicU32::new(0);
/// The processors that neither halt nor wait for others, a bit for each.
static BUSY: AtomicU64 = AtomicU64::new(0);
/// In place of the time of an entry: it does not count.
const DISTURBED: u64 = 0;

/// An entry begins.
#[inline]
pub fn begin() {
    if IS_ON {
        LAST.store(here(), Relaxed);
        BUSY.fetch_or(1 << here(), Relaxed);
        cpu::this().entered.set(cpu::time_stamp());
    }
}

/// This processor is in the kernel, and not in an entry: it idles.
#[inline]
pub fn idle() {
    if IS_ON {
        LAST.store(here(), Relaxed);
    }
}

/// Halt: this processor executes nothing until that is over.
#[inline]
pub fn halting(halt: impl FnOnce()) {
    if !IS_ON {
        return halt();
    }
    BUSY.fetch_and(!(1 << here()), Relaxed);
    halt();
    BUSY.fetch_or(1 << here(), Relaxed);
}

/// Do what lets others go on. Their instructions are not those of the entry.
#[inline]
pub fn waiting(pass: impl FnOnce()) {
    if !IS_ON {
        return pass();
    }
    let cpu = cpu::this();
    let start = cpu::time_stamp();
    check();
    halting(pass);
    LAST.store(here(), Relaxed);
    let entered = cpu.entered.get();
    if entered != DISTURBED {
        cpu.entered.set(entered + (cpu::time_stamp() - start));
    }
}

/// An entry ends.
#[inline]
pub fn end(cause: u64) {
    if !IS_ON {
        return;
    }
    let now = cpu::time_stamp();
    check();
    LAST.store(here(), Relaxed);
    let entered = cpu::this().entered.get();
    let (spent, machine) = (now.wrapping_sub(entered), windows::machine());
    let is_among_others = BUSY.load(Relaxed) & !(1 << here()) != 0 && machine.tick_ns.load(Relaxed) != 0;
    if entered == DISTURBED || is_among_others {
        return;
    }
    if let Some(longest) = machine.longest_by_call.get(cause as usize) {
        longest.fetch_max(spent, Relaxed);
    }
    if machine.longest_entry.fetch_max(spent, Relaxed) < spent {
        machine.longest_cause.store(cause, Relaxed);
    }
}

/// Whether somebody else was in the kernel since this one was seen there.
#[inline]
fn check() {
    if LAST.load(Relaxed) != here() {
        cpu::this().entered.set(DISTURBED);
    }
}

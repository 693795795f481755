//! The counting kernel: how many instructions each entry takes.
//!
//! The feature `count` is for emulators whose time stamp counter counts executed instructions. With several processors,
//! the emulator executes them in turn, in one thread, and one counter counts the instructions of all of them. A
//! processor loses the emulator in three cases: it waits for others ([`waiting`]), it halts ([`halting`]), or the
//! emulator runs a timer. Instructions that pass while it waits are not its own, and are left out. The third case may
//! hit an entry anywhere, and then nobody knows how many of the instructions belong to it. So the whole entry is left
//! out if another processor was in the kernel meanwhile ([`LAST`]). If the kernel has timers of its own, the third case
//! is frequent, and an entry counts only if all other processors halted or waited when it ended ([`BUSY`]). (If it has
//! none, a program on another processor that never enters the kernel is not noticed. Tests let such programs execute
//! only `pause`, which gives the emulator back.)

use crate::machine::cpu::{self, here};
use crate::machine::windows;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const IS_ON: bool = cfg!(feature = "count");

/// The processor that was in the kernel last.
static LAST: AtomicU32 = AtomicU32::new(0);
/// The processors that neither halt nor wait for others, one bit for each.
static BUSY: AtomicU64 = AtomicU64::new(0);
/// In place of the start time of an entry: the entry does not count.
const DISTURBED: u64 = 0;

/// Begins to count an entry.
pub fn begin() {
    if IS_ON {
        LAST.store(here(), Relaxed);
        BUSY.fetch_or(1 << here(), Relaxed);
        cpu::this().entered.set(cpu::time_stamp());
    }
}

/// Notes that this processor is in the idle loop: in the kernel, but not in an entry.
pub fn idle() {
    if IS_ON {
        LAST.store(here(), Relaxed);
    }
}

/// Calls `halt`, during which this processor executes nothing.
pub fn halting(halt: impl FnOnce()) {
    if !IS_ON {
        return halt();
    }
    BUSY.fetch_and(!(1 << here()), Relaxed);
    halt();
    BUSY.fetch_or(1 << here(), Relaxed);
}

/// Calls `pass`, which lets other processors go on. Their instructions do not count for the entry.
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

/// Ends the count of an entry, and records it.
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

/// Discards the count of this entry if another processor was in the kernel since this one was noted there.
fn check() {
    if LAST.load(Relaxed) != here() {
        cpu::this().entered.set(DISTURBED);
    }
}

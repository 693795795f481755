//! Counts how many instructions each entry to the kernel takes.
//!
//! The counting kernel is for emulators whose time stamp counter counts executed instructions. With several processors,
//! the emulator executes them in turn, in one thread, and one counter counts the instructions of all of them. A
//! processor loses the emulator in three cases: it waits for others ([`Counter::wait`]), it halts ([`Counter::halt`]),
//! or the emulator runs a timer. Instructions that pass while it waits are not its own, and are left out. The third
//! case may hit an entry anywhere, and then nobody knows how many of the instructions belong to it. So the whole entry
//! is left out if another processor was in the kernel meanwhile. If the kernel has timers of its own, the third case is
//! frequent, and an entry counts only if all other processors halted or waited when it ended. (If it has none, a
//! program on another processor that never enters the kernel is not noticed. Tests let such programs execute only
//! `pause`, which gives the emulator back.)

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use abi::window::MachineInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many processors can be counted.
const MAX: usize = u64::BITS as usize;

/// The counts of all processors. Each processor calls the methods with its own number.
///
/// `clock` returns the time stamp. It is called where the counted instructions begin or end, so that hardly any
/// instruction of this crate is counted.
pub struct Counter {
    /// The processor that was in the kernel last.
    last: AtomicU32,
    /// The processors that neither halt nor wait for others, one bit for each.
    busy: AtomicU64,
    entries: [Entry; MAX],
}

/// The last entry of a processor.
struct Entry {
    /// How many instructions it took up to its last wait.
    spent: AtomicU64,
    /// The time stamp when it began or went on.
    since: AtomicU64,
    /// Whether another processor was in the kernel meanwhile: then it does not count.
    is_disturbed: AtomicBool,
}

impl Entry {
    const fn none() -> Entry {
        Entry { spent: AtomicU64::new(0), since: AtomicU64::new(0), is_disturbed: AtomicBool::new(false) }
    }
}

impl Counter {
    /// A counter that has counted nothing.
    #[must_use]
    pub const fn new() -> Counter {
        Counter { last: AtomicU32::new(0), busy: AtomicU64::new(0), entries: [const { Entry::none() }; MAX] }
    }

    /// Begins an entry.
    pub fn begin(&self, cpu: u32, clock: impl Fn() -> u64) {
        let entry = &self.entries[cpu as usize];
        entry.spent.store(0, Relaxed);
        entry.is_disturbed.store(false, Relaxed);
        self.go_on(cpu, clock);
    }

    /// Ends an entry. Records it as the longest one, of all and of those with its cause, if it is.
    pub fn end(&self, cpu: u32, clock: impl Fn() -> u64, cause: u64, machine: &MachineInfo) {
        self.stop(cpu, clock());
        self.last.store(cpu, Relaxed);
        let entry = &self.entries[cpu as usize];
        let is_among_others = self.busy.load(Relaxed) & !(1 << cpu) != 0 && machine.tick_ns.load(Relaxed) != 0;
        if is_among_others || entry.is_disturbed.load(Relaxed) {
            return;
        }
        let spent = entry.spent.load(Relaxed);
        if let Some(longest) = machine.longest_by_call.get(cause as usize) {
            longest.fetch_max(spent, Relaxed);
        }
        if machine.longest_entry.fetch_max(spent, Relaxed) < spent {
            machine.longest_cause.store(cause, Relaxed);
        }
    }

    /// Notes that the processor lets others go on, in an entry or not. Their instructions do not count for the entry.
    pub fn wait(&self, cpu: u32, clock: impl Fn() -> u64) {
        self.stop(cpu, clock());
        self.halt(cpu);
    }

    /// Notes that the processor goes on after [`Counter::wait`].
    pub fn go_on(&self, cpu: u32, clock: impl Fn() -> u64) {
        self.idle(cpu);
        self.entries[cpu as usize].since.store(clock(), Relaxed);
    }

    /// Notes that the processor is in the idle loop: in the kernel, but not in an entry.
    pub fn idle(&self, cpu: u32) {
        self.last.store(cpu, Relaxed);
        self.busy.fetch_or(1 << cpu, Relaxed);
    }

    /// Notes that the processor executes nothing until it is [in the idle loop](Counter::idle) again.
    pub fn halt(&self, cpu: u32) {
        // An entry of another processor may have begun since this one was noted, and does not end before it is noted.
        self.last.store(cpu, Relaxed);
        self.busy.fetch_and(!(1 << cpu), Relaxed);
    }

    /// Adds what the entry took since it began or went on. It does not count if another processor was in the kernel
    /// since this one was noted there.
    fn stop(&self, cpu: u32, now: u64) {
        let entry = &self.entries[cpu as usize];
        entry.spent.fetch_add(now.wrapping_sub(entry.since.load(Relaxed)), Relaxed);
        if self.last.load(Relaxed) != cpu {
            entry.is_disturbed.store(true, Relaxed);
        }
    }
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}

//! The bracket around every entry to the kernel.

#[cfg(feature = "check")]
use crate::env::check;
use crate::machine::flush;
#[cfg(feature = "count")]
use crate::machine::{cpu, windows};

/// An entry to the kernel that is under way. A function that leaves the kernel for another environment takes it.
#[derive(Clone, Copy)]
#[must_use = "an entry has to end"]
pub struct Entry(());

impl Entry {
    /// Begins an entry to the kernel.
    pub fn begin() -> Entry {
        #[cfg(feature = "check")]
        check::enter();
        #[cfg(feature = "count")]
        cpu::COUNTER.begin(cpu::here(), cpu::time_stamp);
        Entry(())
    }

    /// Ends the entry. `cause` is the number that [`MachineInfo`](abi::window::MachineInfo) records for the longest one.
    #[allow(unused_variables)] // a plain kernel records nothing
    pub fn end(self, cause: u64) {
        #[cfg(feature = "check")]
        check::leave(cause);
        #[cfg(feature = "count")]
        cpu::COUNTER.end(cpu::here(), cpu::time_stamp, cause, windows::machine());
    }

    /// Waits until another processor makes the condition false, and lets that processor enter the kernel meanwhile.
    pub fn wait_while(self, condition: impl Fn() -> bool) {
        #[cfg(feature = "check")]
        check::let_others_enter();
        while condition() {
            flush::relax();
        }
        #[cfg(feature = "check")]
        check::enter();
    }
}

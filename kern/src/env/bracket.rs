//! The bracket around every entry to the kernel.

#[cfg(feature = "check")]
use crate::env::check;
use crate::machine::{count, flush};

/// An entry to the kernel that is under way. A function that leaves the kernel for another environment takes it.
#[derive(Clone, Copy)]
#[must_use = "an entry has to end"]
pub struct Entry(());

impl Entry {
    /// Begins an entry to the kernel.
    pub fn begin() -> Entry {
        #[cfg(feature = "check")]
        check::enter();
        count::begin();
        Entry(())
    }

    /// Ends the entry. `cause` is the number that [`MachineInfo`](abi::window::MachineInfo) records for the longest one.
    pub fn end(self, cause: u64) {
        #[cfg(feature = "check")]
        check::leave(cause);
        count::end(cause);
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

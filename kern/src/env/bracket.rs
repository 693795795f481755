//! The bracket around every entry to the kernel.

use crate::env::check;
use crate::machine::{count, flush};
use abi::window::MachineInfo;
use core::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

/// Whether a processor is in the kernel. In a checking kernel only one is at a time, because tables must not change
/// while they are compared.
static ALONE: AtomicBool = AtomicBool::new(false);

/// An entry to the kernel that is under way. A function that leaves the kernel for another environment takes it.
#[derive(Clone, Copy)]
#[must_use = "an entry has to end"]
pub struct Entry(());

impl Entry {
    /// Begins an entry to the kernel.
    pub fn begin() -> Entry {
        be_alone();
        count::begin();
        Entry(())
    }

    /// Ends the entry. `cause` is the number that [`MachineInfo`] records for the longest one.
    pub fn end(self, cause: u64) {
        if cfg!(feature = "check") {
            if cause != MachineInfo::SWITCH {
                check::all();
            }
            ALONE.store(false, Release);
        }
        count::end(cause);
    }

    /// Waits until another processor makes the condition false, and lets that processor enter the kernel meanwhile.
    pub fn wait_while(self, condition: impl Fn() -> bool) {
        if cfg!(feature = "check") {
            ALONE.store(false, Release);
        }
        while condition() {
            flush::relax();
        }
        be_alone();
    }
}

fn be_alone() {
    if cfg!(feature = "check") {
        while ALONE.swap(true, Acquire) {
            flush::relax();
        }
        check::check_holders();
    }
}

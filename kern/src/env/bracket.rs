//! The bracket around every entry to the kernel.

use crate::env::check;
use crate::machine::{count, flush};
use abi::window::MachineInfo;
use core::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

/// In a checking kernel, one processor at a time is in the kernel: tables are to hold still while they are
/// compared.
static ALONE: AtomicBool = AtomicBool::new(false);

/// An entry to the kernel that is under way. Whoever leaves the kernel for another environment takes it.
#[derive(Clone, Copy)]
#[must_use = "an entry has to end"]
pub struct Entry(());

impl Entry {
    /// A cause: going over to another environment. No page map changes in that.
    pub const SWITCH: u64 = MachineInfo::SWITCH;

    /// An entry to the kernel begins.
    #[inline]
    pub fn begin() -> Entry {
        be_alone();
        count::begin();
        Entry(())
    }

    /// The entry ends; `cause` is what [`MachineInfo`] has as the cause of the longest one.
    #[inline]
    pub fn end(self, cause: u64) {
        if cfg!(feature = "check") {
            if cause != Entry::SWITCH {
                check::all();
            }
            ALONE.store(false, Release);
        }
        count::end(cause);
    }

    /// Wait for another processor, which may have to enter the kernel for it.
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

#[inline]
fn be_alone() {
    if cfg!(feature = "check") {
        while ALONE.swap(true, Acquire) {
            flush::relax();
        }
        check::check_holders();
    }
}

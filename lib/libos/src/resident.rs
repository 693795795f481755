//! Memory that the fault path may write: the section `.resident`.
//!
//! While a fault is being handled nothing may fault that the handling itself needs: a counter on a
//! copy-on-write page would fault in the middle of breaking copy-on-write. So whatever the fault
//! path writes stands in this section, which has pages to itself. The loader maps them writable at
//! once, and [`fork`](crate::fork) copies them at once.

use crate::Va;
use core::cell::Cell;

/// A variable of one environment, meant for the section `.resident`.
///
/// `T` is small and `Copy`: values are taken and replaced whole.
#[repr(transparent)]
pub struct Local<T>(Cell<T>);

// SAFETY: an environment is a single thread. The one piece of code that can run between two
// instructions of it is its own upcall, and that is entered only by an instruction that faults;
// accesses to resident memory do not, so every `get` and `set` is undivided.
unsafe impl<T: Copy> Sync for Local<T> {}

impl<T: Copy> Local<T> {
    /// A variable that starts with this value.
    pub const fn new(value: T) -> Local<T> {
        Local(Cell::new(value))
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> T {
        self.0.get()
    }

    /// Replace the value.
    #[inline]
    pub fn set(&self, value: T) {
        self.0.set(value);
    }

    /// Change the value.
    #[inline]
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.0.get();
        change(&mut value);
        self.0.set(value);
    }
}

unsafe extern "C" {
    static __resident_start: u8;
    static __resident_end: u8;
}

/// The pages of the section: the first address, and one past the last.
#[inline]
pub fn range() -> core::ops::Range<Va> {
    Va(&raw const __resident_start as u64)..Va(&raw const __resident_end as u64)
}

//! Memory that the fault path may write: the section `.resident`.
//!
//! While a fault is handled, nothing that the handling itself needs may fault: a counter on a copy-on-write page would
//! fault in the middle of breaking copy-on-write. So all variables that the fault path writes are in this section,
//! which has pages to itself. The loader maps them writable at once, and [`fork`](crate::fork) copies them at once.

use crate::{PAGE_SIZE, Va, door, layout::EXCEPTION_STACK_TOP};
use core::cell::{Cell, UnsafeCell};

/// A variable of one environment, meant for the section `.resident`.
///
/// `T` is small and `Copy`: values are read and replaced as a whole.
#[repr(transparent)]
pub struct Local<T>(Cell<T>);

// SAFETY: an environment is a single thread. Only its own upcall can run between two of its instructions, and only an
// instruction that faults enters the upcall; accesses to resident memory do not fault, so every `get` and `set` is
// atomic.
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

/// A larger value of one environment, meant for the section `.resident`: it is read and changed in place.
pub struct Guarded<T>(UnsafeCell<T>);

// SAFETY: an environment is a single thread, and nothing interrupts [`Guarded::edit`].
unsafe impl<T> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    /// A guarded value that starts as `value`.
    pub const fn new(value: T) -> Guarded<T> {
        Guarded(UnsafeCell::new(value))
    }

    /// Calls `f` with the value.
    #[inline]
    pub(crate) fn look<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        // SAFETY: no `edit` is in progress, since nothing interrupts it.
        f(unsafe { &*self.0.get() })
    }

    /// Calls `f` to change the value. `f` touches only resident memory and its own stack, of which it has little more
    /// than a page, and does not use this value otherwise.
    #[inline]
    pub(crate) fn edit<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        bring_stack_in();
        // SAFETY: the only reference. Only a fault handler of this environment could come between, and nothing that
        // `f` touches can fault.
        f(unsafe { &mut *self.0.get() })
    }
}

/// Makes sure that the next pages of the stack are present and writable. Exception stacks always are.
fn bring_stack_in() {
    if !in_handler() {
        door::touch_stack::<0>();
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

/// The size of the exception stack in pages.
pub const STACK_PAGES: u64 = 4;
/// The lowest address of the exception stack.
pub const STACK_LOW: Va = Va(EXCEPTION_STACK_TOP.0 - STACK_PAGES * PAGE_SIZE);

/// The number of active fault handlers, each interrupting the one before.
#[unsafe(link_section = ".resident")]
pub(crate) static DEPTH: Local<u32> = Local::new(0);

/// The number of faults that are being handled, each in the handler of the one before.
pub(crate) fn depth() -> u32 {
    DEPTH.get()
}

/// Resets the number of active handlers to `depth`.
pub(crate) fn set_depth(depth: u32) {
    DEPTH.set(depth);
}

/// Whether a fault is being handled.
#[inline]
#[must_use]
pub fn in_handler() -> bool {
    DEPTH.get() != 0
}

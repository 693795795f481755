//! Memory that the fault path may write: the section `.resident`.
//!
//! While a fault is being handled nothing may fault that the handling itself needs: a counter on a
//! copy-on-write page would fault in the middle of breaking copy-on-write. So whatever the fault
//! path writes stands in this section, which has pages to itself. The loader maps them writable at
//! once, and [`fork`](crate::fork) copies them at once.

use crate::layout::EXCEPTION_STACK_TOP;
use crate::{PAGE_SIZE, Va, door};
use core::cell::{Cell, UnsafeCell};

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

/// A larger value of one environment, meant for the section `.resident`: it is looked at and changed in
/// place.
pub struct Guarded<T>(UnsafeCell<T>);

// SAFETY: an environment is a single thread, and `edit` is not interrupted: see there.
unsafe impl<T> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    /// A value.
    pub const fn new(value: T) -> Guarded<T> {
        Guarded(UnsafeCell::new(value))
    }

    /// Look at it.
    #[inline]
    pub(crate) fn look<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        // SAFETY: nobody is in the middle of `edit`, since nothing interrupts that.
        f(unsafe { &*self.0.get() })
    }

    /// Change it. `f` touches resident memory and its own stack, of which it has no more than a
    /// page or so, and does not come back here.
    #[inline]
    pub(crate) fn edit<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        bring_stack_in();
        // SAFETY: the only reference. The one piece of code that could come between is a fault
        // handler of this very environment, and nothing that `f` touches can fault.
        f(unsafe { &mut *self.0.get() })
    }
}

/// See to it that the next two pages of the stack are there and writable. Exception stacks always
/// are.
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

/// Pages of the exception stack.
pub const STACK_PAGES: u64 = 4;
/// The lowest address of the exception stack.
pub const STACK_LOW: Va = Va(EXCEPTION_STACK_TOP.0 - STACK_PAGES * PAGE_SIZE);

/// How many handlers are under way, one interrupting the other.
#[unsafe(link_section = ".resident")]
pub(crate) static DEPTH: Local<u32> = Local::new(0);

/// How many faults are being handled now, one in the handler of the other.
pub(crate) fn depth() -> u32 {
    DEPTH.get()
}

/// Go back to so many.
pub(crate) fn set_depth(depth: u32) {
    DEPTH.set(depth);
}

/// Whether a fault is being handled now.
#[inline]
#[must_use]
pub fn in_handler() -> bool {
    DEPTH.get() != 0
}

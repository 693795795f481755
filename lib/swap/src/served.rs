//! The pager as an object that regions name.

use crate::disk::{Disk, Failure};
use crate::error::Error;
use crate::kernel::Evict;
use crate::swap::Swap;
use abi::Va;
use core::fmt;
use core::ops::Range;
use pager::{Cause, Inherit, Pager, Region, Resolution, Touch};
use replacement::Policy;
use spin::Mutex;

/// A [`Swap`] that serves regions of a program.
///
/// The permissions of the regions have [`abi::Perms::KEEP`]: a frame of the pool has several names, and must never be
/// copied instead of written.
///
/// The lock is free on every fault, unless the driver of the disk faults in a region of this very pager. That fault is not
/// resolved.
pub struct SwapPager<'a, D, P>(Mutex<State<'a, D, P>>);

struct State<'a, D, P> {
    swap: Option<Swap<'a, D, P>>,
    error: Option<Error>,
}

impl<'a, D: Disk, P: Policy> SwapPager<'a, D, P> {
    /// A pager that resolves no fault until [`SwapPager::begin`].
    #[must_use]
    pub const fn new() -> Self {
        SwapPager(Mutex::new(State { swap: None, error: None }))
    }

    /// Serves regions from now on.
    pub fn begin(&self, swap: Swap<'a, D, P>) {
        self.0.lock().swap = Some(swap);
    }

    /// Calls `f` with the pager, if it has begun and no fault is handled.
    pub fn with<T>(&self, f: impl FnOnce(&mut Swap<'a, D, P>) -> T) -> Option<T> {
        self.0.try_lock()?.swap.as_mut().map(f)
    }

    /// The last error of a fault, once: for the handler that gets the faults which no pager resolves.
    pub fn take_error(&self) -> Option<Error> {
        self.0.try_lock()?.error.take()
    }

    /// The last failure of the disk, once. It need not have been seen by a fault: a page whose write failed is still in
    /// memory.
    pub fn take_failure(&self) -> Option<Failure> {
        self.with(Swap::take_failure)?
    }
}

impl<D: Disk, P: Policy> Default for SwapPager<'_, D, P> {
    fn default() -> Self {
        SwapPager::new()
    }
}

impl<K: Evict, D: Disk + Send, P: Policy + Send> Pager<K> for SwapPager<'_, D, P> {
    fn name(&self) -> &'static str {
        "swap"
    }

    /// A page that cannot be read is not resolved: the program's fault handler may ask [`SwapPager::take_error`], and
    /// let the instruction run again. A lack of frames or of slots is a lack of memory.
    fn fault(&self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, abi::Error> {
        let Some(mut state) = self.0.try_lock() else { return Ok(Resolution::Unhandled) };
        let Some(swap) = state.swap.as_mut() else { return Ok(Resolution::Unhandled) };
        match swap.fault(kernel, touch, region) {
            Ok(true) => Ok(Resolution::Resume(Cause::Custom)),
            Ok(false) => Ok(Resolution::Unhandled),
            Err(error) => {
                state.error = Some(error);
                match error {
                    Error::Kernel(error) => Err(error),
                    Error::DiskFull | Error::AllPinned(_) | Error::Write(_) => Err(abi::Error::NoMemory(0)),
                    _ => Ok(Resolution::Unhandled),
                }
            }
        }
    }

    fn on_fork(&self) -> Inherit {
        Inherit::Refused
    }

    /// The pager knows which page is in a frame.
    fn can_move(&self) -> bool {
        false
    }

    fn explain(&self, say: &mut dyn FnMut(&dyn fmt::Display)) {
        if let Some(error) = self.0.try_lock().and_then(|state| state.error) {
            say(&error);
        }
    }

    fn discard(&self, kernel: &mut K, range: &Range<Va>) {
        self.with(|swap| swap.discard(kernel, range));
    }
}

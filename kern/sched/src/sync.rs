//! Memory that processors share: atomics, and cells that only the holder of a lock touches.

/// Words that processors share without a lock. The tests try every order of the accesses.
#[cfg(not(test))]
pub use core::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(test)]
pub use loom::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(not(test))]
pub(crate) use core::cell::Cell;
/// A cell for the tests, which find two processors that access it at once.
#[cfg(test)]
pub(crate) use loom::cell::Cell;

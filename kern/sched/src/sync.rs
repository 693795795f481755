//! What processors share: atomics, and cells that only the holder of a lock touches.

/// The words that processors share without a lock. The tests try every order of what happens to them.
#[cfg(not(test))]
pub use core::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(test)]
pub use loom::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(not(test))]
pub(crate) use core::cell::Cell;
/// As in `core`, but two processors in one at once are found.
#[cfg(test)]
pub(crate) use loom::cell::Cell;

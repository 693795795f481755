//! Page frames and page maps.
//!
//! This is the part of the kernel that makes no policy decisions and must never be wrong: which environment has which
//! page frame, with which rights. It is a separate crate so that it runs on the host too, against a model of the
//! machine with a TLB (see `tests/`).
//!
//! * [`Memory`] hands out page frames and counts references to them; each processor keeps a few free frames at hand.
//! * [`PageMap`] is one page map: four levels of page tables, edited through the direct map. Operations on runs of pages
//!   stay within a [`Budget`].
//! * [`Lock`] is the kernel's lock: a processor that waits for it serves requests of others, and counts the wait.
//! * [`Ranges`] are the ranges of physical memory at boot; [`Builder`] makes the kernel's own page tables.
//!
//! Invariants:
//! * The reference count of a frame is the number of present entries that name it, plus the kernel's own references. A
//!   frame with count 0 is on one free list and nowhere else. (An entry of a table that several page maps share is one
//!   entry.)
//! * An entry that points to a shared table lacks [EDIT](abi::Pte::EDIT), and nothing below such an entry changes, except
//!   that rights may be taken away: see `sharing`.
//! * An entry that points to a table has W if it has EDIT and is not [sealed](abi::Pte::SEALED).
//! * A table below the root has at least one nonempty entry, and its frame's metadata holds their number.
//! * If a page has another user, and its leaf a right of a sole user (W or MAY), the metadata of its table notes that.
//! * A leaf that is writable has the right to become writable ([`Pte::MAY`](abi::Pte::MAY)).
//! * An entry that a processor may have cached is invalidated before the frame that it named can be handed out again.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod budget;
mod build;
mod edit;
mod entry;
mod fast;
mod frames;
mod lock;
mod page_map;
mod pages;
mod ranges;
mod runs;
mod sharing;
mod teardown;
mod walk;

pub use budget::{Budget, unpinned};
pub use build::Builder;
pub use edit::{DEFER, Edit, FLUSH, FLUSH_EACH};
pub use frames::{FILL, FREE, Memory};
pub use lock::{Guard, Lock};
pub use page_map::{Editable, PageMap};
pub use pages::Page;
pub use ranges::Ranges;

use abi::window::{CpuInfo, FrameInfo};
use abi::{Frame, Va, page::TABLE_ENTRIES};
use core::sync::atomic::AtomicU64;

/// The entries of a table.
pub type Table = [AtomicU64; TABLE_ENTRIES];

/// The machine, as page maps need it. The kernel implements it once, the tests for each kind of simulation.
pub trait Machine: Sized + 'static {
    /// The entries of a frame that is used as a table.
    fn table(frame: Frame) -> &'static Table;
    /// The metadata of a frame.
    fn info(frame: Frame) -> &'static FrameInfo;
    /// The counters of all running processors.
    fn cpus() -> &'static [CpuInfo];
    /// The index of this processor in [`Machine::cpus`].
    fn cpu() -> usize;
    /// The counters of this processor.
    fn counts() -> &'static CpuInfo;
    /// Fills a frame with zeros.
    fn zero(frame: Frame);
    /// Copies a whole frame.
    fn copy(from: Frame, to: Frame);
    /// Called when frames are freed: checking kernels fill them with a pattern.
    fn poison(frames: impl Iterator<Item = Frame>);
    /// Called for words that should be zero: checking kernels check them.
    fn expect_zeros(words: &[AtomicU64]);
    /// Invalidates this processor's cached translations of one page of the page map with this root.
    fn invalidate(root: Frame, page: Va);
    /// Invalidates all of this processor's cached translations of the page map with this root.
    fn invalidate_all(root: Frame);
    /// Whether this processor has the page map with this root loaded.
    fn is_here(root: Frame) -> bool;
    /// Whether another processor may have the page map with this root loaded, or may load it at any time.
    fn is_elsewhere(root: Frame) -> bool;
    /// TLB shootdown: makes every other processor that has the page map loaded invalidate its cached translations.
    /// Returns when all of them have done so.
    fn flush_elsewhere(root: Frame);
    /// All page frames.
    fn memory() -> &'static Memory<Self>;
    /// Called repeatedly while a processor waits for a lock.
    fn relax();
}

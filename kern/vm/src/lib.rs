//! Page frames and page maps.
//!
//! This is the part of the kernel that decides nothing and must never be wrong: who holds which
//! page frame, with which rights. It is a crate of its own so that it runs on the host too, against
//! a model of the machine with a TLB (see `tests/`).
//!
//! * [`Memory`] hands out page frames and counts references to them; each processor has a few at hand.
//! * [`Space`] is one page map: four levels of tables, edited through the direct map.
//!   What is done to a run of pages is done within a [`Budget`].
//! * [`Lock`] is the kernel's lock: who waits for it serves others, and counts that it had to.
//! * [`Ranges`] are the pieces of physical memory, at boot; [`Builder`] makes the kernel's own page tables.
//!
//! What always holds:
//! * The reference count of a frame is the number of present entries that name it, plus the
//!   kernel's own references. A frame with count 0 is on the free list and nowhere else. (An entry of a table
//!   that several spaces share is one entry.)
//! * An entry that points to a table which somebody else has too is not writable, and nothing below such an
//!   entry is changed, but for rights that are taken away: see `tables`.
//! * A table below the root has at least one entry that is not empty, and knows how many.
//! * A leaf that is writable may be writable ([`Pte::MAY`](abi::Pte::MAY)).
//! * An entry that the processor may have cached is invalidated before the frame that it named
//!   can be handed out again.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod build;
mod edit;
mod entry;
mod frames;
mod lock;
mod pages;
mod ranges;
mod run;
mod short;
mod space;
mod tables;
mod teardown;
mod walk;

pub use build::Builder;
pub use edit::{FLUSH, FLUSH_EACH, PARK};
pub use frames::{FILL, FREE, Memory};
pub use lock::{Guard, Lock};
pub use pages::Page;
pub use ranges::Ranges;
pub use run::{Budget, unpinned};
pub use short::Released;
pub use space::Space;

use abi::window::{CpuInfo, FrameInfo};
use abi::{Frame, Va, page::TABLE_ENTRIES};
use core::sync::atomic::AtomicU64;

/// The entries of a table.
pub type Table = [AtomicU64; TABLE_ENTRIES];

/// What page maps need of the machine. The kernel implements it once, the tests once.
pub trait Machine {
    /// The entries of a frame that is used as a table.
    fn table(frame: Frame) -> &'static Table;
    /// The books about a frame.
    fn info(frame: Frame) -> &'static FrameInfo;
    /// What the processors that work have counted.
    fn cpus() -> &'static [CpuInfo];
    /// Which of them this is.
    fn cpu() -> usize;
    /// What this one has counted.
    fn counts() -> &'static CpuInfo;
    /// Fill a frame with zeros.
    fn zero(frame: Frame);
    /// Copy a whole frame.
    fn copy(from: Frame, to: Frame);
    /// A frame was freed: checking kernels fill it with a pattern.
    fn poison(_frame: Frame) {}
    /// These words are taken for zeros: checking kernels look.
    fn expect_zeros(_words: &[AtomicU64]) {}
    /// Forget what this processor cached about one page of the address space with this root.
    fn invalidate(root: Frame, page: Va);
    /// Forget all that this processor cached of the address space with this root.
    fn invalidate_all(root: Frame);
    /// Whether this processor has that address space loaded.
    fn is_here(_root: Frame) -> bool {
        true
    }
    /// Whether another processor may have that address space loaded, or may load it at any time.
    fn is_elsewhere(_root: Frame) -> bool {
        false
    }
    /// Let every other processor that has it loaded forget all that it cached of it. Returns when
    /// they have.
    fn flush_elsewhere(_root: Frame) {}
    /// Called again and again while a lock is waited for.
    fn relax() {
        core::hint::spin_loop();
    }
}

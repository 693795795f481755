//! Memory larger than the machine: a pager that keeps some pages in a pool of frames, and the others on a disk.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`slots`] | which places on the disk are free |
//! | [`mark`] | the words in page table entries |
//! | `bits` | sets of numbers |

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bits;
pub mod mark;
pub mod slots;

pub use mark::{Place, Slot};
pub use slots::{NotShared, Slots};

//! Memory larger than the machine: a pager that keeps some pages in a pool of frames, and the others on a disk.
//!
//! A page of a region of [`SwapPager`] is in a frame of the pool, or it is on the disk and its page table entry has a mark
//! that names the slot. What the page table says is written down nowhere else. `docs/swapping.md` explains how it works.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`served`] | the pager, as regions name it |
//! | `fault` | where the contents of a page come from |
//! | `discard` | pages that the program gives up |
//! | `read` | page-ins and read-ahead |
//! | `evict` | which pages leave, and their slots |
//! | `complete` | the end of requests, and failures |
//! | [`swap`] | what a pager knows, and how it is set up |
//! | `looks` | A bits, for the policy |
//! | `ahead` | streams of touches |
//! | `requests` | what the disk has not ended yet |
//! | [`pool`] | the frames, and what is in them |
//! | [`slots`] | which places on the disk are free |
//! | [`mark`] | the words in page table entries |
//! | [`compressed`] | compressed memory above the disk |
//! | [`disk`], [`kernel`] | what the pager asks of the disk and of the kernel |
//! | [`error`] | why a page was not brought in |
//! | `bits` | sets of numbers |
//! | [`check`] | what must hold, for tests |
//!
//! The pager allocates nothing: its memory is handed over, and must be resident. After set-up it needs no frame of the
//! system either, except for the page tables of its regions. To evict a page takes none at all.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ahead;
mod bits;
pub mod check;
mod complete;
pub mod compressed;
mod discard;
pub mod disk;
pub mod error;
mod evict;
mod fault;
pub mod kernel;
mod looks;
pub mod mark;
pub mod pool;
mod read;
mod requests;
pub mod served;
pub mod slots;
pub mod swap;

pub use compressed::{Codec, Compressed, CompressedCounts, Room};
pub use disk::{BATCH, Cause, Completion, Direction, Disk, Failure, Full, PoolFrame, RequestId};
pub use error::Error;
pub use kernel::Evict;
pub use mark::{Place, Slot};
pub use pool::{RESERVE, Record, State};
pub use requests::Request;
pub use served::SwapPager;
pub use slots::{NotShared, Slots};
pub use swap::{Counts, Memory, Settings, Swap};

//! A driver for virtio disks.
//!
//! A program that holds a disk drives it with this crate: it finds the device's registers ([`mod@config`]), gives the
//! device [`Memory`] for its rings, and starts it ([`Disk::start`]). It then submits [`Request`]s, several at a time, and
//! takes them back in the order in which the device completes them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mod@config`] | finds the structures of a virtio device in its PCI configuration space |
//! | [`registers`] | the registers, as the program makes them accessible |
//! | `features` | what device and driver agree on |
//! | `transport` | reset, features and the set-up of the queue: all accesses to registers |
//! | `limits` | what a disk can do, and which requests it is not asked |
//! | `memory` | the memory that driver and device share |
//! | `ring` | the queue: the crate `virtio-drivers`, and a guard against what the device writes into it |
//! | `disk` | requests, tickets and failures |
//! | [`error`] | why a disk did not start, or a request was refused or failed |
//!
//! The driver runs in the fault path of a pager. It allocates nothing, makes no system calls, waits for nothing without
//! a bound, and its state has a fixed size. Its code and data, the [`Memory`] and the [`Disk`] must be resident.
//!
//! The device is not trusted. Whatever it writes into rings and registers becomes an error. It can still return wrong
//! data: nothing but a checksum protects against that. The IOMMU confines it to the memory that it was given, and
//! device addresses are the program's own virtual addresses.

#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod config;
mod disk;
pub mod error;
mod features;
mod limits;
mod memory;
pub mod registers;
mod ring;
mod transport;

pub use disk::{Disk, Request, Ticket};
pub use error::{Cause, Failed, Refused, StartError, Violation};
pub use features::Features;
pub use limits::Limits;
pub use memory::{Memory, Segment};
pub use registers::{Registers, Structures};

use core::fmt;

/// The number of descriptors. A request takes one for each segment, and two more.
pub const QUEUE: usize = 128;
/// The number of requests that can be in flight.
pub const REQUESTS: usize = 32;
/// The number of segments that a request can have.
pub const SEGMENTS: usize = 32;
/// The number of bytes in a sector.
pub const SECTOR_SIZE: u32 = 512;

/// The number of a sector on a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sector(pub u64);

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sector {}", self.0)
    }
}

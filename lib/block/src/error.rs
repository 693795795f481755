//! Errors: of the start, of requests that are refused, and of requests that failed.

use crate::features::Features;
use crate::{QUEUE, Sector};
use abi::Va;
use core::fmt;
use thiserror::Error;

/// The reason why a disk did not start.
#[derive(Clone, Copy, PartialEq, Eq, Error, Debug)]
pub enum StartError {
    /// The device does not confirm its reset, so it may still write to memory. The payload is its status.
    #[error("the disk does not reset (status {0:#x}): stop the device, then start the disk again")]
    NotReset(u8),
    /// Registers are missing: the structure is shorter than the driver needs. The payload is its number of bytes.
    #[error("a structure of the disk has only {0} bytes: the device is broken")]
    TooFewRegisters(u32),
    /// The device does not offer these features, which the driver cannot do without.
    #[error("the disk lacks {0}: QEMU needs `disable-legacy=on,iommu_platform=on`")]
    Missing(Features),
    /// The device offered these features, but does not accept them.
    #[error("the disk does not accept {0}: the device is broken")]
    NotAccepted(Features),
    /// The device has a queue in use right after its reset.
    #[error("the queue of the disk is in use after a reset: the device is broken")]
    QueueInUse,
    /// The queue of the device is shorter than that of the driver. The payload is its length.
    #[error("the queue of the disk has only {0} entries, {needed} are needed (QEMU: queue-size=128)", needed = QUEUE)]
    QueueTooShort(u32),
    /// The device cannot send interrupts for its queue. The payload is the MSI-X vector that it read back.
    #[error("the disk refuses an interrupt (vector {0:#x}): QEMU needs `vectors=1` or more")]
    VectorRefused(u16),
    /// The notify register lies outside of its structure, at this offset.
    #[error("the notify register of the disk lies outside, at byte {0:#x}: the device is broken")]
    NotifyOutside(u64),
    /// The size of a block is not a power of two from 512 to 4096.
    #[error("the disk has blocks of {0} bytes: QEMU needs `logical_block_size` from 512 to 4096")]
    BlockSize(u32),
    /// The configuration of the device changed again and again while it was read.
    #[error("the configuration of the disk does not stop changing: start it again later")]
    Unstable,
    /// Another disk is being started. A page fault has interrupted it, and the fault handler must not wait for it.
    #[error("another disk is being started: start this one again later")]
    Busy,
}

/// The reason why a request was not submitted. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Error, Debug)]
pub enum Refused {
    /// The queue has no room for the request now.
    #[error("too many requests are in flight: complete some, then submit this one again")]
    Full,
    /// The disk does not run.
    #[error("the disk does not run, since {0}: start it again")]
    Stopped(Cause),
    /// The disk cannot be written.
    #[error("the disk is read-only: {0} cannot be written")]
    ReadOnly(Sector),
    /// The request reaches beyond the end of the disk.
    #[error("{sector} and the {after} after it are not all on the disk, which has {sectors} sectors", after = count - 1)]
    OutOfRange {
        /// The first sector of the request.
        sector: Sector,
        /// The number of sectors of the request.
        count: u64,
        /// The number of sectors of the disk.
        sectors: u64,
    },
    /// The request does not begin at a block.
    #[error("{sector} is not the first one of a block of {block} bytes")]
    UnalignedSector {
        /// The first sector of the request.
        sector: Sector,
        /// The number of bytes in a block.
        block: u32,
    },
    /// A segment does not consist of whole blocks.
    #[error("a segment of {bytes} bytes does not consist of whole blocks of {block} bytes")]
    UnalignedSegment {
        /// The number of bytes in the segment.
        bytes: u32,
        /// The number of bytes in a block.
        block: u32,
    },
    /// A request, or a segment of it, is empty.
    #[error("the request for {0} has no data, or an empty segment")]
    Empty(Sector),
    /// The request has more segments than driver or device can handle.
    #[error("the request has {segments} segments, {most} are possible: split it")]
    TooManySegments {
        /// The number of segments of the request.
        segments: usize,
        /// The number that is possible.
        most: usize,
    },
    /// A segment, or the sum of all, is larger than the device can handle.
    #[error("{bytes} bytes in one piece are too many, {most} are possible: split them")]
    TooLarge {
        /// The number of bytes.
        bytes: u64,
        /// The number that is possible.
        most: u32,
    },
    /// The disk has no cache, so a write is durable when it completes.
    #[error("the disk has no cache to flush: completed writes are durable already")]
    NothingToFlush,
}

/// The failure of a request that was in flight. What was to be written may be on the disk, wholly or in part.
#[derive(Clone, Copy, PartialEq, Eq, Error, Debug)]
pub struct Failed {
    /// The reason.
    pub cause: Cause,
    /// The first sector of the request, unless it was a flush.
    pub sector: Option<Sector>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.sector {
            Some(sector) => write!(f, "the request for {sector} failed: {}", self.cause),
            None => write!(f, "the flush failed: {}", self.cause),
        }
    }
}

/// The reason why a request failed, or why the disk stopped.
#[derive(Clone, Copy, PartialEq, Eq, Error, Debug)]
pub enum Cause {
    /// The device reports an error of its medium, or of the file behind it.
    #[error("the disk reports an error: check the medium, or the file that QEMU uses for it")]
    Io,
    /// The device does not know requests of this kind.
    #[error("the disk does not support such a request")]
    Unsupported,
    /// The IOMMU has stopped an access of the device to this address, so data may be missing.
    #[error("the disk was kept from accessing {0}: map the page to the device before it is used")]
    Blocked(Va),
    /// The device did not answer in time.
    #[error("the disk did not answer in time: start it again")]
    TimedOut,
    /// The device does not follow its specification.
    #[error("the disk is broken: {0}")]
    Broken(Violation),
    /// The program has stopped the disk, or not started it.
    #[error("the disk was stopped")]
    Stopped,
}

/// A violation of the specification by a device.
#[derive(Clone, Copy, PartialEq, Eq, Error, Debug)]
pub enum Violation {
    /// The device completed a request that is not in flight. The payload is the descriptor that it named.
    #[error("it completed a request that was not made (descriptor {0})")]
    NotInFlight(u16),
    /// The device changed an entry of the used ring while it was read.
    #[error("it changed a completed request (descriptor {0})")]
    Changed(u16),
    /// The status of a request has no meaning.
    #[error("it completed a request with the status {0:#x}")]
    BadStatus(u8),
    /// The device claims to have written more bytes than it could, or fewer than it had to.
    #[error("it says that it wrote {bytes} bytes of {expected}")]
    BadLength {
        /// The number of bytes that the device claims to have written, with the status.
        bytes: u32,
        /// The number of bytes that the request has room for, with the status.
        expected: u32,
    },
}

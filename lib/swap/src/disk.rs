//! The disk, as the pager uses it.
//!
//! A request moves several frames of the pool to consecutive slots, or back. Several requests are in flight at once, and
//! end in any order. The device reaches every frame of the pool at all times, so a request needs no call that maps one.

use crate::mark::Slot;
use core::fmt;

/// The greatest number of pages that one request moves.
pub const BATCH: usize = 32;

/// A frame of the pool, by its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PoolFrame(pub u32);

/// A request, by its place in the pager's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(pub u8);

/// The direction of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the disk to frames.
    Read,
    /// From frames to the disk.
    Write,
}

/// A disk that moves pages between slots and the frames of a pool.
pub trait Disk {
    /// Starts to move frames to or from consecutive slots, from `first` on. There are at least one and at most [`BATCH`].
    ///
    /// # Errors
    /// [`Full`]: as many requests are in flight as the disk can have. Nothing was started.
    fn submit(
        &mut self,
        request: RequestId,
        direction: Direction,
        first: Slot,
        frames: &[PoolFrame],
    ) -> Result<(), Full>;

    /// A request that has ended, if there is one. Each is returned once. From then on the device does not use its
    /// frames, whatever the result is.
    fn poll(&mut self) -> Option<Completion>;

    /// Waits until a request has ended. `None`: no request is in flight.
    ///
    /// A device that does not answer until the deadline of the driver is reset, and its requests end with
    /// [`Cause::Deadline`].
    fn wait(&mut self) -> Option<Completion>;

    /// How many of these slots, from the first on, one request can read: at least one. A disk may have several places.
    fn together(&self, _first: Slot, count: usize) -> usize {
        count
    }

    /// Told when a slot has no owner any more: its contents are not needed.
    fn forget(&mut self, _slot: Slot) {}
}

/// The end of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The request.
    pub request: RequestId,
    /// Whether all pages were moved. If not, any of them may be.
    pub result: Result<(), Failure>,
}

/// Why a request failed, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The reason.
    pub cause: Cause,
    /// The first sector that was not moved, or the first sector of the request if that is not known.
    pub sector: u64,
}

/// The reason for which a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The disk could not read or write the sector.
    Medium,
    /// The disk has no such sector, or does not know the request.
    Refused,
    /// The device tried to use memory that it may not use.
    Memory,
    /// The disk did not answer in time.
    Deadline,
    /// The driver has lost the request.
    Lost,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text = match self.cause {
            Cause::Medium => "the disk could not read or write",
            Cause::Refused => "the disk refused",
            Cause::Memory => "the device could not reach the memory for",
            Cause::Deadline => "the disk did not answer in time for",
            Cause::Lost => "the driver has lost the request for",
        };
        write!(f, "{text} sector {}", self.sector)
    }
}

/// As many requests are in flight as the disk can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

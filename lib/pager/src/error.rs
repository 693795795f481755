//! Errors of operations on ranges and regions.

use abi::Va;
use core::fmt;

/// The reason why an address space was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The kernel refused a call. Earlier changes stay done, and the regions are as requested: the operation can be
    /// repeated.
    Kernel(abi::Error),
    /// A range of no pages.
    Empty(Va),
    /// The address or length is not a multiple of the page size.
    Unaligned(u64),
    /// The address is not in the user's part of the address space, or the range leaves it.
    OutsideUser(Va),
    /// The range overlaps a region, at this address.
    Overlap(Va),
    /// No region is at this address.
    NoRegion(Va),
    /// No gap of this many bytes is left in the part of the address space for mappings.
    NoSpace(u64),
    /// The table of regions is full: it has this many slots.
    TooManyRegions(usize),
    /// The region at this address cannot be used in that way.
    BadProtection(Va),
    /// A part of a file that lies beyond its end, at this offset.
    PastEnd(u64),
    /// The pager of the region at this address does not support the change.
    NotSupported(Va),
}

impl From<abi::Error> for Error {
    fn from(error: abi::Error) -> Error {
        Error::Kernel(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Kernel(error) => fmt::Display::fmt(error, f),
            Error::Empty(va) => write!(f, "a range without pages at {va}"),
            Error::Unaligned(value) => write!(f, "{value:#x} is not a multiple of the page size"),
            Error::OutsideUser(va) => write!(f, "the range at {va} is not in the user's part"),
            Error::Overlap(va) => write!(f, "there is a region at {va} already"),
            Error::NoRegion(va) => write!(f, "there is no region at {va}"),
            Error::NoSpace(bytes) => write!(f, "no gap of {bytes:#x} bytes is left in the address space"),
            Error::TooManyRegions(most) => write!(f, "there are {most} regions, and no room for another"),
            Error::BadProtection(va) => write!(f, "the region at {va} cannot be used in that way"),
            Error::PastEnd(offset) => write!(f, "offset {offset:#x} is behind the end of the file"),
            Error::NotSupported(va) => write!(f, "the pager of the region at {va} does not do that"),
        }
    }
}

impl core::error::Error for Error {}

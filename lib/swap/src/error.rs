//! The reasons for which a page was not brought in.

use crate::disk::{Failure, PoolFrame};
use abi::Va;
use core::fmt;

/// The reason why a page was not brought in. No contents are lost: every page is where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The kernel refused a call.
    Kernel(abi::Error),
    /// The page at this address could not be read. It may be possible later.
    Read(Va, Failure),
    /// No frame could be freed, because pages could not be written.
    Write(Failure),
    /// No frame could be freed, because no slot is free.
    DiskFull,
    /// No frame could be freed: each of this many is pinned, for instance because another environment has its page.
    AllPinned(usize),
    /// The address is below the base of the pager, or more than 16 TiB above.
    OutOfRange(Va),
    /// The policy did not accept a page: it has nodes for fewer frames than the pool has.
    Policy(replacement::Error),
    /// Memory for the pager is missing: this many elements are needed.
    TooLittle(&'static str, usize),
    /// At set-up, no page is mapped at this frame of the pool, or it has other users than frame 0 has.
    BadPool(PoolFrame),
}

impl From<abi::Error> for Error {
    fn from(error: abi::Error) -> Error {
        Error::Kernel(error)
    }
}

impl From<replacement::Error> for Error {
    fn from(error: replacement::Error) -> Error {
        Error::Policy(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Kernel(error) => fmt::Display::fmt(error, f),
            Error::Read(va, failure) => write!(f, "the page at {va} could not be read: {failure}"),
            Error::Write(failure) => write!(f, "no page could be evicted: {failure}"),
            Error::DiskFull => f.write_str("no page could be evicted: the disk is full"),
            Error::AllPinned(frames) => write!(f, "no page could be evicted: all {frames} are pinned"),
            Error::OutOfRange(va) => write!(f, "{va} is not in the range of the pager"),
            Error::Policy(error) => fmt::Display::fmt(error, f),
            Error::TooLittle(what, needed) => write!(f, "there are too few {what}: {needed} are needed"),
            Error::BadPool(frame) => write!(f, "frame {} of the pool is missing, or has other users", frame.0),
        }
    }
}

impl core::error::Error for Error {}

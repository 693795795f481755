//! Errors of libos: those of the kernel, and a few of its own.

use core::fmt;
use executable::BadElf;

/// An error of libos.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The kernel refused a call.
    Kernel(abi::Error),
    /// The boot archive has no file of this name.
    NoSuchFile,
    /// The boot archive is missing, or is not a TAR file.
    NoArchive,
    /// A range of memory, or a region, is not valid for this operation.
    Memory(pager::Error),
    /// The file is not a program that can be run, for this reason.
    BadElf(BadElf),
    /// A fault handler cannot do this.
    InHandler,
    /// An argument holds [`ARG_SEPARATOR`](abi::boot::ARG_SEPARATOR), or the arguments are too long.
    BadArgument,
}

impl From<abi::Error> for Error {
    fn from(error: abi::Error) -> Error {
        Error::Kernel(error)
    }
}

impl From<pager::Error> for Error {
    fn from(error: pager::Error) -> Error {
        match error {
            pager::Error::Kernel(error) => Error::Kernel(error),
            error => Error::Memory(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Kernel(error) => fmt::Display::fmt(error, f),
            Error::Memory(error) => fmt::Display::fmt(error, f),
            Error::NoSuchFile => f.write_str("no such file in the boot archive"),
            Error::NoArchive => f.write_str("there is no boot archive"),
            Error::BadElf(reason) => write!(f, "not a program: {reason}"),
            Error::InHandler => f.write_str("this cannot be done in a fault handler"),
            Error::BadArgument => f.write_str("an argument cannot be passed on"),
        }
    }
}

impl core::error::Error for Error {}

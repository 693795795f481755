//! Every error of every call, with its cause and the offending value.

use crate::Status;
use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a call did nothing. The payload is the offending value.
        ///
        /// A call that returns an error has changed nothing, unless the description of the call
        /// says otherwise.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Error {
            $($(#[$doc])* $name(u64),)*
        }

        impl Error {
            /// The two result registers `(rax, rdx)` that stand for this error.
            #[inline]
            #[must_use]
            pub const fn encode(self) -> (u64, u64) {
                match self {
                    $(Error::$name(value) => (ERROR | $code, value),)*
                }
            }

            /// Decodes the result registers of a call.
            ///
            /// # Errors
            /// The error that they stand for, if bit 63 of `rax` is set.
            #[inline]
            pub const fn decode(rax: u64, rdx: u64) -> Result<(u64, u64), Error> {
                if rax & ERROR == 0 {
                    return Ok((rax, rdx));
                }
                Err(match rax & !ERROR {
                    $($code => Error::$name(rdx),)*
                    _ => Error::Unknown(rax),
                })
            }

            /// One error of each kind, all with this value, in the order of their codes.
            #[must_use]
            pub const fn all(value: u64) -> [Error; [$($code),*].len()] {
                [$(Error::$name(value)),*]
            }
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                let (text, value) = match *self {
                    $(Error::$name(value) => ($text, value),)*
                };
                f.write_str(text)?;
                self.show(value, f)
            }
        }
    };
}

const ERROR: u64 = 1 << 63;

errors! {
    /// No call has this number.
    BadCall = 1, "no call has this number";
    /// No living environment has this id.
    BadEnv = 2, "no living environment has this id";
    /// The environment is neither the caller nor a child of the caller.
    NotYours = 3, "the environment is neither the caller nor a child of the caller";
    /// The address does not have the required alignment.
    Unaligned = 4, "the address is not aligned";
    /// This call may not name the address: it is in a window, in the kernel's half, or not canonical, or the run of
    /// pages leaves the user's part.
    BadAddress = 5, "the address is outside the part of the address space that calls may name";
    /// No page is mapped at this address.
    NotMapped = 6, "no page is mapped at the address";
    /// A page is mapped at this address, and this call would have lost it.
    Mapped = 7, "a page is mapped at the address";
    /// A user buffer cannot be read (or written) at this address: bring the page in and call again.
    Fault = 8, "the buffer is not accessible at the address";
    /// The environment has the page at this address with fewer rights than were asked for.
    NoRight = 9, "the page at the address is not held with the rights asked for";
    /// Permission bits that are undefined, belong to the kernel, or exclude each other.
    BadPerms = 10, "bad permission bits";
    /// A count of zero, or one that is too large.
    BadCount = 11, "bad count";
    /// A software word of more than 40 bits.
    BadWord = 12, "the word has more than 40 bits";
    /// Not a status that can be set, or not an exit status of a program.
    BadStatus = 13, "bad status";
    /// The environment is in a state (the value) that does not allow the call.
    BadState = 14, "the environment is in a state that does not allow it";
    /// The page at this address is pinned: it belongs to a registered exception stack, or a running device can access it.
    Pinned = 15, "the page is pinned by an exception stack or a running device";
    /// The page at this address must have no other user, and has one.
    Shared = 16, "the page has another user";
    /// The page at this address is executable, and must not be.
    Executable = 17, "the page is executable";
    /// No page frame is left. The value is the number of free frames.
    NoMemory = 18, "out of page frames";
    /// No slot is left for another environment. The value is the number of slots.
    NoEnvs = 19, "out of environments";
    /// The environment is not waiting for a message from the caller.
    NotReceiving = 20, "the environment is not receiving";
    /// The caller has no such child (0: no child at all).
    NoChild = 21, "no such child";
    /// The page frame at this address has the greatest reference count that can be stored.
    TooManyRefs = 22, "the page frame has too many references";
    /// Only the first environment may do this. The value is its id.
    NotFirst = 23, "only the first environment may do this";
    /// Undefined flags.
    BadFlags = 24, "bad flags";
    /// An operation in a batch that is not a page call.
    BadOp = 25, "not a page operation";
    /// The page at this address is below a shared table, so it cannot be changed before the table is owned. The value
    /// is the first address that the table translates, plus the level of the entry that points to it.
    TableShared = 26, "the page is below a shared table (address + level)";
    /// No other environment has this table: unmap its pages one by one instead. The value is the address.
    NotShared = 27, "nobody else has the table at the address";
    /// Not a level of an entry that points to a table: 2, 3 or 4.
    BadLevel = 28, "bad level";
    /// An error code that this version does not know. Never returned by a kernel of this version.
    Unknown = 29, "unknown error code";
    /// No device has this index.
    BadDevice = 30, "no device has this index";
    /// The device is in use. The value is its environment, or 0 if that has ended: then somebody still maps the device's
    /// registers.
    Taken = 31, "the device is in use (its environment)";
    /// This many ticks have passed, and no message came.
    TimedOut = 32, "no message came in time";
    /// The environment is a device, which has no processor and shares no tables. The value is its id.
    IsDevice = 33, "the environment is a device";
    /// The device did not stop in the time of one call. The value is its index. It stays as it is: call again.
    NotReset = 34, "the device has not finished its reset";
}

impl Error {
    /// Prints the value in its own format, or nothing if it has no meaning.
    fn show(self, value: u64, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            // No frame is free, or no child was named: the text is enough.
            Error::NoMemory(0) | Error::NoChild(0) => Ok(()),
            Error::NoMemory(_) => write!(f, " ({value} free)"),
            Error::NoEnvs(_) => write!(f, " (all {value} are in use)"),
            Error::BadCall(_) | Error::BadCount(_) | Error::BadStatus(_) | Error::BadLevel(_) => {
                write!(f, " ({value})")
            }
            Error::BadDevice(_) | Error::NotReset(_) => write!(f, " ({value})"),
            Error::TimedOut(_) => write!(f, " ({value} ticks)"),
            Error::BadState(_) => match Status::from_number(value) {
                Some(status) => write!(f, " ({status:?})"),
                None => write!(f, " ({value})"),
            },
            _ => write!(f, " ({value:#x})"),
        }
    }
}

impl core::error::Error for Error {}

//! Types that describe a page fault and its result.

use abi::{Pte, Va};

/// The kind of access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// A page fault, as pagers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The address that was touched.
    pub va: Va,
    /// The kind of access.
    pub access: Access,
    /// The page table entry: nothing, a mark, or a page that does not allow the access.
    pub entry: Pte,
}

impl Touch {
    /// Whether the access was a write.
    #[inline]
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.access, Access::Write)
    }
}

/// Whether a fault was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// The instruction can run again.
    Resume(Cause),
    /// The fault is for the next handler; if no handler resolves it, the program ends.
    Unhandled,
}

/// The cause of a fault, for statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Cause {
    /// A read of untouched memory: the shared page of zeros was mapped.
    ZeroMap,
    /// A write to untouched memory: a fresh page of zeros was mapped.
    ZeroFill,
    /// A write to a shared page: it was copied, or became writable if it had no other users.
    Copy,
    /// A write to a page that is shared on purpose: the tables above it had to be made private.
    Unshared,
    /// A page of a file was brought in.
    FilePage,
    /// The stack grew.
    StackGrowth,
    /// A pager of the program resolved the fault.
    Custom,
}

impl Cause {
    /// The number of causes.
    pub const COUNT: usize = Cause::Custom as usize + 1;
}

/// The page that a pager puts into an empty entry, if that is known without asking the pager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Only the pager knows.
    Ask,
    /// No page, ever.
    Never,
    /// A page of zeros, as [`Zeros`](crate::Zeros) does; a fresh page is counted under this cause.
    Zeros(Cause),
    /// A page of a file, as [`File`](crate::File) does.
    File,
}

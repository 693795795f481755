//! A page fault in words: what was touched, and what came of it.

use abi::{Pte, Va};

/// What an instruction wanted of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read it.
    Read,
    /// To write it.
    Write,
    /// To execute it.
    Fetch,
}

/// A page fault, as pagers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The address that was touched.
    pub va: Va,
    /// How.
    pub access: Access,
    /// What the page table holds there: nothing, a mark, or a page that does not allow the access.
    pub entry: Pte,
}

impl Touch {
    /// Whether the page was to be written.
    #[inline]
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.access, Access::Write)
    }
}

/// Whether a fault was resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// The instruction can be run again.
    Resume(Cause),
    /// Somebody else must see to it; if nobody does, the program ends.
    Unhandled,
}

/// What was behind a fault: for counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Cause {
    /// Untouched memory was read: the page of zeros that everybody shares was mapped.
    ZeroMap,
    /// Untouched memory was written: a fresh page of zeros.
    ZeroFill,
    /// A shared page was written: a copy, or the page itself if nobody else had it.
    Copy,
    /// A page was written that is shared on purpose, but the table above had to be made private.
    Unshared,
    /// A page of a file.
    FilePage,
    /// The stack grew.
    StackGrowth,
    /// A pager of the program's own.
    Custom,
}

impl Cause {
    /// How many there are.
    pub const COUNT: usize = Cause::Custom as usize + 1;
}

/// What a pager puts where nothing is yet, if that can be said without asking it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Only the pager knows.
    Ask,
    /// Nothing, ever.
    Never,
    /// What [`Zeros`](crate::Zeros) does; a fresh page is counted as this.
    Zeros(Cause),
    /// What [`File`](crate::File) does.
    File,
}

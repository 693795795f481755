//! The differences that a check may find.

use abi::{Frame, Level, Pte, Va};
use core::fmt::{Display, Formatter, Result};

/// A difference between the page tables and the metadata, or an entry that must not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Difference {
    /// Entries name a frame more often, or less often, than its reference count says.
    References { frame: Frame, va: Va, level: Option<Level>, refs: u64, named: u64 },
    /// The metadata of a table has a wrong number of entries.
    Entries { table: Frame, found: u32, recorded: u32 },
    /// The frames in use and the free ones are not all frames.
    Frames { used: u64, free: u64, total: u64 },
    /// An entry that is not present is no mark either.
    Mark { va: Va, pte: Pte },
    /// An entry that points to a table has wrong rights, or claims that a shared table is not shared.
    Pointer { va: Va, pte: Pte, refs: u32 },
    /// A table does not note that a page has other users, although its entry has a right of a sole user.
    Others { va: Va, pte: Pte, refs: u32 },
    /// A page has a forbidden bit or combination of rights.
    Page { va: Va, pte: Pte, archive: bool },
    /// The self map does not point to its own table, or can be written.
    SelfMap { root: Frame, pte: Pte },
    /// The windows are not the kernel's, or can be written.
    Windows { root: Frame, pte: Pte, expected: Frame },
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter) -> Result {
        match *self {
            Difference::References { frame, va, level: Some(level), refs, named } => {
                write!(f, "{frame:?} at {va} ({level:?}): {refs} references, {named} entries")
            }
            Difference::References { frame, refs, named, .. } => {
                write!(f, "root {frame:?}: {refs} references, {named} entries and page maps")
            }
            Difference::Entries { table, found, recorded } => {
                write!(f, "table {table:?}: {found} entries, {recorded} in the metadata")
            }
            Difference::Frames { used, free, total } => write!(f, "{used} frames used, {free} free, {total} in all"),
            Difference::Mark { va, pte } => write!(f, "mark at {va}: {:#x}", pte.0),
            Difference::Pointer { va, pte, refs } => {
                write!(f, "table at {va}: {pte:?} ({:#x}), {refs} references", pte.0)
            }
            Difference::Others { va, pte, refs } => write!(f, "page {va}: {pte:?}, {refs} references not noted"),
            Difference::Page { va, pte, archive } => {
                write!(f, "page {va}{}: {pte:?} ({:#x})", if archive { " of the archive" } else { "" }, pte.0)
            }
            Difference::SelfMap { root, pte } => write!(f, "self map in {root:?}: {pte:?}"),
            Difference::Windows { root, pte, expected } => {
                write!(f, "windows in {root:?}: {pte:?}, not {expected:?}, or writable")
            }
        }
    }
}

//! Page replacement: which page a pager gives up when it needs a frame.
//!
//! A pager keeps some pages of its range in memory and the others on a disk. For every page that it brings in, it must
//! evict another one as soon as no frame is left. A [`Policy`] chooses it. The better the choice, the fewer pages must be
//! brought in again.
//!
//! | policy | what it keeps | what it asks of the pager |
//! | --- | --- | --- |
//! | [`Lirs`] | pages whose last two accesses were close together. The one to take, if nothing is known | scans, looks |
//! | [`S3Fifo`] | pages that were accessed again, or brought in again | looks |
//! | [`TwoQueues`] | pages that were brought in again | looks |
//! | [`Clock`] | pages that were accessed lately | looks |
//!
//! A pager sees page faults and the A bits of page table entries, but not the accesses between them. A policy learns of
//! accesses in two ways. It has the pager *look* at a page that may be evicted. And it may want *scans*: now and then the
//! pager tells all pages that were accessed. `docs/replacement.md` shows a pager that feeds any policy, and what each
//! policy achieves.
//!
//! The pager lends the memory, one slice of nodes, and nothing else is allocated: a policy runs in the fault handler. All
//! operations take constant time on average, as long as most pages can be evicted.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod clock;
pub mod lirs;
mod list;
mod nodes;
mod queues;
pub mod s3_fifo;
pub mod two_queues;

pub use clock::Clock;
pub use lirs::Lirs;
pub use nodes::Node;
pub use s3_fifo::S3Fifo;
pub use two_queues::TwoQueues;

use core::fmt;

/// A page, by its number in the range that the pager serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Page(pub u32);

/// The answer of a pager that has looked at a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The A bit is clear: nobody has accessed the page since it was last cleared.
    Idle,
    /// The A bit was set, and the pager has cleared it.
    Accessed,
    /// The page cannot be evicted now, for example while a device writes to it.
    Pinned,
}

/// Chooses the pages that a pager evicts.
///
/// A page is *present* from [`Policy::insert`] until [`Policy::evict`] returns it or [`Policy::remove`] names it. A
/// policy may remember evicted pages, its *ghosts*, in nodes that no present page needs.
///
/// The access that makes a pager bring in a page sets its A bit, too, after the pager has mapped it. The pager need not
/// clear the bit: every policy expects this.
pub trait Policy {
    /// Notes that a page has been brought in.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no memory for the page. The policies of this crate also return [`Error::Present`] for a
    /// page that is present.
    fn insert(&mut self, page: Page) -> Result<(), Error>;

    /// Chooses a page to evict, which is not present afterwards. Returns nothing if all pages are pinned.
    ///
    /// Calls `look` for pages that may be chosen: the pager reads the A bit and clears it. A pinned page counts as
    /// accessed. A page that is accessed all the time can be chosen nevertheless, if there is no better one.
    fn evict(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page>;

    /// Notes that a page is gone for another reason, for example because its address was unmapped. It may be a page
    /// that is not present.
    fn remove(&mut self, page: Page);

    /// Notes that a scan has found the A bit of a page set, and cleared it.
    fn accessed(&mut self, _page: Page) {}

    /// The number of pages that are brought in between two scans, if the policy wants scans.
    ///
    /// A scan looks at all present pages, in the order of their addresses, before the next page is evicted.
    fn scan_interval(&self) -> Option<usize> {
        None
    }

    /// The number of present pages.
    fn present(&self) -> usize;

    /// The number of ghosts.
    fn ghosts(&self) -> usize {
        0
    }

    /// Checks everything that the policy has noted, for tests. The time grows with the number of nodes.
    ///
    /// # Errors
    /// The first contradiction.
    fn check(&self) -> Result<(), Inconsistent> {
        Ok(())
    }
}

/// The reason why a page was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No node is left for this page: one must be evicted first.
    Full(Page),
    /// This page is present already.
    Present(Page),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Full(Page(page)) => write!(f, "no node is left for page {page}"),
            Error::Present(Page(page)) => write!(f, "page {page} is present already"),
        }
    }
}

impl core::error::Error for Error {}

/// A contradiction in what a policy has noted: a bug in the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inconsistent {
    what: &'static str,
    page: Page,
}

impl Inconsistent {
    pub(crate) fn unless(right: bool, what: &'static str, page: Page) -> Result<(), Inconsistent> {
        if right { Ok(()) } else { Err(Inconsistent { what, page }) }
    }
}

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "page {} {}", self.page.0, self.what)
    }
}

impl core::error::Error for Inconsistent {}

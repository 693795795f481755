//! The kernel, as a pager uses it that evicts pages.

use abi::{EnvId, Frame, PAGE_SIZE, PageOp, Perms, Va};
use arrayvec::ArrayVec;
use pager::PageCalls;

/// The caller, as an environment.
pub(crate) const ME: EnvId = EnvId::SELF;

/// The kernel, as a pager that evicts pages uses it.
///
/// The kernel's `mark` replaces a page that is present by a mark: the table stays, and no processor has a translation
/// to the page afterwards. So an eviction takes one operation, and never needs memory.
pub trait Evict: PageCalls {
    /// How many entries of page tables name a frame.
    fn references(page: Frame) -> u32;

    /// Replaces pages by marks (or by nothing, where the word is 0), in as few calls as possible. There are at most
    /// [`BATCH`](crate::disk::BATCH). They come in ascending order of addresses.
    ///
    /// # Errors
    /// That of the first page that could not be replaced. Those before it are done.
    #[inline]
    fn evict(&mut self, marks: &[(Va, u64)]) -> Result<(), abi::Error> {
        let ops = marks.iter().map(|&(va, word)| PageOp::mark(ME, va, 1, word));
        self.ops(&ops.collect::<ArrayVec<PageOp, { crate::disk::BATCH }>>())
    }

    /// Fills a page of the pool with zeros.
    #[inline]
    fn zero(&mut self, page: Va) {
        let zeros = self.zeros();
        self.copy(zeros, page, PAGE_SIZE);
    }
}

/// Operations that map pages of the caller, which are writable at `source`, at `va` too, with fresh A and D bits.
///
/// A page that is mapped read-only could never become writable later. So it is mapped writable first.
pub(crate) fn map(source: Va, va: Va, pages: u32, perms: Perms) -> impl Iterator<Item = PageOp> {
    let first = if perms.contains(Perms::WRITE) { perms } else { (perms - Perms::EXEC) | Perms::WRITE };
    let then = (first != perms).then(|| PageOp::protect(ME, va, pages, perms));
    [Some(PageOp::map(ME, source, ME, va, pages, first)), then].into_iter().flatten()
}

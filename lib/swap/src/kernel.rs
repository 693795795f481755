//! The kernel, as a pager uses it that evicts pages.

use abi::{EnvId, Frame, PAGE_SIZE, PageOp, Perms, Va};
use arrayvec::ArrayVec;
use pager::PageCalls;

/// The caller, as an environment.
pub(crate) const ME: EnvId = EnvId::SELF;

/// The kernel, as a pager that evicts pages uses it.
///
/// The kernel can replace a page that is present by a mark: the table stays, and no processor has a translation to the
/// page afterwards. So an eviction takes one operation, and never needs memory.
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
        let mut ops = ArrayVec::<PageOp, { crate::disk::BATCH }>::new();
        ops.extend(marks.iter().map(|&(va, word)| match word {
            0 => PageOp::unmap(ME, va, 1),
            word => PageOp::mark_over(ME, va, 1, word),
        }));
        self.ops(&ops)
    }

    /// Fills a page of the pool with zeros.
    #[inline]
    fn zero(&mut self, page: Va) {
        let zeros = self.zeros();
        self.copy(zeros, page, PAGE_SIZE);
    }
}

/// Calls `each` with the operations that map pages of the caller, which are writable at `source`, at `va` too, with fresh
/// A and D bits.
///
/// A page that is mapped read-only could never become writable later. So it is mapped writable first.
pub(crate) fn map<E>(
    source: Va,
    va: Va,
    pages: u32,
    perms: Perms,
    mut each: impl FnMut(PageOp) -> Result<(), E>,
) -> Result<(), E> {
    let first = if perms.contains(Perms::WRITE) { perms } else { (perms - Perms::EXEC) | Perms::WRITE };
    each(PageOp::map(ME, source, ME, va, pages, first))?;
    if first == perms { Ok(()) } else { each(PageOp::protect(ME, va, pages, perms)) }
}

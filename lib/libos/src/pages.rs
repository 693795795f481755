//! Pages that are filled: in place, for pagers, or to be handed to another environment.
//!
//! An environment has no window on a child's memory. To put something there, a page is allocated
//! here, at an address kept for that, filled, and mapped into the child.

use crate::layout::SCRATCH;
use crate::{EnvId, PAGE_SIZE, Perms, Va, sys};

/// Where the pages are.
const WINDOW: Va = Va(SCRATCH.0 + 0x40_0000);
/// How many pages there can be.
pub(crate) const MAX_PAGES: u64 = 64;

/// Fresh zeroed pages, removed from here when this is dropped.
///
/// There must be one at a time only; who makes one refuses to run in a fault handler.
pub(crate) struct NewPages(u64);

impl NewPages {
    /// So many pages, 1 to [`MAX_PAGES`].
    pub(crate) fn new(pages: u64) -> sys::Result<NewPages> {
        assert!(pages <= MAX_PAGES, "too many pages at once");
        sys::alloc(EnvId::SELF, WINDOW, pages, Perms::WRITE)?;
        Ok(NewPages(pages))
    }

    /// Their contents.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages were allocated at this address, nothing else uses it, and they stay
        // as long as `self`, from which the reference is borrowed.
        unsafe { core::slice::from_raw_parts_mut(WINDOW.0 as *mut u8, (self.0 * PAGE_SIZE) as usize) }
    }

    /// Put them into another environment as well.
    pub(crate) fn map(&self, env: EnvId, va: Va, perms: Perms) -> sys::Result<()> {
        sys::map(EnvId::SELF, WINDOW, env, va, self.0, perms)
    }
}

impl Drop for NewPages {
    fn drop(&mut self) {
        let _ = sys::unmap(EnvId::SELF, WINDOW, self.0);
    }
}

/// Put a fresh page at `va`, let `fill` write it (it begins as zeros), and let it be used as `perms` say.
/// This is what most pagers do.
///
/// Whatever was at `va` is lost.
///
/// # Errors
/// As [`sys::alloc`]. `BadPerms` if the rights exclude each other.
pub fn fill(va: Va, perms: Perms, fill: impl FnOnce(&mut Page)) -> sys::Result<()> {
    let page = va.page();
    sys::alloc(EnvId::SELF, page, 1, (perms - Perms::EXEC) | Perms::WRITE)?;
    // SAFETY: the page was allocated just now, at an address that the caller gave away, so this is the only
    // reference to it; a program that takes a page which it still uses elsewhere harms itself.
    fill(unsafe { &mut *(page.0 as *mut Page) });
    if perms.contains(Perms::WRITE) { Ok(()) } else { sys::protect(EnvId::SELF, page, 1, perms) }
}

/// Let `look` read the page at `va`: what a pager does that keeps the contents elsewhere.
pub fn look<T>(va: Va, look: impl FnOnce(&Page) -> T) -> T {
    // SAFETY: any 4096 bytes are a `Page`. An environment is a single thread, so nobody writes to them
    // meanwhile but `look` itself, which harms nobody else. If the page is not there, that is a fault like others.
    look(unsafe { &*(va.page().0 as *const Page) })
}

/// The bytes of a page.
pub type Page = [u8; PAGE_SIZE as usize];

//! Filling of pages: in place, for pagers, or to be mapped into another environment.
//!
//! An environment cannot write a child's memory. To put data there, it allocates a page of its own at a reserved
//! address, fills it, and maps it into the child.

use crate::{EnvId, PAGE_SIZE, Perms, Va, layout::SCRATCH, sys};

/// The address of [`NewPages`].
const WINDOW: Va = Va(SCRATCH.0 + 0x40_0000);
/// The greatest number of [`NewPages`].
pub(crate) const MAX_PAGES: u64 = 64;

/// Fresh zeroed pages, unmapped from this environment when the value is dropped.
///
/// At most one value may exist at a time; the functions that make one refuse to run in a fault handler.
pub(crate) struct NewPages(u64);

impl NewPages {
    /// Allocates `pages` pages, 1 to [`MAX_PAGES`].
    pub(crate) fn new(pages: u64) -> sys::Result<NewPages> {
        assert!(pages <= MAX_PAGES, "too many pages at once");
        sys::alloc(EnvId::SELF, WINDOW, pages, Perms::WRITE)?;
        Ok(NewPages(pages))
    }

    /// The contents of the pages.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the pages were allocated at this address, nothing else uses it, and they stay as long as `self`,
        // from which the reference is borrowed.
        unsafe { core::slice::from_raw_parts_mut(WINDOW.0 as *mut u8, (self.0 * PAGE_SIZE) as usize) }
    }

    /// Map the pages into another environment as well.
    pub(crate) fn map(&self, env: EnvId, va: Va, perms: Perms) -> sys::Result<()> {
        sys::map(EnvId::SELF, WINDOW, env, va, self.0, perms)
    }
}

impl Drop for NewPages {
    fn drop(&mut self) {
        let _ = sys::unmap(EnvId::SELF, WINDOW, self.0);
    }
}

/// Maps a fresh page at `va`, lets `fill` write it (it begins as zeros), and sets its rights to `perms`. Most pagers
/// consist of a call of this function.
///
/// A page or mark that was at `va` is lost.
///
/// # Errors
/// As [`sys::alloc`]. `BadPerms` if the rights exclude each other.
pub fn fill(va: Va, perms: Perms, fill: impl FnOnce(&mut Page)) -> sys::Result<()> {
    let page = va.page();
    sys::alloc(EnvId::SELF, page, 1, (perms - Perms::EXEC) | Perms::WRITE)?;
    // SAFETY: the page was allocated just now, at an address that the caller gave away, so this is the only reference
    // to it; a program that passes a page which it still uses elsewhere harms itself.
    fill(unsafe { &mut *(page.0 as *mut Page) });
    if perms.contains(Perms::WRITE) { Ok(()) } else { sys::protect(EnvId::SELF, page, 1, perms) }
}

/// Lets `look` read the page at `va`, for pagers that keep the contents elsewhere.
pub fn look<T>(va: Va, look: impl FnOnce(&Page) -> T) -> T {
    // SAFETY: any 4096 bytes are a `Page`. An environment is a single thread, so only `look` itself could write to
    // them meanwhile, which harms nobody else. If the page is missing, the read faults as any other does.
    look(unsafe { &*(va.page().0 as *const Page) })
}

/// The bytes of a page.
pub type Page = [u8; PAGE_SIZE as usize];

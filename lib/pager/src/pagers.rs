//! The built-in pagers: zeros, shared memory, files, guards.

use crate::PageCalls;
use crate::region::{Inherit, Pager, Region};
use crate::touch::{Cause, Fill, Resolution, Touch};
use abi::{Error, PAGE_SIZE, Perms, Va};
use core::ops::Range;

/// The greatest number of pages that are brought in at once in a sequential region.
pub const AROUND: u64 = 16;

/// The number of pages from `page` on to bring in at once: in a sequential region up to [`AROUND`], as long as their
/// entries are empty, and not beyond `end`.
#[inline]
// exercise 4 of pagers: how many pages to bring in at once
fn around<K: PageCalls>(kernel: &K, region: &Region<K>, page: Va, end: Va) -> u32 {
    if !region.sequential {
        return 1;
    }
    let most = AROUND.min((end.min(region.end).0 - page.0) / PAGE_SIZE);
    (1..most).take_while(|&next| kernel.pte(page.add_pages(next)).is_empty()).count() as u32 + 1
}

/// Ignores an error if the touched page is present: the instruction can continue, and the neighbours that could not be
/// brought in may find memory when they are touched.
#[cold]
#[inline(never)]
fn unless_there<K: PageCalls>(kernel: &K, page: Va, error: Error) -> Result<(), Error> {
    if kernel.pte(page).is_present() { Ok(()) } else { Err(error) }
}

/// Memory that begins as zeros and belongs to one environment: a read maps the shared page of zeros, a write a private
/// page.
pub struct Zeros {
    /// The name that `pagemap` shows.
    pub name: &'static str,
    /// The cause under which fresh pages are counted.
    pub cause: Cause,
}

impl Zeros {
    /// Anonymous memory with this name.
    #[must_use]
    pub const fn named(name: &'static str) -> Zeros {
        Zeros { name, cause: Cause::ZeroFill }
    }
}

/// Brings in a page of zeros for `touch`.
#[inline]
// exercise 1 of pagers: memory that begins as zeros
fn zeros<K: PageCalls>(kernel: &mut K, touch: &Touch, region: &Region<K>, fresh: Cause) -> Result<Resolution, Error> {
    let page = touch.va.page();
    if !touch.entry.is_empty() {
        return Ok(Resolution::Unhandled);
    }
    if touch.is_write() {
        if region.sequential {
            return upwards(kernel, page, region, fresh);
        }
        kernel.alloc(page, 1, region.perms)?;
        return Ok(Resolution::Resume(fresh));
    }
    kernel.map(kernel.zeros(), page, 1, region.copy_on_write())?;
    Ok(Resolution::Resume(Cause::ZeroMap))
}

/// Brings in several pages of zeros, in a sequential region.
#[inline(never)]
fn upwards<K: PageCalls>(kernel: &mut K, page: Va, region: &Region<K>, fresh: Cause) -> Result<Resolution, Error> {
    let pages = around(kernel, region, page, region.end);
    kernel.alloc(page, pages.into(), region.perms).or_else(|error| unless_there(kernel, page, error))?;
    Ok(Resolution::Resume(fresh))
}

impl<K: PageCalls> Pager<K> for Zeros {
    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn fault(&self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, Error> {
        zeros(kernel, touch, region, self.cause)
    }

    fn fill(&self) -> Fill {
        Fill::Zeros(self.cause)
    }
}

/// Memory that begins as zeros and stays shared with children (and with environments that get its pages in messages).
/// The permissions of such a region have [`Perms::KEEP`].
///
/// A page that was never touched has no frame, so it could not be shared later: fork fills the whole region first.
pub struct Shared;

impl<K: PageCalls> Pager<K> for Shared {
    fn name(&self) -> &'static str {
        "shared"
    }

    // exercise 3 of pagers: memory that stays shared
    fn fault(&self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, Error> {
        if !touch.entry.is_empty() {
            return Ok(Resolution::Unhandled);
        }
        let page = touch.va.page();
        let pages = around(kernel, region, page, region.end);
        kernel.alloc(page, pages.into(), region.perms).or_else(|error| unless_there(kernel, page, error))?;
        Ok(Resolution::Resume(Cause::ZeroFill))
    }

    fn on_fork(&self) -> Inherit {
        Inherit::Shared
    }

    fn can_discard(&self) -> bool {
        false
    }
}

/// A file of the boot archive, and zeros behind its end.
///
/// Whole pages are shared with the archive, and so with every environment that maps the file, until they are written.
/// The page in which the file ends is copied, since the program must not see the bytes that follow in the archive.
///
/// The data of a region: the offset from an address in it to the file's byte in the archive, and the address at which
/// the file ends. See [`File::region`].
pub struct File {
    /// The name that `pagemap` shows.
    pub name: &'static str,
}

impl File {
    /// A region of this pager: `bytes` bytes at `source`, then zeros. `source` is as far from a page boundary as the
    /// start of the range is (so, on one).
    #[must_use]
    pub fn region<K: PageCalls>(&'static self, range: Range<Va>, perms: Perms, source: Va, bytes: u64) -> Region<K> {
        let data = [source.0.wrapping_sub(range.start.0), range.start.0 + bytes];
        Region { data, ..Region::new(range, perms, self) }
    }

    /// Brings in pages that do not exist yet.
    // exercise 2 of pagers: pages of a file
    fn page_in<K: PageCalls>(kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, Error> {
        let [bias, file_end] = region.data;
        let page = touch.va.page();
        let source = Va(page.0.wrapping_add(bias));
        if page.0 >= file_end {
            return zeros(kernel, touch, region, Cause::ZeroFill);
        }
        let rest = file_end - page.0;
        if rest < PAGE_SIZE {
            kernel.alloc(page, 1, (region.perms - Perms::EXEC) | Perms::WRITE)?;
            kernel.copy(source, page, rest);
            if !region.is_writable() {
                kernel.protect(page, 1, region.perms)?;
            }
            return Ok(Resolution::Resume(Cause::FilePage));
        }
        let pages = around(kernel, region, page, Va(file_end).page());
        let mapped = kernel.map(source, page, pages.into(), region.copy_on_write());
        mapped.or_else(|error| unless_there(kernel, page, error))?;
        if touch.is_write() {
            kernel.own(page)?;
        }
        Ok(Resolution::Resume(Cause::FilePage))
    }
}

impl<K: PageCalls> Pager<K> for File {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fault(&self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, Error> {
        if touch.entry.is_empty() { File::page_in(kernel, touch, region) } else { Ok(Resolution::Unhandled) }
    }

    fn fill(&self) -> Fill {
        Fill::File
    }
}

/// Addresses that nobody may touch.
pub struct Guard(pub &'static str);

impl<K> Pager<K> for Guard {
    fn name(&self) -> &'static str {
        self.0
    }

    fn fault(&self, _: &mut K, _: &Touch, _: &Region<K>) -> Result<Resolution, Error> {
        Ok(Resolution::Unhandled)
    }

    fn fill(&self) -> Fill {
        Fill::Never
    }
}

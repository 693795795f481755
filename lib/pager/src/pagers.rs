//! The built-in pagers: zeros, shared memory, files, guards.

use crate::region::{Inherit, Order, Pager, Region};
use crate::touch::{Cause, Fill, Resolution, Touch};
use crate::{ME, PageCalls, ranges, tables};
use abi::page::TABLE_ENTRIES;
use abi::{Error, Level, PAGE_SIZE, PageOp, Perms, Va};
use core::ops::Range;

/// The greatest number of pages that are brought in at once: what one table translates.
pub const AROUND: u64 = TABLE_ENTRIES as u64;

/// The pages to bring in at once when `page` is touched, whose entry is empty: those of `wanted`, which contains `page`,
/// that can be reached from there over empty entries.
// exercise 4 of pagers: how many pages to bring in at once
fn around<K: PageCalls>(kernel: &K, page: Va, wanted: Range<Va>) -> Range<Va> {
    let above = kernel.entries(page.add_pages(1)..wanted.end).next();
    let below = kernel.entries(wanted.start..page).last();
    below.map_or(wanted.start, |(va, _)| va.add_pages(1))..above.map_or(wanted.end, |(va, _)| va)
}

/// Brings in `page`, whose entry is empty, and as many of its neighbours in `range` as the program seems to need. `op`
/// makes the operation for pages from an address on.
///
/// # Errors
/// That of the operation for `page` alone. The neighbours may find memory when they are touched.
#[inline]
pub fn bring_in<K: PageCalls>(
    kernel: &mut K,
    region: &Region<K>,
    page: Va,
    range: &Range<Va>,
    op: impl Fn(Va, u32) -> PageOp,
) -> Result<(), Error> {
    let before = match region.order {
        Order::Unknown => kernel.stream(|stream| stream.before(page, |va| kernel.pte(va).is_present())),
        Order::Sequential | Order::Random => None,
    };
    let alone = page..page.add_pages(1);
    let wanted = match (before, region.order) {
        (Some(row), _) => row.again(page),
        (None, Order::Sequential) => page..page.add_pages(AROUND),
        (None, _) => alone.clone(),
    };
    let table = tables::around(page, Level::L2);
    let start = wanted.start.max(table.start).max(range.start).max(region.start);
    let end = wanted.end.min(table.end).min(range.end).min(region.end);
    let mut pages = around(kernel, page, start..end);
    if let Err(error) = kernel.op(op(pages.start, crate::pages(&pages) as u32)) {
        // Memory ran out, perhaps before it came to the page that is needed: that one gets the frame of a neighbour.
        if !kernel.pte(page).is_present() {
            if pages.start == page {
                return Err(error);
            }
            ranges::clear(kernel, &(pages.start..page)).map_err(|_| error)?;
            kernel.op(op(page, 1))?;
        }
        pages = alone;
    }
    // What fork or advice brings in is no touch of the program.
    if region.order == Order::Unknown {
        kernel.stream(|stream| stream.advance(page, before, &pages));
    }
    Ok(())
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
        bring_in(kernel, region, page, &region.range(), |va, count| PageOp::alloc(ME, va, count, region.perms))?;
        return Ok(Resolution::Resume(fresh));
    }
    kernel.map(kernel.zeros(), page, 1, region.copy_on_write())?;
    Ok(Resolution::Resume(Cause::ZeroMap))
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
        bring_in(kernel, region, page, &region.range(), |va, count| PageOp::alloc(ME, va, count, region.perms))?;
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
        bring_in(kernel, region, page, &(region.start..Va(file_end).page()), |va, count| {
            let source = Va(va.0.wrapping_add(bias));
            match touch.is_write() {
                true => PageOp::copy(ME, source, ME, va, count, region.perms),
                false => PageOp::map(ME, source, ME, va, count, region.copy_on_write()),
            }
        })?;
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

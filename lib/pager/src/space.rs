//! Changes to ranges of an address space: first the table of regions, then the pages.
//!
//! The table is only ever touched within [`Table::edit`], in steps that do not call anybody. So a
//! fault that comes in between finds a table that is whole.

use crate::batch::Batch;
use crate::region::Piece;
use crate::{Access, Error, Kernel, ME, Region, Regions, Touch, region, tables};
use abi::{PageOp, Perms, Pte, Va};
use core::ops::Range;

/// Where the regions of an environment are kept.
pub trait Table<K: 'static> {
    /// Look at the table or change it. `f` does nothing else.
    fn edit<T>(&self, f: impl FnOnce(&mut Regions<K>) -> T) -> T;
}

/// What a program expects of its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Nothing: a page comes when it is touched.
    Normal,
    /// Pages are touched upwards: several are brought in at once.
    Sequential,
    /// Bring all pages in now.
    WillNeed,
    /// Give the pages back. What they held is lost: if they are touched again they are as if they
    /// had never been touched.
    DontNeed,
}

/// The part of a range that the first region at or above its start takes: what is left to look at, from
/// low to high.
fn next_piece<K: 'static>(table: &impl Table<K>, range: &Range<Va>) -> Option<Piece<K>> {
    let region = table.edit(|regions| {
        let all = regions.all();
        all.get(all.partition_point(|region| region.end <= range.start)).copied()
    })?;
    let piece = region.start.max(range.start)..region.end.min(range.end);
    (piece.start < piece.end).then_some((region, piece))
}

/// Call `f` with each region that reaches into a range, and with the part of the range that it has.
fn for_each_piece<K: 'static>(
    table: &impl Table<K>,
    range: &Range<Va>,
    mut f: impl FnMut(&Region<K>, Range<Va>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rest = range.clone();
    while let Some((region, piece)) = next_piece(table, &rest) {
        rest.start = piece.end;
        f(&region, piece)?;
    }
    Ok(())
}

/// Remove all regions, pages and marks in a range, whether there are any or not.
///
/// # Errors
/// [`region::check`]'s, [`Error::TooManyRegions`], `NoMemory` for a table that is not shared any more then: nothing
/// has changed.
pub fn unmap<K: Kernel>(kernel: &mut K, table: &impl Table<K>, range: &Range<Va>) -> Result<(), Error> {
    region::check(range)?;
    // What may fail comes first. Pages that no region speaks for would be found by whoever maps something there next.
    let is_empty = tables::are_missing(kernel, range);
    if !is_empty {
        tables::own_edges(kernel, range)?;
    }
    let mut rest = range.clone();
    while rest.start < rest.end {
        let Some((pager, piece)) = table.edit(|regions| regions.take(&rest))? else { break };
        rest.start = piece.end;
        pager.discard(kernel, &piece);
    }
    if is_empty { Ok(()) } else { remove(kernel, range) }
}

/// Remove all pages and marks in a range, and leave the regions as they are.
///
/// # Errors
/// Those of the kernel.
#[inline]
pub fn clear<K: Kernel>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    if tables::are_missing(kernel, range) { Ok(()) } else { remove(kernel, range) }
}

fn remove<K: Kernel>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    if kernel.entries(range.clone()).next().is_none() {
        return Ok(()); // no table that is shared either: those are never empty
    }
    tables::discard(kernel, range)?;
    let entries = kernel.entries(range.clone());
    let mut batch = Batch::new(|va, count, ()| [Some(PageOp::unmap(ME, va, count)), None]);
    for (va, _) in entries {
        batch.add(kernel, va, ())?;
    }
    batch.finish(kernel)
}

/// What the program decides of a page.
const RIGHTS: Perms = Perms::WRITE.union(Perms::EXEC);

/// Change what a range may be used for: nothing (it can be read), [`Perms::WRITE`], or
/// [`Perms::EXEC`]. The whole range must be in regions.
///
/// # Errors
/// [`region::check`]'s, [`Error::BadProtection`], [`Error::NoRegion`], [`Error::TooManyRegions`]; `NoRight`
/// from the kernel for a shared page that was given to this environment read-only.
pub fn protect<K: Kernel>(
    kernel: &mut K,
    table: &impl Table<K>,
    range: &Range<Va>,
    perms: Perms,
) -> Result<(), Error> {
    if perms.contains(RIGHTS) || !RIGHTS.contains(perms) {
        return Err(Error::BadProtection(range.start));
    }
    region::check(range)?;
    tables::own(kernel, range)?;
    table.edit(|regions| regions.change(range, |region| region.perms = (region.perms - RIGHTS) | perms))?;
    set_rights(kernel, range, perms, |_| true)
}

/// Give the pages of a range that `which` holds for these rights.
fn set_rights<K: Kernel>(
    kernel: &mut K,
    range: &Range<Va>,
    rights: Perms,
    which: impl Fn(Pte) -> bool,
) -> Result<(), Error> {
    let entries = kernel.entries(range.clone()).filter(|(_, entry)| entry.is_present() && which(*entry));
    let emit = |va, count, perms| [Some(PageOp::protect(ME, va, count, perms)), None];
    let mut batch = Batch::new(emit);
    for (va, entry) in entries {
        batch.add(kernel, va, protected(entry, rights))?;
    }
    batch.finish(kernel)
}

/// What becomes of a page.
///
/// A page that is not shared on purpose becomes copy-on-write, and not writable at once: while it
/// was read-only a fork may have shared it, and nothing in the entry says so. If nobody has it but
/// this environment, the first write costs a fault, and no copy.
fn protected(entry: Pte, perms: Perms) -> Perms {
    let rest = entry.perms() - (Perms::WRITE | Perms::EXEC | Perms::COW);
    let copied_first = perms.contains(Perms::WRITE) && !rest.contains(Perms::KEEP);
    rest | if copied_first { Perms::COW } else { perms }
}

/// Say what is going to happen to a range. The whole range must be in regions.
///
/// # Errors
/// [`region::check`]'s, [`Error::NoRegion`], [`Error::TooManyRegions`], [`Error::NotSupported`]; those of the
/// pagers.
pub fn advise<K: Kernel>(
    kernel: &mut K,
    table: &impl Table<K>,
    range: &Range<Va>,
    advice: Advice,
) -> Result<(), Error> {
    region::check(range)?;
    table.edit(|regions| regions.require_covered(range))?;
    match advice {
        Advice::Normal | Advice::Sequential => {
            let sequential = advice == Advice::Sequential;
            table.edit(|regions| regions.change(range, |region| region.sequential = sequential))
        }
        Advice::WillNeed => {
            for_each_piece(table, range, |region, piece| bring_in(kernel, region, piece, Access::Read))
        }
        Advice::DontNeed => {
            for_each_piece(table, range, |region, piece| match region.pager.can_discard() {
                // As in `unmap`: a pager that has given up what its marks stand for must not see them again.
                true => Ok(tables::own_edges(kernel, &piece)?),
                false => Err(Error::NotSupported(piece.start)),
            })?;
            for_each_piece(table, range, |region, piece| {
                region.pager.discard(kernel, &piece);
                clear(kernel, &piece)
            })
        }
    }
}

/// Do as if each page that is not there were accessed now, several at a time.
pub(crate) fn bring_in<K: Kernel>(
    kernel: &mut K,
    region: &Region<K>,
    piece: Range<Va>,
    access: Access,
) -> Result<(), Error> {
    let region = Region { sequential: true, end: piece.end, ..*region };
    let mut va = piece.start;
    while va < piece.end {
        let entry = kernel.pte(va);
        if !entry.is_present() {
            region.pager.fault(kernel, &Touch { va, access, entry }, &region)?;
        }
        va = va.add_pages(1);
    }
    Ok(())
}

/// Move a region, which is named by its range and whose data does not depend on where it is: its
/// pages and marks appear at the new place, which must be free, and nothing is copied.
///
/// # Errors
/// [`Error::NoRegion`], [`region::check`]'s, [`Error::Overlap`], [`Error::TooManyRegions`], and those of the
/// kernel: then nothing has changed.
pub fn relocate<K: Kernel>(
    kernel: &mut K,
    table: &impl Table<K>,
    old: &Range<Va>,
    new: &Range<Va>,
) -> Result<(), Error> {
    let region = table.edit(|regions| {
        let region = region::find(regions.all(), old.start).filter(|region| region.range() == *old);
        let region = *region.ok_or(Error::NoRegion(old.start))?;
        regions.add(Region { start: new.start, end: new.end, ..region }).map(|()| region)
    })?;
    if let Err(error) = alias(kernel, &region, new) {
        // Nothing to tell the pager: all that has come here is still at the old place.
        table.edit(|regions| regions.remove(new))?;
        clear(kernel, new)?;
        return Err(error);
    }
    table.edit(|regions| regions.remove(old))?;
    clear(kernel, old)
}

/// What there is at an address.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Page(Perms),
    Mark(u64),
}

/// Let the pages and marks of a region appear in the range `new` as well.
///
/// The kernel passes on no right to become writable, only that of a page which is. A private page loses nothing by
/// that, since it can be copied. Pages that stay shared are lent their rights for the time being.
fn alias<K: Kernel>(kernel: &mut K, region: &Region<K>, new: &Range<Va>) -> Result<(), Error> {
    let old = region.range();
    tables::own(kernel, &old)?;
    if !region.perms.contains(Perms::KEEP) || region.is_writable() {
        return copy_entries(kernel, &old, new.start);
    }
    let may = |entry: Pte| entry.has(Pte::MAY);
    let lent = set_rights(kernel, &old, Perms::WRITE, may);
    let done = lent.and_then(|()| copy_entries(kernel, &old, new.start));
    let rights = region.perms & RIGHTS;
    let is_lent = |entry: Pte| entry.has(Pte::WRITABLE);
    set_rights(kernel, &old, rights, is_lent)?;
    done?;
    set_rights(kernel, new, rights, is_lent)
}

/// Let what the entries of `old` hold appear from `new` on as well.
fn copy_entries<K: Kernel>(kernel: &mut K, old: &Range<Va>, new: Va) -> Result<(), Error> {
    let moved = |va: Va| Va(va.0 - old.start.0 + new.0);
    let entries = kernel.entries(old.clone());
    let emit = |va, count, held| {
        let op = match held {
            Held::Page(perms) => PageOp::map(ME, va, ME, moved(va), count, perms),
            Held::Mark(word) => PageOp::mark(ME, moved(va), count, word),
        };
        [Some(op), None]
    };
    let mut batch = Batch::new(emit);
    for (va, entry) in entries {
        let held = if entry.is_present() { Held::Page(entry.perms()) } else { Held::Mark(entry.word()) };
        batch.add(kernel, va, held)?;
    }
    batch.finish(kernel)
}

//! Tables that are shared with other environments since a fork.
//!
//! Nothing below a shared table can be written or changed: an environment that wants to *owns* the table first, from
//! the top down. `docs/fork.md` explains why.

use crate::{ME, PageCalls};
use abi::{Error, Level, PAGE_SIZE, PageOp, Pte, Va, page::span};
use core::ops::Range;

/// The state of the tables above an address.
enum Above {
    /// A table is shared: the level of the entry that points to the topmost shared one.
    Shared(Level),
    /// All tables are there, and private.
    Private,
    /// A table is missing; up to this address there is no other one.
    Missing(Va),
}

fn above<K: PageCalls>(kernel: &K, va: Va) -> Above {
    for level in Level::TABLES {
        let entry = kernel.table(va, level);
        if !entry.is_present() {
            return Above::Missing(behind_empty(kernel, va, level));
        }
        if !entry.has(Pte::EDIT) {
            return Above::Shared(level);
        }
    }
    Above::Private
}

/// Whether no table translates addresses of a range, as far as a short check can tell.
#[inline]
pub(crate) fn are_missing<K: PageCalls>(kernel: &K, range: &Range<Va>) -> bool {
    let is_there = |level| kernel.table(range.start, level).is_present();
    let covers = |level| range.end <= around(range.start, level).end;
    let missing = Level::TABLES.into_iter().find(|level| !is_there(*level));
    missing.is_some_and(covers)
}

/// The address at which to continue if the entry of this level at `va` is empty.
pub(crate) fn behind_empty<K: PageCalls>(kernel: &K, va: Va, level: Level) -> Va {
    Va(around(va, level).start.0 + kernel.empty_entries(va, level) * span(level))
}

/// The addresses that one entry of this level translates, around `va`.
pub(crate) fn around(va: Va, level: Level) -> Range<Va> {
    let start = va.0 & !(span(level) - 1);
    Va(start)..Va(start + span(level))
}

/// Makes every table above the page at `va`, which is present, private. Returns whether one was shared.
///
/// # Errors
/// Those of the kernel.
pub fn own_above<K: PageCalls>(kernel: &mut K, va: Va) -> Result<bool, Error> {
    let Above::Shared(top) = above(kernel, va) else { return Ok(false) };
    // Owning a table makes those below it shared: there is no need to check.
    for level in top.tables_down() {
        kernel.op(PageOp::own_tables(around(va, level).start, 1, level))?;
    }
    Ok(true)
}

/// Makes every table that translates addresses of the range private: its entries may then change.
///
/// # Errors
/// Those of the kernel.
pub fn own<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    for_each_shared(kernel, range, |kernel, va, level| kernel.op(PageOp::own_tables(va, 1, level)))
}

/// Gives up every table that translates addresses of the range only and is shared, or private with entries of pages, with
/// everything below; makes the others private.
///
/// # Errors
/// Those of the kernel.
pub fn discard<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    for_each_run(kernel, range, |kernel, first, tables| {
        match kernel.op(PageOp::unmap_tables(ME, first, tables, Level::L2)) {
            // The pages are removed one by one, up to the pinned one.
            Err(Error::Pinned(_)) => Ok(()),
            result => result,
        }
    })?;
    for_each_shared(kernel, range, |kernel, va, level| {
        let covered = around(va, level);
        if range.start <= covered.start && covered.end <= range.end {
            match kernel.op(PageOp::unmap_tables(ME, va, 1, level)) {
                Err(Error::NotShared(_)) => {}
                result => return result,
            }
        }
        kernel.op(PageOp::own_tables(va, 1, level))
    })
}

/// Makes every shared table private that translates addresses both inside the range and outside. [`discard`] gives up
/// the remaining ones, and needs no memory for that.
///
/// # Errors
/// Those of the kernel. Tables that are private by then do no harm: the contents are unchanged.
pub fn own_edges<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    for edge in [range.start, Va(range.end.0 - PAGE_SIZE)] {
        while let Above::Shared(level) = above(kernel, edge) {
            let table = around(edge, level);
            if range.start <= table.start && table.end <= range.end {
                break;
            }
            kernel.op(PageOp::own_tables(table.start, 1, level))?;
        }
    }
    Ok(())
}

/// Calls `f` with each run of adjacent private tables of level 1 that translate addresses of the range only: the first
/// address, and the number of tables.
pub(crate) fn for_each_run<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    mut f: impl FnMut(&mut K, Va, u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut at = Va(range.start.0.next_multiple_of(TABLE));
    while at.0 + TABLE <= range.end.0 {
        let mut tables = 0;
        let end = loop {
            let next = Va(at.0 + u64::from(tables) * TABLE);
            if next.0 + TABLE > range.end.0 {
                break next;
            }
            match above(kernel, next) {
                Above::Private => tables += 1,
                Above::Missing(end) => break Va(end.0.next_multiple_of(TABLE)),
                Above::Shared(level) => break around(next, level).end,
            }
        };
        if tables > 0 {
            f(kernel, at, tables)?;
        }
        at = end;
    }
    Ok(())
}

/// The part of a range that whole tables translate; empty at its end if there is none.
pub(crate) fn inner_tables(range: &Range<Va>) -> Range<Va> {
    let (start, end) = (range.start.0.next_multiple_of(TABLE), range.end.0 - range.end.0 % TABLE);
    if start < end { Va(start)..Va(end) } else { range.end..range.end }
}

/// The next table of level 1 in a range, from the table around its start on: the addresses that it translates, and the
/// entry that points to it.
pub(crate) fn next_table<K: PageCalls>(kernel: &K, range: &Range<Va>) -> Option<(Range<Va>, Pte)> {
    let mut at = range.start;
    while at < range.end {
        let mut entries = Level::TABLES.into_iter().map(|level| (level, kernel.table(at, level)));
        match entries.find(|(level, entry)| !entry.is_present() || *level == Level::L2) {
            Some((_, entry)) if entry.is_present() => return Some((around(at, Level::L2), entry)),
            Some((level, _)) => at = behind_empty(kernel, at, level),
            None => return None,
        }
    }
    None
}

/// The bytes that a table of level 1 translates.
pub(crate) const TABLE: u64 = span(Level::L2);

/// Calls `f` with every shared table; `f` must own or remove it.
fn for_each_shared<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    mut f: impl FnMut(&mut K, Va, Level) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut at = range.start;
    while at < range.end {
        match above(kernel, at) {
            Above::Shared(level) => f(kernel, around(at, level).start, level)?,
            Above::Private => at = around(at, Level::L2).end,
            Above::Missing(end) => at = end,
        }
    }
    Ok(())
}

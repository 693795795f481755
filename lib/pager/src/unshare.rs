//! Tables that are shared with other environments since a fork.
//!
//! Nothing below a shared table can be written or changed: an environment that wants to *owns* the table first, from
//! the top down. `docs/fork.md` explains why.

use crate::tables::{self, Found, Tables, around};
use crate::{ME, PageCalls, sealing};
use abi::{Error, Level, PAGE_SIZE, PageOp, Va};
use core::ops::Range;

/// Makes every table above the page at `va`, which is present, private. Returns whether one was shared.
///
/// # Errors
/// Those of the kernel.
pub fn own_above<K: PageCalls>(kernel: &mut K, va: Va) -> Result<bool, Error> {
    let Some(top) = tables::above(kernel, va).filter(Found::is_shared) else { return Ok(false) };
    // Owning a table makes those below it shared: there is no need to check.
    for level in top.level.tables_down() {
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
    tables::for_each_run(
        kernel,
        &tables::inner(range),
        |_, _| true,
        |kernel, run| {
            match kernel.op(PageOp::unmap_tables(ME, run.start, tables::count(&run), Level::L2)) {
                // The pages are removed one by one, up to the pinned one.
                Err(Error::Pinned(_)) => Ok(()),
                result => result,
            }
        },
    )?;
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

/// Makes every shared table private that translates addresses both inside the range and outside, and lifts its seal: its
/// entries may then change. [`discard`] gives up the remaining ones, and needs no memory for that.
///
/// # Errors
/// Those of the kernel. Tables that are private by then do no harm: the contents are unchanged.
pub(crate) fn own_edges<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), crate::Error> {
    for edge in [range.start, Va(range.end.0 - PAGE_SIZE)] {
        while let Some(found) = tables::above(kernel, edge) {
            if range.start <= found.start && around(edge, found.level).end <= range.end {
                break;
            }
            if !found.is_shared() {
                sealing::lift(kernel, &found)?;
                break;
            }
            kernel.op(PageOp::own_tables(found.start, 1, found.level))?;
        }
    }
    Ok(())
}

/// Calls `f` with every shared table; `f` must own or remove it.
fn for_each_shared<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    mut f: impl FnMut(&mut K, Va, Level) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut tables = Tables::of(range);
    while let Some(found) = tables.next(kernel) {
        if found.is_shared() {
            f(kernel, found.start, found.level)?;
            tables.search_from(found.start.max(range.start));
        }
    }
    Ok(())
}

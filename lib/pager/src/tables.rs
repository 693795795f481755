//! Searches for the tables of level 1 that translate a range of addresses.

use crate::PageCalls;
use abi::{Level, Pte, Va, page::span};
use core::ops::Range;

/// The bytes that a table of level 1 translates.
pub(crate) const TABLE: u64 = span(Level::L2);

/// The addresses that one entry of this level translates, around `va`.
pub(crate) fn around(va: Va, level: Level) -> Range<Va> {
    let start = va.0 & !(span(level) - 1);
    Va(start)..Va(start + span(level))
}

/// The address at which to continue if the entry of this level at `va` is empty.
pub(crate) fn behind_empty<K: PageCalls>(kernel: &K, va: Va, level: Level) -> Va {
    Va(around(va, level).start.0 + kernel.empty_entries(va, level) * span(level))
}

/// The part of a range that whole tables translate; empty at its end if there is none.
pub(crate) fn inner(range: &Range<Va>) -> Range<Va> {
    let (start, end) = (range.start.0.next_multiple_of(TABLE), range.end.0 - range.end.0 % TABLE);
    if start < end { Va(start)..Va(end) } else { range.end..range.end }
}

/// Whether no table translates addresses of a range, as far as a short check can tell.
#[inline]
pub(crate) fn are_missing<K: PageCalls>(kernel: &K, range: &Range<Va>) -> bool {
    let is_there = |level| kernel.table(range.start, level).is_present();
    let covers = |level| range.end <= around(range.start, level).end;
    let missing = Level::TABLES.into_iter().find(|level| !is_there(*level));
    missing.is_some_and(covers)
}

/// The topmost shared table above a page, or its private table of level 1 if none is shared.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// The first address that it translates.
    pub start: Va,
    /// The level of the entry that points to it.
    pub level: Level,
    /// That entry.
    pub entry: Pte,
}

impl Found {
    fn new(va: Va, level: Level, entry: Pte) -> Found {
        Found { start: around(va, level).start, level, entry }
    }

    pub fn is_shared(&self) -> bool {
        !self.entry.has(Pte::EDIT)
    }
}

/// A search for the tables above the pages of a range, in ascending order.
pub(crate) struct Tables {
    rest: Range<Va>,
    /// Up to here the tables above level 1 are there, and private.
    open: Va,
}

impl Tables {
    pub fn of(range: &Range<Va>) -> Tables {
        Tables { rest: range.clone(), open: Va(0) }
    }

    /// The next table.
    #[inline(always)]
    pub fn next<K: PageCalls>(&mut self, kernel: &K) -> Option<Found> {
        loop {
            let at = self.rest.start;
            if at >= self.rest.end {
                return None;
            }
            if at >= self.open {
                match self.descend(kernel, at) {
                    None => continue,
                    shared => return shared,
                }
            }
            let entry = kernel.table(at, Level::L2);
            if entry.is_present() {
                let found = Found::new(at, Level::L2, entry);
                self.rest.start = Va(found.start.0 + TABLE);
                return Some(found);
            }
            self.rest.start = behind_empty(kernel, at, Level::L2);
        }
    }

    /// Looks at the entries of the levels above. Goes on behind one that is empty or points to a shared table, and
    /// returns the latter.
    #[inline(never)]
    fn descend<K: PageCalls>(&mut self, kernel: &K, at: Va) -> Option<Found> {
        for level in [Level::L4, Level::L3] {
            let entry = kernel.table(at, level);
            if !entry.is_present() {
                self.rest.start = behind_empty(kernel, at, level);
                return None;
            }
            if !entry.has(Pte::EDIT) {
                self.rest.start = around(at, level).end;
                return Some(Found::new(at, level, entry));
            }
        }
        self.open = around(at, Level::L3).end;
        None
    }

    /// Goes on with this address, because tables have changed.
    pub fn search_from(&mut self, va: Va) {
        (self.rest.start, self.open) = (va, Va(0));
    }
}

/// The topmost shared table above a page, or its private table of level 1.
pub(crate) fn above<K: PageCalls>(kernel: &K, page: Va) -> Option<Found> {
    let found = Level::TABLES.into_iter().map(|level| Found::new(page, level, kernel.table(page, level)));
    let mut last = found.take_while(|found| found.entry.is_present());
    last.find(|found| found.is_shared() || found.level == Level::L2)
}

/// Calls `f` with the addresses of each run of adjacent tables of level 1 whose entries fit; `f` may remove them. The
/// tables further up are private.
pub(crate) fn for_each_run<K: PageCalls, E>(
    kernel: &mut K,
    range: &Range<Va>,
    fits: impl Fn(&K, Pte) -> bool,
    mut f: impl FnMut(&mut K, Range<Va>) -> Result<(), E>,
) -> Result<(), E> {
    let mut tables = Tables::of(range);
    while let Some(found) = tables.next(kernel) {
        if found.level != Level::L2 || !fits(kernel, found.entry) {
            continue;
        }
        let mut run = found.start..Va(found.start.0 + TABLE);
        while let Some(next) = tables.next(kernel)
            && (next.start, next.level) == (run.end, Level::L2)
            && fits(kernel, next.entry)
        {
            run.end.0 += TABLE;
        }
        f(kernel, run.clone())?;
        tables.search_from(run.end);
    }
    Ok(())
}

/// The number of tables of level 1 that translate the addresses of a run.
pub(crate) fn count(run: &Range<Va>) -> u32 {
    ((run.end.0 - run.start.0) / TABLE) as u32
}

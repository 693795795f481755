//! The page tables, read as memory.
//!
//! `docs/memory.md` explains the self map: the entry of page `n` is word `n` of an array at
//! [`UVPT`](crate::layout::UVPT). Reading it costs a load and no system call. But where a table is missing there is a
//! hole in the array: level 4 is always present, each of the others only if the entry above it is present.

use crate::{Level, Pte, Va, layout};
use abi::page::{TABLE_ENTRIES, span};
use core::ops::Range;

/// Reads an entry, whose table must be present.
#[inline(always)]
fn read(va: Va, level: Level) -> Pte {
    let entry = layout::uvpt(va, level).0 as *const Pte;
    // SAFETY: every address that `uvpt` returns is in slot 255, which holds only page tables: any 64-bit word there is
    // a valid `Pte`. Volatile, because calls change it. If the table is missing, the read faults, which harms only
    // this program.
    unsafe { entry.read_volatile() }
}

/// The entry that translates `va` at this level.
///
/// `None` if there is no table that would hold the entry. `va` is an address in the user's half.
#[inline(always)]
#[must_use]
// exercise 4 of page-tables: the entry of an address, if there is a table for it
pub fn entry(va: Va, level: Level) -> Option<Pte> {
    let is_there = |above| level >= above || read(va, above).is_present();
    (is_there(Level::L4) && is_there(Level::L3) && is_there(Level::L2)).then(|| read(va, level))
}

/// The entry of the page at `va`: a page, a mark, or nothing (the empty entry, also if a table is missing).
#[inline]
#[must_use]
pub fn pte(va: Va) -> Pte {
    entry(va, Level::L1).unwrap_or_default()
}

/// The entry of the page at `va`, whose tables are known to be present, as after a protection fault.
#[inline(always)]
pub(crate) fn leaf(va: Va) -> Pte {
    read(va, Level::L1)
}

/// The entry of a level above 1, for an address whose tables further up are known to be present.
#[inline]
pub(crate) fn table(va: Va, level: Level) -> Pte {
    read(va, level)
}

/// An entry of the top-level table: 0 to 255 are the user's half, the others the kernel's.
///
/// # Panics
/// If there is no such slot.
#[must_use]
// exercise 5 of page-tables: an entry of the top-level table
pub fn top(slot: usize) -> Pte {
    assert!(slot < TABLE_ENTRIES, "no slot {slot}");
    // The level-4 entry of UVPT itself lies in the same page.
    let own = layout::uvpt(layout::UVPT, Level::L4);
    let entry = Va(own.page().0 + slot as u64 * 8);
    // SAFETY: the top-level table is always present, and the slot is inside it.
    unsafe { (entry.0 as *const Pte).read_volatile() }
}

/// Iterator over all pages and marks in a range of user addresses, in ascending order.
///
/// Changes that are made during the iteration may be seen or not.
#[must_use]
pub fn entries(range: Range<Va>) -> Entries {
    Entries { at: range.start.page(), end: range.end, level: Level::L4 }
}

/// The runs of adjacent pages and marks in a range that are of the same `kind`: start, number of pages, and kind.
/// Pages of no kind are left out.
///
/// The kind may not depend on the frame number or on [`Pte::ACCESSED`]. The caller may change the pages of a run before
/// it asks for the next one.
pub fn runs<T: PartialEq>(range: Range<Va>, kind: impl Fn(Pte) -> Option<T>) -> impl Iterator<Item = (Va, u64, T)> {
    let runs = pager::runs::runs(entries(range), move |_, entry| kind(entry));
    runs.map(|(va, count, kind)| (va, count.into(), kind))
}

/// Iterator over pages and marks; see [`entries`].
#[derive(Clone, Debug)]
pub struct Entries {
    at: Va,
    end: Va,
    /// The tables for `at` are known to be present down to the one of this level.
    level: Level,
}

impl Iterator for Entries {
    type Item = (Va, Pte);

    #[inline]
    // exercise 6 of page-tables: the next page or mark, and over everything that is empty
    fn next(&mut self) -> Option<(Va, Pte)> {
        while self.at < self.end {
            if self.level == Level::L1 {
                let (here, entry) = (self.at, leaf(self.at));
                if !entry.is_empty() {
                    self.step(here.add_pages(1));
                    return Some((here, entry));
                }
            }
            self.search();
        }
        None
    }
}

impl pager::runs::Entries for Entries {
    #[inline]
    fn pass_alike(&mut self, like: Pte) -> u64 {
        // At the start of a table the iterator does not know whether there is one.
        if self.level != Level::L1 || self.at >= self.end {
            return 0;
        }
        let varies = pager::runs::varying(like);
        let before = self.at.index(Level::L1) - 1;
        let most = pager::pages(&(self.at..self.end.page_up()));
        let alike = (entries_like(self.at, Level::L1, before, like, varies) - 1).min(most);
        self.step(self.at.add_pages(alike));
        alike
    }
}

impl Entries {
    /// Descends into the table for the next page, or skips empty entries at this level.
    fn search(&mut self) {
        if read(self.at, self.level).is_empty() {
            let covered = span(self.level);
            let first = self.at.0 & !(covered - 1);
            let is_last = self.end.0 - first <= covered;
            let empty = if is_last { 1 } else { empty_entries(self.at, self.level) };
            self.step(Va(first + empty * covered));
        } else if let Some(below) = self.level.below() {
            self.level = below;
        }
    }

    /// Moves on to `va`, which may be in the next table.
    #[inline]
    fn step(&mut self, va: Va) {
        self.at = va;
        while self.at.index(self.level) == 0
            && let Some(above) = self.level.above()
        {
            self.level = above;
        }
    }
}

/// The number of consecutive empty entries from the one that translates `va` at this level, which is empty, to the end
/// of its table at most. Most tables are nearly empty, so a walk spends its time here.
pub(crate) fn empty_entries(va: Va, level: Level) -> u64 {
    entries_like(va, level, va.index(level), Pte(0), 0)
}

/// The number of consecutive entries of the table for `va` at this level, from number `first` on, that equal `like`
/// except for the bits that vary. The first one is known to. Looks at eight entries at once.
#[inline(always)]
fn entries_like(va: Va, level: Level, first: usize, like: Pte, varies: u64) -> u64 {
    let table = layout::uvpt(va, level).page().0 as *const Pte;
    // SAFETY: the table is present, since the caller has read an entry of it, and `n` is an index.
    let difference = |n: usize| (unsafe { table.add(n).read_volatile() }.0 ^ like.0) & !varies;
    let mut n = first + 1;
    while n < TABLE_ENTRIES {
        if n.is_multiple_of(8) && (n..n + 8).fold(0, |bits, n| bits | difference(n)) == 0 {
            n += 8;
        } else if difference(n) == 0 {
            n += 1;
        } else {
            break;
        }
    }
    (n - first) as u64
}

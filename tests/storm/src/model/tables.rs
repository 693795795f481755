//! Page tables: how they are walked, and how they are shared.

use super::page_map::{Entry, PageMap, Pages, Slot, Table};
use abi::{Error, Level, Perms, Pte, Va, page::span};
use core::ops::Range;

impl Pages {
    /// A page table with one reference. Its frame was taken before.
    pub fn add_table(&mut self, table: Table) -> usize {
        let name = self.tables.last_key_value().map_or(0, |(last, _)| last + 1);
        self.tables.insert(name, Table { refs: 1, ..table });
        name
    }

    fn table(&mut self, table: usize) -> &mut Table {
        self.tables.get_mut(&table).expect("a table that has references")
    }

    pub fn table_refs(&self, table: usize) -> u32 {
        self.tables[&table].refs
    }

    /// Drops a reference to a page table; the last one also frees the content.
    pub fn release_table(&mut self, table: usize) {
        self.table(table).refs -= 1;
        if self.table_refs(table) > 0 {
            return;
        }
        for entry in self.tables.remove(&table).unwrap_or_default().entries.into_values() {
            match entry {
                Entry::Slot(slot) if slot.is_present() => self.release(slot.page),
                Entry::Slot(_) => {}
                Entry::Table { table, .. } => self.release_table(table),
            }
        }
        self.free += 1;
    }
}

impl PageMap {
    /// The page table that holds the entry of this level which translates `va`.
    fn table(self, pages: &Pages, va: u64, level: Level) -> Option<usize> {
        let above = |table: usize, level| match pages.tables[&table].entries.get(&Va(va).index(level)) {
            Some(Entry::Table { table, .. }) => Some(*table),
            _ => None,
        };
        level.all_above().try_fold(self.root, above)
    }

    /// Whether the page table with the entry of this level for `va` exists.
    pub fn has_table(self, pages: &Pages, va: u64, level: Level) -> bool {
        self.table(pages, va, level).is_some()
    }

    /// The entry of this level for `va`.
    pub fn entry(self, pages: &Pages, va: u64, level: Level) -> Option<Entry> {
        let table = self.table(pages, va, level)?;
        pages.tables[&table].entries.get(&Va(va).index(level)).copied()
    }

    /// Changes the entry; its page table must exist.
    pub fn set(self, pages: &mut Pages, va: u64, level: Level, entry: Option<Entry>) {
        let table = self.table(pages, va, level).expect("it was made");
        let entries = &mut pages.table(table).entries;
        match entry {
            Some(entry) => entries.insert(Va(va).index(level), entry),
            None => entries.remove(&Va(va).index(level)),
        };
    }

    /// Checks that every page table above the entry of this level is open. The error is about the topmost one that is
    /// not.
    pub fn require_open(self, pages: &Pages, va: u64, level: Level) -> Result<(), Error> {
        let is_closed = |above: &Level| matches!(self.entry(pages, va, *above), Some(Entry::Table { open: false, .. }));
        match level.all_above().find(is_closed) {
            Some(above) => Err(Error::TableShared(va - va % span(above) + above as u64)),
            None => Ok(()),
        }
    }

    /// Whether one of the page tables above the page is sealed.
    pub fn is_sealed(self, pages: &Pages, va: u64) -> bool {
        let is_sealed = |level| matches!(self.entry(pages, va, level), Some(Entry::Table { sealed: true, .. }));
        Level::TABLES.into_iter().any(is_sealed)
    }

    /// Makes the page tables above an entry of this level: all that are missing, or none.
    pub fn make(self, pages: &mut Pages, va: u64, level: Level) -> Result<(), Error> {
        self.require_open(pages, va, level)?;
        let lacks = |level: &Level| !self.has_table(pages, va, *level);
        let missing = level.down_to().skip(1).filter(lacks).count();
        pages.take(missing as u64)?;
        for above in level.all_above() {
            if self.entry(pages, va, above).is_none() {
                let table = pages.add_table(Table::default());
                self.set(pages, va, above, Some(Entry::Table { table, open: true, sealed: false }));
            }
        }
        Ok(())
    }

    /// Frees the empty page tables above an address.
    pub fn prune(self, pages: &mut Pages, va: u64) {
        for level in Level::TABLES.into_iter().rev() {
            if let Some(Entry::Table { table, .. }) = self.entry(pages, va, level)
                && pages.tables[&table].entries.is_empty()
            {
                self.set(pages, va, level, None);
                pages.release_table(table);
            }
        }
    }

    /// Calls `f` with all pages and marks of a range, below a page table that translates addresses from `base` on.
    pub fn visit(
        pages: &Pages,
        table: usize,
        level: Level,
        base: Va,
        range: &Range<u64>,
        f: &mut dyn FnMut(u64, Slot),
    ) {
        for (&index, entry) in &pages.tables[&table].entries {
            let va = base.entry(index, level);
            match *entry {
                _ if va.0 + span(level) <= range.start || va.0 >= range.end => {}
                Entry::Slot(slot) => f(va.0, slot),
                Entry::Table { table, .. } => {
                    let below = level.below().expect("a table has entries of the level below");
                    PageMap::visit(pages, table, below, va, range, f)
                }
            }
        }
    }
}

/// The effects of the calls on page tables on one page table: the one to which the entry of a level at `va` points.
impl PageMap {
    fn named(self, pages: &Pages, va: u64, level: Level) -> Result<(usize, bool, bool), Error> {
        self.require_open(pages, va, level)?;
        match self.entry(pages, va, level) {
            Some(Entry::Table { table, open, sealed }) => Ok((table, open, sealed)),
            _ => Err(Error::NotMapped(va)),
        }
    }

    pub fn share_table(
        self,
        pages: &mut Pages,
        va: u64,
        (target, to): (PageMap, u64),
        level: Level,
    ) -> Result<(), Error> {
        let (table, _, sealed) = self.named(pages, va, level)?;
        target.require_open(pages, to, level)?;
        if target.entry(pages, to, level).is_some() {
            return Err(Error::Mapped(to));
        }
        target.make(pages, to, level)?;
        pages.table(table).refs += 1;
        for (map, va) in [(self, va), (target, to)] {
            map.set(pages, va, level, Some(Entry::Table { table, open: false, sealed }));
        }
        Ok(())
    }

    pub fn own_table(self, pages: &mut Pages, va: u64, level: Level) -> Result<(), Error> {
        let (mut table, open, sealed) = self.named(pages, va, level)?;
        if open {
            return Ok(());
        }
        let copied = pages.table_refs(table) > 1;
        if copied {
            pages.take(1)?;
            table = pages.copy_table(table);
        }
        pages.owned_tables[usize::from(copied)] += 1;
        pages.lower(table);
        self.set(pages, va, level, Some(Entry::Table { table, open: true, sealed }));
        Ok(())
    }

    pub fn protect_table(self, pages: &mut Pages, va: u64, level: Level, perms: u64) -> Result<(), Error> {
        let (table, open, _) = self.named(pages, va, level)?;
        if !open {
            return Err(Error::TableShared(va + level as u64));
        }
        self.set(pages, va, level, Some(Entry::Table { table, open, sealed: perms == 0 }));
        Ok(())
    }

    pub fn unmap_table(self, pages: &mut Pages, va: u64, level: Level) -> Result<(), Error> {
        let (table, open, _) = self.named(pages, va, level)?;
        if level > Level::L2 && (open || pages.table_refs(table) == 1) {
            return Err(Error::NotShared(va));
        }
        pages.release_table(table);
        self.set(pages, va, level, None);
        self.prune(pages, va);
        Ok(())
    }
}

impl Pages {
    /// Copies a page table for a sharer that gives up the original. Each entry of it gets one more reference; page
    /// tables below become shared, and are closed in both.
    fn copy_table(&mut self, table: usize) -> usize {
        let entries = self.table(table).entries.clone();
        for entry in entries.values() {
            match *entry {
                Entry::Slot(slot) if slot.is_present() => self.share(slot.page),
                Entry::Slot(_) => {}
                Entry::Table { table, .. } => self.table(table).refs += 1,
            }
        }
        for entry in self.table(table).entries.values_mut() {
            if let Entry::Table { open, .. } = entry {
                *open = false;
            }
        }
        self.release_table(table);
        self.add_table(Table { refs: 1, entries })
    }

    /// Reduces the rights in a page table that has a single owner from now on: page tables below are closed, and pages
    /// that others have, too, must be copied before they are written.
    fn lower(&mut self, table: usize) {
        let mut entries = core::mem::take(&mut self.table(table).entries);
        for entry in entries.values_mut() {
            match entry {
                Entry::Table { open, .. } => *open = false,
                Entry::Slot(slot) if slot.is_present() && self.all[slot.page].refs > 1 => {
                    slot.bits = lowered(slot.bits);
                }
                Entry::Slot(_) => {}
            }
        }
        self.table(table).entries = entries;
    }
}

/// The rights that remain for a page that others have, too.
fn lowered(bits: u64) -> u64 {
    let (keep, cow) = (Perms::KEEP.bits(), Perms::COW.bits());
    if bits & keep != 0 {
        return bits;
    }
    let copy = if bits & Pte::WRITABLE != 0 { cow } else { 0 };
    (bits | copy) & !(Pte::WRITABLE | Pte::MAY)
}

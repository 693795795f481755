//! The walk down to a page table entry; making and removing the tables on the way.

use crate::entry::{TABLE, count};
use crate::page_map::{Editable, Leaf, Loaded, SPAN, Walk};
use crate::{Machine, frames::Emptied};
use abi::layout::{WINDOWS, uvpt};
use abi::{Error, Frame, Level, Pte, Va, page::span};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The cost of making a missing table, besides filling it, in instructions, roughly.
pub(crate) const MAKE: u32 = 70;
/// The cost of removing a table that has become empty.
pub(crate) const PRUNE: u32 = 150;
impl<M: Machine> Editable<M> {
    /// Checks that the entry of `va` may be changed: no table above is shared.
    pub(crate) fn require_own_tables(&self, leaf: &Leaf, va: Va) -> Result<(), Error> {
        if leaf.open { Ok(()) } else { Err(self.shared_above(va)) }
    }

    /// The error that names the topmost shared table above `va`. If none is shared one is sealed: the page may not be
    /// written. (And nobody may change windows.)
    #[cold]
    #[inline(never)]
    // exercise 2 of page-tables: the topmost table that is shared
    pub(crate) fn shared_above(&self, va: Va) -> Error {
        if va >= WINDOWS {
            return Error::NoRight(va.0);
        }
        let mut table = self.root;
        for level in Level::TABLES {
            let pte = Pte(M::table(table)[va.index(level)].load(Relaxed));
            if pte.is_shared_table() {
                return Error::TableShared((va.0 & !(span(level) - 1)) | level as u64);
            }
            table = pte.frame();
        }
        Error::NoRight(va.0)
    }

    /// Checks that pages at `va` may be mapped and unmapped: no table above is shared.
    ///
    /// # Errors
    /// [`Error::TableShared`].
    pub fn is_open(&self, va: Va) -> Result<(), Error> {
        match self.table_entry(va, Level::L1) {
            Err(error @ Error::TableShared(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Finds the leaf entry of `va` that is to be changed, if its table is present and for users.
    pub(crate) fn find(&self, va: Va) -> Option<Leaf> {
        self.look_up(&self.last[0], va).then(|| self.leaf(&self.last[0], va))
    }

    /// The table of level 3 below the first entry of the root, if nobody else has it: what a device can access.
    pub fn first_table(&self) -> Option<Frame> {
        let pte = Pte(M::table(self.root)[0].load(Relaxed));
        (pte.is_present() && !pte.is_shared_table()).then_some(pte.frame())
    }

    /// How many pages at the start of a run have neither a page nor a mark; looks at some only.
    pub fn empty_pages(&self, va: Va, count: u32) -> u32 {
        const MOST: u32 = 64;
        let is_empty = |page: &u32| self.find(va.add_pages(u64::from(*page))).is_none_or(|leaf| leaf.pte.is_empty());
        (0..count.min(MOST)).take_while(is_empty).count() as u32
    }

    /// Finds the leaf entry of a present page.
    pub(crate) fn present(&self, last: &Cell<Walk>, va: Va) -> Result<Leaf, Error> {
        let leaf = self.look_up(last, va).then(|| self.leaf(last, va));
        leaf.filter(|leaf| leaf.pte.is_present()).ok_or(Error::NotMapped(va.0))
    }

    /// Makes `last` the walk to `va`. Returns whether there is a table.
    pub(crate) fn look_up(&self, last: &Cell<Walk>, va: Va) -> bool {
        let there = last.get().span & !Walk::CLOSED == va.0 / SPAN;
        there || self.walk(va).inspect(|walk| last.set(*walk)).is_some()
    }

    /// The leaf entry of `va`, at the end of the walk `last`.
    #[inline(always)]
    pub(crate) fn leaf(&self, last: &Cell<Walk>, va: Va) -> Leaf {
        let walk = last.get();
        let entry = &walk.entries[va.index(Level::L1)];
        let pte = Pte(entry.load(Relaxed));
        let open = walk.span & Walk::CLOSED == 0;
        Leaf { entry, pte, table: walk.table, open, writable_above: walk.is_writable() }
    }

    /// Walks down to the table of level 1.
    #[inline(never)]
    // exercise 2 of page-tables: the kernel walks down to the table of level 1
    pub(crate) fn walk(&self, va: Va) -> Option<Walk> {
        let mut table = self.root;
        let mut above = u64::MAX;
        for level in Level::TABLES {
            let pte = Pte(M::table(table)[va.index(level)].load(Relaxed));
            if !pte.is_present() {
                return None;
            }
            above &= pte.0;
            table = pte.frame();
        }
        if above & Pte::USER == 0 {
            return None;
        }
        Some(Walk::new::<M>(va, table, above))
    }

    pub(crate) fn drop_walks(&self) {
        self.last.iter().for_each(|last| last.set(Walk::none::<M>(self.root)));
    }

    /// Finds the leaf entry of `va`; missing tables are made. A caller that does not fill the entry must call
    /// [`prune`](Self::prune).
    #[inline(always)]
    pub(crate) fn make(&mut self, va: Va) -> Result<Leaf, Error> {
        if !self.look_up(&self.last[0], va) {
            self.make_tables(va)?;
        }
        let leaf = self.leaf(&self.last[0], va);
        self.require_own_tables(&leaf, va).map(|()| leaf)
    }

    #[inline(never)]
    pub(crate) fn make_tables(&mut self, va: Va) -> Result<(), Error> {
        let table = self.make_table(va, Level::L1)?;
        // Whether writing is allowed does not matter to calls that make tables.
        self.last[0].set(Walk::new::<M>(va, table, Pte::EDIT));
        Ok(())
    }

    /// The table of a level (1 to 3) that translates `va`. Missing tables are made; a caller that does not fill the
    /// entry must call [`prune`](Self::prune).
    // exercise 3 of page-tables: the kernel makes the tables that are missing
    pub(crate) fn make_table(&mut self, va: Va, level: Level) -> Result<Frame, Error> {
        let mut table = self.root;
        for above in level.all_above() {
            let entry = &M::table(table)[va.index(above)];
            let mut pte = Pte(entry.load(Relaxed));
            if !pte.is_present() {
                self.has_worked(MAKE);
                let frame = M::memory().alloc_table(&mut self.work).inspect_err(|_| self.prune(va))?;
                M::expect_zeros(M::table(frame));
                pte = Pte(frame.address() | TABLE);
                entry.store(pte.0, Relaxed);
                count::<M>(table, 1);
            } else if !pte.has(Pte::EDIT) {
                return Err(self.shared_above(va));
            }
            table = pte.frame();
        }
        Ok(table)
    }

    /// The entry of a level that translates `va`, if it points to a table or page; and the table that contains the
    /// entry, which belongs to this page map alone.
    // exercise 2 of page-tables: the same, down to any level
    pub(crate) fn table_entry(&self, va: Va, level: Level) -> Result<(Frame, &'static AtomicU64), Error> {
        let mut table = self.root;
        for above in Level::DOWN {
            let entry = &M::table(table)[va.index(above)];
            let pte = Pte(entry.load(Relaxed));
            if !pte.is_present() {
                break;
            }
            if above == level {
                return Ok((table, entry));
            }
            if !pte.has(Pte::EDIT) {
                return Err(self.shared_above(va));
            }
            table = pte.frame();
        }
        Err(Error::NotMapped(va.0))
    }

    /// Prunes the tables above `va` if the level-1 table has become empty.
    pub(crate) fn prune_if_empty(&mut self, table: Frame, va: Va) {
        if M::info(table).entries() == 0 {
            self.prune(va);
        }
    }

    /// Frees the tables above `va` that have become empty.
    #[inline(never)]
    pub(crate) fn prune(&mut self, va: Va) {
        self.drop_walks();
        let mut path = [self.root; 4];
        let mut depth = 0;
        while depth < 3 {
            let entry = &M::table(path[depth])[va.index(Level::DOWN[depth])];
            let pte = Pte(entry.load(Relaxed));
            if !pte.has(Pte::EDIT) {
                break; // a shared table is not empty
            }
            depth += 1;
            path[depth] = pte.frame();
        }
        while depth > 0 && M::info(path[depth]).entries() == 0 {
            let level = Level::DOWN[depth];
            depth -= 1;
            self.has_worked(PRUNE);
            M::table(path[depth])[va.index(Level::DOWN[depth])].store(0, Relaxed);
            count::<M>(path[depth], -1);
            // The table was visible in the self map, as the page that holds the entry of `va`.
            self.invalidate(uvpt(va, level).page());
            if self.loaded == Loaded::Elsewhere {
                self.release(path[depth + 1]);
            } else {
                M::memory().release_emptied(path[depth + 1], Emptied::Table);
            }
        }
    }
}

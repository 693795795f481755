//! Sharing of whole tables: it makes the cost of fork independent of the amount of memory.
//!
//! A table of level 1 translates 2 MiB, one of level 2 translates 1 GiB, one of level 3 translates 512 GiB. The entry
//! that points to a table can be given to another page map, which then has everything below it. `docs/fork.md` draws
//! that, has the rule for the rights of both sides, and gives the reason for each part of it.
//!
//! Invariant: the entries that point to a shared table lack EDIT and W in every page map, and nobody gets more rights
//! out of a table than were in it when it was shared.
//!
//! A table can also be sealed: then the entry that points to it lacks W, but not EDIT. The seal belongs to the entry.
//! It is given away and copied with it, and stays when the table becomes private.

use crate::entry::{LINE, count, is_line_empty, note_others, own_flags};
use crate::{Machine, Table, page_map::Editable};
use abi::{Error, Frame, Level, Perms, Pte, Va, page::TABLE_ENTRIES, window::FrameInfo};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

impl<M: Machine> Editable<M> {
    /// Grants the table that the entry of this level (2 to 4) at `va` points to: returns that entry as it was, with
    /// a reference for the receiver. After that nothing below is writable in this page map.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::TableShared`] (one further up), [`Error::TooManyRefs`].
    pub fn grant_table(&mut self, va: Va, level: Level) -> Result<Pte, Error> {
        let (_, entry) = self.table_entry(va, level)?;
        let pte = Pte(entry.load(Relaxed));
        M::memory().add_reference(pte.frame())?;
        if pte.has(Pte::EDIT) {
            entry.fetch_and(!OWN, Relaxed);
            self.invalidate_all();
            // No processor may still write when the receiver begins to read.
            self.flush_elsewhere();
        }
        Ok(pte)
    }

    /// Undoes [`grant_table`](Self::grant_table) for a table that was private and that no page map has accepted.
    pub(crate) fn reopen_table(&mut self, va: Va, level: Level) {
        if let Ok((_, entry)) = self.table_entry(va, level) {
            entry.fetch_or(own_flags(Pte(entry.load(Relaxed))), Relaxed);
            self.invalidate_all();
        }
    }

    /// Protects everything below the table that the entry of this level (2 to 4) at `va` points to against writes, or
    /// no longer, if these permissions have WRITE. The leaves stay as they are.
    ///
    /// # Errors
    /// [`Error::NotMapped`]; [`Error::TableShared`], also if it is this table that may be shared.
    pub fn protect_table(&mut self, va: Va, level: Level, perms: Perms) -> Result<(), Error> {
        let (_, entry) = self.table_entry(va, level)?;
        let pte = Pte(entry.load(Relaxed));
        if pte.is_shared_table() {
            return Err(self.shared_above(va));
        }
        if pte.has(Pte::WRITABLE) != perms.contains(Perms::WRITE) {
            entry.fetch_xor(Pte::WRITABLE | Pte::SEALED, Relaxed);
            self.invalidate_all();
        }
        Ok(())
    }

    /// Makes the entry of this level (2 to 4) at `va` point to a granted table, sealed if it was. The reference moves
    /// into the entry; an error drops it.
    ///
    /// # Errors
    /// [`Error::Mapped`] if there is a table already, [`Error::TableShared`], [`Error::NoMemory`].
    pub fn accept_table(&mut self, va: Va, level: Level, granted: Pte) -> Result<(), Error> {
        self.put_table(va, level, granted).inspect_err(|_| {
            // Not the last reference: the page map that granted the table still has one.
            M::memory().release_shared(granted.frame());
        })
    }

    fn put_table(&mut self, va: Va, level: Level, granted: Pte) -> Result<(), Error> {
        let table = self.make_table(va, level)?;
        let entry = &M::table(table)[va.index(level)];
        if entry.load(Relaxed) != 0 {
            return Err(Error::Mapped(va.0));
        }
        entry.store(granted.0 & !OWN, Relaxed);
        count::<M>(table, 1);
        Ok(())
    }

    /// The number of entries on which the cost of [owning](Self::own_table) or [removing](Self::unmap_table) the table
    /// depends. (Nobody knows whether a table that is removed will be the last one's by then.)
    pub(crate) fn entries_of_table(&self, va: Va, level: Level, owns: bool) -> u32 {
        let Ok((_, entry)) = self.table_entry(va, level) else { return 0 };
        let table = Pte(entry.load(Relaxed)).frame();
        let none = if owns { M::memory().is_sole(table) && is_as_it_was::<M>(table, level) } else { level > Level::L2 };
        if none { 0 } else { M::info(table).entries() }
    }

    /// Makes the table that the entry of this level (2 to 4) at `va` points to private to this page map. Returns
    /// whether the table was copied.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::TableShared`] (one further up), [`Error::NoMemory`], [`Error::TooManyRefs`].
    pub fn own_table(&mut self, va: Va, level: Level) -> Result<bool, Error> {
        let (_, entry) = self.table_entry(va, level)?;
        let pte = Pte(entry.load(Relaxed));
        let table = pte.frame();
        if pte.has(Pte::EDIT) {
            return Ok(false);
        }
        let entries = M::info(table).entries();
        if M::memory().is_sole(table) {
            if !is_as_it_was::<M>(table, level) {
                self.has_worked(cost_to_keep(entries));
                if level > Level::L2 {
                    each_entry::<M>(table, |entry| take_write(entry, Pte(entry.load(Relaxed))));
                } else {
                    keep_leaves::<M>(table);
                }
            }
            entry.fetch_or(own_flags(pte), Relaxed);
            self.invalidate_all();
            return Ok(false);
        }
        self.has_worked(cost_to_copy(entries));
        let copy = self.copy_table(table, level)?;
        entry.store(copy.address() | own_flags(pte) | pte.0 & !Pte::FRAME, Relaxed);
        // No processor may walk the old table from this page map any more: it may be freed in a moment.
        self.invalidate_all();
        self.flush();
        if !M::memory().release_shared(table) {
            self.has_worked(DROP);
            drop_table::<M>(table);
        }
        Ok(true)
    }

    /// Copies a shared table. Each entry then exists twice, and the copy has the rights that both may have. Pages in
    /// the old table stay as they are: nobody can write them, and the page map that keeps the table finds the note, and
    /// looks at each of them.
    fn copy_table(&mut self, table: Frame, level: Level) -> Result<Frame, Error> {
        let len = M::info(table).entries();
        // In a nearly empty table only lines with nonempty entries are copied.
        let is_sparse = len <= SPARSE;
        let work = &mut self.work;
        let copy = if is_sparse { M::memory().alloc_table(work)? } else { M::memory().alloc_dirty(work)? };
        let (from, to, left) = (M::table(table), M::table(copy), is_sparse.then_some(len));
        let copied =
            if level > Level::L2 { copy_tables::<M>(from, to, left) } else { copy_leaves::<M>(from, to, left) };
        if copied < TABLE_ENTRIES {
            let refused = Pte(from[copied].load(Relaxed)).frame();
            release_all::<M>(&to[..copied]);
            M::memory().release(copy);
            return Err(Error::TooManyRefs(refused.address()));
        }
        M::info(copy).word.store(len, Relaxed);
        if level == Level::L2 {
            [table, copy].into_iter().for_each(note_others::<M>);
        }
        Ok(copy)
    }

    /// Removes a table, and with it everything below, from this page map. A table of tables must have other users.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::TableShared`] (one further up), [`Error::NotShared`] (a table of tables).
    pub fn unmap_table(&mut self, va: Va, level: Level) -> Result<(), Error> {
        let (above, entry) = self.table_entry(va, level)?;
        let pte = Pte(entry.load(Relaxed));
        let has_pages = level == Level::L2;
        if !has_pages && (pte.has(Pte::EDIT) || M::memory().is_sole(pte.frame())) {
            return Err(Error::NotShared(va.0));
        }
        let pte = Pte(entry.swap(0, Relaxed));
        self.invalidate_all();
        // No processor reaches anything below when the first frame can be handed out again.
        self.flush();
        if !M::memory().release_shared(pte.frame()) {
            if !has_pages {
                // The others have just given up the table.
                entry.store(pte.0, Relaxed);
                return Err(Error::NotShared(va.0));
            }
            self.has_worked(cost_to_free(M::info(pte.frame()).entries()));
            free_leaves::<M>(pte.frame());
        }
        count::<M>(above, -1);
        self.prune(va);
        Ok(())
    }
}

/// The cost of going through a table, in instructions, roughly, besides the work on its entries.
const LOOK: u32 = 900;
/// The cost of giving up a table that no other page map has any more.
const DROP: u32 = 8 * ALL;
const ALL: u32 = TABLE_ENTRIES as u32;
/// The greatest number of other entries in the line of a nonempty entry.
const BESIDE: u32 = LINE as u32 - 1;

/// The greatest number of nonempty entries of a sparse table, in which only nonempty lines are processed.
const SPARSE: u32 = 256;

/// The cost of copying a table with this many nonempty entries. The worst case: they alternate between two kinds, and
/// lie apart.
const fn cost_to_copy(entries: u32) -> u32 {
    if entries <= SPARSE {
        let lines = min(entries, ALL / LINE as u32);
        700 + LOOK + 100 * lines + 17 * entries
    } else {
        LOOK + 9 * (ALL - entries) + 24 * entries
    }
}

/// The cost of keeping a table.
const fn cost_to_keep(entries: u32) -> u32 {
    let (beside, each) =
        if entries <= SPARSE { (min(BESIDE * entries, ALL - entries), 34) } else { (ALL - entries, 30) };
    LOOK + 6 * beside + each * entries
}

const fn min(one: u32, other: u32) -> u32 {
    if one < other { one } else { other }
}

const fn max(one: u32, other: u32) -> u32 {
    if one > other { one } else { other }
}

/// The greatest cost of owning a table with this many entries. The table is either kept or copied; and while it is
/// copied, the others may give it up, or a frame may have to be searched for. (Both for one full table would cost more
/// than this.)
pub(crate) const fn most_to_own(entries: u32, search: u32) -> u32 {
    max(cost_to_keep(entries), cost_to_copy(entries) + max(search, DROP))
}

/// The greatest cost of freeing a table of pages with this many entries.
pub(crate) const fn cost_to_free(entries: u32) -> u32 {
    let (beside, each) =
        if entries <= SPARSE { (min(BESIDE * entries, ALL - entries), 30) } else { (ALL - entries, 18) };
    LOOK + 6 * beside + each * entries
}

/// Whether a table, which this page map alone has, can be kept without a look at its entries: no page that it names has
/// other users.
///
/// A page map that adds a reference to a page notes that in the table before it gives up the topmost shared table on
/// the way to it. And [`Memory::is_sole`](crate::Memory::is_sole), which this page map has asked about that table, and
/// about those below, shows everything done before.
fn is_as_it_was<M: Machine>(table: Frame, level: Level) -> bool {
    level == Level::L2 && M::info(table).word.load(Relaxed) & FrameInfo::OTHERS == 0
}

/// The flags that only the entry of a private table has.
const OWN: u64 = Pte::EDIT | Pte::WRITABLE;

/// Makes an entry that points to a table one of a table that may be shared.
fn take_write(entry: &AtomicU64, pte: Pte) {
    if pte.has(Pte::EDIT) {
        entry.fetch_and(!OWN, Relaxed);
    }
}

/// Rights that only a sole user of a page may have.
const SOLE: u64 = Pte::WRITABLE | Pte::MAY;

/// Copies entries that point to tables. Returns how many could be copied.
fn copy_tables<M: Machine>(from: &Table, to: &Table, left: Option<u32>) -> usize {
    copy_entries(from, to, left, |old, new| {
        let pte = Pte(old.load(Relaxed));
        if pte.is_present() {
            M::memory().add_reference(pte.frame()).ok()?;
            take_write(old, pte);
            new.store(pte.0 & !OWN, Relaxed);
        } else {
            new.store(pte.0, Relaxed);
        }
        Some(())
    })
}

/// Copies entries of pages. Returns how many could be copied. (A separate function, because this is the main cost of a
/// first write after a fork.)
#[inline(never)]
fn copy_leaves<M: Machine>(from: &Table, to: &Table, left: Option<u32>) -> usize {
    // Most often a page has the flags of the one before it. Then the change of its entry is equal, too.
    let (mut beside, mut change) = (!Pte::FRAME, 0);
    copy_entries(from, to, left, |old, new| {
        let pte = old.load(Relaxed);
        if (pte ^ beside) & !Pte::FRAME != 0 {
            if !Pte(pte).is_present() {
                new.store(pte, Relaxed);
                return Some(());
            }
            (beside, change) = (pte & !Pte::FRAME, change_of_leaf(pte));
        }
        M::memory().add_reference(Pte(pte).frame()).ok()?;
        new.store(pte ^ change, Relaxed);
        Some(())
    })
}

/// Changes the entries of pages that others have too, in a table that is kept. (Meanwhile the processor may set A or
/// D, and nothing else.)
#[inline(never)]
fn keep_leaves<M: Machine>(table: Frame) {
    let (mut beside, mut change) = (!Pte::FRAME, 0);
    let mut kinds = 0;
    each_entry::<M>(table, |entry| {
        let pte = entry.load(Relaxed);
        if (pte ^ beside) & !Pte::FRAME != 0 {
            beside = pte & !Pte::FRAME;
            change = if Pte(pte).is_present() { change_of_leaf(pte) } else { 0 };
            kinds |= pte;
        }
        if change != 0 && !M::memory().is_sole(Pte(pte).frame()) {
            entry.fetch_xor(change, Relaxed);
        }
    });
    // Kept pages have all rights and may have other users still.
    if kinds & Perms::KEEP.bits() == 0 {
        M::info(table).word.fetch_and(!FrameInfo::OTHERS, Relaxed);
    }
}

/// The bits that change in the entry of a page that gets another user: the rights of a sole user go. A page that could
/// be written becomes copy-on-write. A page that is kept does not change. (Pages of alternating kinds pay for this
/// each.)
#[inline(always)]
fn change_of_leaf(pte: u64) -> u64 {
    const COW: u64 = Perms::COW.bits();
    let copied_first = ((pte & Pte::WRITABLE) * (COW / Pte::WRITABLE)) & !pte;
    if pte & Perms::KEEP.bits() == 0 { (pte & SOLE) | copied_first } else { 0 }
}

/// Copies entry by entry; `copy` returns `None` if it cannot. If `left` is given, this many entries are nonempty, and
/// the new table is empty.
#[inline(always)]
fn copy_entries(
    from: &Table,
    to: &Table,
    mut left: Option<u32>,
    mut copy: impl FnMut(&AtomicU64, &AtomicU64) -> Option<()>,
) -> usize {
    for (line, (from, to)) in from.chunks_exact(LINE).zip(to.chunks_exact(LINE)).enumerate() {
        if let Some(left) = &mut left {
            if *left == 0 {
                break;
            }
            if is_line_empty(from) {
                continue;
            }
            *left -= from.iter().map(|entry| u32::from(entry.load(Relaxed) != 0)).sum::<u32>();
        }
        if let Some(refused) = from.iter().zip(to).position(|(old, new)| copy(old, new).is_none()) {
            return line * LINE + refused;
        }
    }
    TABLE_ENTRIES
}

/// Calls `f` with every nonempty entry of a table.
#[inline(always)]
fn each_entry<M: Machine>(table: Frame, mut f: impl FnMut(&AtomicU64)) {
    let mut left = M::info(table).entries();
    if left > SPARSE {
        return M::table(table).iter().filter(|entry| entry.load(Relaxed) != 0).for_each(f);
    }
    for line in M::table(table).chunks_exact(LINE) {
        if left == 0 {
            return;
        }
        if is_line_empty(line) {
            continue;
        }
        for entry in line.iter().filter(|entry| entry.load(Relaxed) != 0) {
            left -= 1;
            f(entry);
        }
    }
}

/// Frees a table of pages that no processor can reach any more, and drops the references to its pages. (The frames are
/// linked as they come, and the entries stay as they are: frames on the free list have any contents.)
#[inline(never)]
fn free_leaves<M: Machine>(table: Frame) {
    let first = FrameInfo::default();
    let (mut last, mut free) = (&first, 0);
    let mut release = |frame: Frame| {
        let info = M::info(frame);
        if smp::is_sole(&info.refs) {
            info.refs.store(0, Relaxed);
        } else if !smp::release(&info.refs) {
            return;
        }
        last.word.store(frame.0, Relaxed);
        last = info;
        free += 1;
    };
    let mut release_page = |entry: &AtomicU64| {
        let pte = Pte(entry.load(Relaxed));
        if pte.is_present() {
            release(pte.frame());
        }
    };
    if M::info(table).entries() > SPARSE {
        // By twos: fewer instructions.
        M::table(table).chunks_exact(2).for_each(|two| two.iter().for_each(&mut release_page));
    } else {
        each_entry::<M>(table, release_page);
    }
    release(table);
    M::memory().free_all(&first, last, free);
}

/// Gives up a table that was copied and that the others have given up meanwhile. The copy has references to everything
/// that the table names: none of that is freed now.
#[cold]
fn drop_table<M: Machine>(table: Frame) {
    release_all::<M>(M::table(table));
    M::info(table).word.store(0, Relaxed);
    M::memory().release(table);
}

/// Drops the references of entries that exist in another table, too: none of them is the last one.
fn release_all<M: Machine>(entries: &[AtomicU64]) {
    for pte in entries.iter().map(|entry| Pte(entry.load(Relaxed))).filter(|pte| pte.is_present()) {
        let was_last = smp::release(&M::info(pte.frame()).refs);
        debug_assert!(!was_last, "{:?} is in no copy", pte.frame());
    }
}

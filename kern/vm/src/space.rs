//! Page maps: what the page calls do to one page.

use crate::frames::{Emptied, FILL, add};
use crate::{Machine, Memory, Table};
use abi::layout::{UVPT_SLOT, WINDOWS, uvpt};
use abi::page::span;
use abi::{Error, Frame, PAGE_SIZE, Perms, Pte, Va};
use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An entry that points to a table which this space alone has. It allows everything: rights are decided in
/// the leaf. Without W the table may be shared, so rights are always the AND over the levels.
pub(crate) const TABLE: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::USER;

/// One address space, named by the frame of its top-level table.
///
/// Whoever has the value holds the lock of the environment that it belongs to.
pub struct Space<M> {
    pub(crate) root: Frame,
    /// The tables that were walked to last: to grant a page, and for everything else.
    pub(crate) last: [Cell<Walk>; 2],
    /// What was spent since somebody asked, beyond what every page takes: instructions, roughly.
    pub(crate) work: u32,
    /// What lies below is gone already: teardown goes on here.
    torn_down: Va,
    /// Who may have cached what changes here.
    loaded: Loaded,
    /// Something was taken away that another processor may have cached.
    stale: bool,
    /// The same for this processor, and it is more than single pages could be forgotten for.
    pub(crate) stale_here: bool,
    /// Frames that cannot be given back before it has forgotten them.
    parked: [Frame; PARKED],
    parked_len: usize,
    machine: PhantomData<M>,
}

/// Which processor has a space loaded. It is one at the most: an environment runs in one place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    /// This one: whoever runs changes its own space. That is so whenever nobody [says](Space::begin) otherwise.
    Here,
    /// None.
    Nowhere,
    /// Another one, or it may load it at any time.
    Elsewhere,
}

/// What making a table that is missing costs, besides filling it, in instructions, roughly.
pub(crate) const MAKE: u32 = 70;
/// What giving back a table costs that has become empty.
pub(crate) const PRUNE: u32 = 150;
/// What keeping a frame costs until other processors have forgotten it, and then freeing it.
pub const PARK: u32 = 75;
/// What letting other processors forget a page map costs, however many they are.
pub const FLUSH: u32 = 60;
/// The price of a flush for each processor, whether it has to forget anything or not.
pub const FLUSH_EACH: u32 = 20;

/// So many frames wait for one flush at the most.
const PARKED: usize = 16;

/// The result of a walk down to a table of level 1: good for 2 MiB, until a table is freed.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// The address, divided by 2 MiB; and [`Walk::READ_ONLY`], unless every level above allows writing.
    pub span: u64,
    pub entries: &'static Table,
    table: Frame,
}

impl Walk {
    pub const READ_ONLY: u64 = 1 << 63;

    fn new<M: Machine>(va: Va, table: Frame, writable: bool) -> Walk {
        let read_only = if writable { 0 } else { Walk::READ_ONLY };
        Walk { span: (va.0 / SPAN) | read_only, entries: M::table(table), table }
    }

    /// To nowhere.
    fn none<M: Machine>(root: Frame) -> Walk {
        Walk { span: u64::MAX, entries: M::table(root), table: root }
    }
}

/// What a table of level 1 translates, in bytes.
pub(crate) const SPAN: u64 = 512 * PAGE_SIZE;

/// Where a page is translated: its leaf entry, found by [`Space::find`].
pub(crate) struct Leaf {
    pub entry: &'static AtomicU64,
    /// What was in it. (The processor may set A and D at any time, if it is present.)
    pub pte: Pte,
    /// The table that holds the entry.
    pub table: Frame,
    /// Whether every level above allows writing.
    pub writable_above: bool,
}

/// A frame that is named no more in a place where it was: to be given to [`Memory::release`].
#[must_use]
pub struct Released(pub Frame);

impl Leaf {
    /// What the holder may do: the AND over all levels, never the leaf alone.
    #[inline]
    fn allows(&self, right: u64) -> bool {
        self.writable_above && self.pte.has(right)
    }
}

/// A page that is mapped, as [`Space::page`] finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Its frame.
    pub frame: Frame,
    /// Whether it can be written at this moment.
    pub writable: bool,
}

impl<M: Machine> Space<M> {
    /// An address space with no pages: the kernel's half and the windows are those of `template`, in which there is
    /// nothing else.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(memory: &Memory<M>, template: Frame) -> Result<Self, Error> {
        let root = memory.take_emptied(Emptied::Root).map_or_else(|| new_root(memory, template), Ok)?;
        M::expect_zeros(user_entries::<M>(root, 4));
        Ok(Space {
            root,
            last: [0, 1].map(|_| Cell::new(Walk::none::<M>(root))),
            work: 0,
            torn_down: Va(0),
            loaded: Loaded::Here,
            stale: false,
            stale_here: false,
            parked: [Frame(0); PARKED],
            parked_len: 0,
            machine: PhantomData,
        })
    }

    /// Changes begin, by who has just taken the lock, and does not run in this space.
    pub fn begin(&mut self) {
        self.loaded = if M::is_elsewhere(self.root) {
            Loaded::Elsewhere
        } else if M::is_here(self.root) {
            Loaded::Here
        } else {
            Loaded::Nowhere
        };
    }

    /// Changes end, before the lock is given up: from now on no processor knows what was taken away.
    #[inline]
    pub fn settle(&mut self, memory: &Memory<M>) {
        if self.loaded != Loaded::Here || self.stale_here {
            self.flush(memory);
            self.loaded = Loaded::Here;
        }
    }

    /// From here on no processor has cached anything that is not so any more.
    #[cold]
    pub(crate) fn flush(&mut self, memory: &Memory<M>) {
        if core::mem::take(&mut self.stale_here) {
            M::invalidate_all(self.root);
        }
        self.flush_elsewhere();
        let parked = core::mem::take(&mut self.parked_len);
        self.parked[..parked].iter().for_each(|frame| memory.release(*frame));
    }

    /// The same for other processors alone. Nothing is given back.
    #[inline]
    pub(crate) fn flush_elsewhere(&mut self) {
        if core::mem::take(&mut self.stale) {
            M::flush_elsewhere(self.root);
        }
    }

    /// Other processors will have to forget what they have cached. That is paid for now: it happens at the latest when
    /// the lock is given up, when no budget is asked any more.
    #[cold]
    #[inline(never)]
    fn is_stale_elsewhere(&mut self) {
        if !self.stale {
            self.stale = true;
            self.has_worked(FLUSH + FLUSH_EACH * M::cpus().len() as u32);
        }
    }

    /// An entry that points to a table changed.
    pub(crate) fn forget_all(&mut self) {
        self.forget_walks();
        match self.loaded {
            Loaded::Here => self.stale_here = true,
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.is_stale_elsewhere(),
        }
    }

    /// An entry was taken away or lost rights.
    #[inline]
    fn forget(&mut self, page: Va) {
        match self.loaded {
            Loaded::Here => M::invalidate(self.root, page),
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.is_stale_elsewhere(),
        }
    }

    /// Give up a frame that was named by an entry which is forgotten.
    #[inline]
    fn release(&mut self, memory: &Memory<M>, frame: Frame) {
        match self.loaded {
            Loaded::Elsewhere => self.park(memory, frame),
            _ => memory.release_with(frame, &mut self.work),
        }
    }

    #[cold]
    #[inline(never)]
    fn park(&mut self, memory: &Memory<M>, frame: Frame) {
        if self.parked_len == PARKED {
            self.flush(memory);
        }
        self.is_stale_elsewhere();
        self.has_worked(PARK);
        self.parked[self.parked_len] = frame;
        self.parked_len += 1;
    }

    /// The frame of the top-level table.
    #[inline]
    #[must_use]
    pub fn root(&self) -> Frame {
        self.root
    }

    /// The page at `va`, if one is mapped for the user.
    #[inline]
    #[must_use]
    pub fn page(&self, va: Va) -> Option<Page> {
        let leaf = self.present(&self.last[1], va).ok().filter(|leaf| leaf.pte.has(Pte::USER))?;
        Some(Page { frame: leaf.pte.frame(), writable: leaf.allows(Pte::WRITABLE) })
    }

    /// The frame of the page at `va`, which can be written at this moment. It is about to be: A and D are
    /// set, as the processor does.
    ///
    /// # Errors
    /// [`Error::TableShared`]; [`Error::Fault`] if there is no page, or not a writable one.
    pub fn dirty(&self, va: Va) -> Result<Frame, Error> {
        let leaf = self.find(va).filter(|leaf| leaf.pte.has(Pte::PRESENT | Pte::USER | Pte::WRITABLE));
        let leaf = leaf.ok_or(Error::Fault(va.0))?;
        self.require_own_tables(&leaf, va)?;
        leaf.entry.fetch_or(Pte::ACCESSED | Pte::DIRTY, Relaxed);
        Ok(leaf.pte.frame())
    }

    /// What is at `va` can be changed: no table above is shared.
    #[inline]
    fn require_own_tables(&self, leaf: &Leaf, va: Va) -> Result<(), Error> {
        if leaf.writable_above { Ok(()) } else { Err(self.shared_above(va)) }
    }

    /// Which table above `va` is shared: the topmost one. (Windows are nobody's to change.)
    #[cold]
    #[inline(never)]
    fn shared_above(&self, va: Va) -> Error {
        if va >= WINDOWS {
            return Error::NoRight(va.0);
        }
        // exercise 2 of page-tables: the topmost table that is shared
        let mut table = self.root;
        for level in [4, 3, 2] {
            let pte = Pte(M::table(table)[va.index(level)].load(Relaxed));
            if pte.is_shared_table() {
                return Error::TableShared((va.0 & !(span(level) - 1)) | u64::from(level));
            }
            table = pte.frame();
        }
        unreachable!("no table above {va} is shared")
        // end of exercise
    }

    /// Whether pages at `va` may come and go: no table above is shared.
    ///
    /// # Errors
    /// [`Error::TableShared`].
    pub fn is_open(&self, va: Va) -> Result<(), Error> {
        match self.table_entry(va, 2) {
            Err(error @ Error::TableShared(_)) => Err(error),
            Ok((_, entry)) if Pte(entry.load(Relaxed)).is_shared_table() => Err(self.shared_above(va)),
            _ => Ok(()),
        }
    }

    /// Whether nobody else has the page at `va`, and it can be written at this moment.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::NoRight`], [`Error::Shared`].
    pub fn is_private(&self, memory: &Memory<M>, va: Va) -> Result<(), Error> {
        let page = self.page(va).ok_or(Error::NotMapped(va.0))?;
        if !page.writable {
            return Err(Error::NoRight(va.0));
        }
        if memory.is_sole(page.frame) { Ok(()) } else { Err(Error::Shared(va.0)) }
    }

    /// Put a fresh page of zeros at `va`, instead of whatever is there.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::TableShared`].
    #[inline(always)]
    pub fn alloc(&mut self, memory: &Memory<M>, va: Va, perms: Perms) -> Result<(), Error> {
        let frame = memory.alloc_zeros(&mut self.work)?;
        self.insert(memory, va, Pte(Pte::page(frame, perms).0 | Pte::MAY))
    }

    /// The frame at `va`, to be copied.
    ///
    /// # Errors
    /// [`Error::NotMapped`].
    #[inline]
    pub fn source(&self, va: Va) -> Result<Frame, Error> {
        self.present(&self.last[1], va).map(|leaf| leaf.pte.frame())
    }

    /// Put a fresh page with the contents of a frame at `va`, instead of whatever is there.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn copy(&mut self, memory: &Memory<M>, va: Va, from: Frame, perms: Perms) -> Result<(), Error> {
        let frame = memory.alloc_copy(from, &mut self.work)?;
        self.insert(memory, va, Pte(Pte::page(frame, perms).0 | Pte::MAY))
    }

    /// The frame at `va`, to be mapped elsewhere with these permissions, with a reference for that.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::NoRight`], [`Error::TooManyRefs`]; [`Error::TableShared`] if it could be
    /// written but for that.
    #[inline]
    pub fn grant(&self, memory: &Memory<M>, va: Va, perms: Perms) -> Result<Frame, Error> {
        let leaf = self.present(&self.last[1], va)?;
        if perms.contains(Perms::WRITE) {
            if !leaf.pte.has(Pte::WRITABLE) {
                return Err(Error::NoRight(va.0));
            }
            self.require_own_tables(&leaf, va)?;
        }
        let frame = leaf.pte.frame();
        memory.share(frame).map(|()| frame)
    }

    /// Put a granted frame at `va`, instead of whatever is there. The reference moves into the
    /// entry; if there is an error it is dropped.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn accept(&mut self, memory: &Memory<M>, va: Va, frame: Frame, perms: Perms) -> Result<(), Error> {
        self.insert(memory, va, granted(frame, perms))
    }

    /// Change the permissions of the page at `va`. A and D stay.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::NoRight`], [`Error::TableShared`].
    #[inline(always)]
    pub fn protect(&mut self, va: Va, perms: Perms) -> Result<(), Error> {
        let leaf = self.present(&self.last[0], va)?;
        self.require_own_tables(&leaf, va)?;
        if !may_have(leaf.pte, perms) {
            return Err(Error::NoRight(va.0));
        }
        change(leaf.entry, leaf.pte, |old| with_perms(old, perms));
        self.forget(va);
        Ok(())
    }

    /// Remove the page or mark at `va`.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::TableShared`].
    #[inline]
    pub fn unmap(&mut self, memory: &Memory<M>, va: Va) -> Result<(), Error> {
        let leaf = self.find(va).filter(|leaf| !leaf.pte.is_empty());
        let leaf = leaf.ok_or(Error::NotMapped(va.0))?;
        self.require_own_tables(&leaf, va)?;
        self.replace(memory, &leaf, va, Pte(0));
        self.prune_if_empty(memory, leaf.table, va);
        Ok(())
    }

    /// Store a word of at most 40 bits where no page is; 0 clears it.
    ///
    /// # Errors
    /// [`Error::BadWord`], [`Error::Mapped`], [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn mark(&mut self, memory: &Memory<M>, va: Va, word: u64) -> Result<(), Error> {
        if word > Pte::MARK_MAX {
            return Err(Error::BadWord(word));
        }
        match self.find(va) {
            Some(leaf) if leaf.pte.is_present() => return Err(Error::Mapped(va.0)),
            None if word == 0 => return Ok(()),
            _ => {}
        }
        let leaf = self.make(memory, va)?;
        self.replace(memory, &leaf, va, Pte::mark(word));
        self.prune_if_empty(memory, leaf.table, va);
        Ok(())
    }

    /// Make the page at `va` this space's alone and writable; copy it if it has other users.
    /// Returns whether it was copied.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::Executable`], [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn own(&mut self, memory: &Memory<M>, va: Va) -> Result<bool, Error> {
        let leaf = self.present(&self.last[0], va)?;
        self.require_own_tables(&leaf, va)?;
        let old = leaf.pte;
        if !old.has(Pte::NO_EXEC) {
            return Err(Error::Executable(va.0));
        }
        if memory.is_sole(old.frame()) {
            change(leaf.entry, old, owned);
            self.forget(va);
            return Ok(false);
        }
        let copy = memory.alloc_copy(old.frame(), &mut self.work)?;
        self.replace(memory, &leaf, va, owned_copy(old, copy));
        Ok(true)
    }

    /// Instructions that were spent since somebody asked, roughly, beyond what every page takes: on filling frames, on
    /// freeing those that were displaced, on tables that come and go, and on asking processors. Most of the work of a page
    /// call.
    #[inline]
    pub fn take_work(&mut self) -> u32 {
        core::mem::take(&mut self.work)
    }

    /// So much came.
    #[inline(always)]
    pub(crate) fn has_worked(&mut self, instructions: u32) {
        add(&mut self.work, instructions);
    }

    #[inline(always)]
    pub(crate) fn has_filled(&mut self, frames: u32) {
        self.has_worked(frames * FILL);
    }

    /// Free what the user's part holds. Gives up after about `budget` instructions; call again then.
    /// No processor may have this space loaded. Returns whether everything is gone; then the root
    /// is left, to be [given back](Self::free).
    pub fn tear_down(&mut self, memory: &Memory<M>, budget: &mut u32) -> bool {
        self.forget_walks();
        let rest = clear::<M>(memory, self.root, 4, Va(0), self.torn_down, budget);
        self.torn_down = rest.unwrap_or(self.torn_down);
        rest.is_none()
    }

    /// Give back the top-level table, in which nothing of the user's is left. The space must not be used any more.
    pub fn free(&mut self, memory: &Memory<M>) {
        memory.release_emptied(self.root, Emptied::Root);
    }

    /// Call `f` with every entry of the user's part that is not empty: tables first, then what
    /// they hold. For checking kernels and tests.
    pub fn for_each(&self, f: &mut dyn FnMut(Va, u32, Pte)) {
        visit::<M>(self.root, 4, Va(0), f);
    }

    /// Find the leaf entry of `va`, if its table is there and is for users.
    #[inline]
    fn find(&self, va: Va) -> Option<Leaf> {
        self.look_up(&self.last[0], va).then(|| self.leaf(&self.last[0], va))
    }

    /// Find the leaf entry of a page that is there.
    #[inline]
    fn present(&self, last: &Cell<Walk>, va: Va) -> Result<Leaf, Error> {
        let leaf = self.look_up(last, va).then(|| self.leaf(last, va));
        leaf.filter(|leaf| leaf.pte.is_present()).ok_or(Error::NotMapped(va.0))
    }

    /// Let `last` be the walk to `va`. Returns whether there is a table.
    #[inline]
    pub(crate) fn look_up(&self, last: &Cell<Walk>, va: Va) -> bool {
        let there = last.get().span & !Walk::READ_ONLY == va.0 / SPAN;
        there || self.walk(va).inspect(|walk| last.set(*walk)).is_some()
    }

    /// Whether the table of level 1 that translates `va` is the one that was walked to last, and can be changed.
    #[inline(always)]
    pub(crate) fn walked_last(&self, va: Va) -> bool {
        self.last[0].get().span == va.0 / SPAN
    }

    /// The leaf entry of `va`, at the end of that walk.
    #[inline(always)]
    pub(crate) fn leaf(&self, last: &Cell<Walk>, va: Va) -> Leaf {
        let walk = last.get();
        let entry = &walk.entries[va.index(1)];
        let pte = Pte(entry.load(Relaxed));
        Leaf { entry, pte, table: walk.table, writable_above: walk.span & Walk::READ_ONLY == 0 }
    }

    /// Walk down to the table of level 1.
    #[inline(never)]
    fn walk(&self, va: Va) -> Option<Walk> {
        // exercise 2 of page-tables: the kernel walks down to the table of level 1
        let mut table = self.root;
        let mut above = TABLE;
        for level in [4, 3, 2] {
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
        Some(Walk::new::<M>(va, table, above & Pte::WRITABLE != 0))
        // end of exercise
    }

    pub(crate) fn forget_walks(&self) {
        self.last.iter().for_each(|last| last.set(Walk::none::<M>(self.root)));
    }

    /// Find the leaf entry of `va`; tables that are missing are made. Whoever does not fill the
    /// entry has to [prune](Self::prune).
    #[inline(always)]
    fn make(&mut self, memory: &Memory<M>, va: Va) -> Result<Leaf, Error> {
        if !self.look_up(&self.last[0], va) {
            self.make_tables(memory, va)?;
        }
        if self.last[0].get().span & Walk::READ_ONLY != 0 {
            return Err(self.shared_above(va));
        }
        Ok(self.leaf(&self.last[0], va))
    }

    #[inline(never)]
    fn make_tables(&mut self, memory: &Memory<M>, va: Va) -> Result<(), Error> {
        let table = self.make_table(memory, va, 1)?;
        self.last[0].set(Walk::new::<M>(va, table, true));
        Ok(())
    }

    /// The table of a level (1 to 3) that translates `va`. Tables that are missing are made; whoever
    /// does not fill the entry has to [prune](Self::prune).
    pub(crate) fn make_table(&mut self, memory: &Memory<M>, va: Va, level: u32) -> Result<Frame, Error> {
        // exercise 3 of page-tables: the kernel makes the tables that are missing
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = &M::table(table)[va.index(above)];
            let mut pte = Pte(entry.load(Relaxed));
            if pte.is_shared_table() {
                return Err(self.shared_above(va));
            }
            if !pte.is_present() {
                self.has_worked(MAKE);
                let frame = memory.alloc_table(&mut self.work).inspect_err(|_| self.prune(memory, va))?;
                M::expect_zeros(M::table(frame));
                pte = Pte(frame.address() | TABLE);
                entry.store(pte.0, Relaxed);
                count::<M>(table, 1);
            }
            table = pte.frame();
        }
        Ok(table)
        // end of exercise
    }

    /// The entry of a level above 1 that translates `va`, if it points to a table; and the table that it is in,
    /// which this space alone has.
    pub(crate) fn table_entry(&self, va: Va, level: u32) -> Result<(Frame, &'static AtomicU64), Error> {
        // exercise 2 of page-tables: the same, down to any level
        let mut table = self.root;
        for above in (level..=4).rev() {
            let entry = &M::table(table)[va.index(above)];
            let pte = Pte(entry.load(Relaxed));
            if !pte.is_present() {
                break;
            }
            if above == level {
                return Ok((table, entry));
            }
            if pte.is_shared_table() {
                return Err(self.shared_above(va));
            }
            table = pte.frame();
        }
        Err(Error::NotMapped(va.0))
        // end of exercise
    }

    /// Fill the entry of `va`, which takes over a reference to the frame.
    #[inline(always)]
    fn insert(&mut self, memory: &Memory<M>, va: Va, new: Pte) -> Result<(), Error> {
        let leaf = self.make(memory, va).inspect_err(|_| memory.release(new.frame()))?;
        self.replace(memory, &leaf, va, new);
        Ok(())
    }

    /// Exchange an entry for another one and give up what it named: first the entry, then the
    /// processor's copy of it, then the frame. (In any other order somebody could get the frame
    /// while it can still be reached here.)
    #[inline]
    fn replace(&mut self, memory: &Memory<M>, leaf: &Leaf, va: Va, new: Pte) {
        let mut old = leaf.pte;
        if old.is_present() {
            // The processor may be setting A or D in it.
            old = Pte(leaf.entry.swap(new.0, Relaxed));
            self.forget(va);
            self.release(memory, old.frame());
        } else {
            leaf.entry.store(new.0, Relaxed);
        }
        if old.is_empty() != new.is_empty() {
            count::<M>(leaf.table, if new.is_empty() { -1 } else { 1 });
        }
    }

    /// An entry of the table of level 1 above `va` may have been the last.
    #[inline]
    fn prune_if_empty(&mut self, memory: &Memory<M>, table: Frame, va: Va) {
        if M::info(table).word.load(Relaxed) == 0 {
            self.prune(memory, va);
        }
    }

    /// Free the tables above `va` that have become empty.
    #[inline(never)]
    pub(crate) fn prune(&mut self, memory: &Memory<M>, va: Va) {
        self.forget_walks();
        let mut path = [self.root; 4];
        let mut depth = 0;
        while depth < 3 {
            let entry = &M::table(path[depth])[va.index(4 - depth as u32)];
            let pte = Pte(entry.load(Relaxed));
            if !pte.has(Pte::PRESENT | Pte::WRITABLE) {
                break; // a shared table is not empty
            }
            depth += 1;
            path[depth] = pte.frame();
        }
        while depth > 0 && M::info(path[depth]).word.load(Relaxed) == 0 {
            let level = 4 - depth as u32;
            depth -= 1;
            self.has_worked(PRUNE);
            M::table(path[depth])[va.index(level + 1)].store(0, Relaxed);
            count::<M>(path[depth], -1);
            // The table was visible in the self map, as the page that holds the entry of `va`.
            self.forget(uvpt(va, level).page());
            if self.loaded == Loaded::Elsewhere {
                self.release(memory, path[depth + 1]);
            } else {
                memory.release_emptied(path[depth + 1], Emptied::Table);
            }
        }
    }
}

/// A top-level table: the kernel's half, and itself.
fn new_root<M: Machine>(memory: &Memory<M>, template: Frame) -> Result<Frame, Error> {
    let root = memory.alloc_copy(template, &mut 0)?;
    let own = Pte(root.address() | Pte::PRESENT | Pte::USER | Pte::NO_EXEC);
    M::table(root)[UVPT_SLOT as usize].store(own.0, Relaxed);
    Ok(root)
}

/// The entry of a page that was granted: it may become writable if it is now.
#[inline(always)]
pub(crate) fn granted(frame: Frame, perms: Perms) -> Pte {
    let may = if perms.contains(Perms::WRITE) { Pte::MAY } else { 0 };
    Pte(Pte::page(frame, perms).0 | may)
}

/// The entry of a copy, in place of that of the page that was copied.
#[inline(always)]
pub(crate) fn owned_copy(page: Pte, copy: Frame) -> Pte {
    Pte(owned(page.0 & !(Pte::FRAME | Pte::ACCESSED | Pte::DIRTY)) | copy.address())
}

/// The entry of a page that is its holder's alone.
#[inline(always)]
pub(crate) fn owned(page: u64) -> u64 {
    (page & !Perms::COW.bits()) | Pte::WRITABLE | Pte::MAY
}

/// Whether the holder of a page may have these permissions.
#[inline(always)]
pub(crate) fn may_have(page: Pte, perms: Perms) -> bool {
    !perms.contains(Perms::WRITE) || page.has(Pte::MAY)
}

/// The entry of a page, with other permissions.
#[inline(always)]
pub(crate) fn with_perms(page: u64, perms: Perms) -> u64 {
    const STAYS: u64 = Pte::FRAME | Pte::ACCESSED | Pte::DIRTY | Pte::MAY;
    // No bit is in both. (A sum, because compilers take an `or` apart and do a part of it for each page.)
    (page & STAYS) + Pte::page(Frame(0), perms).0
}

/// Change bits of a present entry, in which the processor may have set A or D since it was looked at.
#[inline(always)]
fn change(entry: &AtomicU64, old: Pte, f: impl Fn(u64) -> u64) {
    let mut old = old.0;
    while let Err(now) = entry.compare_exchange_weak(old, f(old), Relaxed, Relaxed) {
        old = now;
    }
}

/// A table has one entry more, or one less, that is not empty.
pub(crate) fn count<M: Machine>(table: Frame, change: i32) {
    let word = &M::info(table).word;
    word.store(word.load(Relaxed).wrapping_add_signed(change), Relaxed);
}

/// How many entries of a table belong to the user.
fn user_entries<M: Machine>(table: Frame, level: u32) -> &'static [AtomicU64] {
    let entries: &Table = M::table(table);
    if level == 4 { &entries[..WINDOWS.index(4)] } else { entries }
}

/// Clear a table that translates addresses from `base` on, beginning at the entry for `from`: those before
/// it are empty. Returns where to go on when the budget is spent.
fn clear<M: Machine>(
    memory: &Memory<M>,
    table: Frame,
    level: u32,
    base: Va,
    from: Va,
    budget: &mut u32,
) -> Option<Va> {
    let left = &M::info(table).word;
    let entries = user_entries::<M>(table, level);
    let first = from.index(level);
    let mut index = first;
    while index < entries.len() && left.load(Relaxed) > 0 {
        if index.is_multiple_of(LINE) && is_line_empty(&entries[index..]) {
            *budget = budget.saturating_sub(SKIP_COST);
            index += LINE;
            continue;
        }
        if index.is_multiple_of(LINE) && *budget > 0 {
            // At least one entry goes: there must be progress.
            *budget = budget.saturating_sub(LINE_COST).max(1);
        }
        let pte = Pte(entries[index].load(Relaxed));
        let va = base.entry(index, level);
        index += 1;
        if pte.is_empty() {
            continue;
        }
        // Tables of this space alone are looked into all the same: the first page says it.
        if *budget == 0 && (level == 1 || pte.is_shared_table()) {
            return Some(va);
        }
        let goes_on_elsewhere = level > 1 && pte.is_shared_table() && memory.release_shared(pte.frame());
        if goes_on_elsewhere {
            // Somebody else has the table, and all that is below it.
            *budget = budget.saturating_sub(CLEAR_COST);
            entries[index - 1].store(0, Relaxed);
            count::<M>(table, -1);
            continue;
        }
        if pte.is_present() && level > 1 {
            let from = if index - 1 == first { from } else { va };
            if let Some(rest) = clear::<M>(memory, pte.frame(), level - 1, va, from, budget) {
                return Some(rest);
            }
        }
        *budget = budget.saturating_sub(CLEAR_COST);
        entries[index - 1].store(0, Relaxed);
        count::<M>(table, -1);
        if pte.is_present() && level > 1 {
            memory.release_emptied(pte.frame(), Emptied::Table);
        } else if pte.is_present() {
            memory.release(pte.frame());
        }
    }
    None
}

/// Entries in a cache line. Most tables are nearly empty: teardown looks at a line at a time.
pub(crate) const LINE: usize = 8;
/// What it costs to step over an empty line, to look at each entry of another one, and to clear an entry, in
/// instructions, roughly.
const SKIP_COST: u32 = 20;
const LINE_COST: u32 = 180;
const CLEAR_COST: u32 = 68;

pub(crate) fn is_line_empty(entries: &[AtomicU64]) -> bool {
    entries.len() >= LINE && entries[..LINE].iter().fold(0, |all, entry| all | entry.load(Relaxed)) == 0
}

fn visit<M: Machine>(table: Frame, level: u32, base: Va, f: &mut dyn FnMut(Va, u32, Pte)) {
    for (index, entry) in user_entries::<M>(table, level).iter().enumerate() {
        let pte = Pte(entry.load(Relaxed));
        if pte.is_empty() {
            continue;
        }
        let va = base.entry(index, level);
        f(va, level, pte);
        if level > 1 && pte.is_present() {
            visit::<M>(pte.frame(), level - 1, va, f);
        }
    }
}

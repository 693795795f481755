//! The fast path: the requests of nearly every fault, for pages of the page map that this processor has loaded.
//!
//! In nearly all cases the tables are present, were used a moment ago and are private, and a frame is at hand. Then
//! little work remains. `X_fast` does what the call `X` does, or, if any of these conditions fails, nothing: it may
//! refuse more, never less, and `None` means that nothing was done. Then the caller takes the slow path, which checks
//! again and reports the error. Without errors to report and without waiting, the fast path takes a tenth of the
//! instructions. For one page it needs no [`Edit`](crate::Edit): it leaves no invalidation pending.

use crate::entry::{count, fresh, granted, may_have, note_others, owned, owned_copy, split, with_perms};
use crate::page_map::{Editable, Leaf, Loaded, PageMap, SPAN, Walk};
use crate::{Machine, frames::FILL};
use abi::window::FrameInfo;
use abi::{Call, EnvId, Frame, Level, PAGE_SIZE, PageOp, Perms, Pte, Va};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The greatest number of pages that are invalidated one by one. For more pages a full invalidation is faster,
/// including the walks that it costs later.
const SINGLE_MOST: usize = 32;

/// Changes the permissions in an entry that holds `old`, if that is a page that may have these.
///
/// A plain store is enough: the page map is loaded on this processor only, and this processor is executing this
/// function, so no processor sets D meanwhile. (A processor may set A early, by speculation; it sets A again when the
/// page is used.)
#[inline(always)]
fn set_perms(entry: &AtomicU64, old: Pte, (perms, cleared): (Perms, u64)) -> Option<()> {
    let can = old.is_present() && may_have(old, perms);
    can.then(|| entry.store(with_perms(old.0 & !cleared, perms), Relaxed))
}

/// The call and the page count of an operation, as the one word that they occupy.
#[inline(always)]
fn head(op: &PageOp) -> u64 {
    u64::from(op.count) << 32 | u64::from(op.call)
}

impl<M: Machine> PageMap<M> {
    /// The entry of a page, if it can be changed and is in the table of the last walk.
    #[inline(always)]
    fn leaf_at_hand(&self, va: Va) -> Option<Leaf> {
        debug_assert!(!M::is_elsewhere(self.root), "the page map is loaded elsewhere");
        let last = &self.last[0];
        (last.get().span == va.0 / SPAN).then(|| self.leaf(last, va))
    }

    /// Finds the table of a page, if it was not that of the last walk. The fast path may then succeed.
    pub fn find_table(&mut self, va: Va) -> Option<()> {
        let is_new = self.last[0].get().span & !Walk::CLOSED != va.0 / SPAN;
        let walk = if is_new { self.walk(va)? } else { return None };
        self.last[0].set(walk);
        Some(())
    }

    /// Fast path of `alloc`, for an empty entry.
    #[inline(always)]
    pub fn alloc_fast(&mut self, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.leaf_at_hand(va).filter(|leaf| leaf.pte.is_empty())?;
        let frame = M::memory().take()?;
        M::zero(frame);
        self.0.has_worked(FILL);
        leaf.entry.store(fresh(frame, perms).0, Relaxed);
        count::<M>(leaf.table, 1);
        Some(())
    }

    /// Fast path of `protect`.
    #[inline(always)]
    pub fn protect_fast(&mut self, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.leaf_at_hand(va)?;
        set_perms(leaf.entry, leaf.pte, (perms, 0))?;
        M::invalidate(self.root, va);
        Some(())
    }

    /// Fast path of `unmap` for a page.
    #[inline(always)]
    pub fn unmap_fast(&mut self, va: Va) -> Option<()> {
        let leaf = self.leaf_at_hand(va).filter(|leaf| leaf.pte.is_present())?;
        let entries = &M::info(leaf.table).word;
        let left = entries.load(Relaxed) - 1;
        if left & !FrameInfo::OTHERS == 0 {
            return None;
        }
        entries.store(left, Relaxed);
        leaf.entry.store(0, Relaxed);
        M::invalidate(self.root, va);
        M::memory().release(leaf.pte.frame());
        Some(())
    }

    /// Fast path of `mark_over` for a page. Returns whether it was dirty.
    #[inline(always)]
    pub fn mark_over_fast(&mut self, va: Va, word: u64) -> Option<bool> {
        let leaf = self.leaf_at_hand(va).filter(|leaf| leaf.pte.is_present())?;
        let word = Some(word).filter(|word| (1..=Pte::MARK_MAX).contains(word))?;
        leaf.entry.store(Pte::mark(word).0, Relaxed);
        M::invalidate(self.root, va);
        M::memory().release(leaf.pte.frame());
        Some(leaf.pte.has(Pte::DIRTY))
    }

    /// Fast path of `own`.
    #[inline(always)]
    pub fn own_fast(&mut self, va: Va) -> Option<()> {
        let leaf = self.leaf_at_hand(va).filter(|leaf| leaf.pte.has(Pte::PRESENT | Pte::NO_EXEC))?;
        let old = leaf.pte.frame();
        if M::memory().is_sole(old) {
            leaf.entry.store(owned(leaf.pte.0), Relaxed);
            M::invalidate(self.root, va);
            return Some(());
        }
        let copy = M::memory().take()?;
        M::copy(old, copy);
        self.0.has_worked(FILL);
        leaf.entry.store(owned_copy(leaf.pte, copy).0, Relaxed);
        M::invalidate(self.root, va);
        M::memory().release(old);
        Some(())
    }

    /// Fast path of `grant` and `accept`, from another page of this page map to an empty entry.
    #[inline(always)]
    pub fn map_fast(&mut self, source: Va, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.leaf_at_hand(va).filter(|leaf| leaf.pte.is_empty())?;
        let frame = self.grant(source, perms).ok()?;
        leaf.entry.store(granted(frame, perms).0, Relaxed);
        count::<M>(leaf.table, 1);
        if perms.contains(Perms::WRITE) {
            note_others::<M>(leaf.table);
        }
        Some(())
    }
}

impl<M: Machine> Editable<M> {
    /// Fast path of `protect` for the pages of a list, until an operation is unusual: not one page of the caller's own,
    /// not in one table with the first, not on its side of the `pinned` pages, or with other rights. Returns how many
    /// were done.
    ///
    /// The common conditions are checked once; twenty-some instructions are left for each page.
    #[inline(always)]
    pub fn protect_list_fast(&mut self, ops: &[PageOp], perms: Perms, pinned: Range<u64>) -> usize {
        // (A walk ignores the highest bits of an address. The other addresses are in one table with the first.)
        let is_usual = |first: &&PageOp| first.va.is_user_page() && self.look_up(&self.last[0], first.va);
        let Some(first) = ops.first().filter(is_usual) else { return 0 };
        let walk = self.last[0].get();
        if walk.span != first.va.0 / SPAN {
            return 0;
        }
        let table = first.va.0 & !(SPAN - 1)..(first.va.0 | (SPAN - 1)) + 1;
        let (start, end) = match first.va.0 < pinned.start {
            true => (table.start, table.end.min(pinned.start)),
            false => (table.start.max(pinned.end), table.end),
        };
        let Some(entries) = walk.entries.get(Va(start).index(Level::L1)..) else { return 0 };
        let Some(entries) = entries.get(..(end.saturating_sub(start) / PAGE_SIZE) as usize) else { return 0 };
        let usual = PageOp::protect(EnvId::SELF, Va(0), 1, perms);
        let (perms, cleared) = split(perms);
        let needs = Pte::PRESENT | if perms.contains(Perms::WRITE) { Pte::MAY } else { 0 };
        let mut left = ops;
        while let Some((op, rest)) = left.split_first() {
            // An unaligned address rotates to a huge index and fails the bounds check.
            let number = op.va.0.wrapping_sub(start).rotate_right(PAGE_SIZE.trailing_zeros()) as usize;
            let Some(entry) = entries.get(number) else { break };
            let old = Pte(entry.load(Relaxed));
            if head(op) != head(&usual) || op.env != usual.env || op.arg != usual.arg || !old.has(needs) {
                break;
            }
            entry.store(with_perms(old.0 & !cleared, perms), Relaxed);
            left = rest;
        }
        let done = ops.len() - left.len();
        self.invalidate_first(done, ops.iter().map(|op| op.va));
        done
    }

    /// Fast path of `protect` for the pages of a run that are in one table.
    #[inline(always)]
    pub fn protect_run_fast(&mut self, va: Va, count: usize, perms: Perms) -> Option<usize> {
        if !self.look_up(&self.last[0], va) || self.last[0].get().span != va.0 / SPAN {
            return None;
        }
        let entries = &self.last[0].get().entries[va.index(Level::L1)..];
        let entries = &entries[..entries.len().min(count)];
        let mut left = entries;
        while let Some((entry, rest)) = left.split_first()
            && set_perms(entry, Pte(entry.load(Relaxed)), (perms, 0)).is_some()
        {
            left = rest;
        }
        let done = entries.len() - left.len();
        self.invalidate_first(done, (0..).map(|page| va.add_pages(page)));
        (done > 0).then_some(done)
    }

    /// Invalidates the translations of the first `count` of these pages, which have lost rights.
    #[inline(always)]
    fn invalidate_first(&mut self, count: usize, pages: impl Iterator<Item = Va>) {
        if count > SINGLE_MOST {
            self.stale_here = true;
        } else {
            pages.take(count).for_each(|va| M::invalidate(self.root, va));
        }
    }

    /// Fast path of a call on a run, of which the last walk found the table. Returns how many pages were done; 0: the
    /// slow path must do the first one.
    #[inline(never)]
    pub(crate) fn run_fast(&mut self, source: Option<&Editable<M>>, call: Call, op: &PageOp, count: u32) -> u32 {
        if self.loaded == Loaded::Elsewhere {
            return 0;
        }
        let (walk, va, from) = (self.last[0].get(), op.va, op.source);
        let entries = part(&walk, va, count);
        let perms = Perms::from_bits_retain(op.arg);
        match call {
            Call::Alloc => {
                let empty = |part: Range<usize>| entries[part].iter().take_while(|entry| is_empty(entry));
                let done = fill_each::<M, _>(entries.len(), empty, |entry, frame| {
                    M::zero(frame);
                    entry.store(fresh(frame, perms).0, Relaxed);
                });
                filled::<M>(&walk, done)
            }
            Call::Map | Call::Copy => {
                let granting = source.unwrap_or(self);
                if !granting.look_up(&granting.last[1], from) {
                    return 0;
                }
                let sources = granting.last[1].get();
                let source_table = sources.table;
                let writable_above = sources.is_writable();
                let sources = part(&sources, from, entries.len() as u32);
                let entries = &entries[..sources.len()];
                let done = match call {
                    Call::Map => {
                        note_others::<M>(source_table);
                        if perms.contains(Perms::WRITE) {
                            note_others::<M>(walk.table);
                        }
                        map_each::<M>(entries, sources, perms, writable_above)
                    }
                    _ => copy_each::<M>(entries, sources, perms),
                };
                filled::<M>(&walk, done)
            }
            Call::Protect => {
                let rights = split(perms);
                let set = |entry: &AtomicU64| set_perms(entry, Pte(entry.load(Relaxed)), rights);
                let done = entries.iter().map_while(set).count();
                self.invalidate_first(done, (0..).map(|page| va.add_pages(page)));
                done as u32
            }
            Call::Unmap => self.unmap_each(&walk, va, entries),
            Call::Mark if (1..=Pte::MARK_MAX).contains(&op.arg) => mark_each::<M>(&walk, entries, op.arg),
            Call::Own => self.own_each(va, entries),
            _ => 0,
        }
    }

    /// Removes pages and marks, but not the last entry of the table: the table must go with that.
    fn unmap_each(&mut self, walk: &Walk, va: Va, entries: &[AtomicU64]) -> u32 {
        let most = M::info(walk.table).entries().saturating_sub(1) as usize;
        // The frames that nobody else has are linked as they come.
        let first = FrameInfo::default();
        let (mut last, mut others, mut done) = (&first, 0, 0);
        for entry in &entries[..entries.len().min(most)] {
            let old = Pte(entry.load(Relaxed));
            if old.is_present() {
                let info = M::info(old.frame());
                entry.store(0, Relaxed);
                if smp::is_sole(&info.refs) {
                    info.refs.store(0, Relaxed);
                    last.word.store(old.frame().0, Relaxed);
                    last = info;
                } else {
                    others += 1;
                    self.invalidate(va.add_pages(done));
                    M::memory().release(old.frame());
                }
            } else if old.is_empty() {
                break;
            } else {
                others += 1;
                entry.store(0, Relaxed);
            }
            done += 1;
        }
        // No processor has a translation when the first frame can be handed out again.
        if done as usize > SINGLE_MOST {
            M::invalidate_all(self.root);
        } else {
            (0..done).for_each(|page| self.invalidate(va.add_pages(page)));
        }
        M::memory().free_all(&first, last, done as u32 - others);
        count::<M>(walk.table, -(done as i32));
        done as u32
    }

    /// Makes pages private and writable, and copies those that others have too, while frames are at hand. (The lock of
    /// the frames is taken for each copy: the page that was copied may have to be freed.)
    fn own_each(&mut self, va: Va, entries: &[AtomicU64]) -> u32 {
        let mut done = 0;
        for entry in entries {
            let (old, page) = (Pte(entry.load(Relaxed)), va.add_pages(done));
            if !old.has(Pte::PRESENT | Pte::NO_EXEC) {
                break;
            }
            let is_sole = M::memory().is_sole(old.frame());
            if is_sole {
                entry.store(owned(old.0), Relaxed);
            } else {
                let Some(copy) = M::memory().take() else { break };
                M::copy(old.frame(), copy);
                self.has_worked(FILL);
                entry.store(owned_copy(old, copy).0, Relaxed);
            }
            self.invalidate(page);
            if !is_sole {
                M::memory().release(old.frame());
            }
            done += 1;
        }
        done as u32
    }
}

/// The entries of a run that are in the table of this walk.
fn part(walk: &Walk, va: Va, count: u32) -> &'static [AtomicU64] {
    let entries = &walk.entries[va.index(Level::L1)..];
    &entries[..entries.len().min(count as usize)]
}

fn is_empty(entry: &AtomicU64) -> bool {
    entry.load(Relaxed) == 0
}

/// Counts entries of a table that were empty and are no longer.
fn filled<M: Machine>(walk: &Walk, entries: u32) -> u32 {
    count::<M>(walk.table, entries as i32);
    entries
}

/// Calls `fill` with the places that `places` makes of a range of numbers below `most`, and with a frame for each, while
/// there are frames. Returns the number of places.
#[inline(always)]
fn fill_each<M: Machine, I: Iterator>(
    most: usize,
    places: impl Fn(Range<usize>) -> I,
    mut fill: impl FnMut(I::Item, Frame),
) -> u32 {
    let mut frames = M::memory().at_hand();
    let mut done = 0;
    loop {
        let ready = frames.ready().min(most - done);
        let filled = frames.give(places(done..done + ready), &mut fill);
        done += filled;
        if ready == 0 || filled < ready {
            return done as u32;
        }
    }
}

/// Fills empty entries with the pages of other entries, until one may not be passed on.
fn map_each<M: Machine>(entries: &[AtomicU64], sources: &[AtomicU64], perms: Perms, writable_above: bool) -> u32 {
    let needs = Pte::PRESENT | if perms.contains(Perms::WRITE) { Pte::WRITABLE } else { 0 };
    if perms.contains(Perms::WRITE) && !writable_above {
        return 0;
    }
    let grant = |(entry, source): (&AtomicU64, &AtomicU64)| {
        let source = Pte(source.load(Relaxed));
        if !is_empty(entry) || !source.has(needs) {
            return None;
        }
        M::memory().add_reference(source.frame()).ok()?;
        entry.store(granted(source.frame(), perms).0, Relaxed);
        Some(())
    };
    entries.iter().zip(sources).map_while(grant).count() as u32
}

/// Fills empty entries with copies of the pages of other entries.
fn copy_each<M: Machine>(entries: &[AtomicU64], sources: &[AtomicU64], perms: Perms) -> u32 {
    let places = |part: Range<usize>| {
        let pairs = entries[part.clone()].iter().zip(&sources[part]);
        let pairs = pairs.map(|(entry, source)| (entry, Pte(source.load(Relaxed))));
        pairs.take_while(|(entry, source)| is_empty(entry) && source.is_present())
    };
    fill_each::<M, _>(entries.len(), places, |(entry, source), frame| {
        M::copy(source.frame(), frame);
        entry.store(fresh(frame, perms).0, Relaxed);
    })
}

/// Stores a mark in entries that have no page.
fn mark_each<M: Machine>(walk: &Walk, entries: &[AtomicU64], word: u64) -> u32 {
    let mut new = 0;
    let mark = |entry: &AtomicU64| {
        let old = Pte(entry.load(Relaxed));
        (!old.is_present()).then(|| {
            new += u32::from(old.is_empty());
            entry.store(Pte::mark(word).0, Relaxed);
        })
    };
    let done = entries.iter().map_while(mark).count() as u32;
    filled::<M>(walk, new);
    done
}

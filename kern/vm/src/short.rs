//! The short way: what nearly every fault asks for, one page of the space that is loaded here.
//!
//! In nearly all cases the tables are there and were walked to a moment ago, nobody else has them, and a frame is at
//! hand. Then little is left to do. Each function here does what its namesake in `space` does, or, if anything at all
//! is not so, nothing; the caller goes the long way then, which finds out the same once more and says what is wrong.
//! Without errors to tell and without anything to wait for, this is a tenth of the instructions.

use crate::entry::{count, granted, may_have, owned, owned_copy, with_perms};
use crate::space::{Leaf, SPAN, Space, Walk};
use crate::{Machine, Memory};
use abi::{EnvId, Frame, PAGE_SIZE, PageOp, Perms, Pte, Va};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// To forget more pages than these one by one is slower than to forget all, and to walk to some of them again.
const FORGET_AT_ONCE: usize = 32;

/// Change the permissions in an entry that holds `old`, if that is a page that may have these.
///
/// A plain store is enough: the space is loaded here and nowhere else, the processor is busy with this, and so none
/// sets D meanwhile. (A may be set early by one that guesses; it sets it once more when the page is used.)
#[inline(always)]
fn set_perms(entry: &AtomicU64, old: Pte, perms: Perms) -> Option<()> {
    let can = old.is_present() && may_have(old, perms);
    can.then(|| entry.store(with_perms(old.0, perms), Relaxed))
}

/// The call of an operation and how many pages, as the one word that they are.
#[inline(always)]
fn head(op: &PageOp) -> u64 {
    u64::from(op.count) << 32 | u64::from(op.call)
}

/// A frame that is named no more in a place where it was: to be given to [`Memory::release`].
#[must_use]
pub struct Released(pub Frame);

impl<M: Machine> Space<M> {
    /// The entry of a page, if it can be changed and was walked to last.
    #[inline(always)]
    fn usual(&self, va: Va) -> Option<Leaf> {
        self.walked_last(va).then(|| self.leaf(&self.last[0], va))
    }

    /// [`Space::alloc`], where no page is.
    #[inline(always)]
    pub fn try_alloc(&mut self, memory: &Memory<M>, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.usual(va).filter(|leaf| leaf.pte.is_empty())?;
        let frame = memory.take()?;
        M::zero(frame);
        self.has_filled(1);
        leaf.entry.store(Pte::page(frame, perms).0 | Pte::MAY, Relaxed);
        count::<M>(leaf.table, 1);
        Some(())
    }

    /// [`Space::protect`].
    #[inline(always)]
    pub fn try_protect(&mut self, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.usual(va)?;
        set_perms(leaf.entry, leaf.pte, perms)?;
        M::invalidate(self.root, va);
        Some(())
    }

    /// [`Space::protect`] of pages of a list, until one is not as usual: not one page of the caller's own, not in one
    /// table with the first, not on its side of the `pinned` pages, or with other rights. Returns how many were done.
    ///
    /// What all of them have in common is looked at once; twenty-some instructions are left for each.
    #[inline(always)]
    pub fn try_protect_each(&mut self, ops: &[PageOp], perms: Perms, pinned: Range<u64>) -> usize {
        // (A walk does not look at the highest bits of an address. The others are in one table with the first.)
        let is_usual = |first: &&PageOp| first.va.is_user_page() && self.look_up(&self.last[0], first.va);
        let Some(first) = ops.first().filter(is_usual) else { return 0 };
        let walk = self.last[0].get();
        if walk.span & Walk::READ_ONLY != 0 {
            return 0;
        }
        let table = first.va.0 & !(SPAN - 1)..(first.va.0 | (SPAN - 1)) + 1;
        let (start, end) = match first.va.0 < pinned.start {
            true => (table.start, table.end.min(pinned.start)),
            false => (table.start.max(pinned.end), table.end),
        };
        let Some(entries) = walk.entries.get(Va(start).index(1)..) else { return 0 };
        let Some(entries) = entries.get(..(end.saturating_sub(start) / PAGE_SIZE) as usize) else { return 0 };
        let usual = PageOp::protect(EnvId::SELF, Va(0), 1, perms);
        let needs = Pte::PRESENT | if perms.contains(Perms::WRITE) { Pte::MAY } else { 0 };
        let mut left = ops;
        while let Some((op, rest)) = left.split_first() {
            // What is no page boundary gets a huge number.
            let number = op.va.0.wrapping_sub(start).rotate_right(PAGE_SIZE.trailing_zeros()) as usize;
            let Some(entry) = entries.get(number) else { break };
            let old = Pte(entry.load(Relaxed));
            if head(op) != head(&usual) || op.env != usual.env || op.arg != usual.arg || !old.has(needs) {
                break;
            }
            entry.store(with_perms(old.0, perms), Relaxed);
            left = rest;
        }
        let done = ops.len() - left.len();
        self.forget_all_of(done, ops.iter().map(|op| op.va));
        done
    }

    /// [`Space::protect`] of the pages of a run that are in one table.
    #[inline(always)]
    pub fn try_protect_run(&mut self, va: Va, count: usize, perms: Perms) -> Option<usize> {
        if !self.look_up(&self.last[0], va) || self.last[0].get().span & Walk::READ_ONLY != 0 {
            return None;
        }
        let entries = &self.last[0].get().entries[va.index(1)..];
        let entries = &entries[..entries.len().min(count)];
        let mut left = entries;
        while let Some((entry, rest)) = left.split_first()
            && set_perms(entry, Pte(entry.load(Relaxed)), perms).is_some()
        {
            left = rest;
        }
        let done = entries.len() - left.len();
        self.forget_all_of(done, (0..).map(|page| va.add_pages(page)));
        (done > 0).then_some(done)
    }

    /// The first so many of these pages have lost rights.
    #[inline(always)]
    fn forget_all_of(&mut self, count: usize, pages: impl Iterator<Item = Va>) {
        if count > FORGET_AT_ONCE {
            self.stale_here = true;
        } else {
            pages.take(count).for_each(|va| M::invalidate(self.root, va));
        }
    }

    /// [`Space::unmap`] of a page. The frame is to be released.
    #[inline(always)]
    pub fn try_unmap(&mut self, va: Va) -> Option<Released> {
        let leaf = self.usual(va).filter(|leaf| leaf.pte.is_present())?;
        let entries = &M::info(leaf.table).word;
        let left = entries.load(Relaxed) - 1;
        if left == 0 {
            return None;
        }
        entries.store(left, Relaxed);
        leaf.entry.store(0, Relaxed);
        M::invalidate(self.root, va);
        Some(Released(leaf.pte.frame()))
    }

    /// [`Space::own`]. If the page was copied, the frame of the other one is to be released.
    #[inline(always)]
    pub fn try_own(&mut self, memory: &Memory<M>, va: Va) -> Option<Option<Released>> {
        let leaf = self.usual(va).filter(|leaf| leaf.pte.has(Pte::PRESENT | Pte::NO_EXEC))?;
        let old = leaf.pte.frame();
        if memory.is_sole(old) {
            leaf.entry.store(owned(leaf.pte.0), Relaxed);
            M::invalidate(self.root, va);
            return Some(None);
        }
        let copy = memory.take()?;
        M::copy(old, copy);
        self.has_filled(1);
        leaf.entry.store(owned_copy(leaf.pte, copy).0, Relaxed);
        M::invalidate(self.root, va);
        Some(Some(Released(old)))
    }

    /// [`Space::grant`] and [`Space::accept`], from another page of this space to where no page is.
    #[inline(always)]
    pub fn try_map(&mut self, memory: &Memory<M>, source: Va, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.usual(va).filter(|leaf| leaf.pte.is_empty())?;
        let frame = self.grant(memory, source, perms).ok()?;
        leaf.entry.store(granted(frame, perms).0, Relaxed);
        count::<M>(leaf.table, 1);
        Some(())
    }
}

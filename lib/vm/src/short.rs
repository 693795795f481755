//! The short way: what nearly every fault asks for, one page of the space that is loaded here.
//!
//! In nearly all cases the tables are there and were walked to a moment ago, nobody else has them, and a frame is at
//! hand. Then little is left to do. Each function here does what its namesake in `space` does, or, if anything at all
//! is not so, nothing; the caller goes the long way then, which finds out the same once more and says what is wrong.
//! Without errors to tell and without anything to wait for, this is a tenth of the instructions.

use crate::space::{Leaf, Released, may_have, owned, with_perms};
use crate::{Machine, Memory, Space};
use abi::{Perms, Pte, Va};
use core::sync::atomic::Ordering::Relaxed;

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
        self.filled += 1;
        leaf.entry.store(Pte::page(frame, perms).0 | Pte::MAY, Relaxed);
        crate::space::count::<M>(leaf.table, 1);
        Some(())
    }

    /// [`Space::protect`].
    #[inline(always)]
    pub fn try_protect(&mut self, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.usual(va).filter(|leaf| leaf.pte.is_present() && may_have(leaf.pte, perms))?;
        leaf.entry.store(with_perms(leaf.pte.0, perms), Relaxed);
        M::invalidate(self.root, va);
        Some(())
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
        self.filled += 1;
        let bits = leaf.pte.0 & !(Pte::FRAME | Pte::ACCESSED | Pte::DIRTY);
        leaf.entry.store(owned(bits) | copy.address(), Relaxed);
        M::invalidate(self.root, va);
        Some(Some(Released(old)))
    }

    /// [`Space::grant`] and [`Space::accept`], from another page of this space to where no page is.
    #[inline(always)]
    pub fn try_map(&mut self, memory: &Memory<M>, source: Va, va: Va, perms: Perms) -> Option<()> {
        let leaf = self.usual(va).filter(|leaf| leaf.pte.is_empty())?;
        let frame = self.grant(memory, source, perms).ok()?;
        let may = if perms.contains(Perms::WRITE) { Pte::MAY } else { 0 };
        leaf.entry.store(Pte::page(frame, perms).0 | may, Relaxed);
        crate::space::count::<M>(leaf.table, 1);
        Some(())
    }
}

//! Looks and scans: what a policy learns of accesses, from the A bits of page table entries.
//!
//! A is cleared by many operations in one call. Nothing is lost between a look and the clearing: the program waits for
//! its pager.

use crate::disk::PoolFrame;
use crate::kernel::{self, Evict};
use crate::pool::{Pool, Recent, State};
use abi::{PageOp, Perms, Pte, Va, call::PAGE_OPS_MAX};
use arrayvec::ArrayVec;
use replacement::{Page, Policy, Seen};

/// Entries that are to be cleared.
pub(crate) struct Clearing {
    ops: ArrayVec<PageOp, { PAGE_OPS_MAX as usize }>,
}

impl Clearing {
    pub(crate) fn new() -> Clearing {
        Clearing { ops: ArrayVec::new() }
    }

    fn add<K: Evict>(&mut self, kernel: &mut K, va: Va, perms: Perms) {
        if self.ops.is_full() {
            self.finish(kernel);
        }
        self.ops.push(PageOp::age(kernel::ME, va, 1, perms));
    }

    /// Clears the entries. If the kernel refuses, the policy knows less, and nothing else happens.
    pub(crate) fn finish<K: Evict>(&mut self, kernel: &mut K) {
        if !self.ops.is_empty() {
            let _ = kernel.ops(&self.ops);
            self.ops.clear();
        }
    }
}

/// Looks at pages for a policy.
pub(crate) struct Looker<'l, 'a, K> {
    pub(crate) kernel: &'l mut K,
    pub(crate) pool: &'l mut Pool<'a>,
    pub(crate) base: Va,
    /// How many pages may be chosen that need another slot than they have.
    pub(crate) slots: usize,
    pub(crate) recent: Recent,
    /// The number of the batch.
    pub(crate) batch: u32,
    pub(crate) clearing: Clearing,
}

impl<K: Evict> Looker<'_, '_, K> {
    /// Looks at a page that a policy may choose.
    pub(crate) fn look(&mut self, page: Page) -> Seen {
        let va = self.base.add_pages(page.0.into());
        let entry = self.kernel.pte(va);
        let Some(frame) = self.pool.find(entry) else { return Seen::Pinned };
        let others = self.pool.has_others::<K>(frame, 1);
        let record = &mut self.pool[frame];
        record.is_dirty |= entry.has(Pte::DIRTY);
        let has_place = !record.is_dirty || record.slot.is_some() || self.slots > 0;
        if record.state != State::Resident || others || !has_place || self.recent.contains(&page) {
            return Seen::Pinned;
        }
        if !entry.has(Pte::ACCESSED) || record.seen_for == self.batch {
            return Seen::Idle;
        }
        record.seen_for = self.batch;
        self.clearing.add(self.kernel, va, entry.perms());
        Seen::Accessed
    }

    /// The frame of a page that a policy has chosen.
    pub(crate) fn victim(&mut self, page: Page) -> Option<PoolFrame> {
        let frame = self.pool.find(self.kernel.pte(self.base.add_pages(page.0.into())))?;
        let record = &self.pool[frame];
        self.slots -= usize::from(record.is_dirty && record.slot.is_none());
        Some(frame)
    }

    /// Reads and clears the A bits of all pages, and tells the policy.
    pub(crate) fn scan(&mut self, policy: &mut impl Policy) {
        for record in self.pool.records_mut().iter_mut().filter(|record| record.is_mapped()) {
            let va = self.base.add_pages(record.page.0.into());
            let entry = self.kernel.present(va);
            if entry.has(Pte::PRESENT | Pte::ACCESSED) {
                record.seen_for = self.batch;
                policy.accessed(record.page);
                self.clearing.add(self.kernel, va, entry.perms());
            }
        }
    }

    /// Clears the entries that were looked at.
    pub(crate) fn finish(&mut self) {
        self.clearing.finish(self.kernel);
    }
}

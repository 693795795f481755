//! `fork`, copy-on-write.
//!
//! The kernel knows nothing of it. It can make an environment with the caller's registers and no
//! memory, and it can share a page between the two, or a whole table. Everything else is here: what is shared,
//! in which way, and in what order.
//!
//! [`share_pages`] goes from page to page: it is what fork is, and takes as long as there are pages. [`share`]
//! gives the child whole tables, the largest that it may have: it takes as long as there are things that it may not
//! have. The price is paid by whoever writes first, and only if somebody does: the tables above that page become
//! private, and a table has 512 entries at the most.

use crate::batch::Batch;
use crate::{Access, Error, Inherit, Kernel, ME, Region, region, space, tables};
use abi::layout::{SCRATCH, USER_LIMIT, UVPT};
use abi::page::span;
use abi::{EnvId, PageOp, Perms, Pte, Va};
use core::ops::Range;

/// What the child gets in place of an entry of the parent.
#[derive(Clone, Copy, PartialEq)]
enum Share {
    /// The same page.
    Page(Perms),
    /// The same page, to be copied by whoever writes first.
    CopyOnWrite(Perms),
    /// The same mark.
    Mark(u64),
}

impl Share {
    /// What becomes of this entry.
    // exercise 1 of fork: what the child gets in place of an entry
    fn of(entry: Pte) -> Share {
        let perms = entry.perms();
        if !entry.is_present() {
            Share::Mark(entry.word())
        } else if perms.intersects(Perms::WRITE | Perms::COW) && !perms.contains(Perms::KEEP) {
            Share::CopyOnWrite((perms - Perms::WRITE) | Perms::COW)
        } else {
            Share::Page(perms)
        }
    }

    /// The order matters. First the page goes to the child, copy-on-write; only then the caller's
    /// own becomes copy-on-write. What the caller writes between the two is still seen by the
    /// child, which is as if it had been written before the fork. The other way round the caller,
    /// writing between the two, would get a private writable copy, that copy would go to the child,
    /// and later writes of the caller would appear in the child.
    ///
    /// For the same reason the caller's page is protected even if it is copy-on-write already:
    /// since this run was collected, the caller may have written to it, and have it writable now.
    // exercise 2 of fork: which operations that takes, in which order
    fn ops(self, child: EnvId, va: Va, count: u32) -> [Option<PageOp>; 2] {
        match self {
            Share::Page(perms) => [Some(PageOp::map(ME, va, child, va, count, perms)), None],
            Share::Mark(word) => [Some(PageOp::mark(child, va, count, word)), None],
            Share::CopyOnWrite(perms) => [
                Some(PageOp::map(ME, va, child, va, count, perms)),
                Some(PageOp::protect(ME, va, count, perms)),
            ],
        }
    }
}

/// What a child gets, and what not.
pub struct Plan<'a, K: 'static> {
    /// The child.
    pub child: EnvId,
    /// The regions of the caller. Some are not inherited.
    pub regions: &'a [Region<K>],
    /// Ranges that the caller of this sees to.
    pub except: &'a [Range<Va>],
    /// What a table of level 1 translates, most of which the caller of this sees to; or nothing. [`share`] looks there
    /// first, and need not search for it then.
    pub private: Range<Va>,
}

impl<K> Plan<'_, K> {
    fn inherits(region: &Region<K>) -> bool {
        region.pager.on_fork() != Inherit::Not
    }

    /// The next part of a range that the caller of this does not see to; and where to go on after it.
    fn next_part(&self, range: Range<Va>) -> (Range<Va>, Va) {
        let later = self.except.iter().filter(|except| !except.is_empty() && except.end > range.start);
        match later.min_by_key(|except| except.start) {
            Some(except) if except.start < range.end => (range.start..except.start, except.end),
            _ => (range.clone(), range.end),
        }
    }
}

/// Share every page and mark of the caller with the child, as the plan says.
///
/// # Errors
/// Those of the kernel. The child is of no use then; the caller's own memory is what it was.
pub fn share_pages<K: Kernel>(kernel: &mut K, plan: &Plan<K>) -> Result<(), Error> {
    tables::own(kernel, &(Va(0)..USER_LIMIT))?;
    let mut sharing = Sharing::new(plan);
    sharing.pages(kernel, Va(0)..USER_LIMIT)?;
    sharing.batch.finish(kernel)
}

/// The same, by whole tables where the child gets all that is below.
///
/// # Errors
/// As [`share_pages`].
pub fn share<K: Kernel>(kernel: &mut K, plan: &Plan<K>) -> Result<(), Error> {
    let mut sharing = Sharing::new(plan);
    let top = kernel.count_entries(kernel.table(UVPT, 4).frame());
    sharing.tables(kernel, Va(0), 4, top)?;
    sharing.end_run(kernel)?;
    sharing.batch.finish(kernel)
}

/// What is to be shared, collected so that neighbours take one operation, and operations few calls.
struct Sharing<'a, K: 'static, F> {
    plan: &'a Plan<'a, K>,
    all_inherit: bool,
    batch: Batch<Share, F>,
    /// Tables: the first, how many, and the level of the entries that point to them.
    run: (Va, u32, u32),
}

impl<'a, K: Kernel> Sharing<'a, K, ()> {
    fn new(plan: &'a Plan<'a, K>) -> Sharing<'a, K, impl Fn(Va, u32, Share) -> [Option<PageOp>; 2]> {
        let child = plan.child;
        let batch = Batch::new(move |va, count, share: Share| share.ops(child, va, count));
        let all_inherit = plan.regions.iter().all(Plan::inherits);
        Sharing { plan, all_inherit, batch, run: (Va(0), 0, 0) }
    }
}

impl<K: Kernel, F: Fn(Va, u32, Share) -> [Option<PageOp>; 2]> Sharing<'_, K, F> {
    /// Share what a table translates, the addresses from `start` on; `level` is that of its entries. Most tables are
    /// nearly empty: when as many entries were met as it has, there is no need to look on.
    fn tables(&mut self, kernel: &mut K, start: Va, level: u32, mut left: u32) -> Result<(), Error> {
        let private = &self.plan.private;
        let mut at = start;
        let end = Va(start.0 + span(level + 1)).min(USER_LIMIT);
        let is_here = level == 2 && !private.is_empty() && (at..end).contains(&private.start);
        if is_here && kernel.table(private.start, 2).is_present() {
            self.pages(kernel, private.clone())?;
            left -= 1;
        }
        while at < end && left > 0 {
            let (entry, covered) = (kernel.table(at, level), tables::around(at, level));
            if !entry.is_present() {
                at = tables::behind_empty(kernel, at, level);
                continue;
            }
            if covered != *private {
                left -= 1;
                self.table(kernel, &covered, level, entry)?;
            }
            at = covered.end;
        }
        Ok(())
    }

    /// Share what one entry that points to a table translates: the table, or what is in it.
    fn table(
        &mut self,
        kernel: &mut K,
        covered: &Range<Va>,
        level: u32,
        mut entry: Pte,
    ) -> Result<(), Error> {
        if covered.end <= SCRATCH && self.has_all(covered) {
            return self.add_table(kernel, covered.start, level);
        }
        if entry.is_shared_table() {
            kernel.op(PageOp::own_tables(covered.start, 1, level))?;
            // Most likely it is a copy, and what it was copied from may be anything by now.
            entry = kernel.table(covered.start, level);
        }
        match level {
            2 => self.pages(kernel, covered.clone()),
            _ => self.tables(kernel, covered.start, level - 1, kernel.count_entries(entry.frame())),
        }
    }

    /// Whether the child gets all that is in a range.
    fn has_all(&self, range: &Range<Va>) -> bool {
        let meets =
            |other: &Range<Va>| other.start < range.end && range.start < other.end && !other.is_empty();
        let is_lost = |region: &Region<K>| !Plan::inherits(region) && meets(&region.range());
        !self.plan.except.iter().any(meets) && (self.all_inherit || !self.plan.regions.iter().any(is_lost))
    }

    fn add_table(&mut self, kernel: &mut K, va: Va, level: u32) -> Result<(), Error> {
        let (first, count, same) = self.run;
        if same != level || first.0 + u64::from(count) * span(level) != va.0 {
            self.end_run(kernel)?;
            self.run = (va, 0, level);
        }
        self.run.1 += 1;
        Ok(())
    }

    fn end_run(&mut self, kernel: &mut K) -> Result<(), Error> {
        let (first, count, level) = core::mem::take(&mut self.run);
        if count == 0 {
            return Ok(());
        }
        Ok(kernel.op(PageOp::share_tables(ME, first, self.plan.child, first, count, level))?)
    }

    /// Share the pages and marks of a range. No table above is shared.
    // exercise 3 of fork: every page and mark that the child is to have
    fn pages(&mut self, kernel: &mut K, mut range: Range<Va>) -> Result<(), Error> {
        while range.start < range.end {
            let (part, next) = self.plan.next_part(range.clone());
            for (va, entry) in kernel.entries(part) {
                if self.inherits(va) {
                    self.batch.add(kernel, va, Share::of(entry))?;
                }
            }
            range.start = next;
        }
        Ok(())
    }

    /// Whether the region at an address is inherited.
    #[inline]
    fn inherits(&self, va: Va) -> bool {
        self.all_inherit || region::find(self.plan.regions, va).is_none_or(Plan::inherits)
    }
}

/// Before a fork: have the pagers of regions that stay shared bring in every page. One that is not there cannot be
/// shared.
///
/// # Errors
/// Those of the pagers.
pub fn fill_shared<K: Kernel>(kernel: &mut K, regions: &[Region<K>]) -> Result<(), Error> {
    for region in regions.iter().filter(|region| region.pager.on_fork() == Inherit::Shared) {
        let access = if region.is_writable() { Access::Write } else { Access::Read };
        space::bring_in(kernel, region, region.range(), access)?;
    }
    Ok(())
}

//! `fork`, copy-on-write.
//!
//! This module decides what a child gets of its parent's memory, in which way, and in which order. [`share_pages`]
//! shares page by page, [`share_tables`] shares whole tables where it may. `docs/fork.md` explains both, and follows a
//! fork through the code.

use crate::{
    Access, Error, Inherit, ME, PageCalls, Region, batch::Batch, ranges, runs::runs, sealing, tables, unshare,
};
use abi::layout::{SCRATCH, USER_LIMIT, UVPT};
use abi::{EnvId, Level, PageOp, Perms, Pte, Va, page::span};
use core::ops::Range;

/// The child's replacement for an entry of the parent.
#[derive(Clone, Copy, PartialEq)]
enum Share {
    /// The parent's page, shared.
    Page(Perms),
    /// The parent's page, copy-on-write for both.
    CopyOnWrite(Perms),
    /// A copy of the mark.
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

    /// The operations for a run of pages. Their order matters. First the page goes to the child, copy-on-write; only
    /// then the caller's own becomes copy-on-write. The child still sees a write of the caller between the two, as if
    /// it had happened before the fork. In the reverse order a write of the caller between the two would make a
    /// private writable copy, that copy would go to the child, and later writes of the caller would appear in the
    /// child.
    ///
    /// For this reason the caller's page is protected even if it is copy-on-write already: since the run was
    /// collected, the caller may have written to the page and made it writable.
    // exercise 2 of fork: which operations that takes, in which order
    fn ops(self, child: EnvId, va: Va, count: u32) -> [Option<PageOp>; 2] {
        match self {
            Share::Page(perms) => [Some(PageOp::map(ME, va, child, va, count, perms)), None],
            Share::Mark(word) => [Some(PageOp::mark(child, va, count, word)), None],
            Share::CopyOnWrite(perms) => {
                [Some(PageOp::map(ME, va, child, va, count, perms)), Some(PageOp::protect(ME, va, count, perms))]
            }
        }
    }
}

/// The plan of a fork: the memory that the child gets, and the exceptions.
pub struct Plan<'a, K: 'static> {
    /// The child.
    pub child: EnvId,
    /// The regions of the caller. Some are not inherited.
    pub regions: &'a [Region<K>],
    /// Ranges that the caller of [`share_tables`] handles itself.
    pub except: &'a [Range<Va>],
    /// The addresses that one table of level 1 translates, most of which the caller handles itself; or nothing.
    /// [`share_tables`] looks there first, and then need not search for them.
    pub private: Range<Va>,
}

impl<K> Plan<'_, K> {
    fn inherits(region: &Region<K>) -> bool {
        region.pager.on_fork().has_region()
    }
}

/// Shares every page and mark of the caller with the child, as the plan says.
///
/// # Errors
/// Those of the kernel. The child is useless then; the caller's own memory has its old contents.
pub fn share_pages<K: PageCalls>(kernel: &mut K, plan: &Plan<K>) -> Result<(), Error> {
    unshare::own(kernel, &(Va(0)..USER_LIMIT))?;
    sealing::open(kernel, &(Va(0)..USER_LIMIT))?;
    let mut sharing = Sharing::new(plan);
    sharing.pages(kernel, Va(0)..USER_LIMIT)?;
    sharing.batch.finish(kernel)
}

/// Shares every page and mark of the caller with the child, by whole tables where the child gets everything below.
///
/// # Errors
/// As [`share_pages`].
pub fn share_tables<K: PageCalls>(kernel: &mut K, plan: &Plan<K>) -> Result<(), Error> {
    let mut sharing = Sharing::new(plan);
    let top = kernel.count_entries(kernel.table(UVPT, Level::L4).frame());
    sharing.tables(kernel, Va(0), Level::L4, top)?;
    sharing.end_run(kernel)?;
    sharing.batch.finish(kernel)
}

/// No tables.
const NO_RUN: (Va, u32, Level) = (Va(0), 0, Level::L2);

/// The pages and tables to share, collected so that neighbours take one operation, and the operations few calls.
struct Sharing<'a, K: 'static> {
    plan: &'a Plan<'a, K>,
    /// The regions, if any of them is not inherited.
    some_lost: &'a [Region<K>],
    batch: Batch,
    /// The current run of tables: the first, their number, and the level of the entries that point to them.
    run: (Va, u32, Level),
}

impl<'a, K: PageCalls> Sharing<'a, K> {
    fn new(plan: &'a Plan<'a, K>) -> Sharing<'a, K> {
        let some_lost = if plan.regions.iter().all(Plan::inherits) { &[] } else { plan.regions };
        Sharing { plan, some_lost, batch: Batch::new(), run: NO_RUN }
    }

    /// Shares the addresses that a table translates, from `start` on; `level` is that of its entries, and `left` the
    /// number of nonempty ones. Most tables are nearly empty: the search ends when that many were found.
    fn tables(&mut self, kernel: &mut K, start: Va, level: Level, mut left: u32) -> Result<(), Error> {
        let private = &self.plan.private;
        let mut at = start;
        let end = level.above().map_or(USER_LIMIT, |above| tables::around(start, above).end.min(USER_LIMIT));
        let is_here = level == Level::L2 && !private.is_empty() && (at..end).contains(&private.start);
        if is_here && kernel.table(private.start, Level::L2).is_present() {
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

    /// Shares the addresses of one entry that points to a table: the table itself, or its contents.
    fn table(&mut self, kernel: &mut K, covered: &Range<Va>, level: Level, mut entry: Pte) -> Result<(), Error> {
        if covered.end <= SCRATCH && self.has_all(covered) {
            return self.add_table(kernel, covered.start, level);
        }
        if entry.is_shared_table() {
            kernel.op(PageOp::own_tables(covered.start, 1, level))?;
            // Most likely the table was copied, and the old one may have been reused since.
            entry = kernel.table(covered.start, level);
        }
        match level.below() {
            None | Some(Level::L1) => {
                if entry.has(Pte::SEALED) {
                    sealing::open(kernel, covered)?;
                }
                self.pages(kernel, covered.clone())
            }
            Some(below) => self.tables(kernel, covered.start, below, kernel.count_entries(entry.frame())),
        }
    }

    /// The ranges whose pages are not shared here: the exceptions, and the regions that are not inherited.
    fn left_out(&self) -> impl Iterator<Item = Range<Va>> {
        let lost = self.some_lost.iter().filter(|region| !Plan::inherits(region)).map(Region::range);
        self.plan.except.iter().cloned().chain(lost).filter(|range| !range.is_empty())
    }

    /// Whether the child gets everything in a range.
    fn has_all(&self, range: &Range<Va>) -> bool {
        !self.left_out().any(|out| out.start < range.end && range.start < out.end)
    }

    /// The next part of a range that is not left out; and the address at which to continue after it.
    fn next_part(&self, range: Range<Va>) -> (Range<Va>, Va) {
        match self.left_out().filter(|out| out.end > range.start).min_by_key(|out| out.start) {
            Some(out) if out.start < range.end => (range.start..out.start, out.end),
            _ => (range.clone(), range.end),
        }
    }

    fn add_table(&mut self, kernel: &mut K, va: Va, level: Level) -> Result<(), Error> {
        let (first, count, same) = self.run;
        if same != level || first.0 + u64::from(count) * span(level) != va.0 {
            self.end_run(kernel)?;
            self.run = (va, 0, level);
        }
        self.run.1 += 1;
        Ok(())
    }

    fn end_run(&mut self, kernel: &mut K) -> Result<(), Error> {
        let (first, count, level) = core::mem::replace(&mut self.run, NO_RUN);
        if count == 0 {
            return Ok(());
        }
        Ok(kernel.op(PageOp::share_tables(ME, first, self.plan.child, first, count, level))?)
    }

    /// Shares the pages and marks of a range. No table above is shared.
    // exercise 3 of fork: every page and mark that the child is to have
    fn pages(&mut self, kernel: &mut K, mut range: Range<Va>) -> Result<(), Error> {
        while range.start < range.end {
            let (part, next) = self.next_part(range.clone());
            for (va, count, share) in runs(kernel.entries(part), |_, entry| Some(Share::of(entry))) {
                for op in share.ops(self.plan.child, va, count).into_iter().flatten() {
                    self.batch.add(kernel, op)?;
                }
            }
            range.start = next;
        }
        Ok(())
    }
}

/// Prepares a fork: lets the pagers of regions that stay shared bring in every page. A missing page cannot be shared.
///
/// # Errors
/// Those of the pagers. [`Error::NotSupported`]: the region at this address refuses.
pub fn fill_shared<K: PageCalls>(kernel: &mut K, regions: &[Region<K>]) -> Result<(), Error> {
    for region in regions {
        match region.pager.on_fork() {
            Inherit::Shared => {
                let access = if region.is_writable() { Access::Write } else { Access::Read };
                ranges::bring_in(kernel, region, region.range(), access)?;
            }
            Inherit::Refused if kernel.entries(region.range()).next().is_some() => {
                return Err(Error::NotSupported(region.start));
            }
            _ => {}
        }
    }
    Ok(())
}

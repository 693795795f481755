//! Page calls: repeat an operation of [`Editable`] on a run of pages or tables, until the run is finished, an error
//! occurs, or the time of this kernel entry is used up. An error is returned only if nothing was done: otherwise the
//! caller learns how far the call got, calls again for the rest, and gets the error then.

use crate::edit::{DEFER, FLUSH, FLUSH_EACH};
use crate::frames::{FILL, search_cost};
use crate::sharing::{cost_to_free, most_to_own};
use crate::walk::{MAKE, PRUNE};
use crate::{Machine, page_map::Editable};
use abi::page::{TABLE_ENTRIES, span};
use abi::{Call, EnvId, Error, Level, PageOp, Perms, Pte, Va, call::PAGE_OPS_MAX, window::CpuInfo};
use core::ops::Range;

/// The work that a kernel entry may still do, in instructions, roughly: less than
/// [`MachineInfo::LONGEST_BOUND`](abi::window::MachineInfo).
#[derive(Debug)]
pub struct Budget(u32);

/// The cost of a step: the fixed part, when every table and frame is at hand and nothing is replaced, and the most
/// that a step can cost. A page map [reports](Editable::take_work) the work beyond the fixed part.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub step: u32,
    most: u32,
    /// The number of frames for which all processors may have to be searched.
    searches: u32,
    /// The number of TLB shootdowns.
    flushes: u32,
}

impl Cost {
    /// Editing an entry, adding three tables above it, and filling the page; or removing tables again, because there is
    /// no frame for the last one. (Replacing pages, and removing tables with them, costs less.)
    pub const PAGE: Cost =
        Cost { step: 90, most: 90 + 3 * (MAKE + FILL) + 3 * (PRUNE + DEFER), searches: 4, flushes: 1 };

    /// The budget that one more step needs on a machine with this many processors.
    pub const fn most(self, processors: u32) -> u32 {
        self.most + self.searches * search_cost(processors) + self.flushes * (FLUSH + FLUSH_EACH * processors)
    }
}
const _: () = assert!(FILL <= 3 * (PRUNE + DEFER));

/// The cost of an operation of a list that did not take the fast path, before it comes to its pages.
const OPERATION: u32 = FAST_ROUND + 250;
/// The cost of two page maps other than the caller's: their locks, and finding out where they are loaded.
const PAGE_MAPS: u32 = 150;
/// Editing two entries that point to a table, and adding the tables above. Both sides may need a TLB shootdown.
const TABLE: Cost = Cost { step: 330, most: 240 + Cost::PAGE.most, searches: 3, flushes: 2 };
/// Protecting a table.
const PROTECT_TABLE: Cost = Cost { step: 120, most: 120, searches: 0, flushes: 1 };
/// The cost of owning a table with this many entries, including a look at each, and at the frame that it names. (The
/// table is the caller's: no other processor has it loaded.)
const fn own_table(entries: u32, processors: u32) -> Cost {
    let most = 330 + most_to_own(entries, search_cost(processors));
    Cost { step: 330, most, searches: 0, flushes: 0 }
}
/// The cost of removing a table with this many entries, and with it the tables above.
const fn unmap_table(entries: u32) -> Cost {
    Cost { step: 330, most: 330 + cost_to_free(entries) + 3 * (PRUNE + DEFER), searches: 0, flushes: 2 }
}
/// Operations on the fast path, on pages below one table: the cost of each, and of as many as a list can have, with
/// finding the table.
const FAST: Cost = Cost { step: 30, most: FAST_ROUND + 30 * PAGE_OPS_MAX as u32, searches: 0, flushes: 0 };
const FAST_ROUND: u32 = 210;

/// The budget of a whole kernel entry.
const ENTRY: u32 = 18_600;
// The first operation of a list makes progress, for any number of processors.
const _: () = {
    let (left, processors) = (ENTRY - OPERATION - PAGE_MAPS, CpuInfo::MAX as u32);
    let full = TABLE_ENTRIES as u32;
    assert!(left >= Cost::PAGE.most(processors) && left >= TABLE.most(processors));
    assert!(left >= own_table(full, processors).most(processors) && left >= unmap_table(full).most(processors));
};

impl Budget {
    /// The budget of a whole kernel entry.
    pub const fn of_entry() -> Budget {
        Budget(ENTRY)
    }

    /// Calls `f` with the number of each table of a run. Returns how many were done.
    ///
    /// # Errors
    /// That of `f` for the first one.
    #[inline(always)]
    fn each<M: Machine>(
        &mut self,
        cost: Cost,
        map: &mut Editable<M>,
        count: u32,
        mut f: impl FnMut(&mut Editable<M>, u32) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        for done in 0..count {
            match self.once(cost, map, |map| f(map, done)) {
                Ok(0) => return Ok(done),
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
                Ok(_) => {}
            }
        }
        Ok(count)
    }

    /// Calls `f`, if the budget suffices, and charges for it. Returns how often it was called.
    ///
    /// # Errors
    /// That of `f`.
    #[inline(always)]
    pub(crate) fn once<M: Machine>(
        &mut self,
        cost: Cost,
        map: &mut Editable<M>,
        f: impl FnOnce(&mut Editable<M>) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        if self.0 < cost.most(M::cpus().len() as u32) {
            return Ok(0);
        }
        // Work of earlier messages does not belong to this call.
        map.take_work();
        let done = f(map);
        self.spend(map.take_work() + cost.step);
        done.map(|()| 1)
    }

    /// The instructions that are left.
    #[inline(always)]
    pub(crate) fn left(&self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn spend(&mut self, instructions: u32) {
        self.0 = self.0.saturating_sub(instructions);
    }

    /// Charges for this many operations on pages below one table that took the fast path.
    #[inline(always)]
    pub fn spend_on_fast(&mut self, pages: usize) {
        self.spend(FAST_ROUND + pages as u32 * FAST.step);
    }

    /// Whether the rest of a list has to wait: too little is left for a rest that takes the fast path as a whole.
    #[inline(always)]
    pub fn is_spent(&self) -> bool {
        self.0 < FAST.most
    }

    /// Charges for an operation of a list that does not take the fast path.
    #[inline(always)]
    pub fn spend_on_operation(&mut self, op: &PageOp) {
        let is_own = op.env.0 | op.source_env.0 == EnvId::SELF.0;
        self.spend(if is_own { OPERATION } else { OPERATION + PAGE_MAPS });
    }
}

impl<M: Machine> Editable<M> {
    /// Does `share_tables`, `own_tables` or `unmap_tables` to the first `count` tables of an operation. Returns how
    /// many were done.
    ///
    /// # Errors
    /// Those of the operation on one table; [`Error::BadLevel`].
    pub fn run_tables(
        &mut self,
        mut source: Option<&mut Editable<M>>,
        call: Call,
        op: &PageOp,
        count: u32,
        budget: &mut Budget,
    ) -> Result<u32, Error> {
        let level = op.level()?;
        let at = move |first: Va, table: u32| Va(first.0 + u64::from(table) * span(level));
        if call != Call::ShareTables {
            // The cost of each depends on its entries.
            let (owns, processors) = (call == Call::OwnTables, M::cpus().len() as u32);
            let cost = |entries| if owns { own_table(entries, processors) } else { unmap_table(entries) };
            let full = cost(TABLE_ENTRIES as u32);
            for table in 0..count {
                let va = at(op.va, table);
                // At the beginning of a kernel entry the budget suffices for any table.
                let fits_any = budget.0 >= full.most(processors);
                let cost = if fits_any { full } else { cost(self.entries_of_table(va, level, owns)) };
                let done = budget.each(cost, self, 1, |map, _| match owns {
                    true => map.own_table(va, level).map(drop),
                    false => map.unmap_table(va, level),
                });
                match done {
                    Err(error) if table == 0 => return Err(error),
                    Ok(1) => {}
                    _ => return Ok(table),
                }
            }
            return Ok(count);
        }
        budget.each(TABLE, self, count, move |map, table| {
            let to = at(op.va, table);
            let from = at(op.source, table);
            let granting = source.as_deref_mut().unwrap_or(map);
            let granted = granting.grant_table(from, level)?;
            let spent = granting.take_work();
            map.has_worked(spent);
            let result = map.accept_table(to, level, granted);
            if result.is_err() && granted.has(Pte::EDIT) {
                // Only the page map that had the table before has it.
                source.as_deref_mut().unwrap_or(map).reopen_table(from, level);
            }
            result
        })
    }

    /// Does `protect_tables` to the first `count` tables of an operation. Returns how many were done.
    ///
    /// # Errors
    /// Those of the operation on one table; [`Error::BadLevel`].
    pub fn protect_tables(&mut self, op: &PageOp, count: u32, budget: &mut Budget) -> Result<u32, Error> {
        let level = op.level()?;
        let perms = Perms::from_bits_retain(op.source.0);
        budget.each(PROTECT_TABLE, self, count, |map, table| {
            map.protect_table(Va(op.va.0 + u64::from(table) * span(level)), level, perms)
        })
    }
}

/// How many pages, or tables of a level above 1, at the start of a run do not overlap the pages of `pinned`.
///
/// # Errors
/// [`Error::Pinned`] if the first one does.
pub fn unpinned(pinned: Range<u64>, va: Va, count: u32, level: Level) -> Result<u32, Error> {
    if pinned.is_empty() || va.0 >= pinned.end {
        return Ok(count);
    }
    let first = pinned.start & !(span(level) - 1);
    if va.0 >= first {
        return Err(Error::Pinned(va.0.max(pinned.start)));
    }
    // A distance that does not fit into 32 bits means that the whole run is unpinned.
    Ok(u32::try_from((first - va.0) / span(level)).map_or(count, |before| count.min(before)))
}

//! Page calls: what a [`Space`] does to one page or table is done to a run of them, until it is finished, something
//! is wrong, or the entry to the kernel has taken its time. An error is returned only if nothing was done: otherwise
//! the caller hears how far it got, calls again for the rest, and gets the error then.

use crate::space::FILL;
use crate::{Machine, Memory, Space};
use abi::call::PAGE_OPS_MAX;
use abi::page::span;
use abi::{Call, Error, PageOp, Va};
use core::ops::Range;

/// What an entry to the kernel may still do, in instructions, roughly: less than [`MachineInfo::LONGEST_BOUND`](abi::window::MachineInfo).
#[derive(Debug)]
pub struct Budget(u32);

/// What a step costs, without the frames that it fills, and the most that it can cost with them.
#[derive(Clone, Copy)]
struct Cost {
    step: u32,
    most: u32,
}

/// An operation of a list, before it comes to its pages.
const OPERATION: u32 = 250;
/// Editing an entry, and three tables above it, and the page.
const PAGE: Cost = Cost { step: 90, most: 90 + 4 * FILL };
/// Two entries that point to a table, and the tables above.
const TABLE: Cost = Cost { step: 330, most: 240 + PAGE.most };
/// Owning a table: a look at each entry, and at what it names.
const OWN_TABLE: Cost = Cost { step: 16_000, most: 16_000 };
/// Operations the short way, on pages below one table: each, and as many as there can be. And finding the table.
const SHORT: Cost = Cost { step: 30, most: SHORT_ROUND + 30 * PAGE_OPS_MAX as u32 };
const SHORT_ROUND: u32 = 170;

impl Budget {
    /// That of a whole entry.
    #[inline]
    #[must_use]
    pub const fn new() -> Budget {
        Budget(18_000)
    }

    /// Call `f` with the number of each page of a run. Returns how many were done.
    ///
    /// # Errors
    /// That of `f` for the first page.
    #[inline(always)]
    pub fn each_page<M: Machine>(
        &mut self,
        space: &mut Space<M>,
        count: u32,
        f: impl FnMut(&mut Space<M>, u32) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        self.each(PAGE, space, count, f)
    }

    #[inline(always)]
    fn each<M: Machine>(
        &mut self,
        cost: Cost,
        space: &mut Space<M>,
        count: u32,
        mut f: impl FnMut(&mut Space<M>, u32) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        // What came with messages is not this call's work.
        space.take_work();
        let mut done = 0;
        while done < count && self.0 >= cost.most {
            match f(space, done) {
                Ok(()) => done += 1,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            self.0 = self.0.saturating_sub(cost.step + space.take_work());
        }
        Ok(done)
    }

    /// So many operations on pages below one table were done the short way.
    #[inline(always)]
    pub fn spend_on_short(&mut self, pages: usize) {
        self.0 = self.0.saturating_sub(SHORT_ROUND + pages as u32 * SHORT.step);
    }

    /// Whether the rest of a list has to wait: it may be that all of it goes the short way.
    #[inline(always)]
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.0 < SHORT.most
    }

    /// One more operation of a list comes.
    #[inline(always)]
    pub fn spend_on_operation(&mut self) {
        self.0 = self.0.saturating_sub(OPERATION);
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

impl<M: Machine> Space<M> {
    /// Do `share_tables`, `own_tables` or `unmap_tables` to the first `count` of its tables. Returns how many were done.
    ///
    /// # Errors
    /// Those of what is done to one table; [`Error::BadLevel`].
    #[inline]
    pub fn run_tables(
        &mut self,
        memory: &Memory<M>,
        mut source: Option<&mut Space<M>>,
        call: Call,
        op: &PageOp,
        count: u32,
        budget: &mut Budget,
    ) -> Result<u32, Error> {
        let level = op.level()?;
        let at = move |first: Va, table: u32| Va(first.0 + u64::from(table) * span(level));
        let cost = if call == Call::OwnTables { OWN_TABLE } else { TABLE };
        budget.each(cost, self, count, move |space, table| {
            let to = at(op.va, table);
            match call {
                Call::OwnTables => space.own_table(memory, to, level).map(drop),
                Call::UnmapTables => space.unmap_table(memory, to, level),
                _ => {
                    let from = at(op.source, table);
                    let granting = source.as_deref_mut().unwrap_or(space);
                    let own = granting.has_own_table(from, level);
                    let frame = granting.grant_table(memory, from, level)?;
                    let spent = granting.take_work();
                    space.has_worked(spent);
                    let result = space.accept_table(memory, to, level, frame);
                    if result.is_err() && own {
                        // Nobody has it but who had it before.
                        source.as_deref_mut().unwrap_or(space).reopen_table(from, level);
                    }
                    result
                }
            }
        })
    }
}

/// How many pages, or tables of a level above 1, at the start of a run do not meet the pages of `pinned`.
///
/// # Errors
/// [`Error::Pinned`] if the first one does.
#[inline]
pub fn unpinned(pinned: Range<u64>, va: Va, count: u32, level: u32) -> Result<u32, Error> {
    if pinned.is_empty() || va.0 >= pinned.end {
        return Ok(count);
    }
    let first = pinned.start & !(span(level) - 1);
    if va.0 >= first {
        return Err(Error::Pinned(va.0.max(pinned.start)));
    }
    // More than 32 bits can count is as good as all.
    Ok(u32::try_from((first - va.0) / span(level)).map_or(count, |before| count.min(before)))
}

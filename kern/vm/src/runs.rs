//! Page calls on a run of pages: a part of the run that is below one table takes one walk.
//!
//! Wherever the entries of a part are usual for the call, the fast path does all of it in one loop: the walk, the lock
//! of the free frames, the counters and the full TLB invalidation are paid for once. The first entry that is not usual
//! ends the loop, and the slow path does that page alone, or reports its error.

use crate::page_map::{Editable, SPAN};
use crate::{Budget, Machine, budget::Cost};
use abi::{Call, Error, PageOp, Perms, call::MARK_OVER_PAGE};

/// The cost of a loop, besides its pages.
const ROUND: u32 = 300;

/// The cost of a page of a run on the slow path, besides that of a single page.
const STEP: u32 = 90;

/// The number of pages that the slow path does after the fast path could do none.
const SLOW: u32 = 16;

/// The cost of a page in a loop, at most.
const fn cost(call: Call) -> u32 {
    match call {
        Call::Alloc | Call::Copy => 560,
        Call::Own => 640,
        Call::Unmap => 60,
        _ => 45,
    }
}

impl<M: Machine> Editable<M> {
    /// Does `alloc`, `map`, `protect`, `unmap`, `mark`, `own` or `copy` to the first `count` pages of an operation, until
    /// the budget is spent. `source` is the page map of the source if that is another one. Returns how many were done.
    ///
    /// # Errors
    /// Those of the operation on the first page.
    #[inline(never)]
    pub fn run_pages(
        &mut self,
        source: Option<&mut Editable<M>>,
        call: Call,
        op: &PageOp,
        count: u32,
        budget: &mut Budget,
    ) -> Result<u32, Error> {
        if count > 1 {
            return self.run_many(source, call, op, count, budget);
        }
        budget.once(Cost::PAGE, self, |map| map.one_page(source, call, op))
    }

    #[inline(never)]
    fn run_many(
        &mut self,
        mut source: Option<&mut Editable<M>>,
        call: Call,
        op: &PageOp,
        count: u32,
        budget: &mut Budget,
    ) -> Result<u32, Error> {
        // Work of earlier messages does not belong to this call.
        self.take_work();
        let (mut done, mut slow) = (0, 0_u32);
        while done < count {
            let rest = op.skip_pages(done);
            // The slow path finds the table first. After an unusual page it does some more.
            if slow == 0 && self.last[0].get().span == rest.va.0 / SPAN {
                let affordable = budget.left().saturating_sub(ROUND) / cost(call);
                let fast = self.run_fast(source.as_deref(), call, &rest, (count - done).min(affordable));
                // Of several pages that may have to be copied, most are not.
                let each = if call == Call::Own { cost(Call::Unmap) } else { cost(call) };
                budget.spend(ROUND + fast * each + self.take_work());
                if fast > 0 {
                    done += fast;
                    continue;
                }
                slow = SLOW;
            }
            slow = slow.saturating_sub(1);
            budget.spend(STEP);
            match self.run_pages(source.as_deref_mut(), call, &rest, 1, budget) {
                Ok(0) => break,
                Ok(one) => done += one,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Does a call to the first page of an operation.
    #[inline(always)]
    fn one_page(&mut self, source: Option<&mut Editable<M>>, call: Call, op: &PageOp) -> Result<(), Error> {
        let perms = Perms::from_bits_retain(op.arg);
        match call {
            Call::Alloc => self.alloc(op.va, perms),
            Call::Map => {
                let frame = source.unwrap_or(self).grant(op.source, perms)?;
                self.accept(op.va, frame, perms)
            }
            Call::Copy => {
                let frame = source.unwrap_or(self).source(op.source)?;
                self.copy(op.va, frame, perms)
            }
            Call::Protect => self.protect(op.va, perms),
            Call::Unmap => self.unmap(op.va),
            Call::Mark if op.arg & MARK_OVER_PAGE != 0 => self.mark_over(op.va, op.arg).map(drop),
            Call::Mark => self.mark(op.va, op.arg),
            Call::Own => self.own(op.va).map(drop),
            other => Err(Error::BadOp(other as u64)),
        }
    }
}

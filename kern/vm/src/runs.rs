//! Page calls on a run of pages: a part of the run that is below one table takes one walk.
//!
//! Wherever the entries of a part are usual for the call, the fast path does all of it in one loop: the walk, the lock
//! of the free frames, the counters and the full TLB invalidation are paid for once. The first entry that is not usual
//! ends the loop, and the slow path does that page alone, or reports its error.

use crate::entry::{count, granted, owned, owned_copy};
use crate::fast::{SINGLE_MOST, set_perms};
use crate::frames::FILL;
use crate::page_map::{Editable, Loaded, SPAN, Walk};
use crate::{Budget, Machine, budget::Cost};
use abi::window::FrameInfo;
use abi::{Call, Error, Frame, Level, PageOp, Perms, Pte, Va};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
            let rest = op.skip(done);
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
            Call::Mark => self.mark(op.va, op.arg),
            Call::Own => self.own(op.va).map(drop),
            other => Err(Error::BadOp(other as u64)),
        }
    }

    /// Fast path of a call on a run, of which the last walk found the table. Returns how many pages were done; 0: the
    /// slow path must do the first one.
    #[inline(never)]
    fn run_fast(&mut self, source: Option<&Editable<M>>, call: Call, op: &PageOp, count: u32) -> u32 {
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
                    entry.store(Pte::page(frame, perms).0 | Pte::MAY, Relaxed);
                });
                filled::<M>(&walk, done)
            }
            Call::Map | Call::Copy => {
                let granting = source.unwrap_or(self);
                if !granting.look_up(&granting.last[1], from) {
                    return 0;
                }
                let sources = granting.last[1].get();
                let from_own = sources.span & Walk::READ_ONLY == 0;
                let sources = part(&sources, from, entries.len() as u32);
                let entries = &entries[..sources.len()];
                let done = match call {
                    Call::Map => map_each::<M>(entries, sources, perms, from_own),
                    _ => copy_each::<M>(entries, sources, perms),
                };
                filled::<M>(&walk, done)
            }
            Call::Protect => {
                let set = |entry: &AtomicU64| set_perms(entry, Pte(entry.load(Relaxed)), perms);
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
        let most = M::info(walk.table).word.load(Relaxed).saturating_sub(1) as usize;
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
fn map_each<M: Machine>(entries: &[AtomicU64], sources: &[AtomicU64], perms: Perms, from_own: bool) -> u32 {
    let needs = Pte::PRESENT | if perms.contains(Perms::WRITE) { Pte::WRITABLE } else { 0 };
    if perms.contains(Perms::WRITE) && !from_own {
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
        entry.store(Pte::page(frame, perms).0 | Pte::MAY, Relaxed);
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

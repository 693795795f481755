//! The end of a page map: everything in it is given back, a slice at a time.

use crate::entry::{LINE, count, is_line_empty, user_entries};
use crate::frames::Emptied;
use crate::space::Space;
use crate::{Machine, Memory};
use abi::{Frame, Pte, Va};
use core::sync::atomic::Ordering::Relaxed;

/// What it costs to step over an empty line, to look at each entry of another one, and to clear an entry, in
/// instructions, roughly.
const SKIP_COST: u32 = 20;
const LINE_COST: u32 = 180;
const CLEAR_COST: u32 = 68;

impl<M: Machine> Space<M> {
    /// Free what the user's part holds. Gives up after about `budget` instructions; call again then.
    /// No processor may have this space loaded. Returns whether everything is gone; then the root
    /// is left, to be [given back](Self::free).
    pub fn tear_down(&mut self, memory: &Memory<M>, budget: &mut u32) -> bool {
        self.forget_walks();
        let rest = clear::<M>(memory, self.root, 4, Va(0), self.torn_down, budget);
        self.torn_down = rest.unwrap_or(self.torn_down);
        rest.is_none()
    }

    /// Give back the top-level table, in which nothing of the user's is left. The space must not be used any more.
    pub fn free(&mut self, memory: &Memory<M>) {
        memory.release_emptied(self.root, Emptied::Root);
    }

    /// Call `f` with every entry of the user's part that is not empty: tables first, then what
    /// they hold. For checking kernels and tests.
    pub fn for_each(&self, f: &mut dyn FnMut(Va, u32, Pte)) {
        visit::<M>(self.root, 4, Va(0), f);
    }
}

/// Clear a table that translates addresses from `base` on, beginning at the entry for `from`: those before
/// it are empty. Returns where to go on when the budget is spent.
fn clear<M: Machine>(
    memory: &Memory<M>,
    table: Frame,
    level: u32,
    base: Va,
    from: Va,
    budget: &mut u32,
) -> Option<Va> {
    let left = &M::info(table).word;
    let entries = user_entries::<M>(table, level);
    let first = from.index(level);
    let mut index = first;
    while index < entries.len() && left.load(Relaxed) > 0 {
        if index.is_multiple_of(LINE) && is_line_empty(&entries[index..]) {
            *budget = budget.saturating_sub(SKIP_COST);
            index += LINE;
            continue;
        }
        if index.is_multiple_of(LINE) && *budget > 0 {
            // At least one entry goes: there must be progress.
            *budget = budget.saturating_sub(LINE_COST).max(1);
        }
        let pte = Pte(entries[index].load(Relaxed));
        let va = base.entry(index, level);
        index += 1;
        if pte.is_empty() {
            continue;
        }
        // Tables of this space alone are looked into all the same: the first page says it.
        if *budget == 0 && (level == 1 || pte.is_shared_table()) {
            return Some(va);
        }
        let goes_on_elsewhere = level > 1 && pte.is_shared_table() && memory.release_shared(pte.frame());
        if goes_on_elsewhere {
            // Somebody else has the table, and all that is below it.
            *budget = budget.saturating_sub(CLEAR_COST);
            entries[index - 1].store(0, Relaxed);
            count::<M>(table, -1);
            continue;
        }
        if pte.is_present() && level > 1 {
            let from = if index - 1 == first { from } else { va };
            if let Some(rest) = clear::<M>(memory, pte.frame(), level - 1, va, from, budget) {
                return Some(rest);
            }
        }
        *budget = budget.saturating_sub(CLEAR_COST);
        entries[index - 1].store(0, Relaxed);
        count::<M>(table, -1);
        if pte.is_present() && level > 1 {
            memory.release_emptied(pte.frame(), Emptied::Table);
        } else if pte.is_present() {
            memory.release(pte.frame());
        }
    }
    None
}

fn visit<M: Machine>(table: Frame, level: u32, base: Va, f: &mut dyn FnMut(Va, u32, Pte)) {
    for (index, entry) in user_entries::<M>(table, level).iter().enumerate() {
        let pte = Pte(entry.load(Relaxed));
        if pte.is_empty() {
            continue;
        }
        let va = base.entry(index, level);
        f(va, level, pte);
        if level > 1 && pte.is_present() {
            visit::<M>(pte.frame(), level - 1, va, f);
        }
    }
}

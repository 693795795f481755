//! Teardown of a page map: everything in it is freed, a slice at a time.

use crate::entry::{LINE, count, is_line_empty, user_entries};
use crate::{Machine, frames::Emptied, page_map::PageMap};
use abi::{Frame, Level, Pte, Va};
use core::sync::atomic::Ordering::Relaxed;

/// The costs of skipping an empty line, of looking at each entry of another line, and of clearing an entry, in
/// instructions, roughly.
const SKIP_COST: u32 = 20;
const LINE_COST: u32 = 180;
const CLEAR_COST: u32 = 68;

impl<M: Machine> PageMap<M> {
    /// Frees everything in the user's part. Stops after about `budget` instructions; the caller must then call again.
    /// No processor may have this page map loaded. Returns whether everything is gone; then only the root is left, to
    /// be [freed](Self::free).
    pub fn tear_down(&mut self, budget: &mut u32) -> bool {
        self.drop_walks();
        let rest = clear::<M>(self.root, Level::L4, Va(0), self.torn_down, budget);
        self.0.torn_down = rest.unwrap_or(self.torn_down);
        rest.is_none()
    }

    /// Frees the top-level table, whose user part is empty. The page map must not be used any more.
    pub fn free(&mut self) {
        M::memory().release_emptied(self.root, Emptied::Root);
    }
}

/// Clears a table that translates addresses from `base` on, beginning at the entry for `from`: the entries before it
/// are empty. Returns the address at which to continue when the budget is spent.
fn clear<M: Machine>(table: Frame, level: Level, base: Va, from: Va, budget: &mut u32) -> Option<Va> {
    let (info, below) = (M::info(table), level.below());
    let entries = user_entries::<M>(table, level);
    let first = from.index(level);
    let mut index = first;
    while index < entries.len() && info.entries() > 0 {
        if index.is_multiple_of(LINE) && is_line_empty(&entries[index..]) {
            *budget = budget.saturating_sub(SKIP_COST);
            index += LINE;
            continue;
        }
        if index.is_multiple_of(LINE) && *budget > 0 {
            // Leave at least 1, so that at least one entry is cleared: there must be progress.
            *budget = budget.saturating_sub(LINE_COST).max(1);
        }
        let pte = Pte(entries[index].load(Relaxed));
        let va = base.entry(index, level);
        index += 1;
        if pte.is_empty() {
            continue;
        }
        // Private tables are entered even with no budget left: the first nonempty leaf below returns the address.
        if *budget == 0 && (below.is_none() || !pte.has(Pte::EDIT)) {
            return Some(va);
        }
        // If another page map has the table, it keeps everything below.
        let goes_on = below.is_some() && !pte.has(Pte::EDIT) && M::memory().release_shared(pte.frame());
        if let Some(below) = below.filter(|_| pte.is_present() && !goes_on) {
            let from = if index - 1 == first { from } else { va };
            if let Some(rest) = clear::<M>(pte.frame(), below, va, from, budget) {
                return Some(rest);
            }
        }
        *budget = budget.saturating_sub(CLEAR_COST);
        entries[index - 1].store(0, Relaxed);
        count::<M>(table, -1);
        match below {
            _ if goes_on || !pte.is_present() => {}
            None => M::memory().release(pte.frame()),
            Some(_) => M::memory().release_emptied(pte.frame(), Emptied::Table),
        }
    }
    None
}

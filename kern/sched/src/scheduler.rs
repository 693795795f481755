//! The scheduler: all environments, and the right to change them.

use crate::node::Node;
use crate::word::change;
use abi::Status;

/// A deadline that never passes.
pub const NEVER: u64 = u64::MAX;

/// The run queue, the free slots, and the right to change the status and the links of every environment: for the
/// processor that has it locked. Without the lock, a processor may only [`take`](crate::take) a receiver,
/// [`park`](crate::park) the environment that it runs, and [`give_back`](crate::give_back) what it holds. So even with
/// the lock, a state is changed only by exchanging the whole word.
pub struct Scheduler<N: Node> {
    pub(crate) table: &'static [N],
    pub(crate) first: Option<&'static N>,
    pub(crate) last: Option<&'static N>,
    /// The list of free slots that were used before: first the one that was given back first, last the one given back
    /// last.
    pub(crate) free: Option<&'static N>,
    pub(crate) last_free: Option<&'static N>,
    /// How many environments were made so far; wraps.
    pub(crate) created: u32,
    /// The environment without a parent, from which every one that is not dying descends.
    pub(crate) root: Option<&'static N>,
    pub(crate) used: usize,
    /// The first of the slots that were never used.
    pub(crate) reached: usize,
    pub(crate) readers: usize,
    /// The slot at which to look for readers.
    pub(crate) look_at: usize,
    /// No receiver has a deadline before this one, except in slots at which a search has yet to look.
    pub(crate) next_deadline: u64,
    /// The slot at which to look for receivers that are late; 0: no search is under way.
    pub(crate) expire_at: usize,
    /// Whether the last search of the run queue stopped before its end.
    pub(crate) cut_short: bool,
    /// The idle processors, one bit for each.
    pub(crate) idle: u64,
}

impl<N: Node> Scheduler<N> {
    /// A scheduler without slots.
    pub const fn empty() -> Self {
        Scheduler {
            table: &[],
            first: None,
            last: None,
            free: None,
            last_free: None,
            created: 0,
            root: None,
            used: 0,
            reached: 0,
            readers: 0,
            look_at: 0,
            next_deadline: NEVER,
            expire_at: 0,
            cut_short: false,
            idle: 0,
        }
    }

    /// Sets the table of slots, none of which was ever used; the lowest one is used first.
    pub fn init(&mut self, table: &'static [N]) {
        self.table = table;
    }

    /// How many slots are not free.
    pub fn used(&self) -> usize {
        self.used
    }

    /// How many environments wait for console input.
    pub fn readers(&self) -> usize {
        self.readers
    }

    pub(crate) fn set_status(&mut self, env: &N, status: Status) {
        _ = change(env.word(), |state| Some(state.with(status)));
    }
}

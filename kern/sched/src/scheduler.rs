//! All environments, and the right to change them.

use crate::node::Node;
use crate::word::change;
use abi::Status;

/// The queue, the free slots, and the right to change the status and the links of every environment: for who
/// has locked it. Without it, a processor may only [`take`](crate::take) a receiver, [`park`](crate::park) what it runs itself, and
/// [`give_back`](crate::give_back) what it holds: so whoever has locked it still changes states by exchanging the whole word.
pub struct Sched<N: Node> {
    pub(crate) table: &'static [N],
    pub(crate) first: Option<&'static N>,
    pub(crate) last: Option<&'static N>,
    /// Free slots that were used before: the one that was given back first, and the one that was last.
    pub(crate) free: Option<&'static N>,
    pub(crate) last_free: Option<&'static N>,
    /// How many environments were made so far; wraps.
    pub(crate) created: u32,
    /// Has no parent, and everyone who is not dying descends from it.
    pub(crate) root: Option<&'static N>,
    pub(crate) used: usize,
    /// Slots from here on were never used.
    pub(crate) reached: usize,
    pub(crate) readers: usize,
    /// The slot at which to look for readers.
    pub(crate) look_at: usize,
    /// The queue was not looked at to its end.
    pub(crate) cut_short: bool,
    /// Processors that found nothing to do, one bit for each.
    pub(crate) idle: u64,
}

impl<N: Node> Sched<N> {
    /// No slots.
    #[must_use]
    pub const fn new() -> Self {
        Sched {
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
            cut_short: false,
            idle: 0,
        }
    }

    /// These are the slots, none of which was ever used; the lowest goes first.
    pub fn init(&mut self, table: &'static [N]) {
        self.table = table;
    }

    /// Slots that are not free.
    #[inline]
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Environments that wait for console input.
    #[inline]
    #[must_use]
    pub fn readers(&self) -> usize {
        self.readers
    }

    #[inline]
    pub(crate) fn set_status(&mut self, env: &N, status: Status) {
        _ = change(env.word(), |state| Some(state.with(status)));
    }
}

impl<N: Node> Default for Sched<N> {
    fn default() -> Self {
        Sched::new()
    }
}

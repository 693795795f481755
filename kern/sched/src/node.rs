//! An environment, as far as this crate needs it, and what ties it to others.

use crate::sync::{AtomicBool, AtomicU64, Cell};
use crate::word::{self, State};
use abi::window::EnvInfo;
use abi::{EnvId, Status};

/// What becomes of the children when an environment ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// They go to the parent of the one that ends.
    #[default]
    GoesUp,
    /// They are ended too, and so are theirs.
    Ends,
}

/// An environment, as far as this crate needs it.
pub trait Node: Sized + 'static {
    /// What ties it to others.
    fn links(&self) -> &Links<Self>;

    /// Where in the table it is.
    fn slot(&self) -> usize;

    /// What everyone may know of it.
    fn info(&self) -> &EnvInfo;

    /// The word that has its [`State`].
    fn word(&self) -> &AtomicU64;

    /// Let another processor have a look: at this environment, which it holds, or at the queue, where this
    /// one is now.
    fn interrupt(&self, processor: u32);

    /// Whether this processor may take it: no other holds it.
    #[inline]
    fn is_free_for(&self, state: State, processor: u32) -> bool {
        state.is_free_for(processor)
    }

    /// Its id.
    #[inline]
    fn id(&self) -> EnvId {
        self.info().id()
    }

    /// What it is doing.
    #[inline]
    fn status(&self) -> Status {
        word::load(self.word()).status()
    }

    /// The processor that has it. If none has, all that was done with it can be seen.
    #[inline]
    fn holder(&self) -> Option<u32> {
        word::load(self.word()).holder()
    }
}

/// What ties an environment to others. Only `Sched` looks inside.
pub struct Links<N: 'static> {
    /// The slot that became free after this one.
    pub(crate) next_free: Cell<Option<&'static N>>,
    /// The next one in the queue.
    pub(crate) next: Cell<Option<&'static N>>,
    /// In the queue, whatever the status is now.
    pub(crate) queued: Cell<bool>,
    pub(crate) parent: Cell<Option<&'static N>>,
    /// Children that have ended, and the others: `wait` looks at the first one only.
    pub(crate) first_ended: Cell<Option<&'static N>>,
    pub(crate) first_child: Cell<Option<&'static N>>,
    pub(crate) next_sibling: Cell<Option<&'static N>>,
    pub(crate) previous_sibling: Cell<Option<&'static N>>,
    /// The parent is not the one that made it.
    pub(crate) adopted: Cell<bool>,
    /// What becomes of the children, of one that ends.
    pub(crate) family: Cell<Family>,
    /// Which child's end a waiting environment waits for (0: any).
    pub(crate) awaits: Cell<EnvId>,
    /// Where a receiver wants a page.
    pub(crate) receive_at: Cell<u64>,
    /// Somebody has waited for a message from this very environment.
    pub(crate) awaited: AtomicBool,
    /// So many slots have been looked at for those who wait for this one, which is ending.
    pub(crate) looked_at: Cell<usize>,
    /// Who ended it.
    pub(crate) ended_by: Cell<EnvId>,
}

impl<N> Default for Links<N> {
    fn default() -> Self {
        Links {
            next_free: Cell::new(None),
            next: Cell::new(None),
            queued: Cell::new(false),
            parent: Cell::new(None),
            first_ended: Cell::new(None),
            first_child: Cell::new(None),
            next_sibling: Cell::new(None),
            previous_sibling: Cell::new(None),
            adopted: Cell::new(false),
            family: Cell::new(Family::GoesUp),
            awaits: Cell::new(EnvId::ANY),
            receive_at: Cell::new(0),
            awaited: AtomicBool::new(false),
            looked_at: Cell::new(0),
            ended_by: Cell::new(EnvId::NONE),
        }
    }
}

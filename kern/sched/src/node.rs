//! An environment, as far as this crate needs it, and its links to others.

use crate::sync::{AtomicBool, AtomicU64, Cell};
use crate::word::{self, State};
use abi::{EnvId, Status, window::EnvInfo};

/// What becomes of the children when an environment ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// The children go up to their grandparent.
    #[default]
    GoesUp,
    /// All descendants are ended, too.
    Ends,
}

/// An environment, as far as this crate needs it.
pub trait Node: Sized + 'static {
    /// The links to other environments.
    fn links(&self) -> &Links<Link<Self>>;

    /// The index in the table.
    fn slot(&self) -> usize;

    /// The public part, which every program can read.
    fn info(&self) -> &EnvInfo;

    /// The word that has its [`State`].
    fn word(&self) -> &AtomicU64;

    /// Interrupts another processor, so that it looks at this environment, which it holds, or at the run queue, where
    /// this environment is now.
    fn interrupt(&self, processor: u32);

    /// Whether this processor may take the environment: no other one holds it.
    fn is_free_for(&self, state: State, processor: u32) -> bool {
        state.is_free_for(processor)
    }

    /// The id.
    fn id(&self) -> EnvId {
        self.info().id()
    }

    /// The status: what the environment is doing.
    fn status(&self) -> Status {
        word::load(self.word()).status()
    }

    /// The processor that holds the environment. If there is none, all changes made by the last holder are visible.
    fn holder(&self) -> Option<u32> {
        word::load(self.word()).holder()
    }
}

/// A link to another environment.
pub type Link<N> = Cell<Option<&'static N>>;

/// The [links](Link) of an environment to others. Only `Scheduler` looks inside.
#[derive(Default)]
pub struct Links<L> {
    /// The slot that became free after this one.
    pub(crate) next_free: L,
    /// The next one in the run queue.
    pub(crate) next: L,
    /// Whether it is in the run queue, whatever its status is now.
    pub(crate) queued: Cell<bool>,
    pub(crate) parent: L,
    /// The list of children that have ended, and that of all others: `wait` looks only at the first one of a list.
    pub(crate) first_ended: L,
    pub(crate) first_child: L,
    pub(crate) next_sibling: L,
    pub(crate) previous_sibling: L,
    /// Whether the parent is not the one that made it.
    pub(crate) adopted: Cell<bool>,
    /// What becomes of its children, once it is dying.
    pub(crate) family: Cell<Family>,
    /// The child whose end it waits for (0: any).
    pub(crate) awaits: Cell<EnvId>,
    /// The address at which it wants a page, as a receiver.
    pub(crate) receive_at: Cell<u64>,
    /// The tick at which it gives up, as a receiver with a deadline.
    pub(crate) deadline: Cell<u64>,
    /// Whether any environment has waited for a message from this one alone.
    pub(crate) awaited: AtomicBool,
    /// While it is ending: how many slots were searched for receivers that wait for it.
    pub(crate) looked_at: Cell<usize>,
    /// The environment that ended it.
    pub(crate) ended_by: Cell<EnvId>,
}

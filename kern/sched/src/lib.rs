//! Who runs, who waits for what, and whose child is whose.
//!
//! The states of environments, the queue, the families and the free slots, without registers, page maps and
//! interrupts: those are the kernel's. No unsafe code and no hardware, so that the tests run it on the host,
//! in every order of events (`loom`) and with random operations against a model (`proptest`).
//!
//! ```text
//!          exofork              set_status                    exit, destroy, exception
//!   Free ----------> Stopped <-------------> Runnable/Running ------------------------> Dying
//!    ^                                        |  ^                                        | slices
//!    |                        recv, wait, read|  |message, end, input                     v
//!    |                                        v  |                parent waits,        Zombie
//!    |                             Receiving, Waiting, Reading    ends, or adopted        |
//!    +------------------------------------------------------------------------------------+
//! ```
//!
//! Families are a tree. A child whose parent ends by itself goes up to its grandparent; whoever is destroyed takes all
//! descendants with it ([`Family`]).
//!
//! What always holds, whenever nobody has [`Sched`] locked:
//! * At most one processor [holds](State) an environment; one that is `Running` is held.
//! * One that is `Runnable` or `Dying` is in the queue, or a processor holds it, or one waits to hold it
//!   ([`Sched::keep_off`]).
//! * Everyone that is not dying, and is no descendant of somebody who is dying, descends from the [root](Sched::root).
//!   So everyone but the root has a parent that can end it, or soon will.
//! * If a processor is idle, then for everything in the queue that it could take one has been woken, and has not
//!   looked yet; or is going to be, by who has just [given it back](give_back).
//!
//! | module | what it is |
//! | --- | --- |
//! | `queue` | who runs next, and where |
//! | `state` | how an environment is stopped, kept off, ended |
//! | `family` | slots, parents and children |
//! | `message` | who receives from whom |
//! | `word` | the state of an environment, in one word |

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod family;
mod message;
mod queue;
mod state;
#[cfg(test)]
mod tests;
mod word;

pub use family::{Family, find, find_own};
pub use message::{park, take};
pub use word::{State, give_back};

/// The words that processors share without a lock. The tests try every order of what happens to them.
#[cfg(not(test))]
pub use core::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(test)]
pub use loom::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(not(test))]
use core::cell::Cell;
/// As in `core`, but two processors in one at once are found.
#[cfg(test)]
use loom::cell::Cell;

use abi::window::EnvInfo;
use abi::{EnvId, Status};
use word::change;

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
        word::load(self).status()
    }

    /// The processor that has it. If none has, all that was done with it can be seen.
    #[inline]
    fn holder(&self) -> Option<u32> {
        word::load(self).holder()
    }
}

/// What ties an environment to others. Only [`Sched`] looks inside.
pub struct Links<N: 'static> {
    /// The slot that became free after this one.
    next_free: Cell<Option<&'static N>>,
    /// The next one in the queue.
    next: Cell<Option<&'static N>>,
    /// In the queue, whatever the status is now.
    queued: Cell<bool>,
    parent: Cell<Option<&'static N>>,
    /// Children that have ended, and the others: `wait` looks at the first one only.
    first_ended: Cell<Option<&'static N>>,
    first_child: Cell<Option<&'static N>>,
    next_sibling: Cell<Option<&'static N>>,
    previous_sibling: Cell<Option<&'static N>>,
    /// The parent is not the one that made it.
    adopted: Cell<bool>,
    /// What becomes of the children, of one that ends.
    family: Cell<Family>,
    /// Which child's end a waiting environment waits for (0: any).
    awaits: Cell<EnvId>,
    /// Where a receiver wants a page.
    receive_at: Cell<u64>,
    /// Somebody has waited for a message from this very environment.
    awaited: AtomicBool,
    /// So many slots have been looked at for those who wait for this one, which is ending.
    looked_at: Cell<usize>,
    /// Who ended it.
    ended_by: Cell<EnvId>,
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

/// The queue, the free slots, and the right to change the status and the links of every environment: for who
/// has locked it. Without it, a processor may only [`take`] a receiver, [`park`] what it runs itself, and
/// [`give_back`] what it holds: so whoever has locked it still changes states by exchanging the whole word.
pub struct Sched<N: Node> {
    table: &'static [N],
    first: Option<&'static N>,
    last: Option<&'static N>,
    /// Free slots that were used before: the one that was given back first, and the one that was last.
    free: Option<&'static N>,
    last_free: Option<&'static N>,
    /// How many environments were made so far; wraps.
    created: u32,
    /// Has no parent, and everyone who is not dying descends from it.
    root: Option<&'static N>,
    used: usize,
    /// Slots from here on were never used.
    reached: usize,
    readers: usize,
    /// The slot at which to look for readers.
    look_at: usize,
    /// The queue was not looked at to its end.
    cut_short: bool,
    /// Processors that found nothing to do, one bit for each.
    idle: u64,
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
    fn set_status(&mut self, env: &N, status: Status) {
        _ = change(env, |state| Some(state.with(status)));
    }
}

impl<N: Node> Default for Sched<N> {
    fn default() -> Self {
        Sched::new()
    }
}

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
//!    |                                        v  |                   parent waits      Zombie
//!    |                             Receiving, Waiting, Reading       or is gone           |
//!    +------------------------------------------------------------------------------------+
//! ```
//!
//! What always holds, whenever nobody has [`Sched`] locked:
//! * At most one processor [holds](Holder) an environment; one that is `Running` is held.
//! * One that is `Runnable` or `Dying` is in the queue, or a processor holds it, or one waits to hold it
//!   ([`Sched::keep_off`]).
//! * If a processor is idle, then for everything in the queue that it could take one has been woken, and has not
//!   looked yet.
//!
//! | module | what it is |
//! | --- | --- |
//! | `queue` | who runs next, and where |
//! | `state` | how an environment is stopped, kept off, ended |
//! | `family` | slots, parents and children |
//! | `message` | who receives from whom |

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod family;
mod holder;
mod message;
mod queue;
mod state;
#[cfg(test)]
mod tests;

pub use family::{find, find_own};
pub use holder::Holder;

/// The words that processors share without a lock. The tests try every order of what happens to them.
#[cfg(not(test))]
pub use core::sync::atomic::AtomicU32;
#[cfg(test)]
pub use loom::sync::atomic::AtomicU32;

#[cfg(not(test))]
use core::cell::Cell;
/// As in `core`, but two processors in one at once are found.
#[cfg(test)]
use loom::cell::Cell;

use abi::window::EnvInfo;
use abi::{EnvId, Status};
use core::sync::atomic::Ordering::Relaxed;

/// An environment, as far as this crate needs it.
pub trait Node: Sized + 'static {
    /// What ties it to others.
    fn links(&self) -> &Links<Self>;

    /// Where in the table it is.
    fn slot(&self) -> usize;

    /// What everyone may know of it.
    fn info(&self) -> &EnvInfo;

    /// The word that has its status.
    fn status_word(&self) -> &AtomicU32;

    /// The processor that has it.
    fn holder(&self) -> &Holder;

    /// Let another processor have a look: at this environment, which it holds, or at the queue, where this
    /// one is now.
    fn interrupt(&self, processor: u32);

    /// Let a processor hold it, if no other does.
    #[inline]
    fn hold(&self, processor: u32) -> bool {
        self.holder().hold(processor)
    }

    /// Its id.
    #[inline]
    fn id(&self) -> EnvId {
        self.info().id()
    }

    /// What it is doing.
    #[inline]
    fn status(&self) -> Status {
        Status::from_number(self.status_word().load(Relaxed).into()).unwrap_or(Status::Free)
    }
}

/// What ties an environment to others. Only [`Sched`] looks inside.
pub struct Links<N: 'static> {
    /// The next free slot.
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
    /// Whom a waiting environment waits for (0: anyone): a child's end, or a message.
    awaits: Cell<EnvId>,
    /// Where a receiver wants a page.
    receive_at: Cell<u64>,
    /// A sender is about to hand over a page.
    receiving: Cell<bool>,
    /// How many receivers wait for a message from this very environment.
    awaited: Cell<u32>,
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
            awaits: Cell::new(EnvId::NONE),
            receive_at: Cell::new(0),
            receiving: Cell::new(false),
            awaited: Cell::new(0),
            ended_by: Cell::new(EnvId::NONE),
        }
    }
}

/// The queue, the free slots, and the right to change the status and the links of every environment: for who
/// has locked it.
pub struct Sched<N: Node> {
    table: &'static [N],
    first: Option<&'static N>,
    last: Option<&'static N>,
    free: Option<&'static N>,
    used: usize,
    readers: usize,
    /// Processors that found nothing to do, one bit for each.
    idle: u64,
}

impl<N: Node> Sched<N> {
    /// No slots.
    #[must_use]
    pub const fn new() -> Self {
        Sched { table: &[], first: None, last: None, free: None, used: 0, readers: 0, idle: 0 }
    }

    /// These are the slots, all of them free; the lowest goes first.
    pub fn init(&mut self, table: &'static [N]) {
        self.table = table;
        for env in table.iter().rev() {
            env.links().next_free.set(self.free.replace(env));
        }
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
        env.status_word().store(status as u32, Relaxed);
    }
}

impl<N: Node> Default for Sched<N> {
    fn default() -> Self {
        Sched::new()
    }
}

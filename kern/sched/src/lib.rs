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
//! | `node`, `scheduler` | an environment, and all of them, as this crate sees them |

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod family;
mod message;
mod node;
mod queue;
mod scheduler;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod word;

pub use family::{find, find_own};
pub use message::{park, take};
pub use node::{Family, Links, Node};
pub use queue::give_back;
pub use scheduler::Sched;
pub use sync::{AtomicBool, AtomicU64};
pub use word::State;

//! Scheduling: the run queue, the states of environments, and their families.
//!
//! The crate also manages the free slots. The kernel adds registers, page maps and interrupts. The crate has no unsafe
//! code and does not touch hardware, so the tests run it on the host, in every order of events (`loom`) and with random
//! operations against a model (`proptest`).
//!
//! ```text
//!          exofork              set_status                    exit, destroy, exception
//!   Free ----------> Stopped <-------------> Runnable/Running ------------------------> Dying
//!    ^                                        |  ^                                        | slices
//!    |                        recv, wait, read|  |message, end, input                     v
//!    |                                        v  |                parent waits,        Zombie
//!    |                      Receiving(Until), Waiting, Reading    ends, or adopted        |
//!    +------------------------------------------------------------------------------------+
//! ```
//!
//! Families are a tree. If a parent ends by itself, its children go up to their grandparent; if it is destroyed, all of
//! its descendants are ended with it ([`Family`]).
//!
//! Invariants, whenever no processor has [`Scheduler`] locked:
//! * At most one processor [holds](State) an environment; a `Running` one is held.
//! * A `Runnable` or `Dying` environment is in the run queue, or a processor holds it, or a processor waits to hold it
//!   ([`Scheduler::keep_off`]).
//! * An environment that is not dying, and has no ancestor that is dying, descends from the [root](Scheduler::root). So
//!   every environment but the root has a parent that can end it, or will have one soon.
//! * If a processor is idle, then for every environment in the run queue that it could take, an idle processor has been
//!   woken and has not looked yet, or the processor that has just [given the environment back](give_back) is about to
//!   wake one.
//!
//! | module | what it is |
//! | --- | --- |
//! | `queue` | which environment runs next, and where |
//! | `state` | how an environment is started, stopped, kept off, ended |
//! | `family` | slots, parents and children |
//! | `message` | which receiver takes a message from which sender |
//! | `interrupt` | which holder takes the interrupt of its device |
//! | `word` | the state of an environment, in one word |
//! | `node`, `scheduler` | an environment, and all of them, as this crate sees them |

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod family;
mod interrupt;
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
pub use interrupt::Device;
pub use message::{park, take};
pub use node::{Family, Link, Links, Node};
pub use queue::give_back;
pub use scheduler::{NEVER, Scheduler};
pub use sync::{AtomicBool, AtomicU64};
pub use word::State;

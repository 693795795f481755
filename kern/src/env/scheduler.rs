//! The scheduler's lock: it guards the run queue of all processors, the free slots, and the links between environments.
//!
//! `docs/decisions.md` (Several processors) has the order of all locks.

use crate::env::table::Env;
use crate::machine::hardware::{Hardware, Lock};
use abi::window::LockKind;
use sched::Scheduler;

/// The locked scheduler: the guard of its lock.
pub type Locked = vm::Guard<'static, Scheduler<Env>, Hardware>;

static SCHEDULER: Lock<Scheduler<Env>> = Lock::new(LockKind::Scheduler, Scheduler::empty());

/// Locks the scheduler.
pub fn lock() -> Locked {
    SCHEDULER.lock()
}

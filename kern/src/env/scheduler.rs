//! The scheduler's lock: one run queue for all processors, the free slots, and what ties environments to each other.
//!
//! Locks, in the order in which they are taken: the scheduler's, page maps in the order of their slots, page
//! frames, the console.

use crate::env::table::Env;
use crate::machine::hardware::{Hardware, Lock};
use abi::window::LockKind;
use sched::Sched;

/// The scheduler, for whoever has locked it.
pub type Locked = vm::Guard<'static, Sched<Env>, Hardware>;

static SCHEDULER: Lock<Sched<Env>> = Lock::new(LockKind::Scheduler, Sched::new());

/// The scheduler, locked.
#[inline]
pub fn lock() -> Locked {
    SCHEDULER.lock()
}

//! Environments: the table, their life cycle, context switches and the run loop.
//!
//! Uses `machine` and the crates `vm` and `sched`. Does not use `calls`.

pub mod bracket;
#[cfg(feature = "check")]
pub mod check;
pub mod devices;
pub mod life;
pub mod run_loop;
pub mod scheduler;
pub mod switch;
pub mod table;
pub mod user_memory;

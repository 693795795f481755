//! System calls: from a number to what it does.
//!
//! Uses `env` and `machine`.

pub mod console;
pub mod dispatch;
pub mod envs;
pub mod ipc;
pub mod pages;

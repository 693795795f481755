//! System calls: the dispatcher, and what each call does.
//!
//! Uses `env` and `machine`.

pub mod console;
pub mod dispatch;
pub mod envs;
pub mod fast;
pub mod ipc;
pub mod pages;

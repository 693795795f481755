//! Entries to the kernel, and returns to user mode: the stubs in `entry.s` and their handlers.
//!
//! Uses `calls`, `env` and `machine`.

mod traps;

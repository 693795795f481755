//! How programs come into the kernel, and how they go back.
//!
//! Uses `calls`, `env` and `machine`.

mod traps;

//! Guest tests: boot the real kernel in the emulator and check what programs did.
//!
//! A test names a program and the expected output:
//!
//! ```
//! # use tests::guest;
//! guest("forktree").memory("32M").check(|run| {
//!     run.count(r"I am '01'$", 1).in_order(&["new env 00001001", "free env 00001001"]);
//! });
//! ```
//!
//! `docs/testing.md` says what every run must show besides, and on which kernels and machines a test runs.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod case;

pub use case::{Case, graded, graded_with, guest, named};
pub use engine::{Disk, End, Request, Run, Testbed};

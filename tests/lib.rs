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
//! Every run must also end with the expected status, confirmed by the kernel's report, and with as many free page
//! frames as it started with. A verdict never depends on a line that a program could print. Every test runs under the
//! normal kernel, and under the checking kernel as `check::NAME`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod case;

pub use case::{Case, graded, graded_with, guest, named};
pub use engine::{End, Request, Run, Testbed};

//! Random calls from a hostile program, and what the kernel must answer.
//!
//! One program of operations, two worlds to play it in. The program `storm` (in `user/`) plays it
//! against the real kernel; the [model](model) plays it on the host. Both print the same lines,
//! or one of the two is wrong.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`op`] | one operation: who does what, with symbols for ids that are not known beforehand |
//! | [`draw`] | (seed, episode, index) into an operation |
//! | [`place`] | the addresses that operations are about |
//! | [`mod@play`] | carries operations out in a [`World`], and digests all that can be seen of it |
//! | [`puppet`] | children that make calls on command |
//! | [`model`] | the contract, written as naively as possible |
//! | [`shrink`] | a long program that differs into a short one |
//!
//! A run is a number of *episodes* of [`EPISODE`] operations. Each begins with nothing but the
//! hostile program itself, ends with giving everything back, and depends on its number alone: a
//! difference is in one episode, and is shrunk there.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod draw;
pub mod model;
pub mod op;
pub mod place;
pub mod plan;
pub mod play;
pub mod puppet;
pub mod shrink;
#[cfg(test)]
mod tests;

pub use op::{Arg, By, Op, What};
pub use plan::{Keep, Mode, Plan};
pub use play::{World, play};

/// Operations in an episode.
pub const EPISODE: u32 = 512;

/// What every line of the program begins with: other lines on the console are the kernel's.
pub const PREFIX: &str = "~ ";

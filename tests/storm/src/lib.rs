//! Random calls from a hostile program, and the answers that the kernel must give.
//!
//! One sequence of operations is played in two worlds. The program `storm` (in `user/`) plays it against the real
//! kernel; the [model](model) plays it on the host. Both must print the same lines, or one of the two is wrong.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`op`] | one operation: caller and call, with symbols for ids that are not known beforehand |
//! | [`draw`] | draws the operation for (seed, episode, index) |
//! | [`place`] | the addresses that operations are about |
//! | [`mod@play`] | carries operations out in a [`World`], and digests all visible state |
//! | [`puppet`] | children that make calls on command |
//! | [`model`] | the contract, written as naively as possible |
//! | [`shrink`] | shrinks a long sequence that differs to a short one |
//!
//! A run is a number of *episodes* of [`EPISODE`] operations. Each begins with nothing but the hostile program itself,
//! ends by giving everything back, and depends on its number alone: a difference is in one episode, and is shrunk
//! there.

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

/// The prefix of every line of the program: other lines on the console are the kernel's.
pub const PREFIX: &str = "~ ";

//! The common part of single cases: addresses, and reference counts that are set by hand.

use abi::{Frame, Va};
use sim::machine::Sim;
use std::sync::atomic::Ordering::SeqCst;
use vm::Machine;

pub const PAGE: Va = Va(0x40_0000);
pub const OTHER: Va = Va(0x80_0000_0000);
/// The greatest possible reference count.
pub const MOST: u32 = 1 << 31;

pub fn set_refs(frame: Frame, refs: u32) {
    Sim::info(frame).refs.store(refs, SeqCst);
}

//! Environments as `sched` sees them: links, a page of information, and a record of the interrupted processors. And
//! devices.

use abi::window::EnvInfo;
use sched::{AtomicU64, Device, Link, Links, Node};
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

pub struct Env {
    pub slot: usize,
    pub links: Links<Link<Env>>,
    pub info: EnvInfo,
    /// The processors that were interrupted, one bit for each.
    pub woken: &'static AtomicU64,
}

impl Node for Env {
    fn links(&self) -> &Links<Link<Env>> {
        &self.links
    }

    fn slot(&self) -> usize {
        self.slot
    }

    fn info(&self) -> &EnvInfo {
        &self.info
    }

    fn word(&self) -> &AtomicU64 {
        &self.info.state
    }

    fn interrupt(&self, processor: u32) {
        self.woken.fetch_or(1 << processor, Relaxed);
    }
}

/// A device: whether its interrupts are masked, and how many were counted and reported.
#[derive(Default)]
pub struct Disk {
    pub masked: Cell<bool>,
    pub counted: Cell<u32>,
    pub reported: Cell<u32>,
}

impl Device for Disk {
    fn count(&self) {
        self.counted.set(self.counted.get() + 1);
    }

    fn is_pending(&self) -> bool {
        self.counted != self.reported
    }

    fn mask(&self, masked: bool) {
        self.masked.set(masked);
    }
}

//! The longest entry to the kernel so far.

use crate::checks::Checks;
use core::fmt::Debug;
use core::sync::atomic::Ordering::Relaxed;
use libos::abi::Call;
use libos::abi::window::MachineInfo;
use libos::{println, windows};

/// Only kernels that count know how many there were.
const BOUND: u64 = MachineInfo::LONGEST_BOUND;
/// Looks at the longest entry after each thing that was done.
pub struct Longest<'a> {
    checks: &'a mut Checks,
    seen: u64,
}

impl<'a> Longest<'a> {
    /// Nothing was done yet.
    pub fn new(checks: &'a mut Checks) -> Longest<'a> {
        Longest { checks, seen: 0 }
    }

    /// This should hold.
    pub fn that(&mut self, what: &str, holds: bool) {
        self.checks.that(what, holds);
    }

    /// No entry of what was done since the last look may have been too long.
    pub fn look(&mut self, what: &dyn Debug) {
        let machine = windows::machine();
        let longest = machine.longest_entry.load(Relaxed);
        let is_fine = longest <= self.seen.max(BOUND);
        self.checks.that("no entry is longer than is promised", is_fine);
        if !is_fine {
            let cause = machine.longest_cause.load(Relaxed);
            println!("{longest} instructions, cause {cause} ({}): {what:?}", name(cause));
        }
        self.seen = longest;
    }
}

fn name(cause: u64) -> &'static str {
    Call::from_number(cause).map_or("no call", Call::name)
}

//! The longest kernel entry so far.

use crate::checks::Checks;
use core::fmt::Debug;
use core::sync::atomic::Ordering::Relaxed;
use libos::{abi::Call, abi::window::MachineInfo, println, windows};

/// The promised bound. Only counting kernels record the length of entries.
const BOUND: u64 = MachineInfo::LONGEST_BOUND;
/// Checks the longest entry after each request.
pub struct Longest<'a> {
    checks: &'a mut Checks,
    seen: u64,
}

impl<'a> Longest<'a> {
    /// A record without any request so far.
    pub fn new(checks: &'a mut Checks) -> Longest<'a> {
        Longest { checks, seen: 0 }
    }

    /// Checks that a condition holds.
    pub fn that(&mut self, what: &str, holds: bool) {
        self.checks.that(what, holds);
    }

    /// Checks that no entry since the last look was too long.
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

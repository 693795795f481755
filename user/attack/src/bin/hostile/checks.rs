//! Records checks: whether a request was refused, with which error, and that nothing else changed.

use core::fmt::Debug;
use core::sync::atomic::Ordering::Relaxed;
use libos::abi::{Call, Error};
use libos::{Pte, Status, Va, layout, println, raw, uvpt, windows};

/// The results of a call.
pub type Results = Result<(u64, u64), Error>;

/// Makes a call with exactly these arguments; the others are 0.
pub fn call(call: Call, args: &[u64]) -> Results {
    let arg = |n: usize| args.get(n).copied().unwrap_or(0);
    let (rax, rdx) = raw::syscall(call as u64, core::array::from_fn(arg));
    Error::decode(rax, rdx)
}

/// The counters of a group of checks.
pub struct Checks {
    group: &'static str,
    done: u32,
    failed: u32,
    free: u64,
}

impl Checks {
    pub fn new(group: &'static str) -> Checks {
        Checks { group, done: 0, failed: 0, free: windows::free_frames() }
    }

    /// Ends the group: as many frames must be free as at its start. Returns the number of failures.
    pub fn end(mut self) -> u32 {
        self.equal("free frames at the end", windows::free_frames(), self.free);
        println!("{}: {} checks, {} failed", self.group, self.done, self.failed);
        self.failed
    }

    /// Checks that two values are equal.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        self.done += 1;
        if found != expected {
            self.failed += 1;
            println!("FAILED {}: {what}: {found:x?}, expected {expected:x?}", self.group);
        }
    }

    /// Checks that a condition holds.
    pub fn that(&mut self, what: &str, holds: bool) {
        self.equal(what, holds, true);
    }

    /// Checks that the call is refused with this error, and changes nothing.
    pub fn refuse(&mut self, what: &str, number: Call, args: &[u64], error: Error) {
        self.refuse_one_of(what, number, args, &[error]);
    }

    /// Checks that the call is refused with one of these errors (which one depends on the schedule), and changes
    /// nothing.
    pub fn refuse_one_of(&mut self, what: &str, number: Call, args: &[u64], errors: &[Error]) {
        let before = World::now();
        let found = call(number, args);
        let after = World::now();
        self.done += 1;
        if !found.is_err_and(|error| errors.contains(&error)) || before != after {
            self.failed += 1;
            println!("FAILED {}: {} {args:x?} ({what}): {found:x?}", self.group, number.name());
            println!("  expected {errors:x?}, nothing changed: {}", before == after);
        }
    }

    /// Checks that the call succeeds with these results.
    pub fn allow(&mut self, what: &str, number: Call, args: &[u64], results: (u64, u64)) {
        let found = call(number, args);
        self.done += 1;
        if found != Ok(results) {
            self.failed += 1;
            println!("FAILED {}: {} {args:x?} ({what}): {found:x?}", self.group, number.name());
        }
    }
}

/// A digest of everything that the caller can see of the machine.
#[derive(PartialEq, Eq)]
pub struct World {
    free: u64,
    pages: u64,
    envs: u64,
}

impl World {
    pub fn now() -> World {
        World { free: windows::free_frames(), pages: pages(), envs: envs() }
    }
}

fn fold(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
}

/// Digests every entry of the caller's page map, and the reference counts of the frames in it.
fn pages() -> u64 {
    uvpt::entries(Va(0)..layout::USER_LIMIT).fold(0, |sum, (va, pte)| {
        let refs = if pte.is_present() { windows::refs(pte.frame()) } else { None };
        let bits = pte.0 & !(Pte::ACCESSED | Pte::DIRTY);
        fold(fold(fold(sum, va.0), bits), refs.unwrap_or(0).into())
    })
}

/// Digests every environment and its status.
fn envs() -> u64 {
    windows::envs().iter().fold(0, |sum, env| {
        let status = if env.status() == Status::Running { Status::Runnable } else { env.status() };
        let words = [env.id().0, env.parent().0, status as u32, env.exit.load(Relaxed)];
        words.into_iter().fold(sum, |sum, word| fold(sum, word.into()))
    })
}

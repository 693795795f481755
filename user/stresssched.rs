//! Twenty children yield and count; none may lose a count, whatever processor it runs on.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use libos::{Child, Error, ExitCode, Fork, env, fork, println, sys};

libos::entry!(main);

const CHILDREN: usize = 20;

static COUNTER: AtomicU32 = AtomicU32::new(0);

fn main() -> Result<ExitCode, Error> {
    let mut children: [Option<Child>; CHILDREN] = [None; CHILDREN];
    for slot in &mut children {
        match fork()? {
            Fork::Child => return Ok(count()),
            Fork::Parent(child) => *slot = Some(child),
        }
    }
    for child in children.into_iter().flatten() {
        let status = child.wait()?;
        assert!(status.is_success(), "{}: {status}", child.id());
    }
    assert_eq!(COUNTER.load(Relaxed), 0, "the children counted in the parent's memory");
    Ok(ExitCode::SUCCESS)
}

/// Not an atomic addition: if the child ran in two places at once, counts would be lost.
fn count() -> ExitCode {
    for _ in 0..10 {
        sys::yield_now();
        for _ in 0..10_000 {
            COUNTER.store(COUNTER.load(Relaxed) + 1, Relaxed);
        }
    }
    let counter = COUNTER.load(Relaxed);
    assert_eq!(counter, 10 * 10_000, "ran on two CPUs at once");
    println!("[{}] stresssched on CPU {}", env::id(), env::cpu());
    ExitCode::SUCCESS
}

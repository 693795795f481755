//! Twenty children yield and count: no count may be lost on any processor, and together they visit all of them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use libos::{Child, Error, ExitCode, Fork, env, fork, mmap::MmapOptions, println, sys, windows};

libos::entry!(main);

const CHILDREN: usize = 20;
/// How long children wait until every processor was visited, in milliseconds.
const PATIENCE: u64 = 60_000;

static COUNTER: AtomicU32 = AtomicU32::new(0);

fn main() -> Result<ExitCode, Error> {
    let cpus = windows::machine().cpus.load(Relaxed) as usize;
    // A word for each processor, which all children share.
    let seen = MmapOptions::new().len(8 * cpus).map_shared_anon()?;
    let mut children: [Option<Child>; CHILDREN] = [None; CHILDREN];
    for slot in &mut children {
        match fork()? {
            Fork::Child => {
                count();
                look_out(&seen[..cpus]);
                return Ok(ExitCode::SUCCESS);
            }
            Fork::Parent(child) => *slot = Some(child),
        }
    }
    for child in children.into_iter().flatten() {
        let status = child.wait()?;
        assert!(status.is_success(), "{}: {status}", child.id());
    }
    assert_eq!(COUNTER.load(Relaxed), 0, "the children counted in the parent's memory");
    println!("{} of {cpus} processors ran children", visited(&seen[..cpus]));
    Ok(ExitCode::SUCCESS)
}

/// Not an atomic addition: if the child ran on two processors at once, counts would be lost.
fn count() {
    for _ in 0..10 {
        sys::yield_now();
        for _ in 0..10_000 {
            COUNTER.store(COUNTER.load(Relaxed) + 1, Relaxed);
        }
    }
    let counter = COUNTER.load(Relaxed);
    assert_eq!(counter, 10 * 10_000, "ran on two CPUs at once");
    println!("[{}] stresssched on CPU {}", env::id(), env::cpu());
}

/// Yields until every processor has run some child.
fn look_out(seen: &[AtomicU64]) {
    let machine = windows::machine();
    let start = machine.ticks.load(Relaxed);
    let waited = || (machine.ticks.load(Relaxed) - start) * machine.tick_ns.load(Relaxed) / 1_000_000;
    loop {
        seen[env::cpu() as usize].store(1, Relaxed);
        if visited(seen) == seen.len() || waited() > PATIENCE {
            return;
        }
        sys::yield_now();
    }
}

fn visited(seen: &[AtomicU64]) -> usize {
    seen.iter().filter(|cpu| cpu.load(Relaxed) != 0).count()
}

//! A stack that grows as it is touched, down to a limit that the program chooses; and the guards below it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;
use libos::upcall::{self, Outcome};
use libos::{
    Error, ExitStatus, Fork, Vector, fork, layout::STACK_TOP, println, raw, stack, stats, windows::free_frames,
};

libos::entry!(main);

const FRAMES: u64 = 100_000;

fn main() -> Result<(), Error> {
    println!("a stack of {} bytes is allowed at first", stack::DEFAULT_BYTES);
    stack::set_limit(64 << 20)?;
    let (before, free) = (stats::get().stack_pages, free_frames());
    let sum = sum_down_from(FRAMES);
    let (faults, taken) = (stats::get().stack_pages - before, free - free_frames());
    println!("{FRAMES} frames deep: the sum is {sum}; the stack grew by {taken} pages, in {faults} faults");
    assert_eq!(sum, FRAMES * (FRAMES + 1) / 2);
    // A stack frame has at least a return address and a number to add. More and more pages come at once.
    assert!(taken > FRAMES * 16 / 4096 && (1..40).contains(&faults));

    stack::set_limit(256 << 10)?;
    println!("and now no more than {} bytes", 256 << 10);
    // A handler raises the limit when it is reached.
    upcall::set_handler(|_| match stack::set_limit(1 << 20) {
        Ok(()) => Outcome::Resume,
        Err(_) => Outcome::Unhandled,
    });
    black_box(sum_down_from(15_000));
    upcall::clear_handler();
    let allowed = STACK_TOP.0 - stack::low().0;
    println!("then {allowed} bytes, said a handler");
    assert_eq!(allowed, 1 << 20);
    stack::set_limit(256 << 10)?;
    ended("runs off its stack", || _ = black_box(forever(1)))?;
    ended("runs off its exception stack", || {
        upcall::set_handler(|_| {
            // Not a fault in a fault, which the kernel would notice, but a stack frame that is too large.
            black_box(&mut [1_u8; 20 << 10]);
            Outcome::Resume
        });
        raw::undefined();
    })?;
    println!("this program goes on, {} faults later", stats::get().upcalls);
    Ok(())
}

#[inline(never)]
fn sum_down_from(n: u64) -> u64 {
    if n == 0 { 0 } else { black_box(n) + sum_down_from(n - 1) }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn forever(n: u64) -> u64 {
    black_box(n) + forever(n + 1)
}

/// Runs a child that does this, and that must be ended for it.
fn ended(what: &str, f: fn()) -> Result<(), Error> {
    let child = match fork()? {
        Fork::Parent(child) => child,
        Fork::Child => {
            f();
            libos::exit(0)
        }
    };
    let status = child.wait()?;
    println!("a child that {what}: {status}");
    assert_eq!(status, ExitStatus::killed_by(Vector::PAGE_FAULT));
    Ok(())
}

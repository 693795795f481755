//! Ends in many ways, and prints each time which functions were active.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::{fmt, hint::black_box};
use libos::{Error, Fork, Va, fork, println, raw, regions};

libos::entry!(main);

/// The behaviour of a child in its innermost function.
type End = (&'static str, fn(u64));

const ENDS: [End; 10] = [
    ("panics", |_| panic!("on purpose")),
    ("has no value", |n| _ = black_box((n == 0).then_some(n)).expect("a value")),
    ("reads nothing", |_| _ = black_box(raw::read_u8(8))),
    ("calls nothing", |_| raw::call(16)),
    ("has no such instruction", |_| raw::undefined()),
    ("has a chain that leads nowhere", |at| overwrite(at, 0x3000_0000_0000)),
    ("has a chain that is none", |at| overwrite(at, 0xdead_beef_dead_beef)),
    ("has a chain that is a ring", |at| overwrite(at, at)),
    ("panics about its panic", |_| panic!("{}", Explosive)),
    ("loses its code", lose_code),
];

fn main() -> Result<(), Error> {
    for (what, end) in ENDS {
        match fork()? {
            Fork::Child => outer(end),
            Fork::Parent(child) => println!("a child that {what}: {}", child.wait()?),
        }
    }
    Ok(())
}

#[inline(never)]
fn outer(end: fn(u64)) {
    // Space for what is overwritten.
    let room = black_box([7_u64; 200]);
    middle(end);
    black_box(room);
}

#[inline(never)]
fn middle(end: fn(u64)) {
    let here = black_box(1_u64);
    end(&raw const here as u64 & !15);
    black_box(here);
}

/// Writes this over all nearby stack frames, and panics.
#[inline(never)]
fn overwrite(from: u64, word: u64) {
    (0..100).for_each(|n| raw::write_u64(from + 8 * n, word));
    panic!("on purpose");
}

/// Unmaps the code that would run next, and all the code that printing needs.
#[inline(never)]
fn lose_code(_: u64) {
    let here = lose_code as fn(u64) as usize as u64;
    println!("this is lost: {here:#x}");
    let code = regions::find(Va(here)).expect("code is in a region");
    regions::unmap(&code.range()).expect("a whole region");
    black_box(here);
}

struct Explosive;

impl fmt::Display for Explosive {
    fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
        panic!("while it is printed")
    }
}

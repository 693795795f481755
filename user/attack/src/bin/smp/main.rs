//! Checks that several processors look like one to programs: a table of checks.
//!
//! `smp NAME..` runs the named checks, `smp` all of them; with `seconds=N` each is repeated for that long, and `soak`
//! takes `seed=N`, too. Each prints a line with its observations; the first failure ends the machine with exit status
//! 1.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod acts;
mod bare;
mod buffers;
mod console;
mod destroy;
mod exits;
mod faults;
mod ipc;
mod kit;
mod messages;
mod processors;
mod shootdown;
mod soak;
mod stop;
mod troupe;
mod upcalls;

use kit::{Clock, argument, fail, until};
use libos::{Args, ExitCode, layout, raw, windows};

libos::entry!(main);

/// The checks, by name.
const CHECKS: &[(&str, fn())] = &[
    ("processors", processors::all_work),
    ("yield", processors::yields),
    ("registers", processors::registers),
    ("shootdown", shootdown::pages),
    ("runs", shootdown::runs),
    ("tables", shootdown::tables),
    ("protect", shootdown::protect),
    ("unmap-run", shootdown::unmap_run),
    ("unmap-tables", shootdown::unmap_tables),
    ("protect-tables", shootdown::protect_tables),
    ("stop", stop::stands_still),
    ("jump", stop::jumps),
    ("upcalls", upcalls::exchanged),
    ("destroy", destroy::at_work),
    ("race", destroy::race),
    ("exits", exits::trees),
    ("orphans", exits::orphans),
    ("ipc", ipc::many_to_one),
    ("ring", ipc::ring),
    ("pairs", ipc::pairs),
    ("dead", messages::dead_receivers),
    ("awaited", messages::awaited),
    ("stopped", messages::stopped_client),
    ("buffers", buffers::come_and_go),
    ("faults", faults::all_at_once),
    ("console", console::lines),
    ("soak", soak::soak),
];

fn main(args: Args) -> ExitCode {
    // Each check counts page frames, so the stack and the shared page must be mapped before.
    (2..32).for_each(|page| raw::write_u8(layout::STACK_TOP.0 - page * 4096, 0));
    kit::init(args.clone());
    let mut wanted = [false; CHECKS.len()];
    let mut named = false;
    for name in args.filter(|arg| !arg.contains('=')) {
        named = true;
        match CHECKS.iter().position(|check| check.0 == name) {
            Some(index) => wanted[index] = true,
            None => fail!("there is no check {name}"),
        }
    }
    for ((name, check), wanted) in CHECKS.iter().zip(wanted) {
        if wanted || !named {
            run(name, *check);
        }
    }
    ExitCode::SUCCESS
}

/// Runs a check once, or for as long as was requested.
fn run(name: &'static str, check: fn()) {
    let (clock, seconds) = (Clock::start(), argument("seconds").unwrap_or(0));
    loop {
        kit::begin(name);
        let free = windows::free_frames();
        check();
        // Environments without a parent may still be in teardown.
        until("all frames are given back", || windows::free_frames() == free);
        if clock.passed(1000 * seconds) {
            return;
        }
    }
}

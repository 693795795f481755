//! Makes every request that must be refused: every call, every argument, every error.
//!
//! `hostile GROUP..` runs the named groups of checks, `hostile` runs all that need no special machine.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod checks;
mod death;
mod devices;
mod dma;
mod envs;
mod exceptions;
mod exhaust;
mod family;
mod ipc;
mod long;
mod longest;
mod memory;
mod pages;
mod processor;
mod search;
mod stack;
mod tables;
mod values;

use alloc::vec::Vec;
use checks::Checks;
use libos::{Args, ExitCode, layout, raw};

libos::entry!(main);

type Group = (&'static str, fn(&mut Checks));

/// The groups, by name.
const GROUPS: &[Group] = &[
    ("pages", pages::refusals),
    ("runs", pages::runs),
    ("batches", pages::batches),
    ("tables", tables::refusals),
    ("buffers", memory::buffers),
    ("envs", envs::refusals),
    ("regs", envs::registers),
    ("ipc", ipc::refusals),
    ("stack", stack::rules),
    ("recursion", stack::recursion),
    ("placement", stack::placement),
    ("exceptions", exceptions::vectors),
    ("segments", processor::segments),
    ("registers", processor::registers),
    ("access", memory::access),
    ("tlb", memory::stale),
    ("fork", memory::privacy),
    ("death", death::at_any_time),
    ("orphans", death::orphans),
    ("families", death::families),
    ("long", long::entries),
    ("slots", exhaust::slots),
    ("exhaust", exhaust::memory),
];

/// The groups that need a machine with a disk. They run only if they are named.
const WITH_A_DISK: &[Group] = &[
    ("devices", devices::rules),
    ("handing-out", devices::handing_out),
    ("dma", dma::refused),
    ("in-flight", dma::in_flight),
    ("holders", dma::holders_end),
    ("replaced", dma::replaced),
    ("interrupts", devices::interrupts),
];

fn main(args: Args) -> ExitCode {
    // The groups count page frames, so the stack must be mapped before.
    (2..32).for_each(|page| raw::write_u8(layout::STACK_TOP.0 - page * 4096, 0));
    let names: Vec<&str> = args.collect();
    let wanted = |group: &&Group| names.is_empty() || names.contains(&group.0);
    let mut failed = 0;
    let with_a_disk = WITH_A_DISK.iter().filter(|group| names.contains(&group.0));
    for (name, run) in GROUPS.iter().filter(wanted).chain(with_a_disk) {
        let mut checks = Checks::new(name);
        run(&mut checks);
        failed += checks.end();
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

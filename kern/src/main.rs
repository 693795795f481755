//! The Faultline exokernel.
//!
//! It owns the hardware and decides nothing: it hands out page frames, lets programs edit their own
//! page maps through checked calls, and gives every fault back to the program that caused it.
//!
//! Where to begin reading:
//!
//! 1. `boot` and [`start`]: from the boot loader to the first program.
//! 2. `trap` and `entry.s`: how programs come in and how they go back; the upcall.
//! 3. `syscall`: the calls; `pages`, `ipc`, `console`: what they do. The crate `vm`: page maps.
//! 4. `sched` and `life`: who runs, how environments begin and end.
//! 5. `start` and `flush`: other processors, and what they have cached. `state`: what is in the registers of all.
//!
//! The kernel runs with interrupts off, except while it idles, and starts every entry on an empty
//! stack. It has no heap: every table is sized at boot.

#![no_std]
#![no_main]
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(not(bare_metal))]
extern crate std; // checked, not built: see the workspace manifest

mod apic;
mod boot;
mod console;
mod count;
mod cpu;
mod env;
mod flush;
mod ipc;
mod life;
mod loader;
mod memory;
mod pages;
mod panic;
mod power;
mod sched;
mod selftest;
mod start;
mod state;
mod syscall;
mod tables;
mod trap;
mod user;

use mem as _; // memcpy and its kin

use ::boot::BootInfo;
use boot::BootTables;
use core::sync::atomic::Ordering::Relaxed;
use memory::Kernel;
use spin::Once;

/// The first Rust code. `start_info` is the physical address that the boot loader gave.
extern "C" fn start(start_info: u64) -> ! {
    static BOOT: Once<BootInfo> = Once::new();
    cpu::early_init();
    console::init();
    // SAFETY: the boot tables are in use, and kernel text can be written: once, here.
    let boot = unsafe {
        trap::patch();
        start::place_stub();
        let read = BootInfo::read(&BootTables::new(), start_info);
        let boot = BOOT.call_once(|| read.unwrap_or_else(|bad| panic!("{bad}")));
        tables::init(boot);
        boot
    };
    cpu::init();
    env::init();
    sched::lock().init(env::all());
    read_command_line(boot);
    selftest::check_processor();
    start::processors(&boot.processors);
    power::count_frames();
    selftest::init(&boot.archive);
    loader::boot(boot);
    start::open();
    sched::enter_kernel();
    sched::switch(sched::lock())
}

/// The words that are for the kernel.
fn read_command_line(boot: &'static BootInfo) {
    console::TRACE.store(boot.word("trace").is_some(), Relaxed);
    let tick = boot.word("tick=").and_then(|us| us.parse().ok());
    let tick_us = tick.unwrap_or(selftest::DEFAULT_TICK_US);
    Kernel::machine().tick_ns.store(tick_us * 1000, Relaxed);
    apic::init(tick_us);
    let nonce = boot.word("nonce=").unwrap_or("");
    power::report_ready(nonce);
    if boot.word("sign").is_some() {
        console::SIGNATURE.call_once(|| nonce);
    }
    if let Some(ticks) = boot.word("limit=").and_then(|ticks| ticks.parse().ok()) {
        sched::LIMIT.store(ticks, Relaxed);
    }
    if boot.word("hold-twice").is_some() {
        selftest::hold_twice();
    }
    if boot.word("break-entries").is_some() {
        selftest::break_entries();
    }
    if let Some(id) = boot.word("late=").and_then(|id| id.parse().ok()) {
        selftest::be_late(id);
    }
    // So that tests see what a panic looks like.
    assert!(boot.word("panic").is_none(), "the command line asked for it");
}

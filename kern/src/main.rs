//! The Faultline exokernel.
//!
//! The kernel owns the hardware and decides nothing: it hands out page frames, lets programs edit their own page maps
//! through checked calls, and passes every fault to the program that caused it.
//!
//! The files form layers. Each one uses the layers above it in this list, and none below:
//!
//! | folder | what it is |
//! | --- | --- |
//! | [`machine`] | the hardware: processors, registers, interrupts, page frames, the serial line |
//! | [`mod@env`] | environments: the table, their life cycle, context switches, the run loop |
//! | [`calls`] | the system calls |
//! | [`entry`] | entries to the kernel and returns to user mode: `entry.s`, traps |
//! | [`boot`] | from the boot loader to the first program, and the start of the application processors |
//!
//! Five crates have no unsafe code and are tested on the host: `vm` (page maps), `sched` (the run queue and the states
//! of environments), `smp` (TLB shootdown and reference counts), `devices` (PCI functions and the IOMMU), `firmware` (the
//! information from boot loader and firmware).
//!
//! The kernel runs with interrupts off, except while it idles, and starts every entry on an empty stack. It has no
//! heap: the size of every table is fixed at boot.

#![no_std]
#![no_main]
#![warn(missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(not(bare_metal))]
extern crate std; // checked, not built: see the workspace manifest

mod boot;
mod calls;
mod entry;
mod env;
mod machine;

use mem as _; // memcpy and its kin

use boot::{command_line, first_program, kernel_map, patch, processors, pvh::BootTables};
use env::{bracket::Entry, run_loop, scheduler, table};
use firmware::BootInfo;
use machine::{cpu, iommu, power, print};
use spin::Once;

/// The first Rust code on the boot processor. `start_info` is the physical address that the boot loader passed.
// SAFETY: no other symbol has this name. `boot.s` calls it, once.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u64) -> ! {
    static BOOT: Once<BootInfo> = Once::new();
    cpu::early_init();
    print::init();
    let iommu_frames;
    // SAFETY: the boot tables are in use, and kernel text can be written: once, here.
    let boot = unsafe {
        patch::remove_instructions();
        processors::place_stub();
        let tables = BootTables::new();
        let boot = BOOT.call_once(|| BootInfo::read(&tables, start_info));
        iommu_frames = kernel_map::init(boot);
        boot
    };
    machine::init();
    if let Some(frames) = iommu_frames {
        iommu::init(frames);
    }
    table::init();
    scheduler::lock().init(table::all());
    command_line::read(boot);
    #[cfg(feature = "check")]
    env::check::check_processor();
    processors::start(&boot.processors);
    power::count_frames();
    #[cfg(feature = "check")]
    env::check::init(&boot.archive);
    first_program::load(boot);
    processors::open();
    run_loop::switch(Entry::begin(), scheduler::lock())
}

//! The start of the application processors.
//!
//! A processor that is started begins in real mode, on a page below 1 MiB. `ap_stub` in `boot.s` is copied there; it
//! brings the processor to 64-bit mode on the boot tables. Then `ap_entry` loads the kernel's own tables, takes the
//! `Cpu` that was prepared for this processor, and calls [`begin`]. Processors are started one at a time.
//!
//! A processor that does not answer in time is left out. It may come later all the same (a busy host may not have let
//! it run), so its `Cpu` is withdrawn: a processor that finds none halts for good.

use crate::env::{bracket::Entry, run_loop, scheduler};
use crate::machine::cpu::{self, Cpu, Processor};
use crate::machine::windows::{self, PROCESSORS};
use crate::machine::{self, apic, flush, hardware::kernel_root, print, provoke};
use abi::layout::DIRECT_MAP;
use core::ptr::null_mut;
use core::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr};
use firmware::Processors;

/// The page of the stub, in low memory that is free at boot.
const STUB_PAGE: u8 = 8;
/// How long a processor may take to answer each of two start requests, in microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// The `Cpu` prepared for the processor with each local APIC, until that processor takes it.
pub static PLACES: [AtomicPtr<Cpu>; 256] = [const { AtomicPtr::new(null_mut()) }; 256];
/// Whether the first program is loaded, so that application processors may look for work.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Copies the stub to the page where it runs.
///
/// # Safety
/// The boot tables are in use.
pub unsafe fn place_stub() {
    unsafe extern "C" {
        static ap_stub: u8;
        static ap_stub_end: u8;
    }
    let (start, end) = (&raw const ap_stub, &raw const ap_stub_end);
    let to = (DIRECT_MAP.0 + u64::from(STUB_PAGE) * 4096) as *mut u8;
    // SAFETY: the boot tables map the image where it was loaded, and low memory, which nobody uses.
    unsafe { to.copy_from_nonoverlapping(start, end as usize - start as usize) };
}

/// Starts all application processors. Called on the boot processor.
pub fn start(processors: &Processors) {
    cpu::this().apic_id.set(apic::id());
    let others = || processors.ids().filter(|id| *id != apic::id());
    others().for_each(apic::reset);
    apic::wait(10_000);
    for (index, id) in others().enumerate() {
        // SAFETY: `kernel_map` mapped as many as there are in the list, and this one is not in use.
        let cpu = unsafe { cpu::prepare((PROCESSORS.0 as *mut Processor).add(index), cpu::count(), id) };
        if !start_one(cpu) {
            print::kprintln!("the processor with local APIC {id} does not answer, and is left out");
        }
    }
    windows::machine().cpus.store(cpu::count(), Relaxed);
}

/// Starts one processor. Returns whether it answers.
fn start_one(cpu: &'static Cpu) -> bool {
    let id = cpu.apic_id.get();
    let is_there = || cpu::count() > cpu.number.get();
    PLACES[id as usize].store((cpu as *const Cpu).cast_mut(), Release);
    let tries = if provoke::is_late(id) { 0 } else { 2 };
    for _ in 0..tries {
        apic::start(id, STUB_PAGE);
        for _ in 0..PATIENCE_US / 200 {
            apic::wait(200);
            if is_there() {
                return true;
            }
        }
    }
    // Withdraw its `Cpu`: either it can no longer start, or it has taken the `Cpu` and is on its way.
    let is_coming = PLACES[id as usize].swap(null_mut(), AcqRel).is_null();
    while is_coming && !is_there() {
        flush::relax();
    }
    if tries == 0 {
        apic::start(id, STUB_PAGE);
    }
    is_coming
}

/// Lets the application processors look for work.
pub fn open() {
    OPEN.store(true, Relaxed);
}

/// The first Rust code on an application processor, with the `Cpu` that was prepared for it. When that is announced,
/// the boot processor starts the next one.
pub extern "C" fn begin(cpu: &'static Cpu) -> ! {
    cpu::adopt(cpu);
    machine::init();
    cpu.root.end(kernel_root().0);
    apic::init_here();
    #[cfg(feature = "check")]
    crate::env::check::check_processor();
    cpu::announce(cpu);
    while !OPEN.load(Relaxed) {
        flush::relax();
    }
    run_loop::switch(Entry::begin(), scheduler::lock())
}

//! Starting the other processors.
//!
//! A processor that is started begins in real mode, on a page below 1 MiB. `ap_stub` in `boot.s` is copied
//! there; it brings the processor to 64-bit mode on the boot tables, `ap_entry` takes the kernel's own tables
//! and the stack that was prepared, and calls [`begin`]. They come one at a time.

use crate::cpu::{self, Cpu, Processor};
use crate::memory::{Kernel, PROCESSORS, kernel_root};
use crate::{apic, console, flush, sched};
use ::boot::Processors;
use abi::layout::DIRECT_MAP;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

/// The page of the stub: free memory of the firmware's.
const STUB_PAGE: u8 = 8;
/// How long a processor may take to answer, in microseconds.
const PATIENCE_US: u64 = 100_000;

/// The processor that is being started.
pub static NEXT: AtomicPtr<Cpu> = AtomicPtr::new(null_mut());
/// The first program is there: the others may look for work.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Put the stub where it runs.
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

/// Start all processors but this one.
pub fn processors(processors: &Processors) {
    cpu::this().apic_id.set(apic::id());
    let others = || processors.ids().filter(|id| *id != apic::id());
    others().for_each(apic::reset);
    apic::wait(10_000);
    for (index, id) in others().enumerate() {
        // SAFETY: `tables` mapped as many as there are in the list, and this one is not in use.
        let cpu = unsafe { cpu::prepare((PROCESSORS.0 as *mut Processor).add(index), cpu::count(), id) };
        if !start_one(cpu) {
            console::kprintln!("the processor with local APIC {id} does not answer, and is left out");
        }
    }
    Kernel::machine().cpus.store(cpu::count(), Relaxed);
}

fn start_one(cpu: &'static Cpu) -> bool {
    NEXT.store((cpu as *const Cpu).cast_mut(), Relaxed);
    for _ in 0..2 {
        apic::start(cpu.apic_id.get(), STUB_PAGE);
        for _ in 0..PATIENCE_US / 200 {
            apic::wait(200);
            if NEXT.load(Relaxed).is_null() {
                cpu::announce(cpu);
                return true;
            }
        }
    }
    false
}

/// Let the others work.
pub fn open() {
    OPEN.store(true, Relaxed);
}

/// The first Rust code on another processor: `cpu` is what was prepared for it.
pub extern "C" fn begin(cpu: &'static Cpu) -> ! {
    cpu::adopt(cpu);
    cpu::init();
    cpu.root.end(kernel_root().0);
    apic::init_here();
    NEXT.store(null_mut(), Relaxed);
    while !OPEN.load(Relaxed) {
        flush::relax();
    }
    sched::enter_kernel();
    sched::switch(sched::lock())
}

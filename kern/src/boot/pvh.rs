//! From the boot loader to Rust.
//!
//! The image carries a PVH note, so QEMU's `-kernel` (and Firecracker, and Cloud Hypervisor) start it at `pvh_start` in
//! 32-bit protected mode without paging, with the physical address of the start info in `ebx`. The assembly makes
//! tables just good enough to run on: they map the first 4 GiB at 0, in the direct map, and (1 GiB of it) at the
//! kernel's own address. `kernel_map` replaces them. The crate `firmware` reads the start info.

use crate::boot::processors;
use crate::machine::cpu::{BOOT_STACKS, Cpu, Stacks};
use crate::machine::{apic, control, hardware, print};
use abi::ExitStatus;
use abi::boot::{EXIT_PORT, exit_code};
use abi::layout::{DIRECT_MAP, KERNEL_IMAGE};
use core::arch::global_asm;
use core::mem::offset_of;
use core::ops::Range;
use firmware::{LOW_MEMORY, Physical};

global_asm!(
    include_str!("boot.s"),
    stacks = sym BOOT_STACKS,
    stack_bytes = const Stacks::MAIN_TOP,
    root = sym hardware::KERNEL_ROOT,
    apic_id = const apic::ID_ADDRESS,
    places = sym processors::PLACES,
    stack_top = const offset_of!(Cpu, stack_top),
    begin = sym processors::begin,
    cr0 = const control::CR0,
    serial = const print::COM1,
    exit_port = const EXIT_PORT,
    unfit = const exit_code(ExitStatus::UNFIT_PROCESSOR.0),
);

/// The boot tables map physical memory up to this address.
pub const BOOT_MAPPED: u64 = 1 << 32;

/// Physical memory, while the boot tables are loaded.
pub struct BootTables(());

impl BootTables {
    /// # Safety
    /// The boot tables are loaded for as long as this value exists.
    pub unsafe fn new() -> BootTables {
        BootTables(())
    }
}

impl Physical for BootTables {
    fn read(&self, address: u64, out: &mut [u8]) {
        if address >= BOOT_MAPPED || out.len() as u64 > BOOT_MAPPED - address {
            return out.fill(0);
        }
        let from = (DIRECT_MAP.0 + address) as *const u8;
        // SAFETY: the boot tables map these addresses. Reading where no memory is has no effect.
        unsafe { out.as_mut_ptr().copy_from_nonoverlapping(from, out.len()) };
    }
}

/// The physical addresses of the kernel image.
pub fn image() -> Range<u64> {
    unsafe extern "C" {
        static __end: u8;
    }
    LOW_MEMORY..&raw const __end as u64 - KERNEL_IMAGE.0
}

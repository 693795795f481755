//! From the boot loader to Rust.
//!
//! The image carries a PVH note, so QEMU's `-kernel` (and Firecracker, and Cloud Hypervisor) start
//! it at [`pvh_start`] in 32-bit protected mode without paging, with the physical address of a
//! [`StartInfo`] in `ebx`. The assembly makes tables just good enough to run on: the first 4 GiB,
//! seen from 0, from the direct map and (1 GiB of it) from the kernel's own address. `tables::init`
//! replaces them.

use crate::acpi;
use abi::layout::{DIRECT_MAP, KERNEL_IMAGE};
use core::arch::global_asm;
use core::ops::Range;
use vm::Ranges;

global_asm!(
    include_str!("boot.s"),
    stacks = sym crate::cpu::BOOT_STACKS,
    stack_bytes = const crate::cpu::Stacks::MAIN_TOP,
    start = sym crate::start,
    root = sym crate::memory::KERNEL_ROOT,
    next = sym crate::smp::NEXT,
    stack_top = const core::mem::offset_of!(crate::cpu::Cpu, stack_top),
    begin = sym crate::smp::begin,
);

/// What the boot loader hands over (`hvm_start_info` of the Xen boot protocol, version 1).
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    acpi_root: u64,
    memory_map: u64,
    memory_map_entries: u32,
}

#[repr(C)]
struct Module {
    address: u64,
    bytes: u64,
}

#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

const MAGIC: u32 = 0x336e_c578;
const USABLE: u32 = 1;
const MAX_COMMAND_LINE: usize = 4096;
/// The first mebibyte belongs to the firmware; we leave it alone.
const LOW_MEMORY: u64 = 0x10_0000;

/// What the kernel keeps of the start info: copies, because the original lies in memory that is
/// about to be handed out.
pub struct BootInfo {
    /// Usable memory above the first mebibyte, in whole pages.
    pub usable: Ranges,
    /// The boot archive.
    pub archive: Range<u64>,
    pub processors: acpi::Processors,
    command_line: [u8; MAX_COMMAND_LINE],
    command_line_len: usize,
}

impl BootInfo {
    /// Read the start info at this physical address.
    ///
    /// # Safety
    /// The boot tables are in use, and the address is the one that the boot loader gave.
    pub unsafe fn read(start_info: u64) -> BootInfo {
        // SAFETY: the boot loader put the structure there, below 4 GiB, where the boot tables map it.
        let info = unsafe { &*at::<StartInfo>(start_info) };
        assert!(info.magic == MAGIC, "start info: bad magic {:#x}", info.magic);
        assert!(info.version >= 1, "start info: version {} has no memory map", info.version);
        // SAFETY: as above; the counts belong to the addresses.
        let (map, modules) = unsafe {
            (
                slice::<MemoryMapEntry>(info.memory_map, info.memory_map_entries as usize),
                slice::<Module>(info.module_list, info.modules as usize),
            )
        };
        let mut boot = BootInfo {
            usable: Ranges::new(),
            // SAFETY: the boot tables are in use.
            processors: unsafe { acpi::processors(info.acpi_root) },
            archive: modules.first().map_or(0..0, |m| m.address..m.address + m.bytes),
            command_line: [0; MAX_COMMAND_LINE],
            command_line_len: 0,
        };
        for entry in map.iter().filter(|entry| entry.kind == USABLE) {
            let end = (entry.address + entry.bytes) & !0xfff;
            boot.usable.push(entry.address.next_multiple_of(0x1000).max(LOW_MEMORY)..end);
        }
        // SAFETY: it ends with a zero byte; what comes after it can be read, too.
        boot.command_line.copy_from_slice(unsafe { slice(info.command_line, MAX_COMMAND_LINE) });
        let end = boot.command_line.iter().position(|byte| *byte == 0);
        boot.command_line_len = end.unwrap_or(MAX_COMMAND_LINE);
        boot
    }

    /// The words that are for the kernel, and the arguments of the first program.
    pub fn command_line(&self) -> (&str, &str) {
        let line = str::from_utf8(&self.command_line[..self.command_line_len]).unwrap_or("");
        let (words, arguments) = line.split_once(abi::boot::ARGS_MARK).unwrap_or((line, ""));
        (words, arguments.trim_start_matches(' '))
    }

    /// The physical addresses of the kernel image.
    pub fn image() -> Range<u64> {
        unsafe extern "C" {
            static __end: u8;
        }
        LOW_MEMORY..&raw const __end as u64 - KERNEL_IMAGE.0
    }
}

fn at<T>(physical: u64) -> *const T {
    (DIRECT_MAP.0 + physical) as *const T
}

/// # Safety
/// `len` values of type `T` are at the physical address, below 4 GiB.
unsafe fn slice<T>(physical: u64, len: usize) -> &'static [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller promises it.
    unsafe { core::slice::from_raw_parts(at(physical), len) }
}

//! Boot information: memory, boot archive, command line, processors and devices, as boot loader and firmware describe
//! them.
//!
//! The kernel is started by the boot protocol of Xen (PVH), which leaves a structure in memory (the start info); that
//! structure points at the ACPI tables of the firmware. The code trusts what it reads no more than necessary: a kernel
//! that does not start should say why. The crate has no unsafe code, and the tests run it on the host.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod acpi;
mod pci;

pub use acpi::Processors;
pub use pci::{ConfigSpaces, Remapping};

use abi::boot::ARGS_MARK;
use core::ops::Range;
use vm::Ranges;

/// Memory by its physical addresses.
pub trait Physical {
    /// Reads bytes: zeros where there is nothing to read.
    fn read(&self, address: u64, out: &mut [u8]);

    /// The 32-bit number at an address.
    fn word(&self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// The 64-bit number at an address.
    fn long(&self, address: u64) -> u64 {
        u64::from(self.word(address)) | u64::from(self.word(address.wrapping_add(4))) << 32
    }
}

/// The boot information that the kernel keeps: copies, because the original lies in memory that is about to be handed
/// out.
pub struct BootInfo {
    /// Usable memory above the first mebibyte, in whole pages.
    pub usable: Ranges,
    /// The boot archive; empty if there is none.
    pub archive: Range<u64>,
    /// The processors.
    pub processors: Processors,
    /// The configuration spaces of PCI.
    pub config_spaces: Option<ConfigSpaces>,
    /// The IOMMU.
    pub remapping: Option<Remapping>,
    command_line: [u8; MAX_COMMAND_LINE],
    command_line_len: usize,
}

/// The end of the first mebibyte, which belongs to the firmware.
pub const LOW_MEMORY: u64 = 0x10_0000;
/// The longest command line that is read.
pub const MAX_COMMAND_LINE: usize = 4096;

const MAGIC: u32 = 0x336e_c578;
const USABLE: u32 = 1;
const PAGE: u64 = 4096;

impl BootInfo {
    /// Reads the start info at this address, and everything at which it points.
    ///
    /// # Panics
    /// If the start info cannot be used: then nobody knows where there is memory, and the kernel cannot start.
    pub fn read(memory: &impl Physical, start_info: u64) -> BootInfo {
        // `hvm_start_info` of the Xen boot protocol: the third to the sixth word are addresses, and each of the others
        // has two numbers.
        let words: [u64; 7] = core::array::from_fn(|index| memory.long(start_info.wrapping_add(8 * index as u64)));
        let [head, modules, module_list, line, acpi_root, memory_map, entries] = words;
        let (magic, version) = (head as u32, head >> 32);
        assert!(magic == MAGIC, "start info: bad magic {magic:#x}");
        assert!(version >= 1, "start info: version {version} has no memory map");
        let mut command_line = [0; MAX_COMMAND_LINE];
        memory.read(line, &mut command_line);
        let end = command_line.iter().position(|byte| *byte == 0);
        BootInfo {
            usable: usable(memory, memory_map, entries as u32),
            archive: if modules >> 32 == 0 { 0..0 } else { archive(memory, module_list) },
            processors: Processors::find(memory, acpi_root),
            config_spaces: ConfigSpaces::find(memory, acpi_root),
            remapping: Remapping::find(memory, acpi_root),
            command_line,
            command_line_len: end.unwrap_or(MAX_COMMAND_LINE),
        }
    }

    /// The command line; empty if it is not text.
    pub fn command_line(&self) -> &str {
        str::from_utf8(&self.command_line[..self.command_line_len]).unwrap_or("")
    }

    /// The rest of the first word for the kernel that has this prefix.
    pub fn word(&self, prefix: &str) -> Option<&str> {
        let words = self.command_line().split(ARGS_MARK).next().unwrap_or("");
        words.split_whitespace().find_map(|word| word.strip_prefix(prefix))
    }

    /// The arguments of the first program: everything behind the separator.
    pub fn arguments(&self) -> &str {
        self.command_line().split_once(ARGS_MARK).map_or("", |(_, rest)| rest.trim_start_matches(' '))
    }
}

/// The first module of the list.
fn archive(memory: &impl Physical, module: u64) -> Range<u64> {
    let (address, bytes) = (memory.long(module), memory.long(module.wrapping_add(8)));
    address..address.saturating_add(bytes)
}

fn usable(memory: &impl Physical, map: u64, entries: u32) -> Ranges {
    const ENTRY_BYTES: u64 = 24;
    let mut usable = Ranges::empty();
    for index in 0..u64::from(entries).min(Ranges::MAX as u64) {
        let entry = map.wrapping_add(index * ENTRY_BYTES);
        let (address, bytes, kind) =
            (memory.long(entry), memory.long(entry.wrapping_add(8)), memory.word(entry.wrapping_add(16)));
        if kind == USABLE {
            let start = address.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
            usable.push(start.max(LOW_MEMORY)..address.saturating_add(bytes) & !(PAGE - 1));
        }
    }
    usable
}

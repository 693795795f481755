//! The address space layout, which is equal in all environments.
//!
//! `docs/memory.md` draws it, with the rights to each part. Everything from [`USER_LIMIT`] up belongs to the kernel:
//! calls cannot name it, except the boot archive as a source.

use crate::Error;
use crate::page::{Level, PAGE_SIZE, Va, span};
use core::ops::Range;

/// Bytes covered by one entry of the top-level table: 512 GiB.
pub const SLOT_SIZE: u64 = 1 << 39;

/// The address at which programs are linked.
pub const TEXT: Va = Va(0x0020_0000);
/// First byte of the heap.
pub const HEAP: Va = Va(0x0010_0000_0000);
/// What libos maps for the devices of a program: their registers, and memory at addresses that devices can name. A child
/// does not inherit it.
pub const OF_DEVICES: Range<Va> = Va(0x0008_0000_0000)..HEAP;
/// One past the last byte that the heap may grow to.
pub const HEAP_END: Va = Va(0x0800_0000_0000);

/// The 2 MiB with the memory that an environment never shares, so that one table is enough for all of it: the end of
/// the user stack, the exception stack, and the data that libos needs to serve a fault. The table above it is that of
/// the program, because code reaches both with 32-bit addresses.
pub const PRIVATE: Va = Va(0x3fe0_0000);
/// One past the highest byte of the user stack. The part of the stack that does not fit into the private span lies
/// below.
pub const STACK_TOP: Va = Va(PRIVATE.0 + 0x10_0000);
/// One past the highest byte of the exception stack that libos registers.
pub const EXCEPTION_STACK_TOP: Va = RESIDENT;
/// The greatest number of pages of an exception stack.
pub const EXCEPTION_STACK_MAX_PAGES: u64 = 16;
/// The address at which the resident data of programs is linked. The data ends before the private span does.
pub const RESIDENT: Va = Va(PRIVATE.0 + 0x1f_0000);

/// Slot 1 of a device's page map: its registers. (The device itself sees slot 0 only.)
pub const REGISTERS: Va = Va(SLOT_SIZE);

/// Slot 253: pages that libos fills for other environments, and its table of regions if that is large. No table in
/// this slot is ever shared.
pub const SCRATCH: Va = Va(253 * SLOT_SIZE);

/// The end of the addresses that calls may name (except the boot archive, as a source).
pub const USER_LIMIT: Va = WINDOWS;

/// Slot 254: the read-only windows.
pub const WINDOWS: Va = Va(254 * SLOT_SIZE);
/// One page: [`crate::window::MachineInfo`].
pub const MACHINE: Va = WINDOWS;
/// The counters of each processor: [`crate::window::CpuInfo`], indexed by processor number.
pub const CPUS: Va = Va(WINDOWS.0 + 0x1000);
/// One page: the devices, [`crate::window::DeviceInfo`], by their index.
pub const DEVICES: Va = Va(WINDOWS.0 + 0x2000);
/// The environment table: [`crate::window::EnvInfo`], indexed by slot.
pub const ENVS: Va = Va(WINDOWS.0 + 0x20_0000);
/// The frame table: [`crate::window::FrameInfo`], indexed by frame number.
///
/// Only the pages that describe usable memory are mapped.
pub const FRAMES: Va = Va(WINDOWS.0 + 0x4000_0000);
/// The boot archive, a TAR file whose members start on page boundaries, and whose last page contains only zeros.
pub const ARCHIVE: Va = Va(WINDOWS.0 + 0x40_0000_0000);
/// One past the last byte that the boot archive can reach: 64 GiB.
pub const ARCHIVE_END: Va = Va(ARCHIVE.0 + 0x10_0000_0000);

/// The top-level slot that points back at the top-level table.
pub const UVPT_SLOT: u64 = 255;
/// Slot 255: the page table entry of page `n` is the 64-bit word at `UVPT + 8 * n`.
pub const UVPT: Va = Va(UVPT_SLOT * SLOT_SIZE);

/// First byte of the kernel's half.
pub const KERNEL_HALF: Va = Va(0xffff_8000_0000_0000);
/// The direct map: physical address `p` is at `DIRECT_MAP + p`, where there is memory.
pub const DIRECT_MAP: Va = KERNEL_HALF;
/// The kernel's writable view of the windows: it uses the tables of slot 254.
pub const KERNEL_WINDOWS: Va = Va(0xffff_c000_0000_0000);
/// The address at which the kernel is linked; physical address 0 of the image.
pub const KERNEL_IMAGE: Va = Va(0xffff_ffff_8000_0000);
/// The kernel's mappings of the registers of interrupt controllers and IOMMU.
pub const KERNEL_REGISTERS: Va = Va(0xffff_ffff_c000_0000);

/// Checks of addresses that calls name.
impl Va {
    /// This address, if a call may name this many pages from it on.
    ///
    /// # Errors
    /// [`Error::Unaligned`], [`Error::BadAddress`].
    #[inline]
    pub fn user_run(self, pages: u64) -> Result<Va, Error> {
        self.run(pages, Level::L1, Va(0)..USER_LIMIT)
    }

    /// Whether this is the start of a page that calls may name.
    #[inline(always)]
    #[must_use]
    pub const fn is_user_page(self) -> bool {
        // Nonzero bits within the page, rotated to the top, make the number too large.
        self.0.rotate_right(PAGE_SIZE.trailing_zeros()) < USER_LIMIT.0 / PAGE_SIZE
    }

    /// This address, if a call may name this many pages from it on as a source, which may be in the boot archive too.
    ///
    /// # Errors
    /// [`Error::Unaligned`], [`Error::BadAddress`].
    #[inline]
    pub fn source_run(self, pages: u64) -> Result<Va, Error> {
        self.run(pages, Level::L1, if self < ARCHIVE { Va(0)..USER_LIMIT } else { ARCHIVE..ARCHIVE_END })
    }

    /// This address, if a call may name this many tables from it on, which entries of this level point to:
    /// those of slot 253 cannot be named.
    ///
    /// # Errors
    /// [`Error::Unaligned`], [`Error::BadAddress`].
    #[inline]
    pub fn table_run(self, tables: u64, level: Level) -> Result<Va, Error> {
        self.run(tables, level, Va(0)..SCRATCH)
    }

    #[inline]
    fn run(self, count: u64, level: Level, within: Range<Va>) -> Result<Va, Error> {
        if !self.0.is_multiple_of(span(level)) {
            return Err(Error::Unaligned(self.0));
        }
        let fits = within.contains(&self) && count <= (within.end.0 - self.0) / span(level);
        if fits { Ok(self) } else { Err(Error::BadAddress(self.0)) }
    }
}

/// The address, within the self map, of the entry that translates `va` at `level`.
///
/// Level 1 is the page table entry itself, level 4 the entry of the top-level table. An entry can
/// be read only if the entries above it are present: read level 4 first, then 3, 2, 1.
///
/// ```
/// use abi::{Level, Va, layout::{UVPT, uvpt}};
/// assert_eq!(uvpt(Va(0), Level::L1), UVPT); // uvpt[0] is the entry of page 0
/// assert_eq!(uvpt(Va(0x5000), Level::L1), Va(UVPT.0 + 5 * 8));
/// ```
#[inline(always)]
#[must_use]
pub const fn uvpt(va: Va, level: Level) -> Va {
    let user = va.0 & (256 * SLOT_SIZE - 1);
    Va(first_entry(level) + user / span(level) * 8)
}

/// Where the entry of address 0 is read.
const fn first_entry(level: Level) -> u64 {
    // Each step up the tree replaces the page with the page that holds its entry.
    let mut at = 0;
    let mut step = 0;
    while step < level as u32 {
        at = UVPT.0 + (at / PAGE_SIZE) * 8;
        step += 1;
    }
    at
}

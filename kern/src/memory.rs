//! Physical memory as the kernel sees it, and its final page tables.
//!
//! The kernel's half is the same 256 top-level entries in every address space, filled once here:
//! the direct map, the windows' writable alias, the environment table, the image and the devices.
//! Nothing in it is both writable and executable, and nothing is global.

use crate::boot::{BootInfo, Ranges};
use crate::cpu::{self, BOOT_STACKS, Stacks};
use crate::env::{self, Env};
use abi::layout::{
    ARCHIVE, ARCHIVE_END, DEVICES, DIRECT_MAP, ENVS, FRAMES, KERNEL_IMAGE, KERNEL_WINDOWS, MACHINE,
    WINDOWS,
};
use abi::window::{EnvInfo, FrameInfo, MachineInfo};
use abi::{Frame, PAGE_SIZE, Pte, Va};
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use vm::{Machine, Memory, Table};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Where the private parts of the environments are.
pub const ENV_TABLE: Va = Va(0xffff_d000_0000_0000);
/// What the checking kernel counts, indexed by frame number.
pub const CHECK_TABLE: Va = Va(0xffff_d800_0000_0000);
/// The local APIC, at its page in [`DEVICES`].
pub const LOCAL_APIC: Va = DEVICES;
const LOCAL_APIC_PHYSICAL: u64 = 0xfee0_0000;

/// All page frames.
pub static MEMORY: Memory<Kernel> = Memory::new();
/// An address space.
pub type Space = vm::Space<Kernel>;

/// The frame of the kernel's own top-level table: the template of all others, and what idle and
/// teardown run on.
static KERNEL_ROOT: AtomicU32 = AtomicU32::new(0);

/// The first frame of the boot archive.
static ARCHIVE_FRAME: AtomicU32 = AtomicU32::new(0);

/// The frame of the kernel's own top-level table.
pub fn kernel_root() -> Frame {
    Frame(KERNEL_ROOT.load(Relaxed))
}

/// The real machine.
pub struct Kernel;

impl Machine for Kernel {
    #[inline]
    fn table(frame: Frame) -> &'static Table {
        // SAFETY: the direct map has every frame that an entry can name, and entries are atomic.
        unsafe { &*bytes(frame).cast() }
    }

    #[inline]
    fn info(frame: Frame) -> &'static FrameInfo {
        // SAFETY: the frame table has an entry for every usable frame, and those are atomic.
        unsafe { &*((alias(FRAMES) as *const FrameInfo).add(frame.0 as usize)) }
    }

    #[inline]
    fn machine() -> &'static MachineInfo {
        // SAFETY: the machine page is mapped from `init` on, and its fields are atomic.
        unsafe { &*(alias(MACHINE) as *const MachineInfo) }
    }

    #[inline]
    fn zero(frame: Frame) {
        fill(frame, 0);
        if cfg!(feature = "count") {
            Kernel::machine().frames_zeroed.fetch_add(1, Relaxed);
        }
    }

    #[inline]
    fn copy(from: Frame, to: Frame) {
        // SAFETY: both frames are in the direct map; nobody else has `to` yet.
        unsafe {
            asm!("rep movsq", inout("rcx") 512usize => _, inout("rsi") bytes(from) => _,
                inout("rdi") bytes(to) => _, options(nostack, preserves_flags));
        }
        if cfg!(feature = "count") {
            Kernel::machine().frames_copied.fetch_add(1, Relaxed);
        }
    }

    #[inline]
    fn poison(frame: Frame) {
        if cfg!(feature = "check") {
            fill(frame, 0xdead_f4ee_dead_f4ee);
        }
    }

    #[inline]
    fn invalidate(root: Frame, page: Va) {
        if cpu::this().root.get() == root {
            // SAFETY: forgetting a translation is always sound.
            unsafe { asm!("invlpg [{}]", in(reg) page.0, options(nostack, preserves_flags)) };
        }
    }
}

/// The kernel's writable address of something in the windows.
const fn alias(window: Va) -> u64 {
    window.0 - WINDOWS.0 + KERNEL_WINDOWS.0
}

/// Where the kernel reads and writes a frame.
#[inline]
pub fn bytes(frame: Frame) -> *mut u8 {
    (DIRECT_MAP.0 + frame.address()) as *mut u8
}

fn fill(frame: Frame, word: u64) {
    // SAFETY: the frame is in the direct map, and is being handed out or has just been freed.
    unsafe {
        asm!("rep stosq", inout("rcx") 512usize => _, inout("rdi") bytes(frame) => _,
            in("rax") word, options(nostack, preserves_flags));
    }
}

/// The public part of an environment.
#[inline]
pub fn env_info(slot: usize) -> &'static EnvInfo {
    // SAFETY: the window has an entry for every slot; the fields are atomic.
    unsafe { &*(alias(ENVS) as *const EnvInfo).add(slot) }
}

/// The boot archive.
pub fn archive() -> &'static [u8] {
    let len = Kernel::machine().archive_bytes.load(Relaxed) as usize;
    // SAFETY: `init` mapped that many bytes there; nobody ever writes them.
    unsafe { core::slice::from_raw_parts(alias(ARCHIVE) as *const u8, len) }
}

/// The frames of the boot archive.
pub fn archive_frames() -> Range<u32> {
    let machine = Kernel::machine();
    let first = ARCHIVE_FRAME.load(Relaxed);
    first..first + machine.archive_bytes.load(Relaxed).div_ceil(PAGE_SIZE) as u32
}

/// Use this page map from now on.
///
/// # Safety
/// It is the root of a [`Space`] that exists, or the kernel's own.
pub unsafe fn load_root(root: Frame) {
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(root.address()));
    // SAFETY: every page map has the kernel's half, in which this code and its stack are.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    cpu::this().root.set(root);
}

/// Rights of the kernel's own mappings.
const RW: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::NO_EXEC;
const RO: u64 = Pte::PRESENT | Pte::NO_EXEC;
const RX: u64 = Pte::PRESENT;
/// Window pages: the top-level entry of slot 254 takes the write away, that of the alias the user.
const WINDOW: u64 = RW | Pte::USER;
const UNCACHED: u64 = 1 << 4;

const LARGE_PAGE: u64 = 0x20_0000;

/// Makes the final tables, out of memory that nobody has yet.
struct Builder {
    free: Ranges,
    root: Frame,
}

impl Builder {
    /// Consecutive frames of zeros, below 4 GiB: the boot tables map no more.
    fn take(&mut self, pages: u64) -> Frame {
        let bytes = pages * PAGE_SIZE;
        let fits = |range: &&mut Range<u64>| range.start + bytes <= range.end.min(1 << 32);
        let range = self.free.iter_mut().find(fits);
        let range = range.unwrap_or_else(|| panic!("no {bytes} bytes for the kernel's tables"));
        let first = Frame::containing(range.start);
        range.start += bytes;
        for page in 0..pages as u32 {
            fill(Frame(first.0 + page), 0);
        }
        first
    }

    /// The entry for `va` at `level`, with the tables above it.
    fn entry(&mut self, va: Va, level: u32) -> &'static core::sync::atomic::AtomicU64 {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = &Kernel::table(table)[va.index(above)];
            if entry.load(Relaxed) == 0 {
                // Window tables are for users too; the top level decides.
                let user = if (KERNEL_WINDOWS..ENV_TABLE).contains(&va) { Pte::USER } else { 0 };
                let frame = self.take(1);
                let pte = frame.address() | Pte::PRESENT | Pte::WRITABLE | user;
                entry.store(pte, Relaxed);
            }
            table = Pte(entry.load(Relaxed)).frame();
        }
        &Kernel::table(table)[va.index(level)]
    }

    /// Map physical memory, with large pages where it can be.
    fn map(&mut self, va: Va, physical: Range<u64>, rights: u64) {
        let mut done = 0;
        while physical.start + done < physical.end {
            let (from, to) = (physical.start + done, va.0 + done);
            let fits = from + LARGE_PAGE <= physical.end;
            let large = fits && rights == RW && (from | to) % LARGE_PAGE == 0;
            if large {
                self.entry(Va(to), 2).store(from | rights | Pte::LARGE, Relaxed);
            } else {
                self.entry(Va(to), 1).store(from | rights, Relaxed);
            }
            done += if large { LARGE_PAGE } else { PAGE_SIZE };
        }
    }

    /// Map fresh memory at all pages of `[start, end)` that have none.
    fn back(&mut self, start: u64, end: u64, rights: u64) {
        let mut va = Va(start).page();
        while va.0 < end {
            if self.entry(va, 1).load(Relaxed) == 0 {
                let frame = self.take(1);
                self.entry(va, 1).store(frame.address() | rights, Relaxed);
            }
            va = va.add_pages(1);
        }
    }

    fn image(&mut self) {
        unsafe extern "C" {
            static __text: u8;
            static __rodata: u8;
            static __data: u8;
            static __end: u8;
        }
        let text = &raw const __text as u64;
        let rodata = &raw const __rodata as u64;
        let data = &raw const __data as u64;
        let end = &raw const __end as u64;
        for (from, to, rights) in [(text, rodata, RX), (rodata, data, RO), (data, end, RW)] {
            let physical = from - KERNEL_IMAGE.0..to - KERNEL_IMAGE.0;
            // Small pages: the rights differ, and the guards below the stacks are holes.
            let mut va = Va(from);
            for page in physical.step_by(PAGE_SIZE as usize) {
                self.entry(va, 1).store(page | rights, Relaxed);
                va = va.add_pages(1);
            }
        }
        for guard in Stacks::GUARDS {
            let va = Va(&raw const BOOT_STACKS as u64 + guard as u64);
            self.entry(va, 1).store(0, Relaxed);
        }
    }

    fn archive(&mut self, physical: Range<u64>) {
        assert!(physical.start % PAGE_SIZE == 0, "archive at {:#x}", physical.start);
        let bytes = physical.end - physical.start;
        assert!(bytes <= ARCHIVE_END.0 - ARCHIVE.0, "archive of {bytes} bytes");
        let mut va = Va(alias(ARCHIVE));
        for page in physical.step_by(PAGE_SIZE as usize) {
            self.entry(va, 1).store(page | WINDOW, Relaxed);
            va = va.add_pages(1);
        }
    }
}

/// Make the final tables and the frame table, and switch to them.
///
/// # Safety
/// Called once, on the boot tables.
pub unsafe fn init(boot: &BootInfo) {
    let mut free = Ranges::new();
    boot.usable.iter().for_each(|range| free.push(range.clone()));
    let archive = boot.archive.start..boot.archive.end.next_multiple_of(PAGE_SIZE);
    free.subtract(&BootInfo::image());
    free.subtract(&archive);

    let mut build = Builder { free, root: Frame(0) };
    build.root = build.take(1);
    let total: u64 = boot.usable.iter().map(|range| (range.end - range.start) / PAGE_SIZE).sum();
    let slots = env::slots_for(total);
    for range in boot.usable.iter() {
        build.map(Va(DIRECT_MAP.0 + range.start), range.clone(), RW);
        let table = alias(FRAMES)..;
        let entry =
            |physical: u64| table.start + physical / PAGE_SIZE * size_of::<FrameInfo>() as u64;
        build.back(entry(range.start), entry(range.end), WINDOW);
        if cfg!(feature = "check") {
            let count = |physical: u64| CHECK_TABLE.0 + physical / PAGE_SIZE * 8;
            build.back(count(range.start), count(range.end), RW);
        }
    }
    build.back(alias(MACHINE), alias(MACHINE) + PAGE_SIZE, WINDOW);
    build.back(alias(ENVS), alias(ENVS) + (slots * size_of::<EnvInfo>()) as u64, WINDOW);
    build.back(ENV_TABLE.0, ENV_TABLE.0 + (slots * size_of::<Env>()) as u64, RW);
    build.archive(archive);
    build.image();
    build.entry(LOCAL_APIC, 1).store(LOCAL_APIC_PHYSICAL | RW | UNCACHED, Relaxed);

    let root = Kernel::table(build.root);
    let windows = root[KERNEL_WINDOWS.index(4)].load(Relaxed);
    root[WINDOWS.index(4)].store(windows & !Pte::WRITABLE | Pte::USER | Pte::NO_EXEC, Relaxed);
    root[KERNEL_WINDOWS.index(4)].store(windows & !Pte::USER, Relaxed);
    KERNEL_ROOT.store(build.root.0, Relaxed);
    // SAFETY: the tables map everything that is in use: image, stack, direct map.
    unsafe { load_root(build.root) };
    fill_books(boot, &build.free, total, slots);
}

/// Every usable frame is the kernel's until it is put on the free list.
fn fill_books(boot: &BootInfo, free: &Ranges, total: u64, slots: usize) {
    let frames =
        |range: &Range<u64>| Frame::containing(range.start).0..Frame::containing(range.end).0;
    for frame in boot.usable.iter().flat_map(frames) {
        Kernel::info(Frame(frame)).refs.store(1, Relaxed);
    }
    // Backwards, so that low frames are handed out first.
    for frame in free.iter().rev().flat_map(|range| frames(range).rev()) {
        MEMORY.release(Frame(frame));
    }
    let machine = Kernel::machine();
    machine.total_frames.store(total, Relaxed);
    machine.archive_bytes.store(boot.archive.end - boot.archive.start, Relaxed);
    ARCHIVE_FRAME.store(Frame::containing(boot.archive.start).0, Relaxed);
    machine.env_slots.store(slots as u32, Relaxed);
    machine.cpus.store(1, Relaxed);
}

//! Physical memory as the kernel sees it, and where its tables are.
//!
//! The kernel's half is the same 256 top-level entries in every address space, filled once in `tables`:
//! the direct map, the windows' writable alias, the environment table, the image and the devices.
//! Nothing in it is both writable and executable, and nothing is global.

use crate::cpu::{self, Cpu};
use crate::flush;
use abi::layout::{ARCHIVE, CPUS, DEVICES, DIRECT_MAP, ENVS, FRAMES, KERNEL_WINDOWS, MACHINE, WINDOWS};
use abi::window::{CpuInfo, EnvInfo, FrameInfo, MachineInfo};
use abi::{Frame, Va};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use vm::{Machine, Memory, Table};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Where the private parts of the environments are.
pub const ENV_TABLE: Va = Va(0xffff_d000_0000_0000);
/// What the checking kernel counts, indexed by frame number.
pub const CHECK_TABLE: Va = Va(0xffff_d800_0000_0000);
/// What processors other than the first need, one behind the other.
pub const PROCESSORS: Va = Va(0xffff_d400_0000_0000);
/// The local APIC, at its page in [`DEVICES`].
pub const LOCAL_APIC: Va = DEVICES;
/// Where it is.
pub const LOCAL_APIC_PHYSICAL: u64 = 0xfee0_0000;

/// All page frames.
pub static MEMORY: Memory<Kernel> = Memory::new();
/// An address space.
pub type Space = vm::Space<Kernel>;

/// The frame of the kernel's own top-level table: the template of all others, and what idle and
/// teardown run on. `tables` makes it.
pub static KERNEL_ROOT: AtomicU32 = AtomicU32::new(0);

/// The frame of the kernel's own top-level table.
pub fn kernel_root() -> Frame {
    Frame(KERNEL_ROOT.load(Relaxed))
}

/// The real machine.
pub struct Kernel;

impl Kernel {
    /// The page that everyone can read.
    #[inline]
    pub fn machine() -> &'static MachineInfo {
        // SAFETY: the machine page is mapped from `tables::init` on, and its fields are atomic.
        unsafe { &*(alias(MACHINE) as *const MachineInfo) }
    }
}

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
    fn cpus() -> &'static [CpuInfo] {
        // SAFETY: the page is mapped from `tables::init` on, has room for all, and its fields are atomic.
        unsafe { core::slice::from_raw_parts(alias(CPUS) as *const CpuInfo, cpu::count() as usize) }
    }

    #[inline]
    fn cpu() -> usize {
        cpu::this().number.get() as usize
    }

    #[inline]
    fn counts() -> &'static CpuInfo {
        // SAFETY: as above; numbers of processors are below their count.
        unsafe { &*(alias(CPUS) as *const CpuInfo).add(Kernel::cpu()) }
    }

    #[inline]
    fn zero(frame: Frame) {
        fill(frame, 0);
        if cfg!(feature = "count") {
            Kernel::counts().frames_zeroed.fetch_add(1, Relaxed);
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
            Kernel::counts().frames_copied.fetch_add(1, Relaxed);
        }
    }

    #[inline]
    fn poison(frame: Frame) {
        if cfg!(feature = "check") {
            fill(frame, 0xdead_f4ee_dead_f4ee);
        }
    }

    #[inline]
    fn expect_zeros(words: &[AtomicU64]) {
        if cfg!(feature = "check") {
            let dirty = words.iter().position(|word| word.load(Relaxed) != 0);
            assert!(dirty.is_none(), "word {dirty:?} of a table that should be empty");
        }
    }

    #[inline]
    fn invalidate(_: Frame, page: Va) {
        // SAFETY: forgetting a translation is always sound.
        unsafe { asm!("invlpg [{}]", in(reg) page.0, options(nostack, preserves_flags)) };
    }

    fn invalidate_all(root: Frame) {
        if cpu::this().root() == root {
            // SAFETY: the page map that is loaded already.
            unsafe { load_root(cpu::this(), root) };
        }
    }

    fn is_here(root: Frame) -> bool {
        cpu::this().root() == root
    }

    fn is_elsewhere(root: Frame) -> bool {
        flush::is_elsewhere(root)
    }

    fn flush_elsewhere(root: Frame) {
        flush::flush_elsewhere(root);
    }

    fn relax() {
        flush::relax();
    }
}

/// A lock of the kernel's.
pub type Lock<T> = vm::Lock<T, Kernel>;

/// The kernel's writable address of something in the windows.
pub const fn alias(window: Va) -> u64 {
    window.0 - WINDOWS.0 + KERNEL_WINDOWS.0
}

/// Where the kernel reads and writes a frame.
#[inline]
pub fn bytes(frame: Frame) -> *mut u8 {
    (DIRECT_MAP.0 + frame.address()) as *mut u8
}

pub fn fill(frame: Frame, word: u64) {
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
    // SAFETY: `tables` mapped that many bytes there; nobody ever writes them.
    unsafe { core::slice::from_raw_parts(alias(ARCHIVE) as *const u8, len) }
}

/// Use this page map from now on, on this processor.
///
/// Nobody may believe that a page map is not loaded here while it is: so others hear of this one before, and of the last
/// one until it is gone.
///
/// # Safety
/// It is the root of a [`Space`] that exists, or the kernel's own.
#[inline]
pub unsafe fn load_root(cpu: &Cpu, root: Frame) {
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(root.address()));
    cpu.root.begin(root.0);
    // SAFETY: every page map has the kernel's half, in which this code and its stack are.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    cpu.root.end(root.0);
}

//! The machine as the crate `vm` sees it: page frames, TLBs, and processors that wait.

use crate::machine::windows::{alias, bytes};
use crate::machine::{cpu, flush};
use abi::layout::{CPUS, FRAMES};
use abi::window::{CpuInfo, FrameInfo};
use abi::{Frame, Va};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use vm::{Machine, Memory, Table};

/// All page frames.
pub static MEMORY: Memory<Hardware> = Memory::empty();
/// A page map.
pub type PageMap = vm::PageMap<Hardware>;
/// The content of a page map that is being edited.
pub type Editable = vm::Editable<Hardware>;
/// A lock of the kernel.
pub type Lock<T> = vm::Lock<T, Hardware>;

/// The frame of the kernel's own top-level table: the template of all others, and the page map that is loaded during
/// idle and teardown. `kernel_map` makes it.
pub static KERNEL_ROOT: AtomicU32 = AtomicU32::new(0);

/// The frame of the kernel's own top-level table.
pub fn kernel_root() -> Frame {
    Frame(KERNEL_ROOT.load(Relaxed))
}

/// The real machine.
pub struct Hardware;

impl Machine for Hardware {
    fn table(frame: Frame) -> &'static Table {
        // SAFETY: the direct map has every frame that an entry can name, and entries are atomic.
        unsafe { &*bytes(frame).cast() }
    }

    fn info(frame: Frame) -> &'static FrameInfo {
        // SAFETY: the frame table has an entry for every usable frame, and those are atomic.
        unsafe { &*((alias(FRAMES) as *const FrameInfo).add(frame.0 as usize)) }
    }

    fn cpus() -> &'static [CpuInfo] {
        // SAFETY: the page is mapped from `kernel_map::init` on, has room for all, and its fields are atomic.
        unsafe { core::slice::from_raw_parts(alias(CPUS) as *const CpuInfo, cpu::count() as usize) }
    }

    fn cpu() -> usize {
        cpu::here() as usize
    }

    fn counts() -> &'static CpuInfo {
        // SAFETY: as above, and numbers of processors are below their count.
        unsafe { &*(alias(CPUS) as *const CpuInfo).add(Hardware::cpu()) }
    }

    fn zero(frame: Frame) {
        fill(frame, 0);
        if cfg!(feature = "count") {
            Hardware::counts().frames_zeroed.fetch_add(1, Relaxed);
        }
    }

    fn copy(from: Frame, to: Frame) {
        // SAFETY: both frames are in the direct map; nobody else has `to` yet.
        unsafe {
            asm!("rep movsq", inout("rcx") 512usize => _, inout("rsi") bytes(from) => _,
                inout("rdi") bytes(to) => _, options(nostack, preserves_flags));
        }
        if cfg!(feature = "count") {
            Hardware::counts().frames_copied.fetch_add(1, Relaxed);
        }
    }

    fn poison(frames: impl Iterator<Item = Frame>) {
        if cfg!(feature = "check") {
            frames.for_each(|frame| fill(frame, 0xdead_f4ee_dead_f4ee));
        }
    }

    fn expect_zeros(words: &[AtomicU64]) {
        if cfg!(feature = "check") {
            let dirty = words.iter().position(|word| word.load(Relaxed) != 0);
            assert!(dirty.is_none(), "word {dirty:?} of a table that should be empty");
        }
    }

    fn invalidate(_: Frame, page: Va) {
        // SAFETY: to invalidate a translation is always sound.
        unsafe { asm!("invlpg [{}]", in(reg) page.0, options(nostack, preserves_flags)) };
    }

    fn invalidate_all(root: Frame) {
        if Hardware::is_here(root) {
            // SAFETY: the root of the page map that is loaded already.
            unsafe { cpu::load_root(cpu::this(), root) };
        }
    }

    fn is_here(root: Frame) -> bool {
        cpu::this().root() == root
    }

    /// Not if this processor has it loaded: only the processor that holds an environment loads its page map.
    fn is_elsewhere(root: Frame) -> bool {
        cpu::count() > 1 && !Hardware::is_here(root)
    }

    fn flush_elsewhere(root: Frame) {
        for other in cpu::others().filter(|other| other.root.may_be(root.0)) {
            let ticket = other.flushes.ask();
            other.interrupt();
            while !other.flushes.is_done(ticket) {
                flush::relax();
            }
        }
    }

    fn memory() -> &'static Memory<Hardware> {
        &MEMORY
    }

    fn relax() {
        flush::relax();
    }
}

fn fill(frame: Frame, word: u64) {
    // SAFETY: the frame is in the direct map, and is being handed out or has just been freed.
    unsafe {
        asm!("rep stosq", inout("rcx") 512usize => _, inout("rdi") bytes(frame) => _,
            in("rax") word, options(nostack, preserves_flags));
    }
}

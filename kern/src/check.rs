//! The checking kernel: after every entry, all books against all tables.
//!
//! Built with the feature `check`. Two walks over all page maps: the first counts how often each
//! frame is named, the second compares with the frame table. The counts are stamped with the number
//! of the check, so that nothing has to be cleared and the work depends on what is mapped, not on
//! how much memory there is.

use crate::env::{self, Env};
use crate::memory::{CHECK_TABLE, Kernel, kernel_root};
use abi::layout::{UVPT_SLOT, WINDOWS};
use abi::{Frame, Pte, Status, Va};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use vm::Machine;

/// Number of this check in the upper half, times named in the lower.
type Count = AtomicU64;

static CHECKS: AtomicU32 = AtomicU32::new(0);
/// Frames that the kernel keeps for good.
static KERNEL_FRAMES: AtomicU64 = AtomicU64::new(0);

fn count_of(frame: Frame) -> &'static Count {
    // SAFETY: `memory::init` made an entry for every usable frame; they are atomic.
    unsafe { &*(CHECK_TABLE.0 as *const Count).add(frame.0 as usize) }
}

/// Everything that is not free now is the kernel's for good.
pub fn init() {
    let machine = Kernel::machine();
    let kept = machine.total_frames.load(Relaxed) - machine.free_frames.load(Relaxed);
    KERNEL_FRAMES.store(kept, Relaxed);
}

/// Check everything. A difference is a bug of the kernel's: panic.
pub fn all() {
    let check = u64::from(CHECKS.fetch_add(1, Relaxed) + 1) << 32;
    let mut used = KERNEL_FRAMES.load(Relaxed);
    let living = || env::all().filter(|env| env.status() != Status::Free);
    for env in living() {
        each_frame(env, &mut |_, _, frame| {
            let count = count_of(frame);
            let named = count.load(Relaxed);
            let seen = named >= check;
            count.store(if seen { named + 1 } else { check + 1 }, Relaxed);
            let is_kernels = is_archive(frame);
            used += u64::from(!seen && !is_kernels);
        });
    }
    for env in living() {
        each_frame(env, &mut |va, level, frame| {
            let named = (count_of(frame).load(Relaxed) - check) as u32;
            let refs = Kernel::info(frame).refs.load(Relaxed);
            let expected = named + u32::from(is_archive(frame));
            assert!(refs == expected, "{frame:?} at {va} level {level}: {refs} references, {named} entries");
            assert!(level == 1 || named == 1, "table {frame:?} at {va} level {level} named {named} times");
        });
        check_entries(env);
    }
    let machine = Kernel::machine();
    let free = machine.free_frames.load(Relaxed);
    let total = machine.total_frames.load(Relaxed);
    assert!(used + free == total, "{used} frames used, {free} free, {total} in all");
}

/// Frames of the boot archive have a reference of the kernel's own.
fn is_archive(frame: Frame) -> bool {
    let start = crate::memory::archive_frames();
    (start.start..start.end).contains(&frame.0)
}

/// The root, the tables (level 2 and up) and the pages (level 1) of an environment.
fn each_frame(env: &Env, f: &mut dyn FnMut(Va, u32, Frame)) {
    let space = env.space.lock();
    let Some(space) = space.as_ref() else { return };
    f(Va(0), 5, space.root());
    space.for_each(&mut |va, level, pte| {
        if pte.is_present() {
            f(va, level, pte.frame());
        }
    });
}

fn check_entries(env: &Env) {
    let space = env.space.lock();
    let Some(space) = space.as_ref() else { return };
    let root = Kernel::table(space.root());
    let own = Pte(root[UVPT_SLOT as usize].load(Relaxed));
    assert!(own.frame() == space.root() && !own.has(Pte::WRITABLE), "self map: {own:?}");
    let windows = Pte(root[WINDOWS.index(4)].load(Relaxed));
    let template = Pte(Kernel::table(kernel_root())[WINDOWS.index(4)].load(Relaxed));
    assert!(windows.frame() == template.frame(), "windows: {windows:?}");
    assert!(!windows.has(Pte::WRITABLE), "windows: {windows:?}");
    check_count(space.root(), &root[..WINDOWS.index(4)]);
    space.for_each(&mut |va, level, pte| {
        if level > 1 {
            check_count(pte.frame(), Kernel::table(pte.frame()));
        } else if pte.is_present() {
            check_page(va, pte);
        }
    });
}

/// A table knows how many of its entries are not empty.
fn check_count(table: Frame, entries: &[AtomicU64]) {
    let found = entries.iter().filter(|entry| entry.load(Relaxed) != 0).count();
    let known = Kernel::info(table).word.load(Relaxed) as usize;
    assert!(found == known, "table {table:?}: {found} entries, {known} in the books");
}

/// What is true of every page of every user.
fn check_page(va: Va, pte: Pte) {
    const NEVER: u64 = 0b1_1001_1000 | 0x7800_0000_0000_0000; // PWT PCD PS G, bits 59 to 62
    assert!(pte.0 & NEVER == 0 && pte.has(Pte::USER), "page {va}: {pte:?} ({:#x})", pte.0);
    assert!(!pte.has(Pte::WRITABLE) || pte.has(Pte::NO_EXEC | Pte::MAY), "page {va}: {pte:?}");
    assert!(!is_archive(pte.frame()) || !pte.has(Pte::MAY), "page {va} of the archive: {pte:?}");
    let in_memory = Kernel::info(pte.frame()).refs.load(Relaxed) != 0;
    assert!(in_memory, "page {va}: {pte:?} is free");
}

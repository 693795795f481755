//! The kernel's final page tables and the books about memory, made once at boot.

use crate::boot::image;
use crate::cpu::{BOOT_STACKS, Processor, Stacks};
use crate::env::{self, Env};
use crate::memory::{self, CHECK_TABLE, ENV_TABLE, Kernel, LOCAL_APIC, MEMORY, PROCESSORS, alias};
use ::boot::BootInfo;
use abi::layout::{ARCHIVE, CPUS, DIRECT_MAP, ENVS, FRAMES, KERNEL_IMAGE, KERNEL_WINDOWS, MACHINE, WINDOWS};
use abi::window::{EnvInfo, FrameInfo};
use abi::{Frame, PAGE_SIZE, Pte, Va};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vm::{Machine, Ranges};

const RW: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::NO_EXEC;
const RO: u64 = Pte::PRESENT | Pte::NO_EXEC;
const RX: u64 = Pte::PRESENT;
/// Window pages: the top-level entry of slot 254 takes the write away, that of the alias the user.
const WINDOW: u64 = RW | Pte::USER;
const UNCACHED: u64 = 1 << 4;

const LARGE_PAGE: u64 = 0x20_0000;
const LOCAL_APIC_PHYSICAL: u64 = 0xfee0_0000;

/// Makes tables out of memory that nobody has yet.
struct Builder {
    free: Ranges,
    root: Frame,
}

impl Builder {
    /// A frame of zeros below 4 GiB: the boot tables map no more.
    fn take(&mut self) -> Frame {
        let fits = |range: &&mut Range<u64>| range.start + PAGE_SIZE <= range.end.min(1 << 32);
        let range = self.free.iter_mut().find(fits).expect("there is memory for the kernel's tables");
        let frame = Frame::containing(range.start);
        range.start += PAGE_SIZE;
        memory::fill(frame, 0);
        frame
    }

    /// The entry for `va` at `level`, with the tables above it.
    fn entry(&mut self, va: Va, level: u32) -> &'static AtomicU64 {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = &Kernel::table(table)[va.index(above)];
            if entry.load(Relaxed) == 0 {
                // Window tables are for users too; the top level decides.
                let user = if (KERNEL_WINDOWS..ENV_TABLE).contains(&va) { Pte::USER } else { 0 };
                let table = Pte::PRESENT | Pte::WRITABLE | user;
                entry.store(self.take().address() | table, Relaxed);
            }
            table = Pte(entry.load(Relaxed)).frame();
        }
        &Kernel::table(table)[va.index(level)]
    }

    /// Map physical memory, with large pages where it can be.
    fn map(&mut self, va: u64, physical: Range<u64>, rights: u64) {
        let mut done = 0;
        while physical.start + done < physical.end {
            let (from, to) = (physical.start + done, va + done);
            let fits = (from | to) % LARGE_PAGE == 0 && from + LARGE_PAGE <= physical.end;
            let (level, size, large) = if fits { (2, LARGE_PAGE, Pte::LARGE) } else { (1, PAGE_SIZE, 0) };
            self.entry(Va(to), level).store(from | rights | large, Relaxed);
            done += size;
        }
    }

    /// Map fresh memory at all pages of a range of addresses that have none.
    fn back(&mut self, va: Range<u64>, rights: u64) {
        for page in (Va(va.start).page().0..va.end).step_by(PAGE_SIZE as usize) {
            if self.entry(Va(page), 1).load(Relaxed) == 0 {
                let frame = self.take().address();
                self.entry(Va(page), 1).store(frame | rights, Relaxed);
            }
        }
    }

    /// The part of a table at `base`, indexed by frame number, that describes a range of memory.
    fn back_books<T>(&mut self, base: u64, memory: &Range<u64>, rights: u64) {
        let entry = |physical: u64| base + physical / PAGE_SIZE * size_of::<T>() as u64;
        self.back(entry(memory.start)..entry(memory.end), rights);
    }

    /// What the other processors need, with holes below their stacks.
    fn processors(&mut self, count: usize) {
        for start in (0..count).map(|index| PROCESSORS.0 + (index * size_of::<Processor>()) as u64) {
            for guards in Stacks::GUARDS.windows(2) {
                self.back(start + guards[0] as u64 + PAGE_SIZE..start + guards[1] as u64, RW);
            }
            let last = *Stacks::GUARDS.last().expect("there are stacks") as u64;
            self.back(start + last + PAGE_SIZE..start + size_of::<Processor>() as u64, RW);
        }
    }

    /// The image, each part with its rights, and holes below the stacks.
    fn image(&mut self) {
        unsafe extern "C" {
            static __text: u8;
            static __rodata: u8;
            static __data: u8;
            static __end: u8;
        }
        let ends = [&raw const __text, &raw const __rodata, &raw const __data, &raw const __end];
        for (part, rights) in ends.windows(2).zip([RX, RO, RW]) {
            let (from, to) = (part[0] as u64, part[1] as u64);
            self.map(from, from - KERNEL_IMAGE.0..to - KERNEL_IMAGE.0, rights);
        }
        for guard in Stacks::GUARDS {
            self.entry(Va(&raw const BOOT_STACKS as u64 + guard as u64), 1).store(0, Relaxed);
        }
    }
}

/// Make the tables and the books, and use them from now on.
///
/// # Safety
/// Called once, on the boot tables.
pub unsafe fn init(boot: &BootInfo) {
    // The image is not in the direct map: what is executable there would be writable here.
    let mut direct = boot.usable.clone();
    direct.subtract(&image());
    let archive = boot.archive.start..boot.archive.end.next_multiple_of(PAGE_SIZE);
    assert!(archive.start % PAGE_SIZE == 0, "boot archive at {:#x}", archive.start);
    let mut free = direct.clone();
    free.subtract(&archive);

    let mut build = Builder { free, root: Frame(0) };
    build.root = build.take();
    let total = boot.usable.iter().map(|range| (range.end - range.start) / PAGE_SIZE).sum();
    let slots = env::slots_for(total);
    let table = |base: u64, entry: usize| base..base + (slots * entry) as u64;
    direct.iter().for_each(|range| build.map(DIRECT_MAP.0 + range.start, range.clone(), RW));
    for range in boot.usable.iter() {
        build.back_books::<FrameInfo>(alias(FRAMES), range, WINDOW);
        if cfg!(feature = "check") {
            build.back_books::<crate::selftest::Book>(CHECK_TABLE.0, range, RW);
        }
    }
    build.back(alias(MACHINE)..alias(CPUS) + PAGE_SIZE, WINDOW);
    build.back(table(alias(ENVS), size_of::<EnvInfo>()), WINDOW);
    build.back(table(ENV_TABLE.0, size_of::<Env>()), RW);
    build.map(alias(ARCHIVE), archive, WINDOW);
    let others = boot.processors.ids().count().saturating_sub(1);
    build.processors(others);
    build.image();
    build.entry(LOCAL_APIC, 1).store(LOCAL_APIC_PHYSICAL | RW | UNCACHED, Relaxed);

    let root = Kernel::table(build.root);
    let windows = root[KERNEL_WINDOWS.index(4)].load(Relaxed);
    root[WINDOWS.index(4)].store(windows & !Pte::WRITABLE | Pte::NO_EXEC, Relaxed);
    root[KERNEL_WINDOWS.index(4)].store(windows & !Pte::USER, Relaxed);
    memory::KERNEL_ROOT.store(build.root.0, Relaxed);
    // SAFETY: the tables map everything that is in use: image, stack, direct map.
    unsafe { memory::load_root(build.root) };
    fill_books(boot, &build.free, total, slots);
}

/// Every usable frame is the kernel's until it is put on the free list.
fn fill_books(boot: &BootInfo, free: &Ranges, total: u64, slots: usize) {
    let frames = |range: &Range<u64>| Frame::containing(range.start).0..Frame::containing(range.end).0;
    for frame in boot.usable.iter().flat_map(frames) {
        Kernel::info(Frame(frame)).refs.store(1, Relaxed);
    }
    // Backwards, so that low frames are handed out first.
    for frame in free.iter().rev().flat_map(|range| frames(range).rev()) {
        MEMORY.release(Frame(frame));
    }
    let machine = Kernel::machine();
    machine.archive_bytes.store(boot.archive.end - boot.archive.start, Relaxed);
    machine.total_frames.store(total, Relaxed);
    machine.env_slots.store(slots as u32, Relaxed);
    machine.cpus.store(1, Relaxed);
}

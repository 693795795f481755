//! The kernel's final page tables and the metadata of memory, made once at boot.

use crate::boot::pvh::{BOOT_MAPPED, image};
use crate::env::table::{self, Env};
use crate::machine::apic;
use crate::machine::cpu::{self, BOOT_STACKS, Processor, Stacks};
use crate::machine::hardware::{Hardware, KERNEL_ROOT, MEMORY};
use crate::machine::iommu::{self, Device};
use crate::machine::windows::{self, CONFIG_SPACES, ENV_TABLE, IOMMU, LOCAL_APIC, PROCESSORS, alias};
use abi::layout::{ARCHIVE, DEVICES, DIRECT_MAP, ENVS, FRAMES, KERNEL_IMAGE, KERNEL_WINDOWS, MACHINE, WINDOWS};
use abi::window::{EnvInfo, FrameInfo};
use abi::{Frame, Level, PAGE_SIZE, Pte, Va};
use core::sync::atomic::Ordering::Relaxed;
use firmware::BootInfo;
use vm::{Builder, Machine};

const RW: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::NO_EXEC;
const RO: u64 = Pte::PRESENT | Pte::NO_EXEC;
const RX: u64 = Pte::PRESENT;
/// Window pages: the top-level entry of slot 254 removes the right to write, that of the alias the right of user mode.
const WINDOW: u64 = RW | Pte::USER;
const UNCACHED: u64 = 1 << 4;

/// Makes the tables and the metadata, and loads the tables. Returns frames of zeros for the IOMMU, if there is one.
///
/// # Safety
/// Called once, on the boot tables.
pub unsafe fn init(boot: &BootInfo) -> Option<[Frame; 4]> {
    // The image is not in the direct map: there, its executable part would be writable.
    let mut direct = boot.usable.clone();
    direct.subtract(&image());
    let archive = boot.archive.start..boot.archive.end.next_multiple_of(PAGE_SIZE);
    assert!(archive.start % PAGE_SIZE == 0, "boot archive at {:#x}", archive.start);
    let mut free = direct.clone();
    free.subtract(&archive);

    let mut build = Builder::<Hardware>::new(free, BOOT_MAPPED);
    let total = boot.usable.iter().map(|range| (range.end - range.start) / PAGE_SIZE).sum();
    let slots = table::slots_for(total);
    let entries = |base: u64, entry: usize| base..base + (slots * entry) as u64;
    direct.iter().for_each(|range| build.map(DIRECT_MAP.0 + range.start, range.clone(), RW));
    for range in boot.usable.iter() {
        build.back_metadata::<FrameInfo>(alias(FRAMES), range, WINDOW);
        #[cfg(feature = "check")]
        build.back_metadata::<checker::FrameRecord>(windows::CHECK_TABLE.0, range, RW);
    }
    build.back(alias(MACHINE)..alias(DEVICES) + PAGE_SIZE, WINDOW);
    build.back(entries(alias(ENVS), size_of::<EnvInfo>()), WINDOW);
    build.back(entries(ENV_TABLE.0, size_of::<Env>()), RW);
    build.map(alias(ARCHIVE), archive, WINDOW);
    build.map(LOCAL_APIC.0, apic::PHYSICAL..apic::PHYSICAL + PAGE_SIZE, RW | UNCACHED);
    let iommu = boot.remapping.zip(boot.config_spaces).map(|(remapping, spaces)| {
        let pages = |first: Frame, count: u64| first.address()..first.address() + count * PAGE_SIZE;
        build.map(IOMMU.0, pages(remapping.registers, 1), RW | UNCACHED);
        build.map(CONFIG_SPACES.0, pages(spaces.first, 256), RW | UNCACHED);
        (remapping, [(); 4].map(|()| build.take()))
    });
    map_processors(&mut build, boot.processors.ids().count().saturating_sub(1));
    map_image(&mut build);

    KERNEL_ROOT.store(build.root().0, Relaxed);
    // SAFETY: the tables map everything that is in use: image, stack, direct map.
    unsafe { cpu::load_root(cpu::this(), build.root()) };

    iommu.iter().flat_map(|(remapping, _)| iommu::find(remapping)).for_each(|device| map_device(&mut build, device));
    // The last tables are made: now the views of the windows differ.
    let root = Hardware::table(build.root());
    let windows = root[KERNEL_WINDOWS.index(Level::L4)].load(Relaxed);
    root[WINDOWS.index(Level::L4)].store(windows & !Pte::WRITABLE | Pte::NO_EXEC, Relaxed);
    root[KERNEL_WINDOWS.index(Level::L4)].store(windows & !Pte::USER, Relaxed);
    // SAFETY: as above.
    unsafe { cpu::load_root(cpu::this(), build.root()) };
    MEMORY.init(&boot.usable, build.free());
    let machine = windows::machine();
    machine.archive_bytes.store(boot.archive.end - boot.archive.start, Relaxed);
    machine.total_frames.store(total, Relaxed);
    machine.env_slots.store(slots as u32, Relaxed);
    machine.cpus.store(1, Relaxed);
    iommu.map(|(_, frames)| frames)
}

/// Maps the registers of a device, which have entries in the frame table as memory has.
fn map_device(build: &mut Builder<Hardware>, device: &Device) {
    let areas = device.areas();
    areas.iter().for_each(|area| build.map(DIRECT_MAP.0 + area.start, area.clone(), RW | UNCACHED));
    build.back_metadata::<FrameInfo>(alias(FRAMES), &areas[0], WINDOW);
    #[cfg(feature = "check")]
    build.back_metadata::<checker::FrameRecord>(windows::CHECK_TABLE.0, &areas[0], RW);
    // The kernel's own reference.
    device.registers().for_each(|frame| Hardware::info(frame).refs.store(1, Relaxed));
}

/// Maps the data of the application processors, with guard pages below their stacks.
fn map_processors(build: &mut Builder<Hardware>, count: usize) {
    let size = size_of::<Processor>() as u64;
    for start in (0..count as u64).map(|index| PROCESSORS.0 + index * size) {
        build.back_around(start..start + size, &Stacks::GUARDS, RW);
    }
}

/// Maps the image, each part with its rights, and with guard pages below the stacks of the boot processor.
fn map_image(build: &mut Builder<Hardware>) {
    unsafe extern "C" {
        static __text: u8;
        static __rodata: u8;
        static __data: u8;
        static __end: u8;
    }
    let ends = [&raw const __text, &raw const __rodata, &raw const __data, &raw const __end];
    for (part, rights) in ends.windows(2).zip([RX, RO, RW]) {
        let (from, to) = (part[0] as u64, part[1] as u64);
        build.map(from, from - KERNEL_IMAGE.0..to - KERNEL_IMAGE.0, rights);
    }
    for guard in Stacks::GUARDS {
        build.unmap(Va(&raw const BOOT_STACKS as u64 + guard as u64));
    }
}

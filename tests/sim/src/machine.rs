//! A machine in the host's memory: frames in four banks with holes between them, the frame table,
//! the machine page, and one [`Processor`]. Every thread, and so every test, has its own.

use crate::processor::{Access, Processor};
use abi::layout::{ARCHIVE, KERNEL_HALF, MACHINE, WINDOWS};
use abi::window::{CpuInfo, FrameInfo};
use abi::{Frame, Level, Pte, Va, page::TABLE_ENTRIES};
use checker::{Checked, FrameRecord, Known};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use vm::{Machine, Memory, Table};

/// The frame numbers of existing memory. Any other number is a bug of its user. The last bank has most of them: a test
/// that needs few frames never gets there.
const BANKS: [Range<u32>; 4] = [3..40, 0x1000..0x1030, 0x000f_fff0..0x0010_0030, 0x0080_0000..0x0080_01d0];

/// The number of frames below the large bank: enough to meet holes and the boundary of 4 GiB, few enough to use all of
/// them repeatedly.
pub const SMALL: usize = 37 + 48 + 64;

/// The number of frames.
pub const FRAMES: usize = SMALL + 464;

/// The fill pattern of freed frames.
pub const POISON: u64 = 0xdead_f4ee_dead_f4ee;

/// The machine of this thread.
pub struct Sim {
    /// The contents of the frames, and their metadata.
    contents: Vec<Table>,
    metadata: Vec<FrameInfo>,
    records: Vec<FrameRecord>,
    /// The number of checks so far.
    checks: AtomicU32,
    memory: Memory<Sim>,
    cpu: CpuInfo,
    processor: RefCell<Processor<Sim>>,
    /// Whether programs run on another processor than the one on which page maps are edited.
    elsewhere: AtomicBool,
    /// The number of frames that were zeroed or copied.
    filled: AtomicU32,
    /// The number of frames that were freed, without page tables that were emptied first.
    freed: AtomicU32,
    /// The number of TLB flushes on other processors.
    flushed: AtomicU32,
}

thread_local! {
    // Leaked, because page maps need memory that lives forever.
    static SIM: &'static Sim = Box::leak(Box::new(Sim::new()));
}

fn sim() -> &'static Sim {
    SIM.with(|sim| *sim)
}

/// The processor of this thread's machine.
pub fn processor<T>(f: impl FnOnce(&mut Processor<Sim>) -> T) -> T {
    f(&mut sim().processor.borrow_mut())
}

/// All frames, from the lowest up.
pub fn frames() -> impl DoubleEndedIterator<Item = Frame> {
    BANKS.into_iter().flatten().map(Frame)
}

fn place(frame: Frame) -> usize {
    let mut before = 0;
    for bank in BANKS {
        if bank.contains(&frame.0) {
            return before + (frame.0 - bank.start) as usize;
        }
        before += bank.len();
    }
    panic!("there is no memory at {frame:?}");
}

/// Restarts the machine with this many free frames, the lowest ones. Other frames keep their contents.
pub fn start(free: usize) -> &'static Memory<Sim> {
    let memory = Sim::memory();
    // What an earlier test left.
    while memory.alloc().is_ok() {}
    for frame in frames() {
        Sim::info(frame).refs.store(1, SeqCst);
        Sim::info(frame).word.store(0, SeqCst);
    }
    sim().cpu.free_frames.store(0, SeqCst);
    processor(|processor| processor.load(None));
    run_elsewhere(false);
    frames().take(free).collect::<Vec<_>>().into_iter().rev().for_each(|f| memory.release(f));
    memory
}

/// Sets whether programs run on another processor than the one on which page maps are edited. If so, only a flush
/// invalidates cached translations.
pub fn run_elsewhere(elsewhere: bool) {
    sim().elsewhere.store(elsewhere, SeqCst);
}

/// Whether programs run on another processor; see [`run_elsewhere`].
pub fn runs_elsewhere() -> bool {
    sim().elsewhere.load(SeqCst)
}

/// The number of free frames.
pub fn free_frames() -> usize {
    CpuInfo::free_frames(Sim::cpus()) as usize
}

/// The number of frames that were zeroed or copied since the last call.
pub fn take_filled() -> u32 {
    sim().filled.swap(0, SeqCst)
}

/// The number of frames that were freed since the last call, without page tables that were emptied first.
pub fn take_freed() -> u32 {
    sim().freed.swap(0, SeqCst)
}

/// The number of TLB flushes on other processors since the last call.
pub fn take_flushed() -> u32 {
    sim().flushed.swap(0, SeqCst)
}

/// The reference count of a frame.
pub fn refs(frame: Frame) -> u32 {
    Sim::info(frame).refs.load(SeqCst)
}

/// The contents of a frame, byte for byte.
pub fn contents(frame: Frame) -> Vec<u8> {
    Sim::table(frame).iter().flat_map(|word| word.load(SeqCst).to_le_bytes()).collect()
}

/// Puts bytes into a frame, starting at an offset.
pub fn put(frame: Frame, offset: usize, bytes: &[u8]) {
    for (at, byte) in (offset..).zip(bytes) {
        let word = &Sim::table(frame)[at / 8];
        let mut all = word.load(SeqCst).to_le_bytes();
        all[at % 8] = *byte;
        word.store(u64::from_le_bytes(all), SeqCst);
    }
}

/// Lets a program read or execute the word that contains an address. `None`: a page fault.
pub fn load(va: Va, access: Access) -> Option<u64> {
    let frame = processor(|processor| processor.translate(va, access))?;
    Some(word_at(frame, va).load(SeqCst))
}

/// Lets a program write the word that contains an address. False: a page fault.
pub fn store(va: Va, value: u64) -> bool {
    let frame = processor(|processor| processor.translate(va, Access::Write));
    if let Some(frame) = frame {
        word_at(frame, va).store(value, SeqCst);
    }
    frame.is_some()
}

fn word_at(frame: Frame, va: Va) -> &'static AtomicU64 {
    &Sim::table(frame)[va.offset() as usize / 8]
}

/// Frames that only the kernel uses, taken from the top: [`start`] must leave them alone.
pub const KERNEL_FRAMES: usize = 6;

/// A window page, and a top-level table like the kernel's: slot 254 leads to that page, read-only, through page tables
/// that would allow more; one slot of the kernel's half is in use.
pub fn template() -> (Frame, Frame) {
    let own: Vec<_> = frames().rev().take(KERNEL_FRAMES).collect();
    let [root, level3, level2, level1, page, kernel] = own[..] else { unreachable!() };
    own.iter().for_each(|&frame| Sim::zero(frame));
    let all = Pte::PRESENT | Pte::WRITABLE | Pte::USER;
    let set = |table: Frame, index: usize, frame: Frame, flags: u64| {
        Sim::table(table)[index].store(frame.address() | flags, SeqCst);
    };
    set(root, MACHINE.index(Level::L4), level3, Pte::PRESENT | Pte::USER | Pte::NO_EXEC);
    set(level3, MACHINE.index(Level::L3), level2, all);
    set(level2, MACHINE.index(Level::L2), level1, all);
    set(level1, MACHINE.index(Level::L1), page, all | Pte::NO_EXEC);
    set(root, KERNEL_HALF.index(Level::L4), kernel, Pte::PRESENT | Pte::WRITABLE);
    (root, page)
}

/// Frames that a boot archive takes besides its pages.
const ARCHIVE_TABLES: usize = 2;

/// The number of frames that the kernel uses if the boot archive has this many pages.
pub const fn kernel_frames(archive_pages: usize) -> usize {
    KERNEL_FRAMES + ARCHIVE_TABLES + archive_pages
}

/// Makes a boot archive of this many pages (at most what one page table translates), in all page maps that have or will
/// have the windows of this [`template`]. Its pages are zeros until something is [`put`] there.
pub fn archive(template: Frame, pages: usize) -> Vec<Frame> {
    let own: Vec<_> = frames().rev().skip(KERNEL_FRAMES).take(ARCHIVE_TABLES + pages).collect();
    own.iter().for_each(|&frame| Sim::zero(frame));
    let (tables, pages) = own.split_at(ARCHIVE_TABLES);
    let all = Pte::PRESENT | Pte::WRITABLE | Pte::USER;
    let level3 = Pte(Sim::table(template)[ARCHIVE.index(Level::L4)].load(SeqCst)).frame();
    Sim::table(level3)[ARCHIVE.index(Level::L3)].store(tables[0].address() | all, SeqCst);
    Sim::table(tables[0])[ARCHIVE.index(Level::L2)].store(tables[1].address() | all, SeqCst);
    for (entry, page) in Sim::table(tables[1]).iter().zip(pages) {
        entry.store(page.address() | Pte::PRESENT | Pte::USER | Pte::NO_EXEC, SeqCst);
    }
    pages.to_vec()
}

/// The leaf entry of an address; empty if a page table is missing. The processor is not involved.
pub fn entry(root: Frame, va: Va) -> Pte {
    let mut pte = Pte(root.address() | Pte::PRESENT);
    for level in Level::DOWN {
        if !pte.is_present() {
            return Pte(0);
        }
        pte = Pte(Sim::table(pte.frame())[va.index(level)].load(SeqCst));
    }
    pte
}

/// Compares all metadata with all page tables, as a checking kernel does. `total` frames were handed out since the
/// [`start`] or are free, and `archive` are the frames of the boot archive.
///
/// # Errors
/// The first difference.
pub fn check(template: Frame, roots: &[Frame], archive: Range<u32>, total: usize) -> checker::Found {
    let number = sim().checks.fetch_add(1, SeqCst) + 1;
    let (free, total) = (free_frames() as u64, total as u64);
    let known = Known { number, template, archive, kept: 0, free, total };
    checker::check::<Sim>(known, |check| roots.iter().try_for_each(|&root| check(root)))
}

/// Calls `f` with every nonempty entry of the user's part of a page map, its address and its level: tables first, then
/// their contents.
pub fn for_each_entry(root: Frame, f: &mut dyn FnMut(Va, Level, Pte)) {
    visit(root, Level::L4, Va(0), f);
}

fn visit(table: Frame, level: Level, base: Va, f: &mut dyn FnMut(Va, Level, Pte)) {
    let entries = &Sim::table(table)[..if level == Level::L4 { WINDOWS.index(Level::L4) } else { TABLE_ENTRIES }];
    for (index, entry) in entries.iter().enumerate() {
        let pte = Pte(entry.load(Relaxed));
        if pte.is_empty() {
            continue;
        }
        let va = base.entry(index, level);
        f(va, level, pte);
        if let Some(below) = level.below().filter(|_| pte.is_present()) {
            visit(pte.frame(), below, va, f);
        }
    }
}

impl Sim {
    fn new() -> Sim {
        let table = || [const { AtomicU64::new(0) }; TABLE_ENTRIES];
        Sim {
            contents: (0..FRAMES).map(|_| table()).collect(),
            metadata: (0..FRAMES).map(|_| FrameInfo::default()).collect(),
            records: (0..FRAMES).map(|_| FrameRecord::default()).collect(),
            checks: AtomicU32::default(),
            memory: Memory::empty(),
            cpu: CpuInfo::default(),
            processor: RefCell::default(),
            elsewhere: AtomicBool::default(),
            filled: AtomicU32::default(),
            freed: AtomicU32::default(),
            flushed: AtomicU32::default(),
        }
    }
}

impl Checked for Sim {
    fn is_registers(_: Frame) -> bool {
        false
    }

    fn record(frame: Frame) -> &'static FrameRecord {
        &sim().records[place(frame)]
    }
}

impl Machine for Sim {
    fn table(frame: Frame) -> &'static Table {
        &sim().contents[place(frame)]
    }

    fn info(frame: Frame) -> &'static FrameInfo {
        &sim().metadata[place(frame)]
    }

    fn cpus() -> &'static [CpuInfo] {
        core::slice::from_ref(&sim().cpu)
    }

    fn cpu() -> usize {
        0
    }

    fn counts() -> &'static CpuInfo {
        &sim().cpu
    }

    fn memory() -> &'static Memory<Sim> {
        &sim().memory
    }

    fn zero(frame: Frame) {
        sim().filled.fetch_add(1, SeqCst);
        Sim::table(frame).iter().for_each(|word| word.store(0, Relaxed));
    }

    fn copy(from: Frame, to: Frame) {
        sim().filled.fetch_add(1, SeqCst);
        for (from, to) in Sim::table(from).iter().zip(Sim::table(to)) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// Fills a freed frame. It may be allocated again after this, so the processor must have no translation to it.
    fn poison(frames: impl Iterator<Item = Frame>) {
        for frame in frames {
            sim().freed.fetch_add(1, SeqCst);
            let known = processor(|processor| processor.knows(frame));
            assert!(known.is_none(), "{frame:?} is freed, but the processor has it at {known:?}");
            Sim::table(frame).iter().for_each(|word| word.store(POISON, Relaxed));
        }
    }

    fn expect_zeros(words: &[AtomicU64]) {
        let dirty = words.iter().position(|word| word.load(Relaxed) != 0);
        assert!(dirty.is_none(), "word {dirty:?} of a table that should be empty");
    }

    fn invalidate(root: Frame, page: Va) {
        if !sim().elsewhere.load(SeqCst) {
            processor(|processor| processor.invalidate(root, page));
        }
    }

    fn invalidate_all(root: Frame) {
        if !sim().elsewhere.load(SeqCst) {
            processor(|processor| processor.invalidate_all(root));
        }
    }

    fn is_here(_: Frame) -> bool {
        true
    }

    fn relax() {
        std::hint::spin_loop();
    }

    fn is_elsewhere(root: Frame) -> bool {
        sim().elsewhere.load(SeqCst) && processor(|processor| processor.has(root))
    }

    fn flush_elsewhere(root: Frame) {
        sim().flushed.fetch_add(1, SeqCst);
        if sim().elsewhere.load(SeqCst) {
            processor(|processor| processor.invalidate_all(root));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Perms;
    use vm::PageMap;

    const PAGE: Va = Va(0x40_0000);

    #[test]
    fn a_program_meets_the_bytes_that_were_put_there() {
        start(FRAMES - KERNEL_FRAMES);
        let (template, _) = template();
        let mut map = PageMap::<Sim>::new(template).expect("a page map");
        map.edit().alloc(PAGE, Perms::WRITE).expect("a page");
        processor(|processor| processor.load(Some(map.root())));
        let frame = map.page(PAGE).expect("the page is there").frame;
        put(frame, 6, &[1, 2, 3]);
        assert_eq!(load(PAGE, Access::Read), Some(0x0201_0000_0000_0000));
        assert!(store(Va(PAGE.0 + 8), 0x0504));
        assert_eq!(contents(frame)[..12], [0, 0, 0, 0, 0, 0, 1, 2, 4, 5, 0, 0]);
    }

    #[test]
    fn a_boot_archive_can_be_read_and_mapped_but_not_written() {
        start(FRAMES - kernel_frames(3));
        let (template, _) = template();
        let pages = archive(template, 3);
        put(pages[1], 8, b"archived");
        let mut map = PageMap::<Sim>::new(template).expect("a page map");
        processor(|processor| processor.load(Some(map.root())));
        let second = ARCHIVE.add_pages(1);
        assert_eq!(load(Va(second.0 + 8), Access::Read), Some(u64::from_le_bytes(*b"archived")));
        assert!(!store(second, 1) && load(ARCHIVE.add_pages(3), Access::Read).is_none());
        let frame = map.grant(second, Perms::READ).expect("it may be shared");
        assert!(map.grant(second, Perms::WRITE).is_err());
        map.edit().accept(PAGE, frame, Perms::READ).expect("room for tables");
        assert_eq!((entry(map.root(), PAGE).frame(), refs(frame)), (pages[1], 2));
        assert_eq!(entry(map.root(), Va(0)), Pte(0));
    }

    #[test]
    fn every_frame_has_its_place() {
        let places: Vec<_> = frames().map(place).collect();
        assert!(places.into_iter().eq(0..FRAMES));
    }
}

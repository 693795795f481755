//! The checking kernel: after every entry, compares all metadata with all page tables.
//!
//! Built with the feature `check`. One walk over all page maps counts how often page table entries name each frame. No
//! frame may be named more often than its reference count says, and all of them together not less often: so each one is
//! named exactly as often as its count says. The checker's own counts are stamped with the number of the check. So
//! nothing has to be cleared, and the work depends on what is mapped, not on the size of memory. Most entries of most
//! tables are empty: usually the checker looks only where entries were before.

use crate::env::table::{self, Env};
use crate::machine::hardware::{Hardware, MEMORY, kernel_root};
use crate::machine::windows::{self, CHECK_TABLE};
use crate::machine::{apic, control, cpu, flush, provoke::holds_twice};
use abi::layout::{UVPT_SLOT, WINDOWS};
use abi::{EnvId, Frame, Level, Pte, Status, Va};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use sched::Node;
use spin::Once;
use vm::Machine;

/// The metadata of a frame that the checker keeps.
#[repr(C)]
pub struct FrameRecord {
    /// Upper half: the number of the last check that met the frame. Lower half: how often entries named it in that
    /// check.
    named: AtomicU64,
    /// For a table: the groups of eight entries that were not empty at the last look, one bit for each.
    groups: AtomicU64,
}

/// One check in this many looks at all entries, even if the known groups account for all of them.
const THOROUGH: u32 = 16;

static CHECKS: AtomicU32 = AtomicU32::new(0);
/// The frames of the boot archive.
static ARCHIVE: Once<Range<u32>> = Once::new();
/// How many frames the kernel keeps for good.
static KERNEL_FRAMES: AtomicU64 = AtomicU64::new(0);

fn record(frame: Frame) -> &'static FrameRecord {
    // SAFETY: `kernel_map::init` made an entry for every usable frame; they are atomic.
    unsafe { &*(CHECK_TABLE.0 as *const FrameRecord).add(frame.0 as usize) }
}

/// Records the frames of the boot archive, and how many frames are in use now: the kernel keeps those for good.
pub fn init(archive: &Range<u64>) {
    ARCHIVE.call_once(|| Frame::containing(archive.start).0..Frame::containing(archive.end + 4095).0);
    let machine = windows::machine();
    let kept = machine.total_frames.load(Relaxed) - MEMORY.free_frames();
    KERNEL_FRAMES.store(kept, Relaxed);
}

/// If the fault `hold-twice` is injected, makes one processor at a time slow to leave an environment that is runnable:
/// slow enough for another processor to take it.
pub fn dawdle() {
    const TICKS: u64 = 1 << 33;
    static SOMEBODY: AtomicBool = AtomicBool::new(false);
    let goes_on = table::loaded(cpu::this()).is_some_and(|last| last.status() == Status::Runnable);
    if !holds_twice() || !goes_on || SOMEBODY.swap(true, Relaxed) {
        return;
    }
    let start = cpu::time_stamp();
    while cpu::time_stamp() - start < TICKS {
        flush::relax();
    }
    SOMEBODY.store(false, Relaxed);
}

/// Checks that no other processor runs an environment that this one has just taken. A processor that leaves an
/// environment loads another one before it gives the first one back.
pub fn check_taken(env: &Env) {
    if let Some(other) = cpu::others().find(|other| table::is_loaded(other, env)) {
        let (id, here, there) = (env.id(), cpu::here(), other.number.get());
        panic!("environment {id} is on processors {here} and {there}");
    }
}

/// Checks that every processor holds the environment that it runs, so that no two run the same one; and that this
/// processor, if it runs none, has loaded no page map that another one could free.
pub fn check_holders() {
    let here = cpu::this();
    let is_kernel = here.root() == kernel_root();
    assert!(is_kernel || !here.env.get().is_null(), "nobody's page map is loaded: {:?}", here.root());
    for cpu in cpu::others().chain([here]) {
        let Some(env) = table::loaded(cpu) else { continue };
        let (id, here, holder) = (env.id(), cpu.number.get(), env.holder());
        // Read again: the processor may have left the environment since.
        let runs = table::is_loaded(cpu, env);
        assert!(holder == Some(here) || !runs, "environment {id} runs on processor {here}, and {holder:?} holds it");
    }
}

/// Checks that the registers of this processor hold what `control` and `apic` put there.
pub fn check_processor() {
    if cfg!(feature = "check") {
        control::compare(cpu::this());
        apic::compare();
    }
}

/// Checks everything. A difference is a kernel bug: panic.
pub fn all() {
    control::compare(cpu::this());
    let stamp = u64::from(CHECKS.fetch_add(1, Relaxed) + 1) << 32;
    let used = KERNEL_FRAMES.load(Relaxed);
    let archive = ARCHIVE.get().expect("boot is over");
    let mut check = Check { stamp, used, unnamed: 0, archive };
    let living = || table::all().iter().filter(|env| env.status() != Status::Free);
    living().for_each(|env| walk(env, archive, |va, level, frame| check.name(va, level, frame)));
    if check.unnamed != 0 {
        living().for_each(|env| {
            walk(env, archive, |va, level, frame| {
                check.compare(va, level, frame);
                true
            });
        });
    }
    let machine = windows::machine();
    let (used, free) = (check.used, MEMORY.free_frames());
    let total = machine.total_frames.load(Relaxed);
    assert!(used + free == total, "{used} frames used, {free} free, {total} in all, loaded here: {:?}", after());
}

/// The environment whose entry this check follows: what is wrong now was right when that entry began.
fn after() -> Option<EnvId> {
    table::loaded(cpu::this()).map(Env::id)
}

struct Check {
    /// The number of this check in the upper half: every count of this check is greater.
    stamp: u64,
    /// Frames in use: those that the kernel keeps, and those named so far.
    used: u64,
    /// The reference counts of the frames named so far, minus the number of entries that name them.
    unnamed: i64,
    archive: &'static Range<u32>,
}

impl Check {
    /// How many references entries must account for. (A frame of the boot archive has one more: the kernel's own.)
    fn refs(&self, frame: Frame) -> u64 {
        let refs = Hardware::info(frame).refs.load(Relaxed);
        u64::from(refs).saturating_sub(self.archive.contains(&frame.0).into())
    }

    /// Counts an entry that names a frame. Returns whether it is the first one: the entries in a table count once,
    /// however many entries share the table.
    fn name(&mut self, va: Va, level: Option<Level>, frame: Frame) -> bool {
        let (count, refs) = (&record(frame).named, self.refs(frame));
        let before = count.load(Relaxed);
        let named = before.saturating_sub(self.stamp) + 1;
        count.store(self.stamp + named, Relaxed);
        if before <= self.stamp {
            self.used += u64::from(!self.archive.contains(&frame.0));
            self.unnamed += refs as i64;
        }
        self.unnamed -= 1;
        if named > refs {
            self.compare(va, level, frame);
        }
        named == 1
    }

    fn compare(&self, va: Va, level: Option<Level>, frame: Frame) {
        let (named, refs) = (record(frame).named.load(Relaxed) - self.stamp, self.refs(frame));
        let after = after();
        assert!(
            named == refs,
            "{frame:?} at {va} {level:?}: {refs} references, {named} entries, loaded here: {after:?}"
        );
    }
}

/// Calls `f` with every frame that a page map names, and the level of the entry (none: the root). Checks the entries,
/// and that the metadata of every table has the right number of entries. `f` returns whether to look into a table.
fn walk(env: &Env, archive: &Range<u32>, mut f: impl FnMut(Va, Option<Level>, Frame) -> bool) {
    let map = env.page_map.lock();
    let Some(root) = map.as_ref().map(|map| map.root()) else { return };
    check_root(root);
    f(Va(0), None, root);
    walk_table(root, Level::L4, Va(0), archive, &mut f);
}

fn walk_table(
    table: Frame,
    level: Level,
    base: Va,
    archive: &Range<u32>,
    f: &mut impl FnMut(Va, Option<Level>, Frame) -> bool,
) {
    let entries = &Hardware::table(table)[..if level == Level::L4 { WINDOWS.index(Level::L4) } else { 512 }];
    let known = Hardware::info(table).word.load(Relaxed);
    let mut groups = groups(table, entries, known);
    let mut found = 0;
    while groups != 0 {
        let first = groups.trailing_zeros() as usize * 8;
        groups &= groups - 1;
        for (index, entry) in entries.iter().enumerate().skip(first).take(8) {
            let pte = Pte(entry.load(Relaxed));
            let va = base.entry(index, level);
            found += u32::from(!pte.is_empty());
            if !pte.is_present() {
                assert!(pte == Pte::mark(pte.word()), "mark at {va}: {:#x}", pte.0);
                continue;
            }
            let is_new = f(va, Some(level), pte.frame());
            if let Some(below) = level.below() {
                let rights = pte.0 & !Pte::FRAME & !Pte::ACCESSED;
                assert!(rights & !Pte::WRITABLE == Pte::PRESENT | Pte::USER, "table at {va}: {pte:?}");
                let refs = Hardware::info(pte.frame()).refs.load(Relaxed);
                assert!(pte.is_shared_table() || refs == 1, "table at {va}: {pte:?}, {refs} references");
                if is_new {
                    walk_table(pte.frame(), below, va, archive, f);
                }
            } else {
                check_page(va, pte, archive);
            }
        }
    }
    assert!(found == known, "table {table:?}: {found} entries, {known} in the metadata");
}

/// The groups of eight entries that are not empty: those of the last look, if all known entries are in them; otherwise
/// found by looking at all entries.
fn groups(table: Frame, entries: &[AtomicU64], known: u32) -> u64 {
    let used = |eight: &&[AtomicU64]| eight.iter().filter(|entry| entry.load(Relaxed) != 0).count();
    let last = &record(table).groups;
    let (mut rest, mut found) = (last.load(Relaxed), 0);
    while rest != 0 {
        found += entries.chunks(8).nth(rest.trailing_zeros() as usize).as_ref().map_or(0, used);
        rest &= rest - 1;
    }
    if found != known as usize || CHECKS.load(Relaxed).is_multiple_of(THOROUGH) {
        let groups = entries.chunks(8).enumerate();
        let groups = groups.fold(0, |all, (group, eight)| all | u64::from(used(&eight) != 0) << group);
        last.store(groups, Relaxed);
    }
    last.load(Relaxed)
}

fn check_root(root: Frame) {
    let (table, template) = (Hardware::table(root), Hardware::table(kernel_root()));
    let own = Pte(table[UVPT_SLOT as usize].load(Relaxed));
    assert!(own.frame() == root && !own.has(Pte::WRITABLE), "self map: {own:?}");
    let windows = Pte(table[WINDOWS.index(Level::L4)].load(Relaxed));
    assert!(windows.frame() == Pte(template[WINDOWS.index(Level::L4)].load(Relaxed)).frame(), "windows: {windows:?}");
    assert!(!windows.has(Pte::WRITABLE), "windows: {windows:?}");
}

/// Checks what must hold for every page of every program.
fn check_page(va: Va, pte: Pte, archive: &Range<u32>) {
    const NEVER: u64 = 0b1_1001_1000 | 0x7800_0000_0000_0000; // PWT PCD PS G, bits 59 to 62
    assert!(pte.0 & NEVER == 0 && pte.has(Pte::USER), "page {va}: {pte:?} ({:#x})", pte.0);
    assert!(!pte.has(Pte::WRITABLE) || pte.has(Pte::NO_EXEC | Pte::MAY), "page {va}: {pte:?}");
    assert!(!pte.has(Pte::MAY) || !archive.contains(&pte.frame().0), "page {va} of the archive: {pte:?}");
}

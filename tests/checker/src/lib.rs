//! Compares all page tables with the metadata of all frames.
//!
//! The checking kernel calls [`check`] after every entry, and so do the host tests of the crate `vm`. One walk over all
//! page maps counts how often page table entries name each frame. No frame may be named more often than its reference
//! count says, and all of them together not less often: so each one is named exactly as often as its count says.
//!
//! The checker's own counts are stamped with the number of the check. So nothing has to be cleared, and the work depends
//! on what is mapped, not on the size of memory. Most entries of most tables are empty: usually the checker looks only
//! where entries were before.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod difference;

pub use difference::Difference;

use abi::layout::{UVPT_SLOT, WINDOWS};
use abi::page::TABLE_ENTRIES;
use abi::window::FrameInfo;
use abi::{Frame, Level, Pte, Va};
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vm::{Machine, Table};

/// The result of a check.
pub type Found = Result<(), Difference>;

/// The metadata of a frame that the checker keeps. All zeros before the first check.
#[repr(C)]
#[derive(Default)]
pub struct FrameRecord {
    /// Upper half: the number of the last check that met the frame. Lower half: how often entries named it in that
    /// check.
    named: AtomicU64,
    /// For a table: the groups of eight entries that were not empty at the last look, one bit for each.
    groups: AtomicU64,
}

/// A machine that keeps a record for each frame.
pub trait Checked: Machine {
    /// The record of a frame.
    fn record(frame: Frame) -> &'static FrameRecord;

    /// Whether a frame is not memory: a page of device registers, with a reference of the kernel's own.
    fn is_registers(frame: Frame) -> bool;
}

/// A description of the machine to check.
#[derive(Clone)]
pub struct Known {
    /// The number of this check: 1 for the first one, and higher each time.
    pub number: u32,
    /// The kernel's own top-level table, with the windows that all page maps have.
    pub template: Frame,
    /// The frames of the boot archive. Each has a reference of the kernel's own.
    pub archive: Range<u32>,
    /// The number of frames that the kernel keeps for good, the boot archive among them.
    pub kept: u64,
    /// The number of free frames.
    pub free: u64,
    /// The number of frames.
    pub total: u64,
}

/// One check in this many looks at all entries, even if the known groups account for all of them.
const THOROUGH: u32 = 16;

/// Checks all page maps. `each` calls its argument with the root of every page map, while nothing changes, and stops at
/// the first difference.
///
/// # Errors
/// The first [`Difference`] that was found: a bug of whatever edits the page tables.
pub fn check<M: Checked>(known: Known, each: impl Fn(&mut dyn FnMut(Frame) -> Found) -> Found) -> Found {
    let mut counts = Counts::<M> { used: known.kept, unnamed: 0, machine: PhantomData, known };
    each(&mut |root| counts.walk(root, Counts::name))?;
    if counts.unnamed != 0 {
        each(&mut |root| counts.walk(root, |counts, entry| counts.compare(entry).map(|()| true)))?;
    }
    let (used, Known { free, total, .. }) = (counts.used, counts.known);
    if used + free == total { Ok(()) } else { Err(Difference::Frames { used, free, total }) }
}

/// An entry that names a frame.
#[derive(Clone, Copy)]
struct Named {
    va: Va,
    /// The level of the table with the entry. None: the frame is the root.
    level: Option<Level>,
    frame: Frame,
}

/// The counts of one check.
struct Counts<M> {
    known: Known,
    /// Frames in use: those that the kernel keeps, and those named so far.
    used: u64,
    /// The reference counts of the frames named so far, minus the number of entries that name them.
    unnamed: i64,
    machine: PhantomData<M>,
}

impl<M: Checked> Counts<M> {
    /// The count of a frame that no entry has named in this check. Every count of this check is greater.
    fn stamp(&self) -> u64 {
        u64::from(self.known.number) << 32
    }

    fn is_archive(&self, frame: Frame) -> bool {
        self.known.archive.contains(&frame.0)
    }

    /// Whether the kernel has a reference of its own to a frame that entries may name.
    fn is_kept(&self, frame: Frame) -> bool {
        self.is_archive(frame) || M::is_registers(frame)
    }

    /// How many references entries must account for.
    fn refs(&self, frame: Frame) -> u64 {
        let refs = M::info(frame).refs.load(Relaxed);
        u64::from(refs).saturating_sub(self.is_kept(frame).into())
    }

    /// Counts an entry that names a frame. Returns whether it is the first one: the entries in a table count once,
    /// however many entries share the table.
    fn name(&mut self, entry: Named) -> Result<bool, Difference> {
        let (count, refs) = (&M::record(entry.frame).named, self.refs(entry.frame));
        let before = count.load(Relaxed);
        let named = before.saturating_sub(self.stamp()) + 1;
        count.store(self.stamp() + named, Relaxed);
        if named == 1 {
            self.used += u64::from(!self.is_kept(entry.frame));
            self.unnamed += refs as i64;
        }
        self.unnamed -= 1;
        if named > refs {
            self.compare(entry)?;
        }
        Ok(named == 1)
    }

    fn compare(&self, Named { va, level, frame }: Named) -> Found {
        let (named, refs) = (M::record(frame).named.load(Relaxed) - self.stamp(), self.refs(frame));
        if named == refs { Ok(()) } else { Err(Difference::References { frame, va, level, refs, named }) }
    }

    /// Calls `f` with everything that names a frame in a page map. Checks the entries, and that the metadata of every
    /// table has the right number of entries. `f` returns whether to look into a table.
    fn walk(&mut self, root: Frame, mut f: impl FnMut(&mut Self, Named) -> Result<bool, Difference>) -> Found {
        check_root::<M>(root, self.known.template)?;
        f(self, Named { va: Va(0), level: None, frame: root })?;
        self.walk_table(root, Level::L4, Va(0), &mut f)
    }

    fn walk_table(
        &mut self,
        table: Frame,
        level: Level,
        base: Va,
        f: &mut impl FnMut(&mut Self, Named) -> Result<bool, Difference>,
    ) -> Found {
        let recorded = M::info(table).entries();
        let entries = &M::table(table)[..if level == Level::L4 { WINDOWS.index(Level::L4) } else { TABLE_ENTRIES }];
        let mut groups = self.groups(table, entries, recorded);
        let mut found = 0;
        while groups != 0 {
            let first = groups.trailing_zeros() as usize * 8;
            groups &= groups - 1;
            for (index, entry) in entries.iter().enumerate().skip(first).take(8) {
                let (va, pte) = (base.entry(index, level), Pte(entry.load(Relaxed)));
                found += u32::from(!pte.is_empty());
                if !pte.is_present() {
                    if pte != Pte::mark(pte.word()) {
                        return Err(Difference::Mark { va, pte });
                    }
                    continue;
                }
                let is_new = f(self, Named { va, level: Some(level), frame: pte.frame() })?;
                match level.below() {
                    None => {
                        self.check_page(va, pte)?;
                        check_others::<M>(table, va, pte)?;
                    }
                    Some(below) => {
                        check_pointer::<M>(va, pte)?;
                        if is_new {
                            self.walk_table(pte.frame(), below, va, f)?;
                        }
                    }
                }
            }
        }
        if found == recorded { Ok(()) } else { Err(Difference::Entries { table, found, recorded }) }
    }

    /// The groups of eight entries that are not empty: those of the last look, if all recorded entries are in them;
    /// otherwise found by looking at all entries.
    fn groups(&self, table: Frame, entries: &[AtomicU64], recorded: u32) -> u64 {
        let used = |eight: &&[AtomicU64]| eight.iter().filter(|entry| entry.load(Relaxed) != 0).count();
        let last = &M::record(table).groups;
        let (mut rest, mut found) = (last.load(Relaxed), 0);
        while rest != 0 {
            found += entries.chunks(8).nth(rest.trailing_zeros() as usize).as_ref().map_or(0, used);
            rest &= rest - 1;
        }
        if found != recorded as usize || self.known.number.is_multiple_of(THOROUGH) {
            let groups = entries.chunks(8).enumerate();
            let groups = groups.fold(0, |all, (group, eight)| all | u64::from(used(&eight) != 0) << group);
            last.store(groups, Relaxed);
        }
        last.load(Relaxed)
    }

    /// Checks what must hold for every page of every program.
    fn check_page(&self, va: Va, pte: Pte) -> Found {
        const NEVER: u64 = 0b1001_1001_1000 | 0x7000_0000_0000_0000; // PWT PCD PS G, bits 11 and 60 to 62
        let writable = !pte.has(Pte::WRITABLE) || pte.has(Pte::NO_EXEC | Pte::MAY);
        let archive = !pte.has(Pte::MAY) || !self.is_archive(pte.frame());
        let good = pte.0 & NEVER == 0 && pte.has(Pte::USER) && writable && archive;
        if good { Ok(()) } else { Err(Difference::Page { va, pte, archive: self.is_archive(pte.frame()) }) }
    }
}

/// Checks that a table notes whether a page may have other users, if the entry has a right that belongs to a sole user.
fn check_others<M: Checked>(table: Frame, va: Va, pte: Pte) -> Found {
    let noted = M::info(table).word.load(Relaxed) & FrameInfo::OTHERS != 0;
    let refs = M::info(pte.frame()).refs.load(Relaxed);
    let good = noted || refs == 1 || pte.0 & (Pte::WRITABLE | Pte::MAY) == 0;
    if good { Ok(()) } else { Err(Difference::Others { va, pte, refs }) }
}

/// Checks an entry that points to a table: all rights, or all but the right to write if the table is shared or sealed.
fn check_pointer<M: Checked>(va: Va, pte: Pte) -> Found {
    let rights = pte.0 & !(Pte::FRAME | Pte::ACCESSED | Pte::WRITABLE | Pte::EDIT | Pte::SEALED);
    let may_write = pte.has(Pte::EDIT) && !pte.has(Pte::SEALED);
    let refs = M::info(pte.frame()).refs.load(Relaxed);
    let good = rights == Pte::PRESENT | Pte::USER
        && pte.has(Pte::WRITABLE) == may_write
        && (pte.is_shared_table() || refs == 1);
    if good { Ok(()) } else { Err(Difference::Pointer { va, pte, refs }) }
}

/// Checks the self map and the windows.
fn check_root<M: Checked>(root: Frame, template: Frame) -> Found {
    let entry = |table: &Table, index: usize| Pte(table[index].load(Relaxed));
    let own = entry(M::table(root), UVPT_SLOT as usize);
    let windows = entry(M::table(root), WINDOWS.index(Level::L4));
    if own.frame() != root || own.has(Pte::WRITABLE) {
        return Err(Difference::SelfMap { root, pte: own });
    }
    let expected = entry(M::table(template), WINDOWS.index(Level::L4)).frame();
    let good = windows.frame() == expected && !windows.has(Pte::WRITABLE);
    if good { Ok(()) } else { Err(Difference::Windows { root, pte: windows, expected }) }
}

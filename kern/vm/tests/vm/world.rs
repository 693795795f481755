//! Page maps and their model side by side: every step is made in both, then everything is compared.

use crate::model::{Entry, Held, Model, PageId, Rights, TableId, user_entries};
use crate::op::{MAPS, Op, Outcome, PAGES};
use abi::{Error, Frame, Level, Perms, Pte, Va, call::AGE, call::MARK_OVER_PAGE, layout::uvpt};
use sim::machine::{self, Sim, free_frames, load, processor, refs, store};
use sim::processor::Access;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::SeqCst;
use vm::{Machine, Memory, PageMap};

/// The greatest number of frames that are handed out: they come from three banks. (The large bank would only make each
/// test longer; the kernel's own frames come from its end.)
pub const ALL: usize = machine::SMALL;

const NO_MEMORY: Outcome = Outcome::Call(Err(Error::NoMemory(0)));

/// The page maps and their model.
pub struct World {
    pub memory: &'static Memory<Sim>,
    pub maps: Vec<PageMap<Sim>>,
    model: Model,
    template: Frame,
    /// The page map that the processor has loaded.
    current: usize,
    free_at_start: usize,
}

/// The greatest work that a step may report beyond that: editing pages and tables, or the entries of a table.
const PAGE: u32 = 800;
const TABLE: u32 = 20 * PAGE;

/// The cost of frames and TLB shootdowns on this machine since the last call, in instructions of the real machine.
pub fn take_cost() -> u32 {
    let flush = vm::FLUSH + vm::FLUSH_EACH;
    let (filled, freed, flushed) = (machine::take_filled(), machine::take_freed(), machine::take_flushed());
    filled * vm::FILL + freed * vm::FREE + flushed * flush
}

impl World {
    /// Empty maps on a machine with this many free frames.
    pub fn new(free: usize) -> World {
        let memory = machine::start(free);
        let (template, _) = machine::template();
        let new = |_| PageMap::<Sim>::new(template).expect("room for the top-level tables");
        let maps: Vec<_> = (0..MAPS).map(new).collect();
        let model = Model::new(MAPS, free);
        let mut world = World { memory, maps, model, template, current: 0, free_at_start: free };
        world.switch(0);
        world
    }

    fn switch(&mut self, map: usize) {
        self.current = map;
        let root = self.maps[map].root();
        processor(|processor| processor.load(Some(root)));
    }

    /// Makes a step in both, and compares everything.
    pub fn step(&mut self, op: Op) {
        let expected = self.model.apply(self.current, op);
        self.take_work();
        take_cost();
        assert_eq!(self.call(op), expected, "{op:x?}");
        let (work, cost) = (self.take_work(), take_cost());
        if !matches!(op, Op::TearDown { .. }) && expected != NO_MEMORY {
            // The fast path, and a call that fails, frees one frame at most that is not counted as work.
            assert!(work + vm::FREE >= cost, "{op:x?} took {cost}, and says {work}");
            let has_entries = matches!(op, Op::OwnTable { .. } | Op::UnmapTable { .. });
            assert!(work < cost + if has_entries { TABLE } else { PAGE }, "{op:x?} took {cost}, and says {work}");
        }
        self.compare();
    }

    /// The work that the page maps report.
    fn take_work(&mut self) -> u32 {
        self.maps.iter_mut().map(|map| map.edit().take_work()).sum()
    }

    /// Makes a step in both, after making it fail for lack of each frame that it takes.
    pub fn starve_and_step(&mut self, op: Op) {
        if op.allocates() {
            self.starve(op);
        }
        self.step(op);
    }

    fn starve(&mut self, op: Op) {
        let mut taken: Vec<_> = std::iter::from_fn(|| self.memory.alloc().ok()).collect();
        let full = self.model.frames;
        self.model.frames -= taken.len();
        loop {
            let mut model = self.model.clone();
            if model.apply(self.current, op) != NO_MEMORY {
                break;
            }
            self.model = model;
            assert_eq!(self.call(op), NO_MEMORY, "{op:x?}");
            self.compare();
            let Some(frame) = taken.pop() else { break };
            self.memory.release(frame);
            self.model.frames += 1;
        }
        taken.into_iter().rev().for_each(|frame| self.memory.release(frame));
        self.model.frames = full;
    }

    /// Tears everything down: as many frames must be free as at the beginning.
    pub fn end(mut self) {
        for map in 0..MAPS {
            self.step(Op::TearDown { map, budget: 200 });
        }
        for map in &mut self.maps {
            map.free();
        }
        assert_eq!(free_frames(), self.free_at_start, "frames at the end");
        let all: BTreeSet<_> = std::iter::from_fn(|| self.memory.alloc().ok()).collect();
        assert_eq!(all.len(), self.free_at_start, "different frames on the free list");
    }

    /// The fast path, which the kernel tries first: for a page of the page map that is loaded here.
    fn fast(&mut self, op: Op) -> Option<Outcome> {
        let (map, va) = match op {
            Op::Alloc { map, va, .. } | Op::Protect { map, va, .. } => (map, va),
            Op::Unmap { map, va } | Op::MarkOver { map, va, .. } | Op::Own { map, va } => (map, va),
            Op::Share { from, to, va, .. } if from == to => (to, va),
            _ => return None,
        };
        if map != self.current || machine::runs_elsewhere() || !va.is_user_page() {
            return None;
        }
        let map = &mut self.maps[map];
        let copies = matches!(op, Op::Own { .. }) && map.page(va).is_some_and(|page| refs(page.frame) > 1);
        if let Op::MarkOver { word, .. } = op {
            return map.mark_over_fast(va, word).map(|was_dirty| Outcome::Call(Ok(was_dirty)));
        }
        match op {
            Op::Alloc { perms, .. } => map.alloc_fast(va, perms),
            // The kernel finds it unusual.
            Op::Protect { perms, .. } if perms.bits() & AGE != 0 => return None,
            Op::Protect { perms, .. } => map.protect_fast(va, perms),
            Op::Unmap { .. } => map.unmap_fast(va),
            Op::Share { source, perms, .. } => map.map_fast(source, va, perms),
            _ => map.own_fast(va),
        }?;
        Some(Outcome::Call(Ok(copies)))
    }

    /// Executes a step as the kernel does: TLB invalidations finish before the lock is released.
    fn call(&mut self, op: Op) -> Outcome {
        if let Some(outcome) = self.fast(op) {
            return outcome;
        }
        let done = |result: Result<(), Error>| Outcome::Call(result.map(|()| false));
        match op {
            Op::Alloc { map, va, perms } => done(self.maps[map].edit().alloc(va, perms)),
            Op::Share { from, source, to, va, perms } => {
                let frame = self.maps[from].grant(source, perms);
                done(frame.and_then(|frame| self.maps[to].edit().accept(va, frame, perms)))
            }
            Op::Protect { map, va, perms } => done(self.maps[map].edit().protect(va, perms)),
            Op::Unmap { map, va } => done(self.maps[map].edit().unmap(va)),
            Op::Mark { map, va, word } => done(self.maps[map].edit().mark(va, word)),
            Op::MarkOver { map, va, word } => Outcome::Call(self.maps[map].edit().mark_over(va, word | MARK_OVER_PAGE)),
            Op::Own { map, va } => Outcome::Call(self.maps[map].edit().own(va)),
            Op::ShareTable { from, source, to, va, level } => {
                let table = self.maps[from].edit().grant_table(source, level);
                done(table.and_then(|table| self.maps[to].edit().accept_table(va, level, table)))
            }
            Op::OwnTable { map, va, level } => Outcome::Call(self.maps[map].edit().own_table(va, level)),
            Op::UnmapTable { map, va, level } => done(self.maps[map].edit().unmap_table(va, level)),
            Op::ProtectTable { map, va, level, sealed } => {
                let perms = if sealed { Perms::READ } else { Perms::WRITE };
                done(self.maps[map].edit().protect_table(va, level, perms))
            }
            Op::TearDown { map, budget } => self.tear_down(map, budget),
            Op::Switch { map } => {
                self.switch(map);
                Outcome::Call(Ok(true))
            }
            Op::Read { va, word } => seen(load(word_at(va, word), Access::Read)),
            Op::Fetch { va } => seen(load(va, Access::Fetch)),
            Op::Write { va, word, value } => seen(store(word_at(va, word), value).then_some(value)),
            Op::Uvpt { va, level } => {
                // The kernel reads the self map as well, when a buffer of a call lies in it.
                let page = self.maps[self.current].page(uvpt(va, level).page());
                let outcome = read_entry(uvpt(va, level));
                assert_eq!(page.is_some(), outcome == Outcome::Entry);
                assert!(page.is_none_or(|page| !page.writable));
                outcome
            }
        }
    }

    fn tear_down(&mut self, map: usize, budget: u32) -> Outcome {
        let here = map == self.current;
        if here {
            processor(|processor| processor.load(Some(self.template)));
        }
        let entries = self.model.frames as u32 * 2;
        let mut slices = 0;
        while !self.maps[map].tear_down(&mut budget.clone()) {
            slices += 1;
            assert!(slices <= entries, "teardown makes no progress");
            self.assert_counts(map);
        }
        let root = self.maps[map].root();
        assert!(Sim::table(root)[..254].iter().all(|entry| entry.load(SeqCst) == 0));
        self.memory.release(root);
        self.maps[map] = PageMap::<Sim>::new(self.template).expect("one frame is free");
        if here {
            self.switch(map);
        }
        Outcome::Call(Ok(true))
    }

    /// Checks that every table has the right number of nonempty entries, even half-way through a teardown.
    fn assert_counts(&self, map: usize) {
        let mut todo = vec![(self.maps[map].root(), Level::L4)];
        while let Some((table, level)) = todo.pop() {
            let used = used(table, level);
            assert_eq!(entries(table), used.len(), "entries of {table:?}");
            let below = |(_, pte): &(usize, Pte)| Some((pte.frame(), level.below()?));
            todo.extend(used.iter().filter_map(below));
        }
    }

    /// Compares every entry, table, page, and all metadata.
    fn compare(&self) {
        let mut seen = Seen::default();
        for (map, root) in self.model.roots.iter().enumerate() {
            self.compare_table(self.maps[map].root(), *root, Level::L4, &mut seen);
            self.compare_rights(map, &seen);
        }
        let frames: BTreeSet<_> = seen.pages.values().chain(seen.tables.values()).collect();
        assert_eq!(frames.len(), seen.pages.len() + seen.tables.len(), "two things in one frame");
        for (page, words) in &self.model.contents {
            let frame = seen.pages[page];
            assert_eq!(refs(frame) as usize, self.model.page_refs(*page), "references to {frame:?}");
            let found = Sim::table(frame).iter().map(|word| word.load(SeqCst));
            assert!(found.eq(words.iter().copied()), "contents of page {page} in {frame:?}");
        }
        assert_eq!(free_frames(), self.model.free(), "free frames");
        assert_eq!(processor(|processor| processor.stale()), None, "a stale translation");
        let roots: Vec<_> = self.maps.iter().map(|map| map.root()).collect();
        let found = machine::check(self.template, &roots, 0..0, self.model.frames);
        assert!(found.is_ok(), "{found:?}");
    }

    /// Compares a table and everything below.
    fn compare_table(&self, frame: Frame, table: TableId, level: Level, seen: &mut Seen) {
        if let Some(before) = seen.tables.insert(table, frame) {
            return assert_eq!(before, frame, "one table in two frames");
        }
        assert_eq!(refs(frame) as usize, self.model.table_refs(table), "references to the table {frame:?}");
        let (found, expected) = (used(frame, level), &self.model.tables[&table]);
        assert_eq!(entries(frame), expected.len(), "entries of {frame:?}");
        assert!(found.iter().map(|(index, _)| index).eq(expected.keys()), "entries of level {level}");
        for ((index, pte), entry) in found.into_iter().zip(expected.values()) {
            match *entry {
                Entry::Table(below, Rights { own, sealed }) => {
                    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
                    let private = flag(own, Pte::EDIT) | flag(own && !sealed, Pte::WRITABLE);
                    let flags = Pte::PRESENT | Pte::USER | private | flag(sealed, Pte::SEALED);
                    assert_eq!(pte.0 & !Pte::FRAME & !Pte::ACCESSED, flags, "entry {index} of level {level}");
                    let level = level.below().expect("a table has entries of the level below");
                    self.compare_table(pte.frame(), below, level, seen);
                }
                Entry::Mark(word) => assert_eq!(pte, Pte(word << 12), "entry {index}"),
                Entry::Page(held) => {
                    let frame = *seen.pages.entry(held.page).or_insert(pte.frame());
                    assert_eq!(pte, expected_entry(frame, held), "entry {index}");
                }
            }
        }
    }

    /// Compares the accesses that a page map allows to its pages.
    fn compare_rights(&self, map: usize, seen: &Seen) {
        let real = &self.maps[map];
        for (va, held, open) in self.model.pages(map) {
            let writable = open && held.perms.contains(Perms::WRITE);
            let page = real.page(va).expect("the page is there");
            assert_eq!((page.frame, page.writable), (seen.pages[&held.page], writable), "map {map}, {va}");
            let private = match (writable, self.model.page_refs(held.page)) {
                (false, _) => Err(Error::NoRight(va.0)),
                (true, 1) => Ok(()),
                (true, _) => Err(Error::Shared(va.0)),
            };
            assert_eq!(real.is_private(va), private);
        }
        for va in PAGES {
            assert_eq!(real.is_open(va), self.model.require_open(map, va, Level::L1), "map {map}, {va}");
        }
    }
}

/// The frames of the model's pages and tables.
#[derive(Default)]
struct Seen {
    pages: HashMap<PageId, Frame>,
    tables: HashMap<TableId, Frame>,
}

/// The entries of a table that are in use.
fn used(table: Frame, level: Level) -> Vec<(usize, Pte)> {
    let entries = Sim::table(table)[..user_entries(level)].iter().map(|entry| Pte(entry.load(SeqCst)));
    entries.enumerate().filter(|(_, pte)| !pte.is_empty()).collect()
}

/// The expected entry, as the processor's manual and `abi` define it.
fn expected_entry(frame: Frame, held: Held) -> Pte {
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    let perms = held.perms;
    Pte(frame.address()
        | Pte::PRESENT
        | Pte::USER
        | (perms & (Perms::COW | Perms::KEEP | Perms::SOFT)).bits()
        | flag(perms.contains(Perms::WRITE), Pte::WRITABLE)
        | flag(!perms.contains(Perms::EXEC), Pte::NO_EXEC)
        | flag(held.may, Pte::MAY)
        | flag(held.accessed, Pte::ACCESSED)
        | flag(held.dirty, Pte::DIRTY))
}

/// The recorded number of entries of a table.
fn entries(table: Frame) -> usize {
    Sim::info(table).entries() as usize
}

fn word_at(page: Va, word: usize) -> Va {
    Va(page.0 + 8 * word as u64)
}

/// The result of an access by a program.
fn seen(word: Option<u64>) -> Outcome {
    word.map_or(Outcome::Fault, Outcome::Value)
}

/// Reads an entry in the self map: it must be the entry that is in the tables now.
fn read_entry(at: Va) -> Outcome {
    assert!(!store(at, 0), "the self map was written at {at}");
    assert_eq!(load(at, Access::Fetch), None, "the self map was executed at {at}");
    let entry = load(at, Access::Read);
    let fresh = processor(|processor| processor.peek(at));
    let word = at.offset() as usize / 8;
    let stands = fresh.map(|frame| Sim::table(frame)[word].load(SeqCst));
    assert_eq!(entry, stands, "the entry at {at}");
    if entry.is_some() { Outcome::Entry } else { Outcome::Fault }
}

//! The expected behaviour of page maps, written as simply as possible: trees of tables that several page maps may
//! share. No frames, no counts, no processor: users are counted on demand, and whatever has no user is removed after
//! every step.

use crate::op::{Op, Outcome};
use abi::{Error, Level, PAGE_SIZE, Perms, Pte, Va, call::AGE, call::MARK_OVER_PAGE, layout::USER_LIMIT, page::span};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A page, in any number of page maps.
pub type PageId = u32;
/// A table, in any number of page maps.
pub type TableId = u32;

/// A page, as an entry names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub page: PageId,
    pub perms: Perms,
    pub may: bool,
    pub accessed: bool,
    pub dirty: bool,
}

/// An entry that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A table.
    Table(TableId, Rights),
    Page(Held),
    Mark(u64),
}

/// The rights that an entry which points to a table gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Whether entries below may be changed: the table has no other user.
    pub own: bool,
    /// Whether the program has protected everything below.
    pub sealed: bool,
}

impl Rights {
    fn write(self) -> bool {
        self.own && !self.sealed
    }

    fn shared(self) -> Rights {
        Rights { own: false, ..self }
    }
}

/// A table: its entries by index.
pub type Table = BTreeMap<usize, Entry>;

/// Words in a page.
pub const WORDS: usize = PAGE_SIZE as usize / 8;

/// All maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub roots: Vec<TableId>,
    pub tables: BTreeMap<TableId, Table>,
    pub contents: HashMap<PageId, Vec<u64>>,
    next: u32,
    /// The number of frames for all of this.
    pub frames: usize,
}

/// An entry that may be empty: the table, the index, and whether every level above allows writing.
#[derive(Clone, Copy)]
struct Place {
    table: TableId,
    index: usize,
    open: bool,
}

impl Model {
    /// A model with this many empty page maps and frames.
    pub fn new(maps: usize, frames: usize) -> Model {
        let mut model = Model { roots: Vec::new(), tables: BTreeMap::new(), contents: HashMap::new(), next: 0, frames };
        model.roots = (0..maps).map(|_| model.new_table(Table::new())).collect();
        model
    }

    fn new_table(&mut self, table: Table) -> TableId {
        self.next += 1;
        self.tables.insert(self.next, table);
        self.next
    }

    fn new_page(&mut self, words: Vec<u64>) -> PageId {
        self.next += 1;
        self.contents.insert(self.next, words);
        self.next
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.tables.values().flat_map(BTreeMap::values)
    }

    /// The number of entries that name a page.
    pub fn page_refs(&self, page: PageId) -> usize {
        self.entries().filter(|entry| matches!(entry, Entry::Page(held) if held.page == page)).count()
    }

    /// The number of entries that name a table.
    pub fn table_refs(&self, table: TableId) -> usize {
        let named = self.entries().filter(|entry| matches!(entry, Entry::Table(other, _) if *other == table));
        named.count() + usize::from(self.roots.contains(&table))
    }

    pub fn free(&self) -> usize {
        self.frames - self.tables.len() - self.contents.len()
    }

    /// Every page of a page map, and whether every level above allows writing.
    pub fn pages(&self, map: usize) -> Vec<(Va, Held, bool)> {
        let mut found = Vec::new();
        self.visit(self.roots[map], Level::L4, Va(0), true, &mut found);
        found
    }

    fn visit(&self, table: TableId, level: Level, base: Va, open: bool, found: &mut Vec<(Va, Held, bool)>) {
        for (index, entry) in &self.tables[&table] {
            let va = base.entry(*index, level);
            match *entry {
                Entry::Table(table, rights) => {
                    let below = level.below().expect("a table has entries of the level below");
                    self.visit(table, below, va, open && rights.write(), found);
                }
                Entry::Page(held) => found.push((va, held, open)),
                Entry::Mark(_) => {}
            }
        }
    }

    /// The entry of a level that translates an address, if its table is there.
    fn find(&self, map: usize, va: Va, level: Level) -> Option<Place> {
        let mut place = Place { table: self.roots[map], index: va.index(Level::L4), open: true };
        for below in level.down_to().skip(1) {
            let Some(Entry::Table(table, rights)) = self.entry(place) else { return None };
            place = Place { table, index: va.index(below), open: place.open && rights.write() };
        }
        Some(place)
    }

    fn entry(&self, place: Place) -> Option<Entry> {
        self.tables[&place.table].get(&place.index).copied()
    }

    fn set(&mut self, place: Place, entry: Option<Entry>) {
        let table = self.tables.get_mut(&place.table).expect("the table is there");
        match entry {
            Some(entry) => table.insert(place.index, entry),
            None => table.remove(&place.index),
        };
    }

    /// Checks that no entry above this level that translates the address points to a shared table. Otherwise the error
    /// names the topmost one that does.
    pub fn require_open(&self, map: usize, va: Va, level: Level) -> Result<(), Error> {
        for above in level.all_above() {
            let entry = self.find(map, va, above).and_then(|place| self.entry(place));
            if let Some(Entry::Table(_, Rights { own: false, .. })) = entry {
                return Err(Error::TableShared((va.0 & !(span(above) - 1)) | above as u64));
            }
        }
        Ok(())
    }

    /// The number of frames that the next operation takes before it can free any.
    fn need(&self, frames: usize) -> Result<(), Error> {
        if frames > self.free() { Err(Error::NoMemory(0)) } else { Ok(()) }
    }

    /// The number of frames that an operation takes, including the missing tables above an entry of this level.
    fn need_tables(&self, map: usize, va: Va, level: Level, frames: usize) -> Result<(), Error> {
        let missing = level.down_to().filter(|level| self.find(map, va, *level).is_none()).count();
        self.need(frames + missing)
    }

    /// The entry of a level; missing tables are made.
    fn make(&mut self, map: usize, va: Va, level: Level) -> Place {
        for above in level.all_above() {
            let place = self.find(map, va, above).expect("made a moment ago");
            if self.entry(place).is_none() {
                let table = self.new_table(Table::new());
                self.set(place, Some(Entry::Table(table, Rights { own: true, sealed: false })));
            }
        }
        self.find(map, va, level).expect("it was made")
    }

    /// Removes the tables that are empty, from this level up.
    fn prune(&mut self, map: usize, va: Va, level: Level) {
        for above in Level::TABLES.into_iter().rev().filter(|above| *above > level) {
            let Some(place) = self.find(map, va, above) else { continue };
            if let Some(Entry::Table(table, Rights { own: true, .. })) = self.entry(place)
                && self.tables[&table].is_empty()
            {
                self.set(place, None);
            }
        }
    }

    /// Removes the tables and pages that no page map has.
    fn sweep(&mut self) {
        let mut seen: BTreeSet<TableId> = BTreeSet::new();
        let mut todo = self.roots.clone();
        while let Some(table) = todo.pop() {
            if seen.insert(table) {
                let below = self.tables[&table].values().filter_map(|entry| match entry {
                    Entry::Table(table, _) => Some(*table),
                    _ => None,
                });
                todo.extend(below);
            }
        }
        self.tables.retain(|table, _| seen.contains(table));
        let held = self.entries().filter_map(|entry| match entry {
            Entry::Page(held) => Some(held.page),
            _ => None,
        });
        let held: BTreeSet<_> = held.collect();
        self.contents.retain(|page, _| held.contains(page));
    }

    fn held(&self, map: usize, va: Va) -> Result<(Place, Held), Error> {
        let place = self.find(map, va, Level::L1).ok_or(Error::NotMapped(va.0))?;
        match self.entry(place) {
            Some(Entry::Page(held)) => Ok((place, held)),
            _ => Err(Error::NotMapped(va.0)),
        }
    }

    /// Executes an operation. `current` is the page map in which programs run.
    pub fn apply(&mut self, current: usize, op: Op) -> Outcome {
        let outcome = self.act(current, op);
        self.sweep();
        outcome
    }

    fn act(&mut self, current: usize, op: Op) -> Outcome {
        let done = |result: Result<(), Error>| Outcome::Call(result.map(|()| false));
        match op {
            Op::Alloc { map, va, perms } => done(self.alloc(map, va, perms)),
            Op::Share { from, source, to, va, perms } => done(self.share((from, source), (to, va), perms)),
            Op::Protect { map, va, perms } => done(self.protect(map, va, perms)),
            Op::Unmap { map, va } => done(self.unmap(map, va)),
            Op::Mark { map, va, word } => done(self.mark(map, va, word)),
            Op::MarkOver { map, va, word } => Outcome::Call(self.mark_over(map, va, word)),
            Op::Own { map, va } => Outcome::Call(self.own(map, va)),
            Op::ShareTable { from, source, to, va, level } => done(self.share_table((from, source), (to, va), level)),
            Op::OwnTable { map, va, level } => Outcome::Call(self.own_table(map, va, level)),
            Op::UnmapTable { map, va, level } => done(self.unmap_table(map, va, level)),
            Op::ProtectTable { map, va, level, sealed } => done(self.protect_table(map, va, level, sealed)),
            Op::TearDown { map, .. } => {
                self.tables.insert(self.roots[map], Table::new());
                Outcome::Call(Ok(true))
            }
            Op::Switch { .. } => Outcome::Call(Ok(true)),
            Op::Read { va, word } => self
                .access(current, va, Perms::READ)
                .map_or(Outcome::Fault, |page| Outcome::Value(self.contents[&page][word])),
            Op::Write { va, word, value } => {
                let Some(page) = self.access(current, va, Perms::WRITE) else {
                    return Outcome::Fault;
                };
                self.contents.get_mut(&page).expect("held pages have contents")[word] = value;
                Outcome::Value(value)
            }
            Op::Fetch { va } => self
                .access(current, va, Perms::EXEC)
                .map_or(Outcome::Fault, |page| Outcome::Value(self.contents[&page][0])),
            Op::Uvpt { va, level } if self.find(current, va, level).is_some() => Outcome::Entry,
            Op::Uvpt { .. } => Outcome::Fault,
        }
    }

    fn alloc(&mut self, map: usize, va: Va, perms: Perms) -> Result<(), Error> {
        self.need(1)?;
        self.require_open(map, va, Level::L1)?;
        self.need_tables(map, va, Level::L1, 1)?;
        let page = self.new_page(vec![0; WORDS]);
        let place = self.make(map, va, Level::L1);
        self.set(place, Some(Entry::Page(Held { page, perms, may: true, accessed: false, dirty: false })));
        Ok(())
    }

    fn share(&mut self, (from, source): (usize, Va), (to, va): (usize, Va), perms: Perms) -> Result<(), Error> {
        let (place, held) = self.held(from, source)?;
        let write = perms.contains(Perms::WRITE);
        if write && !held.perms.contains(Perms::WRITE) {
            return Err(Error::NoRight(source.0));
        }
        if write {
            self.require_open(from, source, Level::L1)?;
            if !place.open {
                return Err(Error::NoRight(source.0));
            }
        }
        self.require_open(to, va, Level::L1)?;
        self.need_tables(to, va, Level::L1, 0)?;
        let place = self.make(to, va, Level::L1);
        let held = Held { page: held.page, perms, may: write, accessed: false, dirty: false };
        self.set(place, Some(Entry::Page(held)));
        Ok(())
    }

    fn protect(&mut self, map: usize, va: Va, perms: Perms) -> Result<(), Error> {
        let (place, held) = self.held(map, va)?;
        self.require_open(map, va, Level::L1)?;
        if perms.contains(Perms::WRITE) && !held.may {
            return Err(Error::NoRight(va.0));
        }
        let accessed = held.accessed && perms.bits() & AGE == 0;
        let perms = Perms::from_bits_retain(perms.bits() & !AGE);
        self.set(place, Some(Entry::Page(Held { perms, accessed, ..held })));
        Ok(())
    }

    fn unmap(&mut self, map: usize, va: Va) -> Result<(), Error> {
        let place = self.find(map, va, Level::L1).filter(|place| self.entry(*place).is_some());
        let place = place.ok_or(Error::NotMapped(va.0))?;
        self.require_open(map, va, Level::L1)?;
        self.set(place, None);
        self.prune(map, va, Level::L1);
        Ok(())
    }

    fn mark_over(&mut self, map: usize, va: Va, word: u64) -> Result<bool, Error> {
        if word == 0 || word > Pte::MARK_MAX {
            return Err(Error::BadWord(word | MARK_OVER_PAGE));
        }
        self.require_open(map, va, Level::L1)?;
        self.need_tables(map, va, Level::L1, 0)?;
        let was_dirty = self.held(map, va).is_ok_and(|(_, held)| held.dirty);
        let place = self.make(map, va, Level::L1);
        self.set(place, Some(Entry::Mark(word)));
        Ok(was_dirty)
    }

    fn mark(&mut self, map: usize, va: Va, word: u64) -> Result<(), Error> {
        if word > Pte::MARK_MAX {
            return Err(Error::BadWord(word));
        }
        if self.held(map, va).is_ok() {
            return Err(Error::Mapped(va.0));
        }
        if word == 0 && self.find(map, va, Level::L1).is_none() {
            return Ok(());
        }
        self.require_open(map, va, Level::L1)?;
        self.need_tables(map, va, Level::L1, 0)?;
        let place = self.make(map, va, Level::L1);
        self.set(place, (word != 0).then_some(Entry::Mark(word)));
        self.prune(map, va, Level::L1);
        Ok(())
    }

    fn own(&mut self, map: usize, va: Va) -> Result<bool, Error> {
        let (place, mut held) = self.held(map, va)?;
        self.require_open(map, va, Level::L1)?;
        if held.perms.contains(Perms::EXEC) {
            return Err(Error::Executable(va.0));
        }
        let copied = self.page_refs(held.page) > 1;
        if copied {
            self.need(1)?;
            held.page = self.new_page(self.contents[&held.page].clone());
            (held.accessed, held.dirty) = (false, false);
        }
        held.perms = (held.perms - Perms::COW) | Perms::WRITE;
        self.set(place, Some(Entry::Page(Held { may: true, ..held })));
        Ok(copied)
    }

    /// The entry that points to a table, and the table.
    fn table(&self, map: usize, va: Va, level: Level) -> Result<(Place, TableId, Rights), Error> {
        self.require_open(map, va, level)?;
        let place = self.find(map, va, level).ok_or(Error::NotMapped(va.0))?;
        match self.entry(place) {
            Some(Entry::Table(table, rights)) => Ok((place, table, rights)),
            _ => Err(Error::NotMapped(va.0)),
        }
    }

    fn share_table(&mut self, (from, source): (usize, Va), (to, va): (usize, Va), level: Level) -> Result<(), Error> {
        let (place, table, rights) = self.table(from, source, level)?;
        // Even if this fails, the page map that shares can write nothing below any more.
        self.set(place, Some(Entry::Table(table, rights.shared())));
        self.require_open(to, va, level)?;
        self.need_tables(to, va, level, 0)?;
        let target = self.make(to, va, level);
        if self.entry(target).is_some() {
            return Err(Error::Mapped(va.0));
        }
        self.set(target, Some(Entry::Table(table, rights.shared())));
        Ok(())
    }

    fn protect_table(&mut self, map: usize, va: Va, level: Level, sealed: bool) -> Result<(), Error> {
        let (place, table, rights) = self.table(map, va, level)?;
        if !rights.own {
            return Err(Error::TableShared(va.0 | level as u64));
        }
        self.set(place, Some(Entry::Table(table, Rights { sealed, ..rights })));
        Ok(())
    }

    fn own_table(&mut self, map: usize, va: Va, level: Level) -> Result<bool, Error> {
        let (place, table, rights) = self.table(map, va, level)?;
        if rights.own {
            return Ok(false);
        }
        let copied = self.table_refs(table) > 1;
        if copied {
            self.need(1)?;
        }
        let shared = |page| self.page_refs(page) + usize::from(copied) > 1;
        let lowered = |entry: &Entry| match *entry {
            Entry::Table(table, rights) => Entry::Table(table, rights.shared()),
            Entry::Page(held) if !held.perms.contains(Perms::KEEP) && shared(held.page) => {
                let writable = held.perms.contains(Perms::WRITE);
                let perms = if writable { (held.perms - Perms::WRITE) | Perms::COW } else { held.perms };
                Entry::Page(Held { perms, may: false, ..held })
            }
            other => other,
        };
        let new: Table = self.tables[&table].iter().map(|(index, entry)| (*index, lowered(entry))).collect();
        if !copied || level > Level::L2 {
            // Pages in a table that was copied stay as they are: nobody can write them through it.
            self.tables.insert(table, new.clone());
        }
        let own = if copied { self.new_table(new) } else { table };
        self.set(place, Some(Entry::Table(own, Rights { own: true, ..rights })));
        Ok(copied)
    }

    fn unmap_table(&mut self, map: usize, va: Va, level: Level) -> Result<(), Error> {
        let (place, table, rights) = self.table(map, va, level)?;
        if level > Level::L2 && (rights.own || self.table_refs(table) == 1) {
            return Err(Error::NotShared(va.0));
        }
        self.set(place, None);
        self.prune(map, va, level);
        Ok(())
    }

    /// The page that an access reaches, if it does not fault.
    fn access(&mut self, map: usize, va: Va, right: Perms) -> Option<PageId> {
        let (place, mut held) = self.held(map, va.page()).ok()?;
        if !held.perms.contains(right) || (right == Perms::WRITE && !place.open) {
            return None;
        }
        held.accessed = true;
        held.dirty |= right == Perms::WRITE;
        self.set(place, Some(Entry::Page(held)));
        Some(held.page)
    }
}

/// The number of entries of a table of this level that belong to the user.
pub fn user_entries(level: Level) -> usize {
    if level == Level::L4 { USER_LIMIT.index(Level::L4) } else { 512 }
}

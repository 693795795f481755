//! What page maps are supposed to do, written down as simply as possible: a map from addresses to
//! pages and marks for each space. No tables, no frames, no processor.

use crate::op::{Op, Outcome};
use abi::layout::USER_LIMIT;
use abi::{Error, PAGE_SIZE, Perms, Pte, Va};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A page, whoever holds it.
pub type PageId = u32;

/// A page as one space holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub page: PageId,
    pub perms: Perms,
    pub may: bool,
    pub accessed: bool,
    pub dirty: bool,
}

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    Page(Held),
    Mark(u64),
}

/// Words in a page.
pub const WORDS: usize = PAGE_SIZE as usize / 8;

/// Address spaces that do not exist any more, or not yet, have no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub spaces: Vec<BTreeMap<Va, Slot>>,
    pub contents: HashMap<PageId, Vec<u64>>,
    next: PageId,
    /// Frames that there are for all of this.
    pub frames: usize,
}

/// A table, by its level and the first address that it translates.
pub type TableAt = (u32, Va);

/// The tables that an address needs, the top-level one left out.
fn tables_of(va: Va) -> [TableAt; 3] {
    [1, 2, 3].map(|level| (level, Va(va.0 >> (12 + 9 * level) << (12 + 9 * level))))
}

impl Model {
    /// So many empty spaces in so many frames.
    pub fn new(spaces: usize, frames: usize) -> Model {
        let spaces = vec![BTreeMap::new(); spaces];
        Model { spaces, contents: HashMap::new(), next: 0, frames }
    }

    /// The tables of a space, the top-level one left out.
    pub fn tables(&self, space: usize) -> BTreeSet<TableAt> {
        self.spaces[space].keys().flat_map(|va| tables_of(*va)).collect()
    }

    /// How many entries of a table are in use.
    pub fn entries(&self, space: usize, (level, first): TableAt) -> usize {
        let size = 1 << (12 + 9 * (level - 1));
        let inside = first..Va(first.0 + size * 512).min(USER_LIMIT);
        let used: BTreeSet<_> = self.spaces[space].range(inside).map(|(va, _)| va.0 / size).collect();
        used.len()
    }

    pub fn refs(&self, page: PageId) -> usize {
        let is_it = |slot: &&Slot| matches!(slot, Slot::Page(held) if held.page == page);
        self.spaces.iter().flat_map(BTreeMap::values).filter(is_it).count()
    }

    pub fn free(&self) -> usize {
        let tables: usize = (0..self.spaces.len()).map(|space| 1 + self.tables(space).len()).sum();
        self.frames - tables - self.contents.len()
    }

    fn held(&self, space: usize, va: Va) -> Result<Held, Error> {
        match self.spaces[space].get(&va) {
            Some(Slot::Page(held)) => Ok(*held),
            _ => Err(Error::NotMapped(va.0)),
        }
    }

    fn put(&mut self, space: usize, va: Va, slot: Option<Slot>) {
        match slot {
            Some(slot) => self.spaces[space].insert(va, slot),
            None => self.spaces[space].remove(&va),
        };
        let gone: Vec<_> = self.contents.keys().copied().filter(|&id| self.refs(id) == 0).collect();
        gone.iter().for_each(|page| drop(self.contents.remove(page)));
    }

    fn new_page(&mut self, words: Vec<u64>) -> PageId {
        self.next += 1;
        self.contents.insert(self.next, words);
        self.next
    }

    fn missing_tables(&self, space: usize, va: Va) -> usize {
        let there = self.tables(space);
        tables_of(va).iter().filter(|table| !there.contains(table)).count()
    }

    /// Frames that the next operation on this address takes before it can give any back.
    fn need(&self, frames: usize) -> Result<(), Error> {
        if frames > self.free() { Err(Error::NoMemory(0)) } else { Ok(()) }
    }

    /// Do what an operation does. `current` is the space in which programs run.
    pub fn apply(&mut self, current: usize, op: Op) -> Outcome {
        let done = |result: Result<(), Error>| Outcome::Call(result.map(|()| false));
        match op {
            Op::Alloc { space, va, perms } => done(self.alloc(space, va, perms)),
            Op::Share { from, source, to, va, perms } => done(self.share((from, source), (to, va), perms)),
            Op::Protect { space, va, perms } => done(self.protect(space, va, perms)),
            Op::Unmap { space, va } => done(self.unmap(space, va)),
            Op::Mark { space, va, word } => done(self.mark(space, va, word)),
            Op::Own { space, va } => Outcome::Call(self.own(space, va)),
            Op::TearDown { space, .. } => {
                self.clear(space);
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
            Op::Uvpt { va, level } if self.has_entry(current, va, level) => Outcome::Entry,
            Op::Uvpt { .. } => Outcome::Fault,
        }
    }

    fn alloc(&mut self, space: usize, va: Va, perms: Perms) -> Result<(), Error> {
        self.need(1 + self.missing_tables(space, va))?;
        let page = self.new_page(vec![0; WORDS]);
        let held = Held { page, perms, may: true, accessed: false, dirty: false };
        self.put(space, va, Some(Slot::Page(held)));
        Ok(())
    }

    fn share(
        &mut self,
        (from, source): (usize, Va),
        (to, va): (usize, Va),
        perms: Perms,
    ) -> Result<(), Error> {
        let held = self.held(from, source)?;
        let write = perms.contains(Perms::WRITE);
        if write && !held.perms.contains(Perms::WRITE) {
            return Err(Error::NoRight(source.0));
        }
        self.need(self.missing_tables(to, va))?;
        let page = held.page;
        let held = Held { page, perms, may: write, accessed: false, dirty: false };
        self.put(to, va, Some(Slot::Page(held)));
        Ok(())
    }

    fn protect(&mut self, space: usize, va: Va, perms: Perms) -> Result<(), Error> {
        let held = self.held(space, va)?;
        if perms.contains(Perms::WRITE) && !held.may {
            return Err(Error::NoRight(va.0));
        }
        self.put(space, va, Some(Slot::Page(Held { perms, ..held })));
        Ok(())
    }

    fn unmap(&mut self, space: usize, va: Va) -> Result<(), Error> {
        if !self.spaces[space].contains_key(&va) {
            return Err(Error::NotMapped(va.0));
        }
        self.put(space, va, None);
        Ok(())
    }

    fn mark(&mut self, space: usize, va: Va, word: u64) -> Result<(), Error> {
        if word > Pte::MARK_MAX {
            return Err(Error::BadWord(word));
        }
        if self.held(space, va).is_ok() {
            return Err(Error::Mapped(va.0));
        }
        if word != 0 {
            self.need(self.missing_tables(space, va))?;
        }
        self.put(space, va, (word != 0).then_some(Slot::Mark(word)));
        Ok(())
    }

    fn own(&mut self, space: usize, va: Va) -> Result<bool, Error> {
        let mut held = self.held(space, va)?;
        if held.perms.contains(Perms::EXEC) {
            return Err(Error::Executable(va.0));
        }
        let copied = self.refs(held.page) > 1;
        if copied {
            self.need(1)?;
            held.page = self.new_page(self.contents[&held.page].clone());
            (held.accessed, held.dirty) = (false, false);
        }
        held.perms = (held.perms - Perms::COW) | Perms::WRITE;
        self.put(space, va, Some(Slot::Page(Held { may: true, ..held })));
        Ok(copied)
    }

    fn clear(&mut self, space: usize) {
        while let Some(va) = self.spaces[space].keys().next().copied() {
            self.put(space, va, None);
        }
    }

    /// The page that an access reaches, if it does not fault.
    fn access(&mut self, space: usize, va: Va, right: Perms) -> Option<PageId> {
        let Some(Slot::Page(held)) = self.spaces[space].get_mut(&va.page()) else { return None };
        if !held.perms.contains(right) {
            return None;
        }
        held.accessed = true;
        held.dirty |= right == Perms::WRITE;
        Some(held.page)
    }

    /// Whether the table is there that holds the entry of `va` at this level.
    fn has_entry(&self, space: usize, va: Va, level: u32) -> bool {
        level == 4 || self.tables(space).contains(&tables_of(va)[level as usize - 1])
    }
}

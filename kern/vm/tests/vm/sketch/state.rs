//! A state of the sketch: tables, pages, references, and authority over pages.

use super::op::{At, Refused, Shape};
use super::rule::Rule;
use std::fmt;

/// The deepest level of a table is 1, a root is 3; roots are never shared.
pub const ROOT: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Entry {
    #[default]
    Empty,
    Table {
        table: usize,
        w: bool,
    },
    Page {
        frame: usize,
        w: bool,
        may: bool,
        keep: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Table {
    /// The stored reference counts, which may be wrong.
    pub refs: usize,
    pub entries: Vec<Entry>,
}

#[derive(Clone)]
pub struct State {
    pub shape: Shape,
    pub rule: Rule,
    /// The roots come first.
    pub tables: Vec<Table>,
    pub frames: Vec<usize>,
    /// Whether a page map has authority over one of its pages.
    pub authority: Vec<Vec<bool>>,
}

/// The place of an entry, and whether the page map owns the tables on the way to it.
#[derive(Clone, Copy)]
pub struct Place {
    pub table: usize,
    pub index: usize,
    pub open: bool,
}

impl State {
    pub fn new(shape: Shape, rule: Rule) -> State {
        let root = Table { refs: 1, entries: vec![Entry::Empty; shape.entries[0]] };
        let authority = vec![vec![false; shape.pages()]; shape.maps];
        State { shape, rule, tables: vec![root; shape.maps], frames: Vec::new(), authority }
    }

    /// (With a broken rule, tables are freed that still have users.)
    pub fn entry(&self, place: Place) -> Entry {
        self.tables[place.table].entries.get(place.index).copied().unwrap_or_default()
    }

    pub fn set(&mut self, place: Place, entry: Entry) {
        self.tables[place.table].entries[place.index] = entry;
    }

    /// The entry of a level; none if a table is missing on the way.
    pub fn find(&self, level: usize, (map, number): At) -> Option<Place> {
        let path = self.shape.path(level, number);
        let mut place = Place { table: map, index: path[0], open: true };
        for index in &path[1..4 - level] {
            let Entry::Table { table, w } = self.entry(place) else { return None };
            place = Place { table, index: *index, open: place.open && w };
        }
        Some(place)
    }

    /// The entry of a level; missing tables are made.
    pub fn make(&mut self, level: usize, at: At) -> Result<Place, Refused> {
        for above in (level + 1..=ROOT).rev() {
            let number = at.1 / self.shape.entries[4 - above..4 - level].iter().product::<usize>();
            let place = self.find(above, (at.0, number)).expect("those above were made");
            if self.entry(place) == Entry::Empty {
                if !place.open && self.rule.closed {
                    return Err(Refused::TableShared);
                }
                let entries = vec![Entry::Empty; self.shape.entries[4 - above]];
                let table = self.add_table(Table { refs: 1, entries });
                self.set(place, Entry::Table { table, w: true });
            }
        }
        let place = self.find(level, at).expect("it was made");
        if place.open || !self.rule.closed { Ok(place) } else { Err(Refused::TableShared) }
    }

    pub fn add_table(&mut self, table: Table) -> usize {
        let free = (self.shape.maps..self.tables.len()).find(|table| self.tables[*table].refs == 0);
        let number = free.unwrap_or(self.tables.len());
        self.tables.resize_with(self.tables.len().max(number + 1), Table::default);
        self.tables[number] = table;
        number
    }

    pub fn add_frame(&mut self) -> usize {
        let free = self.frames.iter().position(|refs| *refs == 0).unwrap_or(self.frames.len());
        self.frames.resize(self.frames.len().max(free + 1), 0);
        self.frames[free] = 1;
        free
    }

    pub fn release(&mut self, entry: Entry) {
        match entry {
            Entry::Empty => {}
            Entry::Page { frame, .. } => self.frames[frame] = self.frames[frame].saturating_sub(1),
            Entry::Table { table, w } => {
                let alone = w || !self.rule.leaves_to_others;
                let left = if alone { 0 } else { self.tables[table].refs.saturating_sub(1) };
                self.tables[table].refs = left;
                if left == 0 {
                    let entries = std::mem::take(&mut self.tables[table].entries);
                    entries.into_iter().for_each(|entry| self.release(entry));
                }
            }
        }
    }

    pub fn share(&mut self, entry: Entry) {
        match entry {
            Entry::Empty => {}
            Entry::Page { frame, .. } => self.frames[frame] += 1,
            Entry::Table { table, .. } => self.tables[table].refs += 1,
        }
    }

    pub fn replace(&mut self, place: Place, new: Entry) {
        let old = self.entry(place);
        self.set(place, new);
        self.release(old);
    }

    /// Free the tables above an entry that have become empty.
    pub fn prune(&mut self, level: usize, (map, mut number): At) {
        for above in level + 1..=ROOT {
            number /= self.shape.entries[4 - above];
            let Some(place) = self.find(above, (map, number)) else { continue };
            let Entry::Table { table, w: true } = self.entry(place) else { return };
            if self.tables[table].entries.iter().any(|entry| *entry != Entry::Empty) {
                return;
            }
            self.replace(place, Entry::Empty);
        }
    }

    /// A present page.
    pub fn page(&self, at: At) -> Result<(Place, usize, bool, bool, bool), Refused> {
        let place = self.find(1, at).ok_or(Refused::NotMapped)?;
        let Entry::Page { frame, w, may, keep } = self.entry(place) else { return Err(Refused::NotMapped) };
        Ok((place, frame, w, may, keep))
    }

    pub fn require_open(&self, place: Place) -> Result<(), Refused> {
        if place.open || !self.rule.closed { Ok(()) } else { Err(Refused::TableShared) }
    }

    /// The state in a canonical form, so that equal states compare equal: tables and frames are numbered in the order
    /// of a walk.
    pub fn key(&self) -> Vec<u8> {
        let orders: &[&[usize]] = match self.shape.maps {
            2 => &[&[0, 1], &[1, 0]],
            _ => &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]],
        };
        orders.iter().map(|order| self.key_of(order)).min().unwrap_or_default()
    }

    pub fn key_of(&self, order: &[usize]) -> Vec<u8> {
        fn number(known: &mut Vec<usize>, one: usize) -> (u8, bool) {
            let found = known.iter().position(|other| *other == one);
            if found.is_none() {
                known.push(one);
            }
            (found.unwrap_or(known.len() - 1) as u8, found.is_none())
        }
        fn visit(state: &State, table: usize, known: &mut [Vec<usize>; 2], key: &mut Vec<u8>) {
            for entry in &state.tables[table].entries {
                match *entry {
                    Entry::Empty => key.push(0),
                    Entry::Table { table, w } => {
                        let (number, is_new) = number(&mut known[0], table);
                        key.push(0x80 | number << 1 | u8::from(w));
                        if is_new {
                            visit(state, table, known, key);
                        }
                    }
                    Entry::Page { frame, w, may, keep } => {
                        let (number, _) = number(&mut known[1], frame);
                        let bits = u8::from(w) | u8::from(may) << 1 | u8::from(keep) << 2;
                        key.push(0x40 | number << 3 | bits);
                    }
                }
            }
        }
        let mut key = Vec::with_capacity(32);
        let mut known = [Vec::new(), Vec::new()];
        for map in order {
            visit(self, *map, &mut known, &mut key);
            key.push(self.authority[*map].iter().fold(0, |bits, bit| bits << 1 | u8::from(*bit)));
        }
        key
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.tables.iter().filter(|table| table.refs > 0)).finish()
    }
}

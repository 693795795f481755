//! Real page maps, on which the operations of the sketch are executed: entries, results and counts must agree.

use super::op::{At, Mode, Op, Refused, Shape};
use super::rule::RULE;
use super::state::{Entry, State, Table};
use crate::world::ALL;
use abi::{Error, Level, Perms, Pte, Va};
use sim::machine::{self, Sim, free_frames, refs};
use std::collections::{BTreeMap, BTreeSet};
use vm::PageMap;

/// The first address of an entry on real page maps.
fn va(shape: Shape, level: usize, number: usize) -> Va {
    let [top, middle, low] = shape.path(level, number);
    Va((top as u64) << 30 | (middle as u64) << 21 | (low as u64) << 12)
}

/// Real page maps that execute the operations of a sketch.
pub struct Real {
    template: abi::Frame,
    maps: Vec<PageMap<Sim>>,
    shape: Shape,
}

impl Real {
    pub fn new(shape: Shape) -> Real {
        machine::start(ALL);
        let (template, _) = machine::template();
        let mut real = Real { template, maps: Vec::new(), shape };
        real.maps = (0..shape.maps).map(|_| real.map()).collect();
        real
    }

    fn map(&self) -> PageMap<Sim> {
        PageMap::<Sim>::new(self.template).expect("a frame")
    }

    fn end(&mut self, map: usize) {
        while !self.maps[map].tear_down(&mut 200) {}
        self.maps[map].free();
        self.maps[map] = self.map();
    }

    fn act(&mut self, op: Op) -> Result<(), Refused> {
        if let Op::Exit(map) = op {
            self.end(map);
            return Ok(());
        }
        let shape = self.shape;
        let page = |at: At| va(shape, 1, at.1);
        let result = match op {
            Op::Alloc(at) => self.maps[at.0].edit().alloc(page(at), Perms::WRITE),
            Op::Map(from, to, mode) => {
                let (source, target) = (page(from), page(to));
                let frame = self.maps[from.0].grant(source, perms(mode));
                frame.and_then(|frame| self.maps[to.0].edit().accept(target, frame, perms(mode)))
            }
            Op::Protect(at, mode) => self.maps[at.0].edit().protect(page(at), perms(mode)),
            Op::Unmap(at) => self.maps[at.0].edit().unmap(page(at)),
            Op::Own(at) => self.maps[at.0].edit().own(page(at)).map(drop),
            Op::ShareTable(level, from, to) => {
                let (source, target) = (va(shape, level, from.1), va(shape, level, to.1));
                let table = self.maps[from.0].edit().grant_table(source, name(level));
                table.and_then(|table| self.maps[to.0].edit().accept_table(target, name(level), table))
            }
            Op::OwnTable(level, at) => self.maps[at.0].edit().own_table(va(shape, level, at.1), name(level)).map(drop),
            Op::UnmapTable(level, at) => self.maps[at.0].edit().unmap_table(va(shape, level, at.1), name(level)),
            Op::Exit(_) => unreachable!("done already"),
        };
        result.map_err(|error| match error {
            Error::NotMapped(_) => Refused::NotMapped,
            Error::NoRight(_) => Refused::NoRight,
            Error::TableShared(_) => Refused::TableShared,
            Error::Mapped(_) => Refused::Mapped,
            Error::NotShared(_) => Refused::NotShared,
            other => panic!("{op:?}: {other:?}"),
        })
    }

    /// The contents of the tables, as a state.
    fn state(&self, like: &State) -> State {
        let mut state = State::new(self.shape, RULE);
        let (mut tables, mut frames) = (BTreeMap::new(), BTreeMap::new());
        let mut on_top = BTreeSet::new();
        for (number, map) in self.maps.iter().enumerate() {
            let mut way = [number; 4];
            machine::for_each_entry(map.root(), &mut |va, level, pte| {
                let level = level as usize;
                let next = (tables.len(), frames.len());
                let entry = match level {
                    4 => {
                        assert!(pte.has(Pte::WRITABLE) && refs(pte.frame()) == 1);
                        on_top.insert(pte.frame());
                        return;
                    }
                    1 => {
                        let frame = *frames.entry(pte.frame()).or_insert(next.1);
                        let has = |bit| pte.has(bit);
                        let (w, may, keep) = (has(Pte::WRITABLE), has(Pte::MAY), has(Perms::KEEP.bits()));
                        Entry::Page { frame, w, may, keep }
                    }
                    _ => {
                        let table = *tables.entry(pte.frame()).or_insert(self.shape.maps + next.0);
                        way[level - 1] = table;
                        Entry::Table { table, w: pte.has(Pte::WRITABLE) }
                    }
                };
                if let Entry::Table { table, .. } = entry {
                    let entries = vec![Entry::Empty; self.shape.entries[4 - level]];
                    state.tables.resize_with(state.tables.len().max(table + 1), Table::default);
                    if state.tables[table].entries.is_empty() {
                        state.tables[table] = Table { refs: refs(pte.frame()) as usize, entries };
                    }
                }
                state.tables[way[level]].entries[va.index(name(level))] = entry;
            });
        }
        state.frames = vec![0; frames.len()];
        frames.iter().for_each(|(frame, number)| state.frames[*number] = refs(*frame) as usize);
        let used = self.maps.len() + on_top.len() + tables.len() + frames.len();
        assert_eq!(free_frames(), ALL - used, "frames");
        state.authority.clone_from(&like.authority);
        state
    }

    pub fn play(&mut self, way: &[Op], op: Op) {
        let mut state = State::new(self.shape, RULE);
        for op in way {
            assert_eq!(self.act(*op), state.step(*op).0, "{way:?}");
        }
        assert_eq!(self.act(op), state.step(op).0, "{op:?} after {way:?}");
        let order: Vec<_> = (0..self.shape.maps).collect();
        let found = self.state(&state);
        assert_eq!(found.key_of(&order), state.key_of(&order), "{op:?} after {way:?}: {found:?}, not {state:?}");
        let counts = |state: &State| {
            let mut counts: Vec<_> = state.tables.iter().map(|table| table.refs).filter(|refs| *refs > 0).collect();
            counts.extend(state.frames.iter().filter(|refs| **refs > 0));
            counts.sort_unstable();
            counts
        };
        assert_eq!(counts(&found), counts(&state), "{op:?} after {way:?}");
        (0..self.shape.maps).for_each(|map| self.end(map));
    }
}

/// The level with this number.
fn name(level: usize) -> Level {
    Level::from_number(level as u64).expect("a level")
}

fn perms(mode: Mode) -> Perms {
    match mode {
        Mode::R => Perms::READ,
        Mode::W => Perms::WRITE,
        Mode::K => Perms::WRITE | Perms::KEEP,
    }
}

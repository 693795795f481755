//! Every short sequence of operations on shared tables, tried.
//!
//! [`State`] is what page maps come to when all that is unimportant is left out: a few spaces of one page or two,
//! three levels of tables, and rights. [`Rule`] has a switch for each part of the rule that `vm::tables` goes by.
//! With all of them on, no sequence of operations leads to a state that is [wrong](State::fault); with any one of
//! them off, one does, and the test prints it: that is why that part is there.
//!
//! What must hold is said without a word about tables. Whoever can write a page, or could make it writable without
//! being asked, has *authority* over it, or nobody else has the page. Authority comes with a page that was
//! allocated or made private, goes on with a mapping that is writable, and with a page that is kept over a fork;
//! it ends for both sides when a page is shared by a table. A page that nobody else has is its holder's.
//!
//! The same sequences are then played on real page maps, and entries, results and counts compared.

use crate::world::ALL;
use abi::{Error, Perms, Pte, Va};
use sim::machine::{self, Sim, free_frames, refs};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use vm::{Memory, Space};

/// The parts of the rule.
#[derive(Clone, Copy)]
struct Rule {
    /// Who shares a table can write nothing below any more.
    granting_takes_w: bool,
    /// Nor can who gets it.
    accepting_without_w: bool,
    /// Nothing below a shared table can be changed.
    closed: bool,
    /// A page below a shared table cannot be given on to be written.
    no_writable_grant: bool,
    /// A page below a shared table is nobody's to make private, even if it has one reference.
    no_own_below: bool,
    /// A table that is copied: tables below have two users now, here...
    copy_takes_w: bool,
    /// ...and where they were: the entry says whether a table can be given up without asking who else has it.
    copy_takes_w_there: bool,
    /// A table that is copied: pages below have two users now. (The table that was copied need not know. Whoever
    /// keeps it in the end looks at every page.)
    copy_lowers: bool,
    /// What could be made writable could be so by two.
    lowers_may: bool,
    /// The last one that has a table may have got it from others: the tables below are theirs, too...
    keep_takes_w: bool,
    /// ...and so are the pages that somebody else has.
    keep_lowers: bool,
    /// Who removes a shared table, or ends, leaves it to the others.
    leaves_to_others: bool,
}

const RULE: Rule = Rule {
    granting_takes_w: true,
    accepting_without_w: true,
    closed: true,
    no_writable_grant: true,
    no_own_below: true,
    copy_takes_w: true,
    copy_takes_w_there: true,
    copy_lowers: true,
    lowers_may: true,
    keep_takes_w: true,
    keep_lowers: true,
    leaves_to_others: true,
};

/// The rule without one of its parts, by name.
fn broken_rules() -> [(&'static str, Rule); 12] {
    [
        ("granting takes W", Rule { granting_takes_w: false, ..RULE }),
        ("accepting without W", Rule { accepting_without_w: false, ..RULE }),
        ("shared tables are closed", Rule { closed: false, ..RULE }),
        ("no writable grant", Rule { no_writable_grant: false, ..RULE }),
        ("no own below", Rule { no_own_below: false, ..RULE }),
        ("a copy takes W", Rule { copy_takes_w: false, ..RULE }),
        ("a copy takes W there", Rule { copy_takes_w_there: false, ..RULE }),
        ("a copy lowers", Rule { copy_lowers: false, ..RULE }),
        ("MAY is lowered", Rule { lowers_may: false, ..RULE }),
        ("keeping takes W", Rule { keep_takes_w: false, ..RULE }),
        ("keeping lowers", Rule { keep_lowers: false, ..RULE }),
        ("tables are left to others", Rule { leaves_to_others: false, ..RULE }),
    ]
}

/// How many there are of everything.
#[derive(Clone, Copy, Debug)]
struct Shape {
    spaces: usize,
    /// Entries of a root, of the tables below, and of those with pages in them.
    entries: [usize; 3],
    frames: usize,
}

impl Shape {
    fn pages(self) -> usize {
        self.entries.iter().product()
    }

    /// Names of entries of a level: how many there are in a space.
    fn names(self, level: usize) -> usize {
        self.entries[..4 - level].iter().product()
    }

    /// The way down to the entry of this number: an index for each table.
    fn path(self, level: usize, mut number: usize) -> [usize; 3] {
        let mut path = [0; 3];
        for depth in (0..4 - level).rev() {
            path[depth] = number % self.entries[depth];
            number /= self.entries[depth];
        }
        path
    }
}

/// On real page maps: the first address of an entry.
fn va(shape: Shape, level: usize, number: usize) -> Va {
    let [top, middle, low] = shape.path(level, number);
    Va((top as u64) << 30 | (middle as u64) << 21 | (low as u64) << 12)
}

/// The deepest level of a table is 1, a root is 3; roots are never shared.
const ROOT: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Entry {
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
struct Table {
    /// As counted, not as they are.
    refs: usize,
    entries: Vec<Entry>,
}

/// A page as one space has it: the space, the page, the entry, and whether all levels above allow writing.
type Name = (usize, usize, Entry, bool);

#[derive(Clone)]
struct State {
    shape: Shape,
    rule: Rule,
    /// The roots come first.
    tables: Vec<Table>,
    frames: Vec<usize>,
    /// Whether a space has authority over a page of its.
    authority: Vec<Vec<bool>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    R,
    W,
    /// Writable, and kept over a fork.
    K,
}

/// A space, and the number of an entry in it.
type At = (usize, usize);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Alloc(At),
    Map(At, At, Mode),
    Protect(At, Mode),
    Unmap(At),
    Own(At),
    ShareTable(usize, At, At),
    OwnTable(usize, At),
    UnmapTable(usize, At),
    Exit(usize),
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let at = |(space, number): At| format!("{}{number}", ['P', 'C', 'X'][space]);
        match *self {
            Op::Alloc(page) => write!(f, "alloc {}", at(page)),
            Op::Map(from, to, mode) => write!(f, "map {} to {} {mode:?}", at(from), at(to)),
            Op::Protect(page, mode) => write!(f, "protect {} {mode:?}", at(page)),
            Op::Unmap(page) => write!(f, "unmap {}", at(page)),
            Op::Own(page) => write!(f, "own {}", at(page)),
            Op::ShareTable(level, from, to) => write!(f, "share table{level} {} as {}", at(from), at(to)),
            Op::OwnTable(level, table) => write!(f, "own table{level} {}", at(table)),
            Op::UnmapTable(level, table) => write!(f, "unmap table{level} {}", at(table)),
            Op::Exit(space) => write!(f, "{} ends", ['P', 'C', 'X'][space]),
        }
    }
}

/// Why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    NotMapped,
    NoRight,
    TableShared,
    Mapped,
    NotShared,
}

/// Where an entry is, and whether the tables on the way to it are one's own.
#[derive(Clone, Copy)]
struct Place {
    table: usize,
    index: usize,
    open: bool,
}

impl State {
    fn new(shape: Shape, rule: Rule) -> State {
        let root = Table { refs: 1, entries: vec![Entry::Empty; shape.entries[0]] };
        let authority = vec![vec![false; shape.pages()]; shape.spaces];
        State { shape, rule, tables: vec![root; shape.spaces], frames: Vec::new(), authority }
    }

    /// (Where the rule is broken, tables go that somebody has.)
    fn entry(&self, place: Place) -> Entry {
        self.tables[place.table].entries.get(place.index).copied().unwrap_or_default()
    }

    fn set(&mut self, place: Place, entry: Entry) {
        self.tables[place.table].entries[place.index] = entry;
    }

    /// The entry of a level; none if a table is missing on the way.
    fn find(&self, level: usize, (space, number): At) -> Option<Place> {
        let path = self.shape.path(level, number);
        let mut place = Place { table: space, index: path[0], open: true };
        for index in &path[1..4 - level] {
            let Entry::Table { table, w } = self.entry(place) else { return None };
            place = Place { table, index: *index, open: place.open && w };
        }
        Some(place)
    }

    /// The same, and tables that are missing are made.
    fn make(&mut self, level: usize, at: At) -> Result<Place, Refused> {
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

    fn add_table(&mut self, table: Table) -> usize {
        let free = (self.shape.spaces..self.tables.len()).find(|table| self.tables[*table].refs == 0);
        let number = free.unwrap_or(self.tables.len());
        self.tables.resize_with(self.tables.len().max(number + 1), Table::default);
        self.tables[number] = table;
        number
    }

    fn add_frame(&mut self) -> usize {
        let free = self.frames.iter().position(|refs| *refs == 0).unwrap_or(self.frames.len());
        self.frames.resize(self.frames.len().max(free + 1), 0);
        self.frames[free] = 1;
        free
    }

    fn release(&mut self, entry: Entry) {
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

    fn share(&mut self, entry: Entry) {
        match entry {
            Entry::Empty => {}
            Entry::Page { frame, .. } => self.frames[frame] += 1,
            Entry::Table { table, .. } => self.tables[table].refs += 1,
        }
    }

    fn replace(&mut self, place: Place, new: Entry) {
        let old = self.entry(place);
        self.set(place, new);
        self.release(old);
    }

    /// Free the tables above an entry that have become empty.
    fn prune(&mut self, level: usize, (space, mut number): At) {
        for above in level + 1..=ROOT {
            number /= self.shape.entries[4 - above];
            let Some(place) = self.find(above, (space, number)) else { continue };
            let Entry::Table { table, w: true } = self.entry(place) else { return };
            if self.tables[table].entries.iter().any(|entry| *entry != Entry::Empty) {
                return;
            }
            self.replace(place, Entry::Empty);
        }
    }

    /// A page that is there.
    fn page(&self, at: At) -> Result<(Place, usize, bool, bool, bool), Refused> {
        let place = self.find(1, at).ok_or(Refused::NotMapped)?;
        let Entry::Page { frame, w, may, keep } = self.entry(place) else { return Err(Refused::NotMapped) };
        Ok((place, frame, w, may, keep))
    }

    fn require_open(&self, place: Place) -> Result<(), Refused> {
        if place.open || !self.rule.closed { Ok(()) } else { Err(Refused::TableShared) }
    }

    /// What a leaf becomes when its page gets another user.
    fn lowered(&self, entry: Entry) -> Entry {
        match entry {
            Entry::Page { frame, may, keep: false, .. } => {
                Entry::Page { frame, w: false, may: may && !self.rule.lowers_may, keep: false }
            }
            Entry::Table { table, .. } => Entry::Table { table, w: false },
            other => other,
        }
    }

    fn act(&mut self, op: Op) -> Result<(), Refused> {
        match op {
            Op::Alloc(at) => {
                let place = self.make(1, at)?;
                let frame = self.add_frame();
                self.replace(place, Entry::Page { frame, w: true, may: true, keep: false });
                Ok(())
            }
            Op::Map(from, to, mode) => {
                let (source, frame, w, ..) = self.page(from)?;
                if mode != Mode::R {
                    if !w {
                        return Err(Refused::NoRight);
                    }
                    if !source.open && self.rule.no_writable_grant {
                        return Err(Refused::TableShared);
                    }
                }
                self.frames[frame] += 1;
                let w = mode != Mode::R;
                let new = Entry::Page { frame, w, may: w, keep: mode == Mode::K };
                match self.make(1, to) {
                    Ok(place) => {
                        self.authority[to.0][to.1] = w && self.authority[from.0][from.1];
                        self.replace(place, new);
                        Ok(())
                    }
                    Err(no) => {
                        self.release(new);
                        Err(no)
                    }
                }
            }
            Op::Protect(at, mode) => {
                let (place, frame, _, may, _) = self.page(at)?;
                self.require_open(place)?;
                if mode != Mode::R && !may {
                    return Err(Refused::NoRight);
                }
                self.set(place, Entry::Page { frame, w: mode != Mode::R, may, keep: mode == Mode::K });
                Ok(())
            }
            Op::Unmap(at) => {
                let place = self.find(1, at).filter(|place| self.entry(*place) != Entry::Empty);
                let place = place.ok_or(Refused::NotMapped)?;
                self.require_open(place)?;
                self.replace(place, Entry::Empty);
                self.prune(1, at);
                Ok(())
            }
            Op::Own(at) => {
                let (place, mut frame, .., keep) = self.page(at)?;
                if !place.open && self.rule.no_own_below {
                    return Err(Refused::TableShared);
                }
                if self.frames[frame] > 1 {
                    self.frames[frame] -= 1;
                    frame = self.add_frame();
                }
                self.authority[at.0][at.1] = true;
                self.set(place, Entry::Page { frame, w: true, may: true, keep });
                Ok(())
            }
            Op::ShareTable(level, from, to) => self.share_table(level, from, to),
            Op::OwnTable(level, at) => self.own_table(level, at),
            Op::UnmapTable(level, at) => {
                let place = self.table(level, at)?;
                let Entry::Table { table, w } = self.entry(place) else { return Err(Refused::NotMapped) };
                if w || self.tables[table].refs == 1 {
                    return Err(Refused::NotShared);
                }
                self.replace(place, Entry::Empty);
                self.prune(level, at);
                Ok(())
            }
            Op::Exit(space) => {
                let entries = vec![Entry::Empty; self.shape.entries[0]];
                let old = std::mem::replace(&mut self.tables[space].entries, entries);
                old.into_iter().for_each(|entry| self.release(entry));
                Ok(())
            }
        }
    }

    /// The entry to a table that is there, in a table of one's own.
    fn table(&self, level: usize, at: At) -> Result<Place, Refused> {
        let place = self.find(level, at).ok_or(Refused::NotMapped);
        // A shared table is met before a missing one.
        let blocked = (level + 1..=ROOT).rev().find_map(|above| {
            let number = at.1 / self.shape.entries[4 - above..4 - level].iter().product::<usize>();
            let entry = self.find(above, (at.0, number)).map_or(Entry::Empty, |place| self.entry(place));
            matches!(entry, Entry::Table { w: false, .. }).then_some(Refused::TableShared)
        });
        if let Some(no) = blocked
            && self.rule.closed
        {
            return Err(no);
        }
        place.and_then(
            |place| if self.entry(place) == Entry::Empty { Err(Refused::NotMapped) } else { Ok(place) },
        )
    }

    fn share_table(&mut self, level: usize, from: At, to: At) -> Result<(), Refused> {
        let place = self.table(level, from)?;
        let Entry::Table { table, w } = self.entry(place) else { return Err(Refused::NotMapped) };
        self.tables[table].refs += 1;
        self.set(place, Entry::Table { table, w: w && !self.rule.granting_takes_w });
        let given = Entry::Table { table, w: !self.rule.accepting_without_w };
        let target = self.make(level, to).and_then(|target| match self.entry(target) {
            Entry::Empty => Ok(target),
            _ => Err(Refused::Mapped),
        });
        let target = match target {
            Ok(target) => target,
            Err(no) => {
                self.tables[table].refs -= 1;
                return Err(no);
            }
        };
        self.set(target, given);
        // What both have is neither's to write, but for what is kept.
        let below: usize = self.shape.entries[4 - level..].iter().product();
        for page in 0..below {
            let (source, target) = ((from.0, from.1 * below + page), (to.0, to.1 * below + page));
            let kept = matches!(self.page(source), Ok((.., true)));
            let authority = &mut self.authority;
            authority[source.0][source.1] &= kept;
            authority[target.0][target.1] = authority[source.0][source.1];
        }
        Ok(())
    }

    fn own_table(&mut self, level: usize, at: At) -> Result<(), Refused> {
        let place = self.table(level, at)?;
        let Entry::Table { table, w } = self.entry(place) else { return Err(Refused::NotMapped) };
        if w {
            return Ok(());
        }
        if self.tables[table].refs == 1 {
            for index in 0..self.tables[table].entries.len() {
                let old = self.tables[table].entries[index];
                let new = match old {
                    Entry::Table { .. } if self.rule.keep_takes_w => self.lowered(old),
                    Entry::Page { frame, .. } if self.frames[frame] > 1 && self.rule.keep_lowers => {
                        self.lowered(old)
                    }
                    other => other,
                };
                self.tables[table].entries[index] = new;
            }
            self.set(place, Entry::Table { table, w: true });
            return Ok(());
        }
        let old = self.tables[table].entries.clone();
        old.iter().for_each(|entry| self.share(*entry));
        let entries = old.iter().map(|entry| match entry {
            Entry::Table { .. } if !self.rule.copy_takes_w => *entry,
            Entry::Page { .. } if !self.rule.copy_lowers => *entry,
            entry => self.lowered(*entry),
        });
        let entries = entries.collect();
        if self.rule.copy_takes_w_there && level == ROOT {
            self.tables[table].entries = old.iter().map(|entry| self.lowered(*entry)).collect();
        }
        self.tables[table].refs -= 1;
        let copy = self.add_table(Table { refs: 1, entries });
        self.set(place, Entry::Table { table: copy, w: true });
        Ok(())
    }

    /// Every page of every space.
    fn names(&self) -> Vec<Name> {
        let all =
            (0..self.shape.spaces).flat_map(|space| (0..self.shape.pages()).map(move |page| (space, page)));
        let name = |at: At| {
            let place = self.find(1, at)?;
            matches!(self.entry(place), Entry::Page { .. })
                .then(|| (at.0, at.1, self.entry(place), place.open))
        };
        all.filter_map(name).collect()
    }

    /// Whoever has a page alone has all rights to it, now and later.
    fn settle(&mut self) -> Vec<Name> {
        let names = self.names();
        let mut users = vec![0; self.frames.len()];
        for (.., entry, _) in &names {
            if let Entry::Page { frame, .. } = entry {
                users[*frame] += 1;
            }
        }
        let mut authority = vec![vec![false; self.shape.pages()]; self.shape.spaces];
        for (space, page, entry, _) in &names {
            if let Entry::Page { frame, .. } = entry {
                authority[*space][*page] = self.authority[*space][*page] || users[*frame] == 1;
            }
        }
        self.authority = authority;
        names
    }

    /// Make a step. Returns what is wrong then.
    fn step(&mut self, op: Op) -> (Result<(), Refused>, Option<&'static str>) {
        let before = self.names();
        let result = self.act(op);
        if result.is_err() && !matches!(op, Op::ShareTable(..)) {
            return (result, None); // nothing has changed: that is compared with real page maps
        }
        if let Some(wrong) = self.miscount() {
            return (result, Some(wrong));
        }
        let names = self.settle();
        (result, self.fault(op, &before, &names))
    }

    /// What is wrong.
    fn fault(&self, op: Op, before: &[Name], names: &[Name]) -> Option<&'static str> {
        let changed = match op {
            Op::Alloc((space, _)) | Op::Map(_, (space, _), _) | Op::Protect((space, _), _) => space,
            Op::Unmap((space, _)) | Op::Own((space, _)) | Op::ShareTable(_, _, (space, _)) => space,
            Op::OwnTable(_, (space, _)) | Op::UnmapTable(_, (space, _)) | Op::Exit(space) => space,
        };
        let seen = |names: &[Name]| -> Vec<_> {
            let others = names.iter().filter(|name| name.0 != changed);
            let others = others.map(|(space, page, entry, _)| match entry {
                Entry::Page { frame, .. } => (*space, *page, *frame),
                _ => (*space, *page, usize::MAX),
            });
            others.collect()
        };
        if seen(before) != seen(names) {
            return Some("somebody else's pages have changed");
        }
        for (space, page, entry, open) in names {
            let Entry::Page { frame, w, may, .. } = *entry else { continue };
            let shared = names
                .iter()
                .filter(|name| matches!(name.2, Entry::Page { frame: other, .. } if other == frame));
            let authority = self.authority[*space][*page];
            if *open && (w || may) && !authority && shared.count() > 1 {
                return Some("a page can be written that others have");
            }
        }
        None
    }

    /// Every reference is counted, and every table is there that an entry names.
    fn miscount(&self) -> Option<&'static str> {
        let mut counted = (vec![0; self.tables.len()], vec![0; self.frames.len()]);
        counted.0[..self.shape.spaces].fill(1);
        for entry in self.tables.iter().filter(|table| table.refs > 0).flat_map(|table| &table.entries) {
            match entry {
                Entry::Table { table, .. } => counted.0[*table] += 1,
                Entry::Page { frame, .. } => counted.1[*frame] += 1,
                Entry::Empty => {}
            }
        }
        let refs: Vec<_> = self.tables.iter().map(|table| table.refs).collect();
        (counted != (refs, self.frames.clone())).then_some("a reference is not counted, or one too many")
    }

    /// The state, written down so that equal ones are equal: tables and frames by the order in which they are met.
    fn key(&self) -> Vec<u8> {
        let orders: &[&[usize]] = match self.shape.spaces {
            2 => &[&[0, 1], &[1, 0]],
            _ => &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]],
        };
        orders.iter().map(|order| self.key_of(order)).min().unwrap_or_default()
    }

    fn key_of(&self, order: &[usize]) -> Vec<u8> {
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
        for space in order {
            visit(self, *space, &mut known, &mut key);
            key.push(self.authority[*space].iter().fold(0, |bits, bit| bits << 1 | u8::from(*bit)));
        }
        key
    }

    /// What can be done. (What makes no difference is left out where that is plain.)
    fn ops(&self) -> Vec<Op> {
        let Shape { spaces, frames, .. } = self.shape;
        let all =
            |level| (0..spaces).flat_map(move |space| (0..self.shape.names(level)).map(move |n| (space, n)));
        let room = self.frames.iter().filter(|refs| **refs > 0).count() < frames;
        let mut ops = Vec::new();
        for at in all(1) {
            if room {
                ops.push(Op::Alloc(at));
                ops.push(Op::Own(at));
            }
            ops.push(Op::Unmap(at));
            ops.extend([Mode::R, Mode::W, Mode::K].map(|mode| Op::Protect(at, mode)));
            for to in all(1) {
                ops.extend([Mode::R, Mode::W].map(|mode| Op::Map(at, to, mode)));
            }
        }
        for level in [2, 3] {
            for at in all(level) {
                ops.push(Op::OwnTable(level, at));
                ops.push(Op::UnmapTable(level, at));
                ops.extend(all(level).filter(|to| *to != at).map(|to| Op::ShareTable(level, at, to)));
            }
        }
        ops.extend((0..spaces).map(Op::Exit));
        ops
    }
}

/// What a search has found.
struct Found {
    /// A way to every state, the shortest one.
    ways: Vec<Vec<Op>>,
    /// A way to a state that is wrong, and what is.
    wrong: Option<(Vec<Op>, &'static str)>,
}

/// All states that so many operations lead to, the near ones first.
fn search(shape: Shape, rule: Rule, depth: usize, most: usize) -> Found {
    let start = State::new(shape, rule);
    let mut seen = HashSet::from([start.key()]);
    // Ways share their beginnings: each has the number of the state before, and the last operation.
    let mut steps: Vec<(usize, Option<Op>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(start, 0, 0)]);
    let way = |steps: &[(usize, Option<Op>)], mut at: usize| {
        let mut way = Vec::new();
        while let (before, Some(op)) = steps[at] {
            way.push(op);
            at = before;
        }
        way.reverse();
        way
    };
    while let Some((state, number, done)) = queue.pop_front() {
        if done == depth {
            continue;
        }
        for op in state.ops() {
            let mut next = state.clone();
            let (result, wrong) = next.step(op);
            if result.is_err() && !matches!(op, Op::ShareTable(..)) {
                continue;
            }
            if let Some(wrong) = wrong {
                let way = way(&steps, number).into_iter().chain([op]).collect();
                return Found { ways: Vec::new(), wrong: Some((way, wrong)) };
            }
            if seen.len() < most && seen.insert(next.key()) {
                steps.push((number, Some(op)));
                queue.push_back((next, steps.len() - 1, done + 1));
            }
        }
    }
    Found { ways: (0..steps.len()).map(|state| way(&steps, state)).collect(), wrong: None }
}

/// Tables of tables; aliases under another table of the same space; neighbours in a table.
const SHAPES: [Shape; 3] = [
    Shape { spaces: 3, entries: [1, 2, 1], frames: 2 },
    Shape { spaces: 2, entries: [2, 1, 1], frames: 2 },
    Shape { spaces: 2, entries: [1, 2, 2], frames: 2 },
];

#[test]
fn no_sequence_of_operations_leads_to_a_state_that_is_wrong() {
    for (shape, depth, most) in SHAPES.into_iter().zip([6, 7, 6]).map(|(shape, depth)| (shape, depth, 20_000))
    {
        let found = search(shape, RULE, depth, most);
        assert_eq!(found.wrong, None, "{shape:?}");
        let deepest = found.ways.iter().map(Vec::len).max();
        println!("{} states, up to {deepest:?} operations, in {shape:?}", found.ways.len());
        assert!(found.ways.len() > 1000);
    }
}

#[test]
fn each_part_of_the_rule_is_needed() {
    for (part, rule) in broken_rules() {
        let wrong = SHAPES.into_iter().find_map(|shape| search(shape, rule, 7, 12_000).wrong);
        let (way, what) = wrong.unwrap_or_else(|| panic!("nothing is wrong without this: {part}"));
        println!("without \"{part}\", {what}: {way:?}");
    }
}

/// Real page maps, on which the same is done.
struct Real {
    memory: Memory<Sim>,
    template: abi::Frame,
    spaces: Vec<Space<Sim>>,
    shape: Shape,
}

impl Real {
    fn new(shape: Shape) -> Real {
        let memory = machine::start(ALL);
        let (template, _) = machine::template();
        let mut real = Real { memory, template, spaces: Vec::new(), shape };
        real.spaces = (0..shape.spaces).map(|_| real.space()).collect();
        real
    }

    fn space(&self) -> Space<Sim> {
        Space::new(&self.memory, self.template).expect("a frame")
    }

    fn end(&mut self, space: usize) {
        while !self.spaces[space].tear_down(&self.memory, &mut 200) {}
        self.spaces[space].free(&self.memory);
        self.spaces[space] = self.space();
    }

    fn act(&mut self, op: Op) -> Result<(), Refused> {
        if let Op::Exit(space) = op {
            self.end(space);
            return Ok(());
        }
        let (memory, shape) = (&self.memory, self.shape);
        let page = |at: At| va(shape, 1, at.1);
        let result = match op {
            Op::Alloc(at) => self.spaces[at.0].alloc(memory, page(at), Perms::WRITE),
            Op::Map(from, to, mode) => {
                let (source, target) = (page(from), page(to));
                let frame = self.spaces[from.0].grant(memory, source, perms(mode));
                frame.and_then(|frame| self.spaces[to.0].accept(memory, target, frame, perms(mode)))
            }
            Op::Protect(at, mode) => self.spaces[at.0].protect(page(at), perms(mode)),
            Op::Unmap(at) => self.spaces[at.0].unmap(memory, page(at)),
            Op::Own(at) => self.spaces[at.0].own(memory, page(at)).map(drop),
            Op::ShareTable(level, from, to) => {
                let (source, target) = (va(shape, level, from.1), va(shape, level, to.1));
                let table = self.spaces[from.0].grant_table(memory, source, level as u32);
                table.and_then(|table| self.spaces[to.0].accept_table(memory, target, level as u32, table))
            }
            Op::OwnTable(level, at) => {
                self.spaces[at.0].own_table(memory, va(shape, level, at.1), level as u32).map(drop)
            }
            Op::UnmapTable(level, at) => {
                self.spaces[at.0].unmap_table(memory, va(shape, level, at.1), level as u32)
            }
            Op::Exit(_) => unreachable!("done already"),
        };
        self.spaces.iter_mut().for_each(|space| space.settle(memory));
        result.map_err(|error| match error {
            Error::NotMapped(_) => Refused::NotMapped,
            Error::NoRight(_) => Refused::NoRight,
            Error::TableShared(_) => Refused::TableShared,
            Error::Mapped(_) => Refused::Mapped,
            Error::NotShared(_) => Refused::NotShared,
            other => panic!("{op:?}: {other:?}"),
        })
    }

    /// What stands in the tables, as a state.
    fn state(&self, like: &State) -> State {
        let mut state = State::new(self.shape, RULE);
        let (mut tables, mut frames) = (BTreeMap::new(), BTreeMap::new());
        let mut on_top = BTreeSet::new();
        for (number, space) in self.spaces.iter().enumerate() {
            let mut way = [number; 4];
            space.for_each(&mut |va, level, pte| {
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
                        let table = *tables.entry(pte.frame()).or_insert(self.shape.spaces + next.0);
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
                state.tables[way[level]].entries[va.index(level as u32)] = entry;
            });
        }
        state.frames = vec![0; frames.len()];
        frames.iter().for_each(|(frame, number)| state.frames[*number] = refs(*frame) as usize);
        let used = self.spaces.len() + on_top.len() + tables.len() + frames.len();
        assert_eq!(free_frames(), ALL - used, "frames");
        state.authority.clone_from(&like.authority);
        state
    }

    fn play(&mut self, way: &[Op], op: Op) {
        let mut state = State::new(self.shape, RULE);
        for op in way {
            assert_eq!(self.act(*op), state.step(*op).0, "{way:?}");
        }
        assert_eq!(self.act(op), state.step(op).0, "{op:?} after {way:?}");
        let order: Vec<_> = (0..self.shape.spaces).collect();
        let found = self.state(&state);
        assert_eq!(
            found.key_of(&order),
            state.key_of(&order),
            "{op:?} after {way:?}: {found:?}, not {state:?}"
        );
        let counts = |state: &State| {
            let mut counts: Vec<_> =
                state.tables.iter().map(|table| table.refs).filter(|refs| *refs > 0).collect();
            counts.extend(state.frames.iter().filter(|refs| **refs > 0));
            counts.sort_unstable();
            counts
        };
        assert_eq!(counts(&found), counts(&state), "{op:?} after {way:?}");
        (0..self.shape.spaces).for_each(|space| self.end(space));
    }
}

fn perms(mode: Mode) -> Perms {
    match mode {
        Mode::R => Perms::READ,
        Mode::W => Perms::WRITE,
        Mode::K => Perms::WRITE | Perms::KEEP,
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.tables.iter().filter(|table| table.refs > 0)).finish()
    }
}

#[test]
fn real_page_maps_do_the_same() {
    for shape in SHAPES {
        let mut real = Real::new(shape);
        for way in search(shape, RULE, 5, 250).ways {
            let mut state = State::new(shape, RULE);
            for op in &way {
                _ = state.step(*op);
            }
            state.ops().into_iter().for_each(|op| real.play(&way, op));
        }
        assert_eq!(free_frames(), ALL - shape.spaces);
    }
}

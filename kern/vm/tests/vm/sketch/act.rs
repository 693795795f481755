//! The effect of each operation on a state, and the list of operations.

use super::op::{At, Mode, Op, Refused, Shape};
use super::state::{Entry, Place, ROOT, State, Table};

impl State {
    /// Executes an operation, or returns the reason for a refusal.
    pub fn act(&mut self, op: Op) -> Result<(), Refused> {
        match op {
            Op::Alloc(at) => self.alloc(at),
            Op::Map(from, to, mode) => self.map(from, to, mode),
            Op::Protect(at, mode) => self.protect(at, mode),
            Op::Unmap(at) => self.unmap(at),
            Op::Own(at) => self.own(at),
            Op::ShareTable(level, from, to) => self.share_table(level, from, to),
            Op::OwnTable(level, at) => self.own_table(level, at),
            Op::UnmapTable(level, at) => self.unmap_table(level, at),
            Op::Exit(map) => {
                self.exit(map);
                Ok(())
            }
        }
    }

    fn alloc(&mut self, at: At) -> Result<(), Refused> {
        let place = self.make(1, at)?;
        let frame = self.add_frame();
        self.replace(place, Entry::Page { frame, w: true, may: true, keep: false });
        Ok(())
    }

    fn map(&mut self, from: At, to: At, mode: Mode) -> Result<(), Refused> {
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

    fn protect(&mut self, at: At, mode: Mode) -> Result<(), Refused> {
        let (place, frame, _, may, _) = self.page(at)?;
        self.require_open(place)?;
        if mode != Mode::R && !may {
            return Err(Refused::NoRight);
        }
        self.set(place, Entry::Page { frame, w: mode != Mode::R, may, keep: mode == Mode::K });
        Ok(())
    }

    fn unmap(&mut self, at: At) -> Result<(), Refused> {
        let place = self.find(1, at).filter(|place| self.entry(*place) != Entry::Empty);
        let place = place.ok_or(Refused::NotMapped)?;
        self.require_open(place)?;
        self.replace(place, Entry::Empty);
        self.prune(1, at);
        Ok(())
    }

    fn own(&mut self, at: At) -> Result<(), Refused> {
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

    /// The entry that points to a table, in a table of the page map's own.
    fn table(&self, level: usize, at: At) -> Result<Place, Refused> {
        let place = self.find(level, at).ok_or(Refused::NotMapped);
        // A walk meets a shared table before a missing one.
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
        place.and_then(|place| if self.entry(place) == Entry::Empty { Err(Refused::NotMapped) } else { Ok(place) })
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
        // Neither side may write shared pages, except kept ones.
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

    /// The leaf of a page that gets another user.
    fn lowered(&self, entry: Entry) -> Entry {
        match entry {
            Entry::Page { frame, may, keep: false, .. } => {
                Entry::Page { frame, w: false, may: may && !self.rule.lowers_may, keep: false }
            }
            Entry::Table { table, .. } => Entry::Table { table, w: false },
            other => other,
        }
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
                    Entry::Page { frame, .. } if self.frames[frame] > 1 && self.rule.keep_lowers => self.lowered(old),
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

    fn unmap_table(&mut self, level: usize, at: At) -> Result<(), Refused> {
        let place = self.table(level, at)?;
        let Entry::Table { table, w } = self.entry(place) else { return Err(Refused::NotMapped) };
        if level > 2 && (w || self.tables[table].refs == 1) {
            return Err(Refused::NotShared);
        }
        self.replace(place, Entry::Empty);
        self.prune(level, at);
        Ok(())
    }

    fn exit(&mut self, map: usize) {
        let entries = vec![Entry::Empty; self.shape.entries[0]];
        let old = std::mem::replace(&mut self.tables[map].entries, entries);
        old.into_iter().for_each(|entry| self.release(entry));
    }

    /// The possible operations. (Without those that plainly change nothing.)
    pub fn ops(&self) -> Vec<Op> {
        let Shape { maps, frames, .. } = self.shape;
        let all = |level| (0..maps).flat_map(move |map| (0..self.shape.names(level)).map(move |n| (map, n)));
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
        ops.extend((0..maps).map(Op::Exit));
        ops
    }
}

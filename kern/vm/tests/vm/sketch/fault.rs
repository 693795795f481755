//! Violations of a state, defined without reference to tables.
//!
//! A page map has *authority* over a page that it can write, or could make writable without a call to anyone, or that
//! no other page map has. Authority comes with a page that was allocated or made private, and passes on with a
//! writable mapping, and with a page that is kept over a fork; it ends for both sides when a page is shared by a
//! table. A page that only one page map has is under its authority.

use super::op::{At, Op, Refused};
use super::state::{Entry, State};

/// A page in one page map: the page map, the page, the entry, and whether all levels above allow writing.
type Name = (usize, usize, Entry, bool);

impl State {
    /// Every page of every page map.
    fn names(&self) -> Vec<Name> {
        let all = (0..self.shape.maps).flat_map(|map| (0..self.shape.pages()).map(move |page| (map, page)));
        let name = |at: At| {
            let place = self.find(1, at)?;
            matches!(self.entry(place), Entry::Page { .. }).then(|| (at.0, at.1, self.entry(place), place.open))
        };
        all.filter_map(name).collect()
    }

    /// A page map that has a page alone has all rights to it, now and later.
    fn settle(&mut self) -> Vec<Name> {
        let names = self.names();
        let mut users = vec![0; self.frames.len()];
        for (.., entry, _) in &names {
            if let Entry::Page { frame, .. } = entry {
                users[*frame] += 1;
            }
        }
        let mut authority = vec![vec![false; self.shape.pages()]; self.shape.maps];
        for (map, page, entry, _) in &names {
            if let Entry::Page { frame, .. } = entry {
                authority[*map][*page] = self.authority[*map][*page] || users[*frame] == 1;
            }
        }
        self.authority = authority;
        names
    }

    /// Makes a step. Returns the violation, if there is one.
    pub fn step(&mut self, op: Op) -> (Result<(), Refused>, Option<&'static str>) {
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

    /// The violations of this state.
    fn fault(&self, op: Op, before: &[Name], names: &[Name]) -> Option<&'static str> {
        let changed = match op {
            Op::Alloc((map, _)) | Op::Map(_, (map, _), _) | Op::Protect((map, _), _) => map,
            Op::Unmap((map, _)) | Op::Own((map, _)) | Op::ShareTable(_, _, (map, _)) => map,
            Op::OwnTable(_, (map, _)) | Op::UnmapTable(_, (map, _)) | Op::Exit(map) => map,
        };
        let seen = |names: &[Name]| -> Vec<_> {
            let others = names.iter().filter(|name| name.0 != changed);
            let others = others.map(|(map, page, entry, _)| match entry {
                Entry::Page { frame, .. } => (*map, *page, *frame),
                _ => (*map, *page, usize::MAX),
            });
            others.collect()
        };
        if seen(before) != seen(names) {
            return Some("somebody else's pages have changed");
        }
        for (map, page, entry, open) in names {
            let Entry::Page { frame, w, may, .. } = *entry else { continue };
            let shared =
                names.iter().filter(|name| matches!(name.2, Entry::Page { frame: other, .. } if other == frame));
            let authority = self.authority[*map][*page];
            if *open && (w || may) && !authority && shared.count() > 1 {
                return Some("a page can be written that others have");
            }
        }
        None
    }

    /// Every reference is counted, and every table that an entry names exists.
    fn miscount(&self) -> Option<&'static str> {
        let mut counted = (vec![0; self.tables.len()], vec![0; self.frames.len()]);
        counted.0[..self.shape.maps].fill(1);
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
}

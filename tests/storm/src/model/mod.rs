//! The contract, written as naively as possible: the answers that the kernel must give.
//!
//! Page maps are maps, frames are counted, nothing is fast. The model does not decide what the kernel may choose
//! freely: which frame is allocated, and how far a call gets in one kernel entry.

mod calls;
mod env;
mod envs;
mod page_map;
mod tables;

use crate::place::{DESK, FIXTURES};
use crate::play::{Entry, Env as Public, Table, World};
use abi::{Call, Error, Level, PAGE_SIZE, Perms, Pte, Status, Va, layout::ARCHIVE};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::{format, string::String, vec::Vec};
use core::{fmt, ops::Range};
use env::Env;
use page_map::{PageMap, Pages};

/// The machine of the contract.
pub struct Model {
    pages: Pages,
    envs: Vec<Env>,
    /// Slots that are free again, the next one to use first.
    slots: VecDeque<usize>,
    /// Slots that were never used.
    fresh: Range<usize>,
    /// The number of environments that were requested so far.
    created: u32,
    /// The run queue: slots of environments that are to run, or to end.
    queue: VecDeque<usize>,
    /// The known pages of the boot archive.
    archive: Vec<usize>,
    /// The slot of the hostile program.
    me: usize,
    desk: usize,
    lines: Vec<String>,
    /// How often each page call, by its number, had each result.
    reached: BTreeMap<(u32, Option<u64>), u32>,
}

/// The description of a machine on the console before anything is played; see [`Model::from_description`].
#[derive(Clone, Debug, Default)]
struct Start {
    free: u64,
    slots: usize,
    me: u32,
    ranges: Vec<(u64, u64)>,
    fixtures: Vec<Fixture>,
    stack: (u64, u64),
}

/// A page that exists from the beginning: address, references, words that are not 0.
type Fixture = (u64, u32, Vec<(u64, u64)>);

impl Start {
    /// Parses one line of the description: a word, and numbers.
    fn line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        let mut numbers = rest.split([' ', '=']).map(|number| u64::from_str_radix(number, 16).ok());
        let mut next = || numbers.next().flatten();
        match word {
            "machine" => (self.free, self.slots, self.me) = (next()?, next()? as usize, next()? as u32),
            "stack" => self.stack = (next()?, next()?),
            "pages" => self.ranges.push((next()?, next()?)),
            "fixture" => {
                let (at, refs) = (next()?, next()? as u32);
                let mut words = Vec::new();
                while let (Some(offset), Some(word)) = (next(), next()) {
                    words.push((offset, word));
                }
                self.fixtures.push((at, refs, words));
            }
            _ => return None,
        }
        Some(())
    }
}

impl Model {
    /// The machine that the program has described on the console.
    ///
    /// # Errors
    /// Names the missing part of the description.
    pub fn from_description<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Model, String> {
        let mut start = Start::default();
        for line in lines.take_while(|line| *line != "begin") {
            start.line(line).ok_or_else(|| format!("not a description: {line:?}"))?;
        }
        if start.slots == 0 || start.fixtures.len() != FIXTURES.len() {
            return Err("the description is not complete".into());
        }
        Ok(Model::new(&start))
    }

    fn new(start: &Start) -> Model {
        let me = start.me as usize % abi::EnvId::MAX_SLOTS;
        let mut model = Model {
            pages: Pages { free: u64::MAX / 2, ..Pages::default() },
            envs: (0..start.slots).map(|_| Env::default()).collect(),
            slots: VecDeque::new(),
            // The hostile program is the first environment, and in the first slot.
            fresh: 1..start.slots,
            created: 1,
            queue: VecDeque::new(),
            archive: Vec::new(),
            me,
            desk: 0,
            lines: Vec::new(),
            reached: BTreeMap::new(),
        };
        let map = PageMap::new(&mut model.pages).expect("there is enough");
        for &(first, pages) in &start.ranges {
            for va in (0..pages).map(|page| first + page * PAGE_SIZE) {
                let page = model.pages.add();
                if va == DESK {
                    model.desk = page;
                }
                let _ = map.put(&mut model.pages, va, page_map::Slot::own(page, Perms::WRITE));
            }
        }
        for (at, refs, words) in &start.fixtures {
            let page = map.page(&model.pages, *at).map_or_else(|| model.pages.add(), |slot| slot.page);
            let contents = &mut model.pages.all[page];
            contents.refs = *refs;
            words.iter().for_each(|&(offset, word)| contents.write(offset, word));
            if *at >= ARCHIVE.0 {
                model.archive.push(page);
            } else {
                map.change(&mut model.pages, *at, |_| page_map::Slot::text(page).bits);
            }
        }
        model.pages.free = start.free;
        let env = &mut model.envs[me];
        env.id = start.me;
        env.status = Status::Running;
        env.stack = start.stack.0..start.stack.1;
        env.map = Some(map);
        model
    }

    fn my_page_map(&self) -> PageMap {
        self.envs[self.me].map.expect("the hostile program runs")
    }

    /// Whether the hostile program can write to a page, after its libos has done what it can: libos owns the page
    /// tables above, from the top down, and then copies a copy-on-write page.
    fn may_write(&mut self, map: PageMap, at: u64) -> bool {
        let page = map.page(&self.pages, at);
        if !page.is_some_and(|page| page.has(Pte::WRITABLE) || page.has(Perms::COW.bits())) {
            return false;
        }
        while let Err(Error::TableShared(table)) = map.require_open(&self.pages, at, Level::L1) {
            let (va, level) =
                (table - table % PAGE_SIZE, Level::from_number(table % PAGE_SIZE).expect("the error names a level"));
            if map.own_table(&mut self.pages, va, level).is_err() {
                return false;
            }
        }
        // A copy-on-write page becomes the program's own, also if a page table above is sealed.
        let page = map.page(&self.pages, at);
        if !page.is_some_and(|page| page.has(Pte::WRITABLE)) && map.own(&mut self.pages, at).is_err() {
            return false;
        }
        map.is_writable(&self.pages, at)
    }

    /// How often this page call, alone or in a batch, had this error, or none.
    #[must_use]
    pub fn reached(&self, call: Call, error: Option<Error>) -> u32 {
        self.reached.get(&(call as u32, error.map(code))).copied().unwrap_or(0)
    }

    /// How many shared page tables were taken over by their last sharer, and how many were copied.
    #[must_use]
    pub fn owned_tables(&self) -> [u32; 2] {
        self.pages.owned_tables
    }

    /// The printed lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// The number of the error, without its value.
fn code(error: Error) -> u64 {
    error.encode().0
}

impl World for Model {
    fn call(&mut self, number: u64, args: [u64; 6]) -> (u64, u64) {
        // The hostile program makes no call that does not return.
        self.dispatch(self.me, number, args).unwrap_or((0xdead, 0xdead))
    }

    fn settle(&mut self) {
        self.run_queue();
    }

    fn access(&mut self, at: u64, write: Option<u64>) -> Result<u64, (u64, u64)> {
        const USER: u64 = 4;
        let map = self.my_page_map();
        let code = USER | if write.is_some() { 2 } else { 0 };
        if map.page(&self.pages, at).is_none() {
            return Err((code, at));
        }
        if write.is_some() && !self.may_write(map, at) {
            return Err((code | 1, at));
        }
        let dirty = if write.is_some() { Pte::DIRTY } else { 0 };
        map.change(&mut self.pages, at, |bits| bits | Pte::ACCESSED | dirty);
        let page = map.page(&self.pages, at).expect("it was there").page;
        let page = &mut self.pages.all[page];
        if let Some(word) = write {
            page.write(at % PAGE_SIZE, word);
        }
        Ok(page.read(at % PAGE_SIZE))
    }

    fn load(&self, at: u64) -> u64 {
        self.pages.all[self.desk].read(at - DESK)
    }

    fn store(&mut self, at: u64, word: u64) {
        self.pages.all[self.desk].write(at - DESK, word);
    }

    fn env(&self, id: u32) -> Option<Public> {
        let env = self.envs.get(abi::EnvId(id).slot()).filter(|env| env.id == id)?;
        Some(Public { status: env.status as u32, parent: env.parent, exit: env.exit.into() })
    }

    fn entries(&self, start: u64, end: u64, f: &mut dyn FnMut(Entry)) {
        PageMap::visit(&self.pages, self.my_page_map().root, Level::L4, Va(0), &(start..end), &mut |va, slot| {
            let (refs, frame) =
                if slot.is_present() { (self.pages.all[slot.page].refs, slot.page as u64) } else { (0, u64::MAX) };
            f(Entry { va, bits: slot.bits, refs, frame });
        });
    }

    fn table(&self, va: u64, level: Level) -> Option<Table> {
        match self.my_page_map().entry(&self.pages, va, level)? {
            page_map::Entry::Table { table, open, sealed } => {
                Some(Table { open, sealed, refs: self.pages.table_refs(table) })
            }
            page_map::Entry::Slot(_) => None,
        }
    }

    fn free(&self) -> u64 {
        self.pages.free
    }

    fn slots(&self) -> usize {
        self.envs.len()
    }

    fn me(&self) -> u32 {
        self.envs[self.me].id
    }

    fn print(&mut self, line: fmt::Arguments) {
        self.lines.push(format!("{line}"));
    }
}

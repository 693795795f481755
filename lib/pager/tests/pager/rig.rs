//! Environments for single cases, without a model: programs that read and write.

use crate::host::{ALL, Book, By, Host, share};
use crate::world::{byte, touch};
use abi::{Level, PAGE_SIZE, Perms, Va, page::span};
use pager::ranges::{Advice, Table};
use pager::{Error, PageCalls, Pager, Region, ranges};
use sim::machine::{self, free_frames, processor};
use sim::processor::Access;
use std::ops::Range;

/// The base address of the cases.
pub const BASE: Va = Va(0x4000_0000);

/// Two spans of a table of level 1 with no pages.
pub const OTHER_GIB: Va = Va(BASE.0 - 300 * span(Level::L2));
pub const SAME_GIB: Va = Va(BASE.0 + 300 * span(Level::L2));

/// The range of these pages, counted from [`BASE`].
pub fn range(pages: Range<u64>) -> Range<Va> {
    page(pages.start)..page(pages.end)
}

pub fn page(number: u64) -> Va {
    BASE.add_pages(number)
}

/// A writable region of these pages.
pub fn region(pages: Range<u64>, pager: &'static dyn Pager<Host>) -> Region<Host> {
    Region::new(range(pages), Perms::WRITE, pager)
}

/// The environments, each with its table of regions. The first one runs.
pub struct Rig {
    pub host: Host,
    pub books: Vec<Book>,
    /// The way of forking.
    pub by: By,
}

impl Rig {
    /// One environment with these regions.
    pub fn new(regions: &[Region<Host>]) -> Rig {
        let rig = Rig { host: Host::new(ALL), books: vec![Book::new(16)], by: By::Pages };
        for region in regions {
            rig.books[0].edit(|book| book.add(*region)).expect("regions that fit");
        }
        rig
    }

    /// The kernel, and the table of the running environment.
    pub fn parts(&mut self) -> (&mut Host, &Book) {
        let book = &self.books[self.host.current];
        (&mut self.host, book)
    }

    /// The result of a program's read of the first byte of a page.
    pub fn access(&mut self, number: u64, access: Access) -> Option<u8> {
        let (host, book) = self.parts();
        let met = touch(host, &book.regions(), page(number), access).expect("there is enough memory");
        met.0.map(|frame| byte(frame, 0))
    }

    pub fn read(&mut self, number: u64) -> Option<u8> {
        self.access(number, Access::Read)
    }

    /// Writes the first byte of a page as a program. Returns whether it may.
    pub fn write(&mut self, number: u64, value: u8) -> bool {
        let (host, book) = self.parts();
        write(host, &book.regions(), number, value)
    }

    /// Forks the running environment; returns the child's index.
    pub fn fork(&mut self, except: &[Range<Va>]) -> Result<usize, Error> {
        let child = self.books.len();
        self.host.create(child)?;
        let by = self.by;
        let (host, book) = self.parts();
        share(host, by, child, &book.regions(), except)?;
        let inherited = book.inherited();
        self.books.push(inherited);
        Ok(child)
    }

    pub fn unmap(&mut self, pages: Range<u64>) -> Result<(), Error> {
        let (host, book) = self.parts();
        ranges::unmap(host, book, &range(pages))
    }

    pub fn protect(&mut self, pages: Range<u64>, perms: Perms) -> Result<(), Error> {
        let (host, book) = self.parts();
        ranges::protect(host, book, &range(pages), perms)
    }

    pub fn advise(&mut self, pages: Range<u64>, advice: Advice) -> Result<(), Error> {
        let (host, book) = self.parts();
        ranges::advise(host, book, &range(pages), advice)
    }

    pub fn relocate(&mut self, old: Range<u64>, new: Range<u64>) -> Result<(), Error> {
        let (host, book) = self.parts();
        ranges::relocate(host, book, &range(old), &range(new))
    }

    /// The pages that have a page or mark.
    pub fn held(&self) -> Vec<u64> {
        let all = self.host.entries(range(0..1 << 19));
        all.map(|(va, _)| (va.0 - BASE.0) / PAGE_SIZE).collect()
    }

    /// Ends all environments: every frame must be free.
    pub fn end(self) {
        let all: Vec<_> = (0..self.books.len()).collect();
        self.end_of(&all);
    }

    /// Ends these environments, the only ones that are left: every frame must be free.
    pub fn end_of(mut self, envs: &[usize]) {
        processor(|processor| processor.load(None));
        envs.iter().for_each(|env| self.host.tear_down(*env));
        assert_eq!(free_frames(), ALL, "frames at the end");
    }
}

/// Writes the first byte of a page as a program. Returns whether it may.
pub fn write(host: &mut Host, regions: &[Region<Host>], number: u64, value: u8) -> bool {
    let met = touch(host, regions, page(number), Access::Write).expect("there is enough memory");
    let Some(frame) = met.0 else { return false };
    machine::put(frame, 0, &[value]);
    true
}

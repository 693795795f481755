//! The crate on the simulated machine and the model side by side: every step is made in both, then everything is
//! compared.

use crate::host::{ALL, Book, By, ENVS, Host, REGIONS, share};
use crate::model::{FrameId, Held, Model, Page};
use crate::op::{Kind, OFFSETS, Op, Outcome, pages};
use abi::{Frame, Level, Perms, Pte, Va, fault::PageFaultCode, layout::USER_LIMIT};
use pager::fast::{self, FastResolution, Known};
use pager::ranges::{self, Table};
use pager::stream::Streams;
use pager::{Cause, Error, File, Guard, Inherit, PageCalls, Pager, Region, Resolution, Shared, Touch, Zeros};
use sim::machine::{self, Sim, entry, free_frames, processor, refs};
use sim::processor::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::{array, cell::Cell, ops::Range, sync::atomic::Ordering::SeqCst};
use vm::Machine;

const NO_MEMORY: Outcome = Outcome::Done(Err(Error::Kernel(abi::Error::NoMemory(0))));

/// Zeros that children do not inherit.
pub struct Secret;

impl Pager<Host> for Secret {
    fn name(&self) -> &'static str {
        "secret"
    }

    fn fault(&self, host: &mut Host, touch: &Touch, region: &Region<Host>) -> Result<Resolution, abi::Error> {
        ZEROS.fault(host, touch, region)
    }

    fn on_fork(&self) -> Inherit {
        Inherit::Not
    }
}

static ZEROS: Zeros = Zeros::named("zeros");
static FILE: File = File { name: "file" };

fn pager_of(kind: Kind) -> &'static dyn Pager<Host> {
    match kind {
        Kind::Zeros => &ZEROS,
        Kind::Secret => &Secret,
        Kind::Shared => &Shared,
        Kind::File { .. } => &FILE,
        Kind::Guard => &Guard("guard"),
    }
}

/// A region, as the model describes it.
fn region_of((range, page): (Range<Va>, &Page)) -> Region<Host> {
    let keep = if page.kind == Kind::Shared { Perms::KEEP } else { Perms::READ };
    let region = Region::new(range, page.rights | keep, pager_of(page.kind));
    let data = if let Kind::File { bias, end } = page.kind { [bias, end] } else { [0; 2] };
    Region { order: page.order, data, ..region }
}

/// A program touches an address, with the help of the pagers. `None`: it may not. The second value is the cause of the
/// fault, if there was one.
pub fn touch(
    host: &mut Host,
    regions: &[Region<Host>],
    va: Va,
    access: Access,
) -> Result<(Option<Frame>, Option<Cause>), abi::Error> {
    let translate = || processor(|processor| processor.translate(va, access));
    if let Some(frame) = translate() {
        return Ok((Some(frame), None));
    }
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    let protection = bit(host.pte(va).is_present(), 1);
    let code = protection | bit(access == Access::Write, 2) | 4 | bit(access == Access::Fetch, 16);
    if va >= USER_LIMIT {
        return Ok((None, None));
    }
    let (code, counted) = (PageFaultCode(code), Cell::new(None));
    let mut known = Known::nothing();
    known.look_up(host, regions, va, &mut Streams::none());
    let fast = fast::resolve_fast(host, &known, va, code, |cause| counted.set(Some(cause)));
    assert_eq!(fast == FastResolution::Resume, counted.get().is_some(), "{access:?} at {va}");
    let resolution = match counted.get() {
        Some(cause) => Resolution::Resume(cause),
        None => pager::resolve(host, |va| pager::region::find(regions, va).copied(), va, code)?,
    };
    if fast == FastResolution::NotOurs {
        assert_eq!(resolution, Resolution::Unhandled, "{access:?} at {va}");
    }
    match resolution {
        Resolution::Unhandled => Ok((None, None)),
        Resolution::Resume(cause) => {
            let frame = translate();
            if cause == Cause::Copy && frame.is_none() && host.table(va, Level::L2).has(Pte::SEALED) {
                // A page that is copy-on-write is copied before anyone looks at the seal.
                return touch(host, regions, va, access);
            }
            assert!(frame.is_some(), "{access:?} at {va} faults again after {cause:?}");
            Ok((frame, Some(cause)))
        }
    }
}

/// A byte of a frame.
pub fn byte(frame: Frame, offset: u64) -> u8 {
    Sim::table(frame)[offset as usize / 8].load(SeqCst).to_le_bytes()[offset as usize % 8]
}

/// The crate and its model.
pub struct World {
    pub host: Host,
    books: [Book; ENVS],
    pub model: Model,
    cause: Option<Cause>,
    /// Whether the set of present pages is compared. If not, the model copies it: a step that failed may have brought
    /// in some.
    exact: bool,
    by: By,
    free_at_start: usize,
}

impl World {
    /// A world with more frames than the steps can use.
    pub fn new() -> World {
        World::with(ALL, true, By::Pages)
    }

    /// A world with many frames in which forks share tables. The model does not know the cost of that.
    pub fn with_tables(private: Option<Va>) -> World {
        World::with(ALL, false, By::Tables(private))
    }

    /// A world with so few frames that steps fail.
    pub fn small(frames: usize, by: By) -> World {
        World::with(frames, false, by)
    }

    fn with(frames: usize, exact: bool, by: By) -> World {
        let books = array::from_fn(|_| Book::new(REGIONS));
        let (host, model) = (Host::new(frames), Model::new(frames));
        World { host, books, model, cause: None, exact, by, free_at_start: frames }
    }

    /// Makes a step in both, and compares everything.
    pub fn step(&mut self, op: &Op) {
        let outcome = self.act(op);
        assert_eq!(outcome, self.model.apply(op), "{op:x?}");
        if self.exact {
            assert_eq!(self.cause, self.model.cause, "the cause of the fault of {op:x?}");
        }
        self.compare();
    }

    /// Makes a step in both, after making it fail for lack of each frame that it takes.
    pub fn starve_and_step(&mut self, op: &Op) {
        if !op.allocates() {
            return self.step(op);
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| self.host.memory.alloc().ok()).collect();
        let all = self.model.frames;
        self.model.frames -= taken.len();
        let outcome = loop {
            let outcome = self.act(op);
            if outcome != NO_MEMORY {
                break Some(outcome);
            }
            self.compare();
            let Some(frame) = taken.pop() else { break None };
            self.host.memory.release(frame);
            self.model.frames += 1;
        };
        taken.into_iter().rev().for_each(|frame| self.host.memory.release(frame));
        self.model.frames = all;
        if let Some(outcome) = outcome {
            assert_eq!(outcome, self.model.apply(op), "{op:x?}");
        }
        self.compare();
    }

    /// Compares every byte, then ends everything: as many frames must be free as at the beginning.
    pub fn end(mut self) {
        for env in 0..ENVS {
            if self.model.envs[env].is_some() {
                self.step(&Op::Switch { env });
                self.sweep();
            }
        }
        processor(|processor| processor.load(None));
        for env in 0..ENVS {
            if self.model.envs[env].is_some() {
                self.host.tear_down(env);
            }
        }
        assert_eq!(free_frames(), self.free_at_start, "frames at the end");
        let all: BTreeSet<_> = std::iter::from_fn(|| self.host.memory.alloc().ok()).collect();
        assert_eq!(all.len(), self.free_at_start, "different frames on the free list");
    }

    /// Reads every page of the running environment, and compares all of it.
    fn sweep(&mut self) {
        for va in self.model.env().pages.keys().copied().collect::<Vec<_>>() {
            let read = Op::Touch { va, access: Access::Read, byte: 0 };
            if self.exact {
                assert_eq!(self.act(&read), self.model.apply(&read), "{read:x?}");
            }
            let pte = self.host.pte(va);
            if pte.is_present() {
                let bytes = self.model.env().pages[&va].bytes.borrow();
                let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
                let found = Sim::table(pte.frame()).iter().map(|word| word.load(SeqCst));
                assert!(found.eq(words), "contents of {va}");
            }
        }
    }

    fn act(&mut self, op: &Op) -> Outcome {
        self.cause = None;
        let (host, book) = (&mut self.host, &self.books[self.model.current]);
        Outcome::Done(match op {
            Op::Add { range, kind, rights } => {
                let page = Page::new(range.start, *kind, *rights);
                let region = region_of((range.clone(), &page));
                book.edit(|regions| regions.add(region))
            }
            Op::Unmap { range } => ranges::unmap(host, book, range),
            Op::Protect { range, rights, cover } => {
                ranges::protect(host, book, &self.model.aim(range, *cover), *rights)
            }
            Op::Advise { range, advice, cover } => ranges::advise(host, book, &self.model.aim(range, *cover), *advice),
            Op::Relocate { page, to } => match self.model.move_of(*page, *to) {
                None => return Outcome::Skipped,
                Some((old, new)) => ranges::relocate(host, book, &old, &new),
            },
            Op::Fork => return self.fork(),
            Op::Exit => return self.exit(),
            Op::Switch { env } if self.model.envs[*env].is_none() => return Outcome::Skipped,
            Op::Switch { env } => {
                host.switch(*env);
                Ok(())
            }
            Op::Touch { va, access, byte } => return self.touch(*va, *access, *byte),
        })
    }

    fn fork(&mut self) -> Outcome {
        let Some(child) = self.model.envs.iter().position(Option::is_none) else { return Outcome::Skipped };
        if let Err(error) = self.host.create(child) {
            return Outcome::Done(Err(error.into()));
        }
        let book = &self.books[self.model.current];
        let result = share(&mut self.host, self.by, child, &book.regions(), &[]);
        if result.is_ok() {
            self.books[child] = book.inherited();
        } else {
            self.host.tear_down(child);
        }
        Outcome::Done(result)
    }

    fn exit(&mut self) -> Outcome {
        let me = self.model.current;
        let mut others = (0..ENVS).filter(|env| *env != me && self.model.envs[*env].is_some());
        let Some(next) = others.next() else { return Outcome::Skipped };
        self.host.switch(next);
        self.host.tear_down(me);
        self.books[me] = Book::new(REGIONS);
        Outcome::Done(Ok(()))
    }

    fn touch(&mut self, va: Va, access: Access, new: u8) -> Outcome {
        let regions = self.books[self.model.current].regions();
        let (frame, cause) = match touch(&mut self.host, &regions, va, access) {
            Ok(met) => met,
            Err(error) => return Outcome::Done(Err(error.into())),
        };
        self.cause = cause;
        let Some(frame) = frame else { return Outcome::Fault };
        if access == Access::Write {
            machine::put(frame, va.offset() as usize, &[new]);
        }
        Outcome::Byte(byte(frame, va.offset()))
    }

    /// Compares regions, pages, contents and metadata.
    fn compare(&mut self) {
        if !self.exact {
            self.take_over();
        }
        let mut frame_of = BTreeMap::new();
        for (number, env) in self.model.envs.iter().enumerate() {
            let Some(env) = env else { continue };
            let regions: Vec<_> = env.regions().map(region_of).collect();
            assert_eq!(details(&self.books[number].regions()), details(&regions), "regions of {number}");
            for va in pages() {
                let pte = entry(self.host.root(number), va);
                let page = env.pages.get(&va).filter(|page| page.held.is_some());
                assert_eq!(!pte.is_empty(), page.is_some(), "whether a page is at {va} of {number}: {pte:?}");
                if let Some(page) = page {
                    self.compare_page(number, va, pte, page, &mut frame_of);
                }
            }
        }
        let frames: BTreeSet<_> = frame_of.values().collect();
        assert_eq!(frames.len(), frame_of.len(), "two pages in one frame");
        if self.by == By::Pages {
            assert_eq!(free_frames(), self.model.free(), "free frames");
        }
        assert_eq!(processor(|processor| processor.stale()), None, "a stale translation");
    }

    fn compare_page(&self, env: usize, va: Va, pte: Pte, page: &Page, frame_of: &mut BTreeMap<FrameId, Frame>) {
        let id = page.held.expect("the page is there").frame;
        let expected = match id {
            FrameId::Zeros => *self.host.archive.last().expect("it has pages"),
            FrameId::Archive(index) => self.host.archive[index],
            FrameId::Given(_) => *frame_of.entry(id).or_insert(pte.frame()),
        };
        assert_eq!(pte.frame(), expected, "the frame at {va}: {id:?}");
        let bytes = page.bytes.borrow();
        for offset in OFFSETS {
            assert_eq!(byte(expected, offset), bytes[offset as usize], "byte {offset} of {va}");
        }
        // The archive counts as one user, so its pages never have a sole user.
        let given = matches!(id, FrameId::Given(_));
        let users = refs(expected) as usize;
        if self.by == By::Pages {
            assert_eq!(users, self.model.refs(id) + usize::from(!given), "references to {expected:?}");
        }
        let perms = pte.perms();
        let writable = self.host.page_map(env).page(va).is_some_and(|page| page.writable);
        assert_eq!(perms.contains(Perms::KEEP), page.kind == Kind::Shared, "{pte:?}");
        if page.kind != Kind::Shared {
            // A shared region may have pages with other rights: see `NoRight`.
            let rest = perms - Perms::COW;
            assert!(page.rights.contains(rest), "{pte:?} at {va} in a region with {:?}", page.rights);
            assert!(!writable || self.model.refs(id) == 1, "{pte:?} at {va} has {users} users");
        }
    }

    /// Copies the present pages into the model.
    fn take_over(&mut self) {
        for (number, env) in self.model.envs.iter_mut().enumerate() {
            for (va, page) in env.iter_mut().flat_map(|env| &mut env.pages) {
                let pte = entry(self.host.root(number), *va);
                page.held = pte.is_present().then(|| held(&self.host.archive, pte));
            }
        }
    }
}

/// The meaning of a page table entry.
fn held(archive: &[Frame], pte: Pte) -> Held {
    let frame = match archive.iter().position(|frame| *frame == pte.frame()) {
        Some(last) if last + 1 == archive.len() => FrameId::Zeros,
        Some(page) => FrameId::Archive(page),
        None => FrameId::Given(pte.frame().0),
    };
    let has = |perms: Perms| pte.perms().contains(perms);
    let (write, exec, cow) = (has(Perms::WRITE), has(Perms::EXEC), has(Perms::COW));
    Held { frame, write, exec, cow, may: pte.has(Pte::MAY) }
}

/// All properties of regions, for comparison.
fn details(regions: &[Region<Host>]) -> Vec<impl PartialEq + std::fmt::Debug> {
    let each = |region: &Region<Host>| (region.range(), region.perms, region.order, region.pager.name(), region.data);
    regions.iter().map(each).collect()
}

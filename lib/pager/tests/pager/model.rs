//! The expected behaviour of address spaces, written as simply as possible: every page of a region has its contents
//! from the beginning, and fork copies all of them. Beside the contents the model records the cost of a page: whether
//! it is present, and in which frame.

use crate::host::{ENVS, REGIONS, file_byte};
use crate::op::{Cover, Kind, Op, Outcome, pages, pages_of};
use abi::layout::{ARCHIVE, USER_LIMIT};
use abi::{PAGE_SIZE, Perms, Va};
use pager::{Cause, Error, Order, pagers::AROUND, ranges::Advice};
use sim::processor::Access;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

/// A frame, with any number of users.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrameId {
    /// The shared page of zeros.
    Zeros,
    /// A page of the archive.
    Archive(usize),
    /// A frame that was given to environments.
    Given(u32),
}

/// A present page of an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub frame: FrameId,
    pub write: bool,
    pub exec: bool,
    /// Whether a writer gets a copy.
    pub cow: bool,
    /// Whether the kernel would allow making the page writable.
    pub may: bool,
}

/// A page of a region.
#[derive(Clone)]
pub struct Page {
    pub kind: Kind,
    pub rights: Perms,
    pub order: Order,
    /// The contents. Environments have one value in common only if they share the page on purpose.
    pub bytes: Rc<RefCell<Vec<u8>>>,
    pub held: Option<Held>,
}

impl Page {
    pub fn new(va: Va, kind: Kind, rights: Perms) -> Page {
        let bytes = Rc::new(RefCell::new(fresh(va, kind)));
        Page { kind, rights, order: Order::Unknown, bytes, held: None }
    }

    fn is_shared(&self) -> bool {
        self.kind == Kind::Shared
    }

    fn may(&self, access: Access) -> bool {
        match access {
            Access::Read => true,
            Access::Write => self.rights == Perms::WRITE,
            Access::Fetch => self.rights == Perms::EXEC,
        }
    }

    /// The page in this frame, with all the rights of the region.
    fn whole(&self, frame: FrameId) -> Held {
        let (write, exec) = (self.may(Access::Write), self.may(Access::Fetch));
        Held { frame, write, exec, cow: false, may: true }
    }

    /// The page in this frame, which has other users as well.
    fn lent(&self, frame: FrameId) -> Held {
        let whole = self.whole(frame);
        Held { write: false, cow: whole.write, may: false, ..whole }
    }

    fn continues_in(&self, next: &Page) -> bool {
        (self.kind, self.rights, self.order) == (next.kind, next.rights, next.order)
    }
}

/// The part of the file in a page: its offset in the archive, and the number of bytes.
fn file_part(va: Va, kind: Kind) -> (u64, u64) {
    let Kind::File { bias, end } = kind else { return (0, 0) };
    (va.0.wrapping_add(bias).wrapping_sub(ARCHIVE.0), end.saturating_sub(va.0).min(PAGE_SIZE))
}

/// An untouched page.
fn fresh(va: Va, kind: Kind) -> Vec<u8> {
    let (from, bytes) = file_part(va, kind);
    let mut page: Vec<_> = (from..from.wrapping_add(bytes)).map(file_byte).collect();
    page.resize(PAGE_SIZE as usize, 0);
    page
}

/// An address space.
#[derive(Clone, Default)]
pub struct Env {
    pub pages: BTreeMap<Va, Page>,
    /// Pages at which a region begins.
    starts: BTreeSet<Va>,
}

impl Env {
    /// The regions: their addresses, and one page of each.
    pub fn regions(&self) -> impl Iterator<Item = (Range<Va>, &Page)> {
        self.starts.iter().map(|start| (*start..self.end(*start), &self.pages[start]))
    }

    /// The end of the region of a page.
    fn end(&self, page: Va) -> Va {
        let goes_on = |va: &Va| self.pages.contains_key(va) && !self.starts.contains(va);
        let more = (1..).map(|n| page.add_pages(n)).take_while(goes_on).count();
        page.add_pages(more as u64 + 1)
    }

    fn start(&self, page: Va) -> Va {
        *self.starts.range(..=page).next_back().expect("every page is in a region")
    }

    /// Addresses in a range that are in no region.
    fn hole(&self, range: &Range<Va>) -> Result<(), Error> {
        // A region is no larger than an area, so these pages are enough.
        let hole = pages_of(range).find(|va| !self.pages.contains_key(va));
        hole.map_or(Ok(()), |va| Err(Error::NoRegion(va)))
    }

    /// The pages of regions in a range.
    fn inside(&self, range: &Range<Va>) -> Vec<Va> {
        self.pages.range(range.clone()).map(|(va, _)| *va).collect()
    }

    fn room(&self, more: usize) -> Result<(), Error> {
        if self.starts.len() + more > REGIONS { Err(Error::TooManyRegions(REGIONS)) } else { Ok(()) }
    }

    /// Cuts regions at the ends of a range.
    fn cut(&mut self, range: &Range<Va>) -> Result<(), Error> {
        let cuts =
            [range.start, range.end].into_iter().filter(|at| self.pages.contains_key(at) && !self.starts.contains(at));
        let cuts: Vec<_> = cuts.collect();
        self.room(cuts.len())?;
        self.starts.extend(cuts);
        Ok(())
    }

    fn change(&mut self, range: &Range<Va>, f: impl Fn(&mut Page)) -> Result<(), Error> {
        self.hole(range)?;
        self.cut(range)?;
        self.pages.range_mut(range.clone()).for_each(|(_, page)| f(page));
        for at in self.starts.range(range.start..=range.end).copied().collect::<Vec<_>>() {
            let before = self.pages.get(&Va(at.0.wrapping_sub(PAGE_SIZE)));
            if before.is_some_and(|before| before.continues_in(&self.pages[&at])) {
                self.starts.remove(&at);
            }
        }
        Ok(())
    }

    fn add(&mut self, range: &Range<Va>, new: impl Fn(Va) -> Page) -> Result<(), Error> {
        if let Some((va, _)) = self.pages.range(range.clone()).next() {
            return Err(Error::Overlap(*va));
        }
        self.room(1)?;
        self.starts.insert(range.start);
        self.pages.extend(pages_of(range).map(|va| (va, new(va))));
        Ok(())
    }

    fn unmap(&mut self, range: &Range<Va>) -> Result<(), Error> {
        // A hole splits a region in two. Otherwise the number of regions does not grow.
        let holds = |va: &Va| self.pages.contains_key(va) && self.start(*va) < range.start;
        if holds(&range.start) && self.end(self.start(range.start)) > range.end {
            self.room(1)?;
        }
        if self.pages.contains_key(&range.end) {
            self.starts.insert(range.end);
        }
        for va in self.inside(range) {
            self.pages.remove(&va);
            self.starts.remove(&va);
        }
        Ok(())
    }

    /// The tables below the top-level one, by level and first address.
    fn tables(&self) -> BTreeSet<(u32, u64)> {
        let held = self.pages.iter().filter(|(_, page)| page.held.is_some());
        held.flat_map(|(va, _)| [1, 2, 3].map(|level| (level, va.0 >> (12 + 9 * level)))).collect()
    }
}

/// All environments, and the running one.
pub struct Model {
    pub envs: [Option<Env>; ENVS],
    pub current: usize,
    /// The number of frames for all of this.
    pub frames: usize,
    /// The result of the last fault.
    pub cause: Option<Cause>,
    next: u32,
}

impl Model {
    /// One empty environment with this many frames.
    pub fn new(frames: usize) -> Model {
        let mut envs = [const { None }; ENVS];
        envs[0] = Some(Env::default());
        // Frames that are copied from the machine have smaller numbers.
        Model { envs, current: 0, frames, cause: None, next: 1 << 30 }
    }

    fn all(&self) -> impl Iterator<Item = &Env> {
        self.envs.iter().flatten()
    }

    fn frames_in_use(&self) -> impl Iterator<Item = FrameId> {
        self.all().flat_map(|env| env.pages.values()).filter_map(|page| page.held).map(|held| held.frame)
    }

    /// The number of entries that name a frame.
    pub fn refs(&self, frame: FrameId) -> usize {
        self.frames_in_use().filter(|used| *used == frame).count()
    }

    /// Whether one entry names a frame. (The archive counts as a user of its frames.)
    fn is_sole(&self, frame: FrameId) -> bool {
        matches!(frame, FrameId::Given(_)) && self.refs(frame) == 1
    }

    pub fn free(&self) -> usize {
        let given: BTreeSet<_> = self.frames_in_use().filter(|frame| matches!(frame, FrameId::Given(_))).collect();
        let tables: usize = self.all().map(|env| 1 + env.tables().len()).sum();
        self.frames - given.len() - tables
    }

    pub fn env(&self) -> &Env {
        self.envs[self.current].as_ref().expect("somebody runs")
    }

    fn env_mut(&mut self) -> &mut Env {
        self.envs[self.current].as_mut().expect("somebody runs")
    }

    fn page_mut(&mut self, va: Va) -> &mut Page {
        self.env_mut().pages.get_mut(&va).expect("it is in a region")
    }

    fn new_frame(&mut self) -> FrameId {
        self.next += 1;
        FrameId::Given(self.next)
    }

    /// Executes a step.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        self.cause = None;
        Outcome::Done(match op {
            Op::Add { range, kind, rights } => self.env_mut().add(range, |va| Page::new(va, *kind, *rights)),
            Op::Unmap { range } => self.env_mut().unmap(range),
            Op::Protect { range, rights, cover } => self.protect(&self.aim(range, *cover), *rights),
            Op::Advise { range, advice, cover } => self.advise(&self.aim(range, *cover), *advice),
            Op::Relocate { page, to } => match self.move_of(*page, *to) {
                None => return Outcome::Skipped,
                Some((old, new)) => self.relocate(&old, &new),
            },
            Op::Fork => return self.fork(),
            Op::Exit => return self.exit(),
            Op::Switch { env } if self.envs[*env].is_none() => return Outcome::Skipped,
            Op::Switch { env } => {
                self.current = *env;
                Ok(())
            }
            Op::Touch { va, access, byte } => return self.touch(*va, *access, *byte),
        })
    }

    /// The range of a step.
    pub fn aim(&self, range: &Range<Va>, cover: Cover) -> Range<Va> {
        let is_there = |va: &Va| self.env().pages.contains_key(va);
        match self.env().inside(range).first() {
            Some(first) if cover == Cover::Regions => {
                let end = pages_of(&(*first..range.end)).find(|va| !is_there(va));
                *first..end.unwrap_or(range.end)
            }
            _ => range.clone(),
        }
    }

    fn protect(&mut self, range: &Range<Va>, rights: Perms) -> Result<(), Error> {
        self.env_mut().change(range, |page| page.rights = rights)?;
        // Shared pages come last: only for them can the kernel refuse.
        for shared in [false, true] {
            let pages: Vec<Va> = self.env().pages.range(range.clone()).map(|(va, _)| *va).collect();
            for va in pages {
                let Some(held) = self.env().pages[&va].held else { continue };
                let is_own = held.may && self.is_sole(held.frame);
                let page = self.page_mut(va);
                if page.is_shared() != shared {
                    continue;
                }
                let new = if shared || is_own { page.whole(held.frame) } else { page.lent(held.frame) };
                if new.write && !held.may {
                    // Another environment granted the page read-only.
                    return Err(Error::Kernel(abi::Error::NoRight(va.0)));
                }
                page.held = Some(Held { may: held.may, ..new });
            }
        }
        Ok(())
    }

    fn advise(&mut self, range: &Range<Va>, advice: Advice) -> Result<(), Error> {
        self.env().hole(range)?;
        match advice {
            Advice::Normal => return self.env_mut().change(range, |page| page.order = Order::Unknown),
            Advice::Sequential => return self.env_mut().change(range, |page| page.order = Order::Sequential),
            Advice::Random => return self.env_mut().change(range, |page| page.order = Order::Random),
            Advice::WillNeed => self.bring_all_in(range, true),
            Advice::WillRead => self.bring_all_in(range, false),
            Advice::DontNeed => {
                let env = self.env();
                let fixed = env.inside(range).into_iter().find(|va| env.pages[va].is_shared());
                if let Some(va) = fixed {
                    return Err(Error::NotSupported(env.start(va).max(range.start)));
                }
                for (va, page) in self.env_mut().pages.range_mut(range.clone()) {
                    *page = Page { order: page.order, ..Page::new(*va, page.kind, page.rights) };
                }
            }
        }
        Ok(())
    }

    /// Makes reads, or writes wherever the region allows them, possible without a fault.
    fn bring_all_in(&mut self, range: &Range<Va>, writes: bool) {
        for va in self.env().inside(range) {
            let page = &self.env().pages[&va];
            let access = if writes && page.may(Access::Write) { Access::Write } else { Access::Read };
            match page.held {
                None if page.kind != Kind::Guard => _ = self.bring_in(va, access, Order::Sequential, range.end),
                Some(held) if held.cow && access == Access::Write => self.own(va),
                _ => {}
            }
        }
    }

    /// Executes a relocation, if the region can be moved there.
    pub fn move_of(&self, page: Va, to: Va) -> Option<(Range<Va>, Range<Va>)> {
        let found = self.env().pages.get(&page)?;
        let old = self.env().start(page)..self.env().end(page);
        let new = to..to.add_pages(pager::pages(&old));
        let within = pages().filter(|va| new.contains(va)).count() as u64 == pager::pages(&old);
        let movable = !matches!(found.kind, Kind::File { .. }) && within && new.end <= USER_LIMIT;
        movable.then_some((old, new))
    }

    fn relocate(&mut self, old: &Range<Va>, new: &Range<Va>) -> Result<(), Error> {
        let env = self.env_mut();
        let moved = |va: Va| Va(va.0 - new.start.0 + old.start.0);
        let from = env.pages.clone();
        env.add(new, |va| {
            let page = from[&moved(va)].clone();
            // The kernel grants no more than is asked for. Rights to a shared page cannot be regained in another way.
            let may = |held: Held| held.write || page.is_shared() && held.may;
            let held = page.held.map(|held| Held { may: may(held), ..held });
            Page { held, ..page }
        })?;
        env.unmap(old)
    }

    fn fork(&mut self) -> Outcome {
        let Some(child) = self.envs.iter().position(Option::is_none) else { return Outcome::Skipped };
        for va in self.env().pages.keys().copied().collect::<Vec<_>>() {
            let page = &self.env().pages[&va];
            if page.is_shared() && page.held.is_none() {
                let frame = self.new_frame();
                let page = self.page_mut(va);
                page.held = Some(page.whole(frame));
            }
        }
        let parent = self.env_mut();
        let inherited = |page: &Page| page.kind != Kind::Secret;
        let mut env = parent.clone();
        env.starts.retain(|va| inherited(&parent.pages[va]));
        env.pages.retain(|_, page| inherited(page));
        for (va, page) in &mut env.pages {
            if !page.is_shared() {
                let copy = page.bytes.borrow().clone();
                page.bytes = Rc::new(RefCell::new(copy));
                page.held = page.held.map(|held| page.lent(held.frame));
                let own = parent.pages.get_mut(va).expect("it was copied from there");
                own.held = own.held.map(|held| own.lent(held.frame));
            }
            page.held = page.held.map(|held| Held { may: held.write, ..held });
        }
        self.envs[child] = Some(env);
        Outcome::Done(Ok(()))
    }

    fn exit(&mut self) -> Outcome {
        if self.all().count() == 1 {
            return Outcome::Skipped;
        }
        self.envs[self.current] = None;
        self.current = self.envs.iter().position(Option::is_some).expect("not the last one");
        Outcome::Done(Ok(()))
    }

    fn touch(&mut self, va: Va, access: Access, byte: u8) -> Outcome {
        if !self.reach(va.page(), access) {
            return Outcome::Fault;
        }
        let mut bytes = self.env().pages[&va.page()].bytes.borrow_mut();
        let place = &mut bytes[va.offset() as usize];
        if access == Access::Write {
            *place = byte;
        }
        Outcome::Byte(*place)
    }

    /// Whether a program can access a page; afterwards the page is present.
    fn reach(&mut self, va: Va, access: Access) -> bool {
        let env = self.env();
        let Some(page) = env.pages.get(&va).filter(|page| page.kind != Kind::Guard) else { return false };
        // For a shared page the entry counts: the kernel may have refused to change it.
        let (allowed, shared) = (page.may(access), page.is_shared());
        match page.held {
            Some(held) if shared => match access {
                Access::Read => true,
                Access::Write => held.write,
                Access::Fetch => held.exec,
            },
            Some(held) if allowed => {
                if access == Access::Write && !held.write {
                    self.own(va);
                    self.cause = Some(Cause::Copy);
                }
                true
            }
            None if allowed => {
                let (order, end) = (page.order, env.end(va));
                self.cause = Some(self.bring_in(va, access, order, end));
                true
            }
            _ => false,
        }
    }

    /// The number of pages that are brought in with this one.
    fn around(&self, va: Va, order: Order, end: Va) -> u64 {
        let env = self.env();
        let end = end.min(env.end(va));
        let in_table = AROUND - va.0 / PAGE_SIZE % AROUND;
        let most = if order == Order::Sequential { in_table } else { 1 };
        let nothing_yet = |va: &Va| *va < end && env.pages[va].held.is_none();
        (0..most).map(|n| va.add_pages(n)).take_while(nothing_yet).count() as u64
    }

    fn bring_in(&mut self, va: Va, access: Access, order: Order, end: Va) -> Cause {
        let page = self.env().pages[&va].clone();
        let (at, bytes) = file_part(va, page.kind);
        match (page.kind, bytes) {
            (Kind::File { end: file_end, .. }, PAGE_SIZE) => {
                let count = self.around(va, order, end.min(Va(file_end).page()));
                if access == Access::Write {
                    self.give(va, count);
                } else {
                    for n in 0..count {
                        let frame = FrameId::Archive((at / PAGE_SIZE + n) as usize);
                        self.page_mut(va.add_pages(n)).held = Some(page.lent(frame));
                    }
                }
                Cause::FilePage
            }
            (Kind::File { .. }, 1..) => {
                self.give(va, 1);
                Cause::FilePage
            }
            (Kind::Shared, _) => {
                self.give(va, self.around(va, order, end));
                Cause::ZeroFill
            }
            _ if access == Access::Write => {
                self.give(va, self.around(va, order, end));
                Cause::ZeroFill
            }
            _ => {
                self.page_mut(va).held = Some(page.lent(FrameId::Zeros));
                Cause::ZeroMap
            }
        }
    }

    /// Fresh pages.
    fn give(&mut self, va: Va, count: u64) {
        for n in 0..count {
            let frame = self.new_frame();
            let page = self.page_mut(va.add_pages(n));
            page.held = Some(page.whole(frame));
        }
    }

    /// A write to a private page: a sole user keeps the page.
    fn own(&mut self, va: Va) {
        let held = self.env().pages[&va].held.expect("it is there");
        let frame = if self.is_sole(held.frame) { held.frame } else { self.new_frame() };
        let page = self.page_mut(va);
        page.held = Some(page.whole(frame));
    }
}

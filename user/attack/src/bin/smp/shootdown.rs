//! TLB shootdown: pages and rights are taken from environments that use them on other processors at that moment.

use crate::kit::{Crew, Must, add, busy, cpus, fail, get, is_running, pause, rounds, set, until};
use core::array;
use libos::abi::page::span;
use libos::upcall::{self, Outcome};
use libos::{EnvId, Fault, Level, PAGE_SIZE, PageOp, Perms, Va, Vector, println, raw, sys, uvpt};
use spin::Once;

/// The address of a reader's pages.
const THERE: Va = Va(0x2000_0000_0000);
/// The address where the parent makes the pages, and the address where it reuses their frames.
const HERE: Va = Va(0x2100_0000_0000);
const REUSED: Va = Va(0x2200_0000_0000);

const GOOD: u64 = 0x600d_600d_600d_600d;
const BAD: u64 = 0x0bad_0bad_0bad_0bad;

/// Words of the board, one for each reader: what it has read, its faults, values that it must never see, and whether
/// its pages are taken away.
const READ: usize = 0;
const FAULTS: usize = 100;
const WRONG: usize = 200;
const TAKEN: usize = 300;

/// The limit of pages of a reader.
const PAGES: usize = 80;

/// The number of a reader, for its fault handler.
static NUMBER: Once<usize> = Once::new();

/// Retries the access: the page will come back.
fn try_again(fault: &mut Fault) -> Outcome {
    let Some(number) = NUMBER.get().filter(|_| fault.vector() == Vector::PAGE_FAULT) else {
        return Outcome::Unhandled;
    };
    add(FAULTS + number);
    Outcome::Resume
}

fn become_number(index: usize) {
    NUMBER.call_once(|| index);
    upcall::set_handler(try_again);
}

/// The parameters of a check: the readers and their pages, and how the parent takes them away.
struct Plan {
    name: &'static str,
    readers: usize,
    pages: usize,
    /// Bytes from one page to the next.
    stride: u64,
    rounds: u64,
    /// Whether readers yield all the time, so that context switches to them happen while their pages disappear.
    yields: bool,
}

/// Takes one page at a time.
pub fn pages() {
    let readers = (cpus() - 1).clamp(1, 8);
    Plan { name: "shootdown", readers, pages: 1, stride: PAGE_SIZE, rounds: 200, yields: false }.play();
}

/// Takes long runs, in batches, with more readers than processors.
pub fn runs_of_pages(yields: bool) -> u64 {
    let readers = (2 * cpus()).min(12);
    Plan { name: "runs", readers, pages: 70, stride: PAGE_SIZE, rounds: 20, yields }.play()
}

pub fn runs() {
    let (one, two) = (runs_of_pages(false), runs_of_pages(true));
    println!("runs: {one} and {two} rounds in all");
}

/// Each page has page tables of its own, which are freed with it.
pub fn tables() {
    let readers = (cpus() - 1).clamp(1, 8);
    Plan { name: "tables", readers, pages: 8, stride: 512 * PAGE_SIZE, rounds: 60, yields: false }.play();
    Plan { name: "tables", readers, pages: 3, stride: 1 << 30, rounds: 50, yields: true }.play();
}

impl Plan {
    fn play(&self) -> u64 {
        let crew = Crew::new(self.readers, |index| {
            set(READ + index, 0);
            self.reader(index)
        });
        self.keep_tables(&crew, 1);
        let (mut done, mut elsewhere, mut same) = (0, 0, 0);
        for round in rounds(self.rounds) {
            for (index, id) in crew.ids().enumerate() {
                self.give(id, index);
                elsewhere += u32::from(is_running(id));
                same += self.take(id, index, round);
            }
            done = round + 1;
        }
        self.keep_tables(&crew, 0);
        crew.put_down();
        let (all, name) = (done as usize * self.pages * self.readers, self.name);
        println!(
            "{name}: {done} rounds, {elsewhere} times from one that ran, {same} of {all} frames used again at once"
        );
        done
    }

    /// Sets marks far behind the pages. So their page tables stay when the pages are unmapped, and the frames that are
    /// freed last, and reused first, are those of the pages. (If there is a page table for each page, those must go.)
    fn keep_tables(&self, crew: &Crew, mark: u64) {
        for va in [HERE, REUSED] {
            sys::mark(EnvId::SELF, va.add_pages(500), 1, mark).must("mark");
        }
        for id in crew.ids().filter(|_| self.stride == PAGE_SIZE) {
            sys::mark(id, THERE.add_pages(500), 1, mark).must("mark");
        }
    }

    /// A child that reads its pages all the time.
    fn reader(&self, index: usize) -> libos::Child {
        let (pages, stride, yields) = (self.pages as u64, self.stride, self.yields);
        let mut page = 0;
        busy(move || {
            become_number(index);
            let value = raw::read_u64(THERE.0 + page * stride);
            if value != GOOD {
                set(WRONG + index, value.max(1));
            }
            page = (page + 1) % pages;
            if page == 0 {
                add(READ + index);
                if yields {
                    sys::yield_now();
                }
            }
        })
    }

    fn there(&self, page: usize) -> Va {
        Va(THERE.0 + page as u64 * self.stride)
    }

    fn ops(&self, count: usize, op: impl Fn(usize) -> PageOp) {
        let ops: [PageOp; PAGES] = array::from_fn(op);
        sys::page_ops(&ops[..count]).must("page_ops");
    }

    /// Makes the pages of a reader, which no other environment has afterwards, and waits until it has read them all.
    fn give(&self, id: EnvId, index: usize) {
        let (me, pages) = (EnvId::SELF, self.pages as u64);
        sys::alloc(me, HERE, pages, Perms::WRITE).must("alloc");
        (0..pages).for_each(|page| raw::write_u64(HERE.add_pages(page).0, GOOD));
        self.ops(self.pages, |page| PageOp::map(me, HERE.add_pages(page as u64), id, self.there(page), 1, Perms::READ));
        sys::unmap(me, HERE, pages).must("unmap");
        let before = get(READ + index);
        until("it reads all of its pages", || get(READ + index) >= before + 2);
        self.check(index);
    }

    /// Takes the pages of a reader away, and reuses their frames at once. Returns how many of the new frames had been
    /// pages of the reader.
    fn take(&self, id: EnvId, index: usize, round: u64) -> u32 {
        let faults = get(FAULTS + index);
        let old: [_; PAGES] = array::from_fn(|page| self.frame_of(id, page));
        self.ops(self.pages, |page| PageOp::unmap(id, self.there(page), 1));
        // Page tables are freed, too; a few more pages reach those frames.
        let pages = (self.pages + self.pages.min(24)) as u64;
        sys::alloc(EnvId::SELF, REUSED, pages, Perms::WRITE).must("alloc");
        for page in 0..pages {
            let at = REUSED.add_pages(page).0;
            (0..PAGE_SIZE).step_by(512).for_each(|offset| raw::write_u64(at + offset, BAD));
        }
        let is_old = |page: &u64| old.contains(&Some(uvpt::pte(REUSED.add_pages(*page)).frame()));
        let same = (0..pages).filter(is_old).count();
        pause(round % 8 * 200);
        until("it misses its pages", || get(FAULTS + index) != faults || get(WRONG + index) != 0);
        self.check(index);
        sys::unmap(EnvId::SELF, REUSED, pages).must("unmap");
        same as u32
    }

    /// The frame of a page of a reader: the parent maps it for a moment.
    fn frame_of(&self, id: EnvId, page: usize) -> Option<libos::Frame> {
        if page >= self.pages {
            return None;
        }
        sys::map(id, self.there(page), EnvId::SELF, HERE, 1, Perms::READ).must("map");
        let frame = uvpt::pte(HERE).frame();
        sys::unmap(EnvId::SELF, HERE, 1).must("unmap");
        Some(frame)
    }

    fn check(&self, index: usize) {
        let wrong = get(WRONG + index);
        if wrong != 0 {
            fail!("reader {index} saw {wrong:#x} in a page that it did not have");
        }
    }
}

/// The write permission is taken from children that write: their memory must not change after that.
pub fn protect() {
    let crew = Crew::new((cpus() - 1).clamp(1, 8), |index| {
        busy(move || {
            become_number(index);
            let value = raw::read_u64(THERE.0);
            raw::write_u64(THERE.0, value + 1);
        })
    });
    let page = |index: usize| HERE.add_pages(index as u64);
    for (index, id) in crew.ids().enumerate() {
        sys::alloc(EnvId::SELF, page(index), 1, Perms::WRITE).must("alloc");
        sys::map(EnvId::SELF, page(index), id, THERE, 1, Perms::WRITE).must("map");
    }
    let (mut done, mut elsewhere) = (0, 0);
    for round in rounds(150) {
        for (index, id) in crew.ids().enumerate() {
            let value = || raw::read_u64(page(index).0);
            let before = value();
            until("it writes", || value() != before);
            elsewhere += u32::from(is_running(id));
            sys::protect(id, THERE, 1, Perms::READ).must("protect");
            let still = value();
            pause(500 + round % 8 * 500);
            if value() != still {
                fail!("child {index} wrote without the right to: {still} became {}", value());
            }
            sys::protect(id, THERE, 1, Perms::WRITE).must("protect");
        }
        done = round + 1;
    }
    crew.put_down();
    sys::unmap(EnvId::SELF, HERE, crew.ids().count() as u64).must("unmap");
    println!("protect: {done} rounds, {elsewhere} times from one that ran");
}

/// The call that takes many pages of a child at once, or the right to write them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `unmap` of a run.
    Unmap,
    /// `unmap_tables`.
    UnmapTables,
    /// `protect_tables`.
    ProtectTables,
}

/// The number of pages that a call takes at once, and the number that one table translates, if it takes tables.
const MANY: u64 = 32;
const BELOW_TABLE: u64 = 8;

/// Marks behind the pages of a run, and behind those of tables. So the tables above never become empty: their removal
/// would be another reason for a TLB shootdown.
const BESIDE: [Va; 2] = [THERE.add_pages(500), THERE.add_pages(MANY / BELOW_TABLE * 512)];

/// How often the pages of each child are taken.
const ROUNDS: u64 = 6;

/// A check of a call: children use pages on other processors, and the parent takes them away.
///
/// A child looks whether its pages are taken, and then uses one: this must be a fault. So the verdict depends on the
/// order of events, and not on time.
#[derive(Clone, Copy)]
struct Taking {
    way: Way,
    /// Whether the children write their pages; otherwise they read them.
    writes: bool,
}

/// Unmaps a run of pages.
pub fn unmap_run() {
    Taking::play("unmap-run", Way::Unmap);
}

/// Unmaps whole tables.
pub fn unmap_tables() {
    Taking::play("unmap-tables", Way::UnmapTables);
}

/// Protects whole tables against writes.
pub fn protect_tables() {
    Taking::play("protect-tables", Way::ProtectTables);
}

impl Taking {
    fn play(name: &str, way: Way) {
        let [read, written] = [false, true].map(|writes| Taking { way, writes }.rounds());
        println!("{name}: {read} times from one that read, {written} times from one that wrote");
    }

    /// Takes the pages of each child many times. Returns how often.
    fn rounds(self) -> u64 {
        let crew = Crew::new((cpus() - 1).clamp(1, 8), |index| {
            set(TAKEN + index, 0);
            self.user(index)
        });
        let mut taken = 0;
        for round in 0..ROUNDS {
            for (index, id) in crew.ids().enumerate() {
                if self.way == Way::ProtectTables && round > 0 {
                    self.protect(id, Perms::WRITE);
                } else {
                    self.give(id);
                }
                self.is_in_use(index, id);
                self.take(index, id);
                taken += 1;
            }
        }
        crew.put_down();
        taken
    }

    /// A child that uses its pages all the time, one after the other.
    fn user(self, index: usize) -> libos::Child {
        let mut page = 0;
        busy(move || {
            become_number(index);
            let at = self.page(page).0;
            let (taken, faults) = (get(TAKEN + index), get(FAULTS + index));
            if self.writes {
                raw::write_u64(at, GOOD);
            } else {
                let _ = raw::read_u64(at);
            }
            if taken != 0 && get(FAULTS + index) == faults {
                set(WRONG + index, at);
            }
            page = (page + 1) % MANY;
            add(READ + index);
        })
    }

    fn page(self, number: u64) -> Va {
        match self.way {
            Way::Unmap => THERE.add_pages(number),
            // Each at another place of its table: the emulator's TLB is indexed by the low bits of the page number.
            _ => Va(THERE.0 + number / BELOW_TABLE * span(Level::L2)).add_pages(number),
        }
    }

    /// Gives a child pages that no other environment has.
    fn give(self, id: EnvId) {
        let (me, perms) = (EnvId::SELF, if self.writes { Perms::WRITE } else { Perms::READ });
        sys::alloc(me, HERE, MANY, Perms::WRITE).must("alloc");
        let ops: [PageOp; MANY as usize] = array::from_fn(|number| {
            let number = number as u64;
            PageOp::map(me, HERE.add_pages(number), id, self.page(number), 1, perms)
        });
        sys::page_ops(&ops).must("page_ops");
        sys::unmap(me, HERE, MANY).must("unmap");
        BESIDE.into_iter().for_each(|va| sys::mark(id, va, 1, 1).must("mark"));
    }

    fn protect(self, id: EnvId, perms: Perms) {
        sys::protect_tables(id, THERE, MANY / BELOW_TABLE, Level::L2, perms).must("protect_tables");
    }

    /// Waits until a child has used all of its pages, and runs.
    fn is_in_use(self, index: usize, id: EnvId) {
        let before = get(READ + index);
        until("it uses all of its pages", || get(READ + index) >= before + 2 * MANY);
        until("it runs", || cpus() == 1 || is_running(id));
    }

    /// Takes the pages of a child away, or the right to write them: then it faults if it needs what it lost.
    fn take(self, index: usize, id: EnvId) {
        let faults = get(FAULTS + index);
        match self.way {
            Way::Unmap => sys::unmap(id, THERE, MANY).must("unmap"),
            Way::UnmapTables => {
                sys::unmap_tables(id, THERE, MANY / BELOW_TABLE, Level::L2).must("unmap_tables");
            }
            Way::ProtectTables => self.protect(id, Perms::READ),
        }
        if self.way == Way::ProtectTables && !self.writes {
            self.is_in_use(index, id);
            if get(FAULTS + index) != faults {
                fail!("child {index} may no longer read");
            }
            return;
        }
        set(TAKEN + index, 1);
        let wrong = || get(WRONG + index);
        until("it faults", || get(FAULTS + index) != faults || wrong() != 0);
        if wrong() != 0 {
            fail!("child {index} used {:#x} after that was taken away", wrong());
        }
        set(TAKEN + index, 0);
    }
}

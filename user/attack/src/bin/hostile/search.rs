//! Searches for the longest entry: every page call over every kind of content of its pages, in every environment that
//! the call can change.
//!
//! On several processors children run while their pages change. Each spins in a loop of `pause`, so that an emulator
//! that executes processors in turn returns at once (see `tests/counter/src/lib.rs`).

use crate::family::{self, child};
use crate::longest::Longest;
use core::sync::atomic::Ordering::Relaxed;
use libos::{EnvId, Level, PageOp, Perms, Status, Va, abi::Call, raw, sys, windows};

const ME: EnvId = EnvId::SELF;
/// More pages than one entry can process.
const RUN: u32 = 230;
/// The pages that calls change: they begin in one page table and end in another.
const PLACE: Va = Va(0x2000_0000_0000 + 400 * 4096);
/// Pages that are mapped and copied, in each environment.
const SOURCE: Va = Va(0x2100_0000_0000 + 450 * 4096);
/// Pages in slots of their own: each is the only one below three page tables.
const APART: Va = Va(0x3000_0000_0000);
const SLOT: u64 = 1 << 39;
/// The pages that random lists change, in this many page tables.
const ARENA: Va = Va(0x2200_0000_0000);
const TABLES: u64 = 4;
const LISTS: u32 = 500;

/// The content of the pages before a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    /// Nothing, and no table.
    Nothing,
    /// Pages without other references: they become free.
    Sole,
    /// Pages with other references.
    Shared,
    /// One page at all addresses.
    Same,
    /// Marks.
    Marks,
    /// The other kinds, alternating.
    Mixed,
}

const ALL: [Before; 6] = [Before::Nothing, Before::Sole, Before::Shared, Before::Same, Before::Marks, Before::Mixed];

/// The environments that take part: the caller, a child without a program, and running children if there are processors
/// for them.
struct Family {
    ids: [EnvId; 4],
    len: usize,
}

impl Family {
    fn new() -> Family {
        let processors = windows::machine().cpus.load(Relaxed) as usize;
        let mut family = Family { ids: [ME; 4], len: 1 + processors.min(3) };
        family.ids[1] = sys::exofork().expect("a child");
        for id in &mut family.ids[2..family.len] {
            *id = child(spin).id();
            // Wait until it has a processor, and then until it has reached its loop.
            while windows::env(*id).is_none_or(|env| env.status() != Status::Running) {
                core::hint::spin_loop();
            }
            (0..100_000).for_each(|_| core::hint::spin_loop());
        }
        family.all().iter().for_each(|id| finish(PageOp::alloc(*id, SOURCE, RUN, Perms::WRITE)));
        family
    }

    fn all(&self) -> &[EnvId] {
        &self.ids[..self.len]
    }

    fn end(self) {
        finish(PageOp::unmap(ME, SOURCE, RUN));
        self.all()[1..].iter().copied().for_each(family::end);
    }
}

fn spin() {
    loop {
        core::hint::spin_loop();
    }
}

/// Makes the call of this operation. Returns how many pages were done.
fn perform(op: &PageOp) -> Option<u32> {
    let (done, error) = raw::syscall(op.call.into(), op.to_registers()?);
    (done >> 63 == 0 && error == 0).then_some(done as u32)
}

/// Repeats the call for the rest; pages that it refuses are left out.
fn finish(mut op: PageOp) {
    while op.count > 0 {
        op = op.skip(perform(&op).unwrap_or(1));
    }
}

/// Makes these operations, in lists that are as long as possible. Refused operations are left out.
fn list(ops: &[PageOp]) {
    let mut rest = ops;
    while !rest.is_empty() {
        match sys::page_ops(rest) {
            Ok(()) => return,
            Err((done, _)) => rest = &rest[done + 1..],
        }
    }
}

/// One operation for each page.
fn each(op: PageOp) -> [PageOp; RUN as usize] {
    core::array::from_fn(|page| PageOp { count: 1, ..op.skip(page as u32) })
}

/// Gives the pages this content.
fn put(env: EnvId, before: Before) {
    finish(PageOp::unmap(env, PLACE, RUN));
    let alloc = PageOp::alloc(env, PLACE, RUN, Perms::WRITE);
    let share = PageOp::map(ME, SOURCE, env, PLACE, RUN, Perms::WRITE);
    let mark = PageOp::mark(env, PLACE, RUN, 7);
    match before {
        Before::Nothing => {}
        Before::Sole => finish(alloc),
        Before::Shared => finish(share),
        Before::Same => list(&core::array::from_fn::<_, { RUN as usize }, _>(|page| PageOp {
            count: 1,
            source: SOURCE,
            ..share.skip(page as u32)
        })),
        Before::Marks => finish(mark),
        Before::Mixed => {
            let kinds = [alloc, share, mark, PageOp::unmap(env, PLACE, RUN)];
            let one = |page: usize| PageOp { count: 1, ..kinds[page % 4].skip(page as u32) };
            list(&core::array::from_fn::<_, { RUN as usize }, _>(one));
        }
    }
}

/// All calls that change these pages.
fn calls(env: EnvId, all: &[EnvId]) -> impl Iterator<Item = PageOp> {
    let own = (env == ME).then(|| PageOp::own(PLACE, RUN));
    let alone = [
        PageOp::alloc(env, PLACE, RUN, Perms::WRITE),
        PageOp::protect(env, PLACE, RUN, Perms::READ),
        PageOp::unmap(env, PLACE, RUN),
        PageOp::mark(env, PLACE, RUN, 5),
    ];
    let from = move |from: &EnvId| {
        [
            PageOp::map(*from, SOURCE, env, PLACE, RUN, Perms::READ),
            PageOp::copy(*from, SOURCE, env, PLACE, RUN, Perms::WRITE),
        ]
    };
    alone.into_iter().chain(own).chain(all.iter().flat_map(from))
}

/// Tries everything in this module.
pub fn all(longest: &mut Longest) {
    let family = Family::new();
    runs(longest, &family);
    apart(longest, &family);
    random(longest, &family);
    messages(longest);
    family.end();
}

/// Tries runs, as calls and as lists.
fn runs(longest: &mut Longest, family: &Family) {
    for env in family.all() {
        for before in ALL {
            for op in calls(*env, family.all()) {
                put(*env, before);
                finish(op);
                longest.look(&(Call::from_number(op.call.into()), "over", before, env, op.source_env));
                put(*env, before);
                list(&each(op));
                longest.look(&(Call::from_number(op.call.into()), "each over", before, env, op.source_env));
            }
        }
        put(*env, Before::Nothing);
    }
}

/// Tries page tables that come and go with a page.
fn apart(longest: &mut Longest, family: &Family) {
    let apart = |number: usize| Va(APART.0 + number as u64 * SLOT);
    for env in family.all().iter().copied() {
        let alloc = |number| PageOp::alloc(env, apart(number), 1, Perms::WRITE);
        let unmap = |number| PageOp::unmap(env, apart(number), 1);
        let map = |number| PageOp::map(ME, SOURCE, env, apart(number), 1, Perms::READ);
        let mark = |number| PageOp::mark(env, apart(number), 1, 1);
        for make in [&alloc as &dyn Fn(usize) -> PageOp, &map, &mark] {
            list(&core::array::from_fn::<_, 64, _>(make));
            longest.look(&("pages apart", make(0)));
            list(&core::array::from_fn::<_, 64, _>(unmap));
            longest.look(&("pages apart that go", make(0)));
            // Alternately map and unmap.
            list(&core::array::from_fn::<_, 64, _>(|n| if n % 2 == 0 { make(n) } else { unmap(n - 1) }));
            longest.look(&("pages apart that come and go", make(0)));
        }
    }
}

/// A generator of random numbers, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A random operation on the arena.
    fn op(&mut self, all: &[EnvId]) -> PageOp {
        let (env, from) = (self.one_of(all), self.one_of(all));
        let perms = self.one_of(&[Perms::READ, Perms::WRITE, Perms::COW]);
        let count = self.one_of(&[1, 1, 1, 2, 5, 20, 100, 300]);
        let table = |chance: &mut Chance| ARENA.add_pages(512 * chance.below(TABLES));
        let page = |chance: &mut Chance| table(chance).add_pages(chance.below(512));
        let (to, source) = (page(self), page(self));
        let (to_table, source_table) = (table(self), table(self));
        match self.below(15) {
            0 | 1 => PageOp::alloc(env, to, count, perms),
            2 => PageOp::map(from, SOURCE, env, to, count.min(RUN), perms),
            3 | 4 => PageOp::map(from, source, env, to, count, perms),
            5 => PageOp::copy(from, source, env, to, count, perms),
            6 => PageOp::protect(env, to, count, perms),
            7 | 8 => PageOp::unmap(env, to, count),
            9 => PageOp::mark(env, to, count, 3),
            10 => PageOp::own(to, count),
            11 => PageOp::share_tables(from, source_table, env, to_table, 1, Level::L2),
            12 => PageOp::own_tables(to_table, 1, Level::L2),
            13 => PageOp::protect_tables(env, to_table, count, Level::L2, perms & Perms::WRITE),
            _ => PageOp::unmap_tables(env, to_table, 1, Level::L2),
        }
    }
}

/// Tries lists of random operations.
fn random(longest: &mut Longest, family: &Family) {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    for number in 0..LISTS {
        list(&core::array::from_fn::<_, 64, _>(|_| chance.op(family.all())));
        longest.look(&("list", number));
    }
    let tables = TABLES as u32 + 1;
    for env in family.all() {
        // Shared pages cannot be unmapped by page, and the others not by page table. (Children end with all they have.)
        finish(PageOp::own_tables(ARENA, tables, Level::L2));
        finish(PageOp::unmap_tables(*env, ARENA, tables, Level::L2));
        finish(PageOp::unmap(*env, ARENA, 512 * tables));
    }
    longest.look(&"after the lists");
}

/// Tries messages with pages that displace pages of the receiver, and other long requests.
fn messages(longest: &mut Longest) {
    finish(PageOp::alloc(ME, PLACE, 16, Perms::WRITE));
    let receiver = child(|| while sys::recv(Some(PLACE), EnvId::ANY).is_ok() {});
    for page in 0..20 {
        let _ = family::reaches(receiver.id(), Status::Receiving);
        let _ = sys::send(receiver.id(), 0, Some((SOURCE.add_pages(page), Perms::READ)));
    }
    longest.look(&"messages with pages");
    family::end(receiver.id());
    let blank = sys::exofork().expect("a child");
    finish(PageOp::alloc(blank, PLACE, 16, Perms::WRITE));
    let _ = sys::set_upcall(blank, 1, PLACE, 16);
    let _ = sys::set_upcall(blank, 0, PLACE, 0);
    longest.look(&"a stack of sixteen pages");
    family::end(blank);
    finish(PageOp::unmap(ME, PLACE, 16));
    let _ = sys::write(&[b' '; 255]).and_then(|_| sys::write(b"\n"));
    longest.look(&"a long line");
}

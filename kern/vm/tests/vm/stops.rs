//! Runs that end in the middle: at a page that is in the way, for lack of a frame, before a pinned page, or because the
//! budget is spent. Wherever a kernel entry stops, it leaves what the same operations on single pages leave; and the
//! next one goes on there, or returns the error of that page.

use crate::many::{Step, World};
use abi::{Call, EnvId, Error, Level, PAGE_SIZE, PageOp, Perms, Va, page::span};
use sim::machine::free_frames;
use std::ops::Range;
use vm::{Budget, unpinned};

const ME: EnvId = EnvId::SELF;
/// Frames of the machine, more than a situation needs.
const ALL: usize = 220;
/// The first page of a run, which is below one table.
const TO: Va = Va(0x40_0000);
/// The first page of the source of a run.
const FROM: Va = Va(0x80_0000_0000);
/// The number of pages of a run, for which single TLB invalidations do not pay.
const PAGES: u32 = 36;
/// A page behind the run, so that its table is there and never becomes empty.
const BESIDE: Va = TO.add_pages(500);

/// A page map, what was done to it, and what else limits an entry.
#[derive(Clone, Default, Debug)]
struct Situation {
    before: Vec<Step>,
    /// The frames that are left for the entry, if not all.
    free: Option<usize>,
    /// The pages of the caller's exception stack.
    pinned: Range<u64>,
    /// Pages of a list that has taken a part of the budget.
    spent: usize,
}

impl Situation {
    /// The page maps, on a machine with this many frames.
    fn start(&self, frames: usize) -> World {
        let mut world = World::new(frames, u32::MAX);
        for step in &self.before {
            assert_eq!(world.step(step), None, "{step:?}");
        }
        world
    }

    /// The number of frames of the machine.
    fn frames(&self) -> usize {
        let Some(free) = self.free else { return ALL };
        drop(self.start(ALL));
        ALL - free_frames() + free
    }

    /// A kernel entry for this operation.
    fn enter(&self, world: &mut World, op: &PageOp, spent: usize) -> Result<u32, Error> {
        let level = op.level().ok().filter(|_| op.step() > 1).unwrap_or(Level::L1);
        let mut count = unpinned(self.pinned.clone(), op.va, op.count, level)?;
        if matches!(call(op), Call::Map | Call::Copy) {
            count = unpinned(self.pinned.clone(), op.source, count, level)?;
        }
        let mut budget = Budget::of_entry();
        if spent > 0 {
            budget.spend_on_fast(spent);
        }
        world.enter(0, 0, op, count, &mut budget)
    }

    /// Compares one kernel entry for the whole operation, and the next one, with one entry for each page or table.
    /// Returns how far the first one got.
    fn compare(&self, op: PageOp) -> u32 {
        let frames = self.frames();
        let mut whole = self.start(frames);
        let result = self.enter(&mut whole, &op, self.spent);
        let left = whole.outcome(None, frames);
        let done = result.unwrap_or(0);
        let again = (result.is_ok() && done < op.count).then(|| self.enter(&mut whole, &op.skip(done), 0));
        let left_again = whole.outcome(None, frames);

        let mut singly = self.start(frames);
        self.each(&mut singly, op, done);
        assert!(left == singly.outcome(None, frames), "{op:?} did {done} in {self:?}");
        if let Err(error) = result {
            assert_eq!(self.enter(&mut singly, &one(op), 0), Err(error), "{op:?} in {self:?}");
        }
        if let Some(again) = again {
            let more = again.unwrap_or(0);
            assert!(more > 0 || again.is_err(), "no progress");
            self.each(&mut singly, op.skip(done), more);
            if let Err(error) = again {
                assert_eq!(self.enter(&mut singly, &one(op.skip(done)), 0), Err(error), "{op:?} in {self:?}");
            }
        }
        assert!(left_again == singly.outcome(None, frames), "{op:?} did {done} in {self:?}, then {again:?}");
        done
    }

    /// The first ones of an operation, one by one.
    fn each(&self, world: &mut World, op: PageOp, count: u32) {
        for number in 0..count {
            let op = one(op.skip(number));
            assert_eq!(self.enter(world, &op, 0), Ok(1), "{op:?} in {self:?}");
        }
    }
}

fn call(op: &PageOp) -> Call {
    Call::from_number(op.call.into()).expect("a call")
}

fn one(op: PageOp) -> PageOp {
    PageOp { count: 1, ..op }
}

fn run(op: PageOp) -> Step {
    Step::Run { map: 0, source: 0, op }
}

/// What every situation begins with: pages as a source, and a page beside the run.
fn common() -> Vec<Step> {
    vec![run(PageOp::alloc(ME, FROM, PAGES + 1, Perms::WRITE)), run(PageOp::alloc(ME, BESIDE, 1, Perms::WRITE))]
}

/// Each call on a run, with what makes it usual for the fast path.
fn usual() -> Vec<(PageOp, Vec<Step>)> {
    let alloc = || run(PageOp::alloc(ME, TO, PAGES, Perms::WRITE));
    let map = |perms| PageOp::map(ME, FROM, ME, TO, PAGES, perms);
    vec![
        (PageOp::alloc(ME, TO, PAGES, Perms::WRITE), vec![]),
        (map(Perms::READ), vec![]),
        (map(Perms::WRITE | Perms::KEEP), vec![]),
        (PageOp::copy(ME, FROM, ME, TO, PAGES, Perms::WRITE), vec![]),
        (PageOp::protect(ME, TO, PAGES, Perms::READ), vec![alloc()]),
        (PageOp::protect(ME, TO, PAGES, Perms::WRITE), vec![alloc()]),
        (PageOp::unmap(ME, TO, PAGES), vec![alloc()]),
        (PageOp::unmap(ME, TO, PAGES), vec![run(map(Perms::READ))]),
        (PageOp::mark(ME, TO, PAGES, 7), vec![]),
        (PageOp::own(TO, PAGES), vec![alloc()]),
        (PageOp::own(TO, PAGES), vec![run(map(Perms::COW))]),
    ]
}

fn situation(steps: impl IntoIterator<Item = Step>) -> Situation {
    Situation { before: common().into_iter().chain(steps).collect(), ..Situation::default() }
}

/// The steps after which programs run on this processor, and on another one.
fn both() -> [Step; 2] {
    [false, true].map(Step::Elsewhere)
}

/// Every number of free frames, from none to more than the run takes; with the tables above, and without.
#[test]
fn a_run_ends_where_frames_are_missing() {
    for ((op, steps), elsewhere) in usual().into_iter().flat_map(|case| both().map(|on| (case.clone(), on))) {
        let steps = || steps.iter().cloned().chain([elsewhere.clone()]);
        let without = Situation { before: common()[..1].iter().cloned().chain(steps()).collect(), ..situation([]) };
        for (tables, all) in [(0, situation(steps())), (3, without)] {
            for free in 0..PAGES as usize + tables + 2 {
                let done = Situation { free: Some(free), ..all.clone() }.compare(op) as usize;
                let fills = matches!(call(&op), Call::Alloc | Call::Copy);
                assert!(!fills || done <= free.saturating_sub(tables), "{done} pages of {free} frames");
            }
        }
    }
}

/// Places in a run where something is in the way: at its ends, and where the kernel changes its way of working.
const PLACES: [u64; 10] = [0, 1, 2, 15, 16, 17, 31, 32, 33, PAGES as u64 - 1];

/// Steps that put something unusual at a page of a run, or of its source.
fn obstacles(page: u64) -> Vec<Vec<Step>> {
    let (to, from) = (TO.add_pages(page), FROM.add_pages(page));
    let fresh = |perms| PageOp::alloc(ME, to, 1, perms);
    let all = [
        vec![fresh(Perms::WRITE)],
        vec![fresh(Perms::EXEC)],
        vec![fresh(Perms::WRITE), PageOp::unmap(ME, to, 1)],
        vec![fresh(Perms::WRITE), PageOp::unmap(ME, to, 1), PageOp::mark(ME, to, 1, 3)],
        vec![PageOp::map(ME, from, ME, to, 1, Perms::READ)],
        vec![PageOp::map(ME, from, ME, to, 1, Perms::WRITE)],
        vec![PageOp::unmap(ME, from, 1)],
        vec![PageOp::unmap(ME, from, 1), PageOp::mark(ME, from, 1, 3)],
        vec![PageOp::protect(ME, from, 1, Perms::READ)],
        vec![PageOp::protect(ME, from, 1, Perms::EXEC)],
    ];
    all.into_iter().map(|ops| ops.into_iter().map(run).collect()).collect()
}

#[test]
fn a_run_passes_what_is_in_its_way_as_single_pages_do() {
    let mut ended = 0;
    for (op, steps) in usual() {
        for page in PLACES {
            for obstacle in obstacles(page) {
                let done = situation(steps.iter().cloned().chain(obstacle)).compare(op);
                ended += u32::from(u64::from(done) == page);
            }
        }
    }
    assert!(ended > 100, "only {ended} entries ended there");
}

/// A run that reaches from a private table into one that is shared, or sealed.
#[test]
fn a_run_ends_where_a_table_is_shared() {
    for (op, steps) in usual() {
        for pages in [1, 16, 17, 33, u64::from(PAGES) - 1] {
            let first = Va(TO.0 - pages * PAGE_SIZE);
            let moved = |op: PageOp| PageOp { va: if op.va == TO { first } else { op.va }, ..op };
            let steps = steps.iter().map(|step| match step {
                Step::Run { op, .. } => run(moved(*op)),
                step => step.clone(),
            });
            let beside = run(PageOp::alloc(ME, Va(first.0 - PAGE_SIZE), 1, Perms::WRITE));
            let steps: Vec<_> = [beside].into_iter().chain(steps).collect();
            let done = [Step::Share { map: 0, to: 0 }, Step::Seal { map: 0, perms: Perms::READ }]
                .map(|second| situation(steps.iter().cloned().chain([second])).compare(moved(op)));
            assert!(u64::from(done[0]) <= pages && done[1] >= done[0], "{op:?}: {done:?} of {pages}");
        }
    }
}

/// Pages of an exception stack at every position in a run, and in its source.
#[test]
fn a_run_ends_before_a_pinned_page() {
    for (op, steps) in usual() {
        for (page, pages) in (0..PAGES.into()).flat_map(|page| [(page, 1), (page, 3)]) {
            for first in [TO, FROM].into_iter().filter(|first| *first == TO || op.source == FROM) {
                let pinned = first.add_pages(page).0..first.add_pages(page + pages).0;
                let done = Situation { pinned, ..situation(steps.clone()) }.compare(op);
                assert!(u64::from(done) == page || !matches!(call(&op), Call::Protect | Call::Mark), "{op:?}");
            }
        }
    }
}

/// Whatever a list has left of the budget, a run ends somewhere and goes on there.
#[test]
fn a_run_ends_where_the_budget_does() {
    for ((op, steps), elsewhere) in usual().into_iter().flat_map(|case| both().map(|on| (case.clone(), on))) {
        let mut ends: Vec<u32> = Vec::new();
        for spent in (0..630).step_by(30) {
            let done = Situation { spent, ..situation(steps.iter().cloned().chain([elsewhere.clone()])) }.compare(op);
            assert!(ends.last().is_none_or(|more| done <= *more), "{op:?}: {done} pages after {ends:?}");
            ends.push(done);
        }
        assert!(ends.first() > Some(&15) && ends.last() < Some(&PAGES), "{op:?}: {ends:?}");
    }
}

/// Tables of a run, and the number of marks in each. The first two have pages, too.
const MARKS: [u32; 4] = [20, 500, 512, 1];

fn table(number: u64) -> Va {
    Va(TO.0 + number * span(Level::L2))
}

/// Tables for runs, and the calls on them: those that need no frame, and one that does.
fn tables() -> (Vec<Step>, [PageOp; 5]) {
    let mut steps = vec![run(PageOp::mark(ME, table(MARKS.len() as u64 + 1), 1, 7))];
    for (number, marks) in (0..).zip(MARKS) {
        steps.push(run(PageOp::mark(ME, table(number), marks, 7)));
    }
    for number in [0, 1] {
        steps.push(run(PageOp::alloc(ME, Va(table(number).0 + 501 * PAGE_SIZE), 9, Perms::WRITE)));
    }
    let count = MARKS.len() as u32;
    let ops = [
        PageOp::unmap_tables(ME, TO, count, Level::L2),
        PageOp::protect_tables(ME, TO, count, Level::L2, Perms::READ),
        PageOp::protect_tables(ME, TO, count, Level::L2, Perms::WRITE),
        PageOp::share_tables(ME, TO, ME, FROM, count, Level::L2),
        PageOp::own_tables(TO, count, Level::L2),
    ];
    (steps, ops)
}

/// The situation for a call on tables: seals are lifted from sealed tables, and shared tables are owned.
fn before(op: &PageOp, steps: &[Step]) -> Situation {
    let count = MARKS.len() as u32;
    let mut steps = steps.to_vec();
    match (call(op), op.source.0) {
        (Call::ProtectTables, perms) if perms == Perms::WRITE.bits() => {
            steps.push(run(PageOp::protect_tables(ME, TO, count, Level::L2, Perms::READ)));
        }
        (Call::OwnTables, _) => steps.push(run(PageOp::share_tables(ME, TO, ME, FROM, count, Level::L2))),
        _ => {}
    }
    Situation { before: steps, ..Situation::default() }
}

/// Removing and protecting tables needs no frame. Sharing and owning them ends where frames are missing.
#[test]
fn a_run_of_tables_ends_where_frames_are_missing() {
    let (steps, ops) = tables();
    for (op, elsewhere) in ops.into_iter().flat_map(|op| both().map(|on| (op, on))) {
        let mut all = before(&op, &steps);
        all.before.push(elsewhere);
        for free in 0..MARKS.len() + 4 {
            let done = Situation { free: Some(free), ..all.clone() }.compare(op);
            let ends = match call(&op) {
                Call::OwnTables => free < MARKS.len(),
                Call::ShareTables => free < 2,
                _ => false,
            };
            assert!(!ends || (done as usize) <= free, "{op:?}: {done} with {free} frames");
            assert!(ends || done > 0, "{op:?} with {free} frames");
        }
    }
}

/// A pinned page anywhere below a table: the tables before it are done, and neither that table nor a later one.
#[test]
fn a_run_of_tables_ends_before_a_pinned_page() {
    let (steps, ops) = tables();
    for op in &ops[..3] {
        for number in 0..MARKS.len() as u64 {
            for (page, pages) in [(0, 1), (7, 2), (511, 1), (510, 4)] {
                let first = table(number).add_pages(page);
                let all = Situation { pinned: first.0..first.add_pages(pages).0, ..before(op, &steps) };
                let done = all.compare(*op);
                assert!(u64::from(done) <= number, "{op:?} took {done} tables, the stack is below {number}");
            }
        }
    }
}

/// A table that is missing, or that may be shared.
#[test]
fn a_run_of_tables_ends_where_a_table_is_unusual() {
    let (steps, ops) = tables();
    for op in ops {
        for number in 0..MARKS.len() as u64 {
            let missing = PageOp::unmap_tables(ME, table(number), 1, Level::L2);
            let shared = PageOp::share_tables(ME, table(number), ME, table(20), 1, Level::L2);
            for unusual in [missing, shared] {
                let mut all = before(&op, &steps);
                all.before.push(run(unusual));
                let done = all.compare(op);
                assert!(u64::from(done) <= number || unusual == shared, "{op:?} did {done}, {number} is missing");
            }
        }
    }
}

#[test]
fn a_run_of_tables_ends_where_the_budget_does() {
    let (steps, ops) = tables();
    for (op, elsewhere) in ops.into_iter().flat_map(|op| both().map(|on| (op, on))) {
        let mut all = before(&op, &steps);
        all.before.push(elsewhere);
        let ends: Vec<u32> = (0..630).step_by(15).map(|spent| Situation { spent, ..all.clone() }.compare(op)).collect();
        assert!(ends.is_sorted_by(|more, fewer| more >= fewer), "{op:?}: {ends:?}");
        assert!(ends.first() > Some(&0) && ends.last() < Some(&4), "{op:?}: {ends:?}");
    }
}

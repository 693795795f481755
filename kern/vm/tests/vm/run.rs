//! Runs of pages and tables: how far they get, and with which errors.

use crate::world::take_cost;
use abi::{Call, EnvId, Error, Level, PAGE_SIZE, PageOp, Perms, Va, page::span};
use proptest::prelude::*;
use sim::machine::{self, FRAMES, KERNEL_FRAMES, Sim};
use std::ops::Range;
use vm::{Budget, PageMap, unpinned};

const HERE: Va = Va(0x40_0000);
const THERE: Va = Va(0x80_0000_0000);
const ME: EnvId = EnvId(0);

struct World {
    here: PageMap<Sim>,
    there: PageMap<Sim>,
}

impl World {
    fn new() -> World {
        machine::start(FRAMES - KERNEL_FRAMES);
        let (template, _) = machine::template();
        let [here, there] = [0, 1].map(|_| PageMap::<Sim>::new(template).expect("room for maps"));
        World { here, there }
    }

    fn run_within(&mut self, op: &PageOp, budget: &mut Budget) -> Result<u32, Error> {
        let call = Call::from_number(op.call.into()).expect("a call");
        self.here.edit().run_pages(None, call, op, op.count, budget)
    }

    fn run(&mut self, op: PageOp) -> Result<u32, Error> {
        self.run_within(&op, &mut Budget::of_entry())
    }

    /// From one map to the other.
    fn run_over(&mut self, op: PageOp) -> Result<u32, Error> {
        let call = Call::from_number(op.call.into()).expect("a call");
        let (mut from, budget) = (self.here.edit(), &mut Budget::of_entry());
        self.there.edit().run_tables(Some(&mut from), call, &op, op.count, budget)
    }

    fn run_tables(&mut self, op: PageOp) -> Result<u32, Error> {
        let call = Call::from_number(op.call.into()).expect("a call");
        self.here.edit().run_tables(None, call, &op, op.count, &mut Budget::of_entry())
    }

    /// Repeats the call until everything is done. Returns the number of calls.
    fn finish(&mut self, mut op: PageOp) -> u32 {
        let mut calls = 0;
        while op.count > 0 {
            let done = self.run(op).expect("no error");
            assert!(done > 0, "no progress");
            (op, calls) = (op.skip(done), calls + 1);
        }
        calls
    }
}

#[test]
fn an_entry_does_so_much_and_no_more() {
    let mut world = World::new();
    machine::take_filled();
    let op = PageOp::alloc(ME, HERE, 100, Perms::WRITE);
    let done = world.run(op).expect("the first pages");
    // A page of zeros is about 550 instructions.
    assert!((28..34).contains(&done), "{done} pages");
    assert_eq!(machine::take_filled(), done + 3, "pages and tables");
    assert_eq!(world.finish(op.skip(done)), 3);
    assert!((0..100).all(|page| world.here.page(HERE.add_pages(page)).is_some()));
    // Changing an entry is less work.
    assert_eq!(world.run(PageOp::protect(ME, HERE, 100, Perms::READ)), Ok(100));
    assert_eq!(world.run(PageOp::unmap(ME, HERE, 100)), Ok(100));
}

#[test]
fn operations_of_one_entry_share_its_time() {
    let mut world = World::new();
    let mut budget = Budget::of_entry();
    let mut total = 0;
    for page in 0..100 {
        let op = PageOp::alloc(ME, HERE.add_pages(page), 1, Perms::WRITE);
        total += world.run_within(&op, &mut budget).expect("no error");
    }
    assert!((20..28).contains(&total), "{total} pages");
}

#[test]
fn what_came_before_is_not_this_entrys_work() {
    let mut world = World::new();
    for page in 0..200 {
        world.here.edit().alloc(HERE.add_pages(page), Perms::WRITE).expect("a page");
    }
    assert_eq!(world.run(PageOp::protect(ME, HERE, 100, Perms::READ)), Ok(100));
}

#[test]
fn an_error_is_for_a_call_that_has_done_nothing() {
    let mut world = World::new();
    world.finish(PageOp::alloc(ME, HERE, 5, Perms::WRITE));
    let op = PageOp::protect(ME, HERE.add_pages(2), 5, Perms::READ);
    assert_eq!(world.run(op), Ok(3));
    assert_eq!(world.run(op.skip(3)), Err(Error::NotMapped(HERE.add_pages(5).0)));
}

/// Runs and lists that take the fast path: as far as it gets, pages are as if they had been protected one by one.
#[test]
fn runs_and_lists_are_protected_by_the_fast_path() {
    const LEFT: u64 = 3;
    let first = HERE.add_pages(512 - 100);
    let page = |number: u64| first.add_pages(number);
    let writable = |world: &World| {
        let all = (0..200).map(|number| world.here.page(page(number)));
        all.map(|page| page.is_some_and(|page| page.writable)).collect::<Vec<_>>()
    };
    for (start, count, stops) in [(0, 5, 5), (0, 90, 90), (0, 150, 100), (100, 90, 90 - 1), (50, 20, 20)] {
        let mut world = World::new();
        world.finish(PageOp::alloc(ME, first, 200, Perms::WRITE));
        // The only page that may not be written.
        let frame = world.here.grant(page(0), Perms::READ).expect("the first page");
        world.here.edit().accept(page(189), frame, Perms::READ).expect("room");
        let may = |number| number < 200 && number != 189;
        world.finish(PageOp::protect(ME, first, 200, Perms::READ));
        let done = world.here.edit().protect_run_fast(page(start), count, Perms::WRITE);
        assert_eq!(done, Some(stops), "{count} pages from {start}");
        let expected: Vec<_> = (0..200).map(|at| (start..start + stops as u64).contains(&at)).collect();
        assert_eq!(writable(&world), expected);

        // The table of the last walk is the second one.
        _ = world.here.edit().protect(page(150), Perms::READ);
        let list = (100..100 + count as u64).filter(|at| at % LEFT != 0);
        let ops: Vec<_> = list.clone().map(|at| PageOp::protect(ME, page(at), 1, Perms::WRITE)).collect();
        let done = world.here.edit().protect_list_fast(&ops, Perms::WRITE, 0..0);
        assert_eq!(done, list.clone().take_while(|at| may(*at)).count());
        assert!(list.take(done).all(|at| world.here.page(page(at)).is_some_and(|page| page.writable)));
    }
    let mut world = World::new();
    assert_eq!(world.here.edit().protect_run_fast(HERE, 5, Perms::READ), None);
}

/// An operation of a list that differs from the first one stops the fast path.
#[test]
fn a_list_is_done_as_far_as_all_is_usual() {
    let mut world = World::new();
    world.finish(PageOp::alloc(ME, HERE, 40, Perms::WRITE));
    let protect = |number| PageOp::protect(ME, HERE.add_pages(number), 1, Perms::READ);
    let ops: Vec<_> = (0..40).map(protect).collect();
    let pinned = HERE.add_pages(10).0..HERE.add_pages(12).0;
    let short =
        |world: &mut World, ops: &[PageOp], pinned| world.here.edit().protect_list_fast(ops, Perms::READ, pinned);
    for (from, done) in [(0, 10), (10, 0), (11, 0), (12, 28)] {
        assert_eq!(short(&mut world, &ops[from..], pinned.clone()), done, "from {from}");
    }
    let writable = |number| world.here.page(HERE.add_pages(number)).is_some_and(|page| page.writable);
    assert!((0..40).all(|number| writable(number) == (10..12).contains(&number)));

    let odd = [
        PageOp { va: Va(HERE.0 + 5 * PAGE_SIZE + 8), ..protect(5) },
        PageOp { count: 2, ..protect(5) },
        PageOp { call: Call::Unmap as u32, ..protect(5) },
        PageOp { env: EnvId(4096), ..protect(5) },
        PageOp { arg: Perms::EXEC.bits(), ..protect(5) },
        protect(40),
        protect(600),
    ];
    for odd in odd {
        let list: Vec<_> = ops[..5].iter().copied().chain([odd]).collect();
        assert_eq!(short(&mut world, &list, 0..0), 5, "{odd:?}");
    }
    // Addresses that differ from the page's only in bits that a walk ignores.
    for va in [7, HERE.0 | 1 << 48, HERE.0 | 1 << 63] {
        assert_eq!(short(&mut world, &[PageOp { va: Va(va), ..protect(0) }], 0..0), 0, "{va:#x}");
    }
}

/// No processor keeps stale translations, for any number of pages.
#[test]
fn what_the_fast_path_protected_is_in_no_tlb() {
    for count in [5, 90] {
        let mut world = World::new();
        world.finish(PageOp::alloc(ME, HERE, count, Perms::WRITE));
        machine::processor(|processor| processor.load(Some(world.here.root())));
        let pages = || (0..u64::from(count)).map(|number| HERE.add_pages(number));
        assert!(pages().all(|page| machine::store(page, 1)));
        assert_eq!(world.here.edit().protect_run_fast(HERE, count as usize, Perms::READ), Some(count as usize));
        assert!(!pages().any(|page| machine::store(page, 2)), "{count} pages");
    }
}

#[test]
fn tables_are_shared_owned_and_unmapped() {
    let mut world = World::new();
    for table in 0..3 {
        world.finish(PageOp::alloc(ME, Va(THERE.0 + table * span(Level::L2)), 1, Perms::WRITE));
    }
    assert_eq!(world.run_over(PageOp::share_tables(ME, THERE, ME, HERE, 5, Level::L2)), Ok(3));
    let table = |map: &PageMap<Sim>, va: Va| map.page(va).map(|page| (page.frame, page.writable));
    for number in 0..3 {
        let (from, to) = (Va(THERE.0 + number * span(Level::L2)), Va(HERE.0 + number * span(Level::L2)));
        assert_eq!(table(&world.here, from), table(&world.there, to));
        assert!(table(&world.here, from).is_some_and(|(_, writable)| !writable));
    }
    assert_eq!(world.run_tables(PageOp::own_tables(THERE, 1, Level::L2)), Ok(1));
    let rest = PageOp::unmap_tables(ME, Va(THERE.0 + span(Level::L2)), 2, Level::L2);
    assert_eq!(world.run_tables(rest), Ok(2));
    assert_eq!(world.run_tables(rest), Err(Error::NotMapped(rest.va.0)));
    assert_eq!(world.run_tables(PageOp { arg: 5, ..rest }), Err(Error::BadLevel(5)));
    // Within one page map.
    let again = PageOp::share_tables(ME, THERE, ME, HERE, 1, Level::L2);
    assert_eq!(world.run_tables(again), Ok(1));
    assert_eq!(world.run_tables(again), Err(Error::Mapped(HERE.0)));
}

/// Owning a full table is the most work: one table per kernel entry. Nearly empty ones are less, even late in an
/// entry.
#[test]
fn tables_are_owned_within_an_entry() {
    for (pages, owned) in [(512, 1), (1, 3)] {
        let mut world = World::new();
        for table in 0..3 {
            // One page everywhere: there are not enough frames for separate ones.
            let first = Va(THERE.0 + table * span(Level::L2));
            world.finish(PageOp::alloc(ME, first, 1, Perms::WRITE));
            for page in 1..pages {
                let frame = world.here.grant(first, Perms::WRITE).expect("a page");
                world.here.edit().accept(first.add_pages(page), frame, Perms::WRITE).expect("room");
            }
        }
        assert_eq!(world.run_over(PageOp::share_tables(ME, THERE, ME, HERE, 3, Level::L2)), Ok(3));
        assert_eq!(world.run_tables(PageOp::own_tables(THERE, 3, Level::L2)), Ok(owned), "{pages} pages");
    }
}

/// The cost of a table depends on its entries: the rest of the budget is measured in pages that can still be
/// allocated.
#[test]
fn a_table_with_pages_apart_is_paid_for() {
    for (pages, left) in [(1, 15..28), (64, 4..14), (256, 1..6)] {
        let mut world = World::new();
        for page in 0..pages {
            let va = THERE.add_pages(page * 512 / pages);
            world.here.edit().mark(va, 7).expect("room");
        }
        let table = PageOp::share_tables(ME, THERE, ME, THERE, 1, Level::L2);
        assert_eq!(world.run_over(table), Ok(1));
        let mut budget = Budget::of_entry();
        let own = PageOp::own_tables(THERE, 1, Level::L2);
        let owned = world.here.edit().run_tables(None, Call::OwnTables, &own, 1, &mut budget);
        assert_eq!(owned, Ok(1));
        let alloc = PageOp::alloc(ME, HERE, 100, Perms::WRITE);
        let done = world.run_within(&alloc, &mut budget).expect("no error");
        assert!(left.contains(&done), "{pages} pages: then {done}");
    }
}

/// Contents of pages before a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nothing,
    Sole,
    Shared,
    Marks,
}

/// Sets up pages of one page map; the other one has this many, too.
fn put(world: &mut World, before: Before, pages: u32) {
    let World { here, there } = world;
    for page in 0..pages.into() {
        let va = HERE.add_pages(page);
        there.edit().alloc(THERE.add_pages(page), Perms::WRITE).expect("a page");
        match before {
            Before::Nothing => {}
            Before::Sole => here.edit().alloc(va, Perms::WRITE).expect("a page"),
            Before::Shared => {
                let frame = there.grant(THERE.add_pages(page), Perms::WRITE).expect("a page");
                here.edit().accept(va, frame, Perms::WRITE).expect("room");
            }
            Before::Marks => here.edit().mark(va, 7).expect("room"),
        }
    }
}

/// One kernel entry for this many pages, in a page map that is loaded elsewhere, or here.
fn enter(world: &mut World, call: Call, pages: u32) -> Option<u32> {
    let op = match call {
        Call::Alloc => PageOp::alloc(ME, HERE, pages, Perms::WRITE),
        Call::Map => PageOp::map(ME, THERE, ME, HERE, pages, Perms::READ),
        Call::Copy => PageOp::copy(ME, THERE, ME, HERE, pages, Perms::READ),
        Call::Protect => PageOp::protect(ME, HERE, pages, Perms::READ),
        Call::Unmap => PageOp::unmap(ME, HERE, pages),
        Call::Mark => PageOp::mark(ME, HERE, pages, 5),
        _ => PageOp::own(HERE, pages),
    };
    let (mut from, budget) = (world.there.edit(), &mut Budget::of_entry());
    world.here.edit().run_pages(Some(&mut from), call, &op, pages, budget).ok()
}

/// The kernel entry that replaces pages pays for freeing their frames, and for TLB shootdowns.
#[test]
fn no_entry_costs_more_than_its_budget() {
    const PAGES: u32 = 200;
    // The cost of a page of a run, on the slow path and on the fast path, and the budget of a kernel entry.
    const EDIT: [u32; 2] = [180, 10];
    const ENTRY: u32 = 18_600;
    let calls = [Call::Alloc, Call::Map, Call::Copy, Call::Protect, Call::Unmap, Call::Mark, Call::Own];
    let befores = [Before::Nothing, Before::Sole, Before::Shared, Before::Marks];
    for (elsewhere, before, call) in situations(&befores, &calls) {
        let mut world = World::new();
        put(&mut world, before, PAGES);
        machine::processor(|processor| processor.load(Some(world.here.root())));
        machine::run_elsewhere(elsewhere);
        take_cost();
        let Some(done) = enter(&mut world, call, PAGES) else { continue };
        let filled_and_freed = take_cost();
        let [most, cost] = EDIT.map(|edit| edit * done + filled_and_freed);
        let cost = if elsewhere { most } else { cost };
        let what = format!("{call:?} over {before:?}, elsewhere: {elsewhere}");
        assert!(cost <= ENTRY, "{what}: {done} pages for {cost}");
        assert!(done == PAGES || most > ENTRY / 3, "{what}: only {done} pages for {most}");
    }
}

/// All pairs, here and elsewhere.
fn situations<'a>(befores: &'a [Before], calls: &'a [Call]) -> impl Iterator<Item = (bool, Before, Call)> + 'a {
    let pairs = befores.iter().flat_map(|before| calls.iter().map(move |call| (*before, *call)));
    pairs.flat_map(|(before, call)| [(false, before, call), (true, before, call)])
}

/// A call that returns an error has changed nothing: tables that were private still are, and others are not.
#[test]
fn a_table_that_nobody_took_is_as_it_was() {
    let mut world = World::new();
    for va in [HERE, THERE] {
        world.finish(PageOp::alloc(ME, va, 1, Perms::WRITE));
    }
    let writable = |map: &PageMap<Sim>, va: Va| map.page(va).is_some_and(|page| page.writable);
    let (within, over) = (
        PageOp::share_tables(ME, HERE, ME, THERE, 1, Level::L2),
        PageOp::share_tables(ME, HERE, ME, HERE, 1, Level::L2),
    );
    assert_eq!(world.run_tables(within), Err(Error::Mapped(THERE.0)));
    assert!(writable(&world.here, HERE));
    assert_eq!(world.run_over(over), Ok(1));
    assert_eq!(world.run_over(over), Err(Error::Mapped(HERE.0)));
    assert_eq!(world.run_tables(within), Err(Error::Mapped(THERE.0)));
    assert!(!writable(&world.here, HERE) && !writable(&world.there, HERE));
    // The table has become private again: then it is private after an error, too.
    assert_eq!(world.run_tables(PageOp::own_tables(HERE, 1, Level::L2)), Ok(1));
    assert_eq!(world.run_over(over), Err(Error::Mapped(HERE.0)));
    assert_eq!(world.run_tables(PageOp::unmap_tables(ME, Va(0), 1, Level::L3)), Err(Error::NotShared(0)));
    assert_eq!(world.run(PageOp::protect(ME, HERE, 1, Perms::READ)), Ok(1));
}

/// Page by page, as the reference.
fn unpinned_slowly(pinned: &Range<u64>, va: u64, count: u32, level: Level) -> Result<u32, Error> {
    let met = |at: u64| (at..at + span(level)).step_by(PAGE_SIZE as usize).find(|page| pinned.contains(page));
    for done in 0..count {
        match met(va + u64::from(done) * span(level)) {
            Some(page) if done == 0 => return Err(Error::Pinned(page)),
            Some(_) => return Ok(done),
            None => {}
        }
    }
    Ok(count)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_run_ends_before_pinned_pages(
        (level, count) in prop_oneof![(Just(Level::L1), 1..2000_u32), (Just(Level::L2), 1..4_u32)],
        start in 0..1500_u64, low in 0..1500_u64, pages in 0..16_u64,
    ) {
        let va = (start * PAGE_SIZE) & !(span(level) - 1);
        let pinned = low * PAGE_SIZE..(low + pages) * PAGE_SIZE;
        let expected = unpinned_slowly(&pinned, va, count, level);
        prop_assert_eq!(unpinned(pinned, Va(va), count, level), expected);
    }
}

#[test]
fn pinned_pages_that_are_far_away_do_not_matter() {
    assert_eq!(unpinned(1 << 46..(1 << 46) + PAGE_SIZE, Va(0), u32::MAX, Level::L1), Ok(u32::MAX));
}

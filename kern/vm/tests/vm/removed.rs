//! Private tables that are removed with all their pages: the same must be left as after the pages, one by one.

use crate::case::{OTHER, PAGE};
use abi::{Call, EnvId, Error, Level, PageOp, Perms, Pte, Va, page::span};
use sim::machine::{self, FRAMES, KERNEL_FRAMES, Sim, for_each_entry, free_frames, load, processor, refs};
use sim::processor::Access;
use std::collections::BTreeMap;
use vm::{Budget, PageMap};

const ME: EnvId = EnvId::SELF;
const FREE: usize = FRAMES - KERNEL_FRAMES;

/// The entries of a page map without their frames, with the number of references to each frame.
type Entries = BTreeMap<(Level, Va), (u64, u32)>;

struct World {
    template: abi::Frame,
    maps: [PageMap<Sim>; 2],
}

impl World {
    fn new() -> World {
        machine::start(FREE);
        let (template, _) = machine::template();
        let maps = [0, 1].map(|_| PageMap::<Sim>::new(template).expect("room for maps"));
        processor(|processor| processor.load(Some(maps[0].root())));
        World { template, maps }
    }

    fn run(&mut self, op: PageOp) -> Result<u32, Error> {
        let call = Call::from_number(op.call.into()).expect("a call");
        let (map, budget) = (&mut self.maps[0].edit(), &mut Budget::of_entry());
        match call {
            Call::UnmapTables | Call::OwnTables => map.run_tables(None, call, &op, op.count, budget),
            _ => map.run_pages(None, call, &op, op.count, budget),
        }
    }

    /// Repeats the call until everything is done. Returns how much each call did.
    fn finish(&mut self, mut op: PageOp) -> Vec<u32> {
        let mut calls = Vec::new();
        while op.count > 0 {
            let done = self.run(op).expect("no error");
            assert!(done > 0, "no progress");
            op = op.skip(done);
            calls.push(done);
        }
        calls
    }

    /// Pages of all kinds at the beginning of a table: of one user, and of several, in one page map and in two.
    fn fill(&mut self) {
        let at = |n: u64| PAGE.add_pages(n);
        self.finish(PageOp::alloc(ME, PAGE, 200, Perms::WRITE));
        self.finish(PageOp::protect(ME, at(20), 20, Perms::READ));
        self.finish(PageOp::map(ME, PAGE, ME, at(300), 20, Perms::WRITE));
        self.finish(PageOp::mark(ME, at(400), 20, 7));
        for n in (50..90).step_by(3) {
            let frame = self.maps[0].grant(at(n), Perms::READ).expect("a page");
            self.maps[1].edit().accept(at(n), frame, Perms::READ).expect("room");
        }
        (0..200).step_by(7).for_each(|n| _ = load(at(n), Access::Read));
    }

    /// All entries, with the number of references to each frame, but without the frames; and how many are free.
    fn left(&self) -> (Vec<Entries>, usize) {
        let roots: Vec<_> = self.maps.iter().map(|map| map.root()).collect();
        assert_eq!(machine::check(self.template, &roots, 0..0, FREE), Ok(()));
        assert_eq!(processor(|processor| processor.stale()), None);
        let entries = |map: &PageMap<Sim>| {
            let mut all = BTreeMap::new();
            for_each_entry(map.root(), &mut |va, level, pte: Pte| {
                let refs = if pte.is_present() { refs(pte.frame()) } else { 0 };
                all.insert((level, va), (pte.0 & !Pte::FRAME, refs));
            });
            all
        };
        (self.maps.iter().map(entries).collect(), free_frames())
    }
}

#[test]
fn a_private_table_goes_as_its_pages_do() {
    for elsewhere in [false, true] {
        for beside in [None, Some(Va(PAGE.0 + span(Level::L2))), Some(OTHER)] {
            let left = [PageOp::unmap_tables(ME, PAGE, 1, Level::L2), PageOp::unmap(ME, PAGE, 512)].map(|op| {
                let mut world = World::new();
                beside.into_iter().for_each(|va| world.maps[0].edit().alloc(va, Perms::WRITE).expect("a page"));
                world.fill();
                machine::run_elsewhere(elsewhere);
                machine::take_flushed();
                if op.call == Call::Unmap as u32 {
                    for n in 0..512 {
                        _ = world.run(PageOp::unmap(ME, PAGE.add_pages(n), 1));
                    }
                } else {
                    assert_eq!(world.run(op), Ok(1));
                    assert_eq!(machine::take_flushed() > 0, elsewhere);
                }
                machine::run_elsewhere(false);
                world.left()
            });
            assert_eq!(left[0], left[1], "beside {beside:?}");
        }
    }
}

/// The others have given up the table, and the page map does not know yet.
#[test]
fn a_table_that_was_shared_goes_with_its_last_user() {
    let mut world = World::new();
    let before = world.left();
    world.maps[0].edit().alloc(PAGE, Perms::WRITE).expect("a page");
    let table = world.maps[0].edit().grant_table(PAGE, Level::L2).expect("a table");
    world.maps[1].edit().accept_table(PAGE, Level::L2, table).expect("room");
    assert_eq!(world.run(PageOp::unmap_tables(ME, PAGE, 1, Level::L2)), Ok(1));
    assert!(world.maps[1].page(PAGE).is_some(), "the other one has it still");
    world.maps.swap(0, 1);
    assert_eq!(world.run(PageOp::unmap_tables(ME, PAGE, 1, Level::L2)), Ok(1));
    world.maps.swap(0, 1);
    assert_eq!(world.left(), before);
}

#[test]
fn an_entry_removes_as_many_tables_as_its_budget_allows() {
    let mut world = World::new();
    let before = world.left();
    let table = |number: u64| Va(PAGE.0 + number * span(Level::L2));
    let remove = PageOp::unmap_tables(ME, PAGE, 6, Level::L2);
    for (marks, calls) in [(512, vec![1; 6]), (8, vec![6])] {
        for number in 0..6 {
            world.finish(PageOp::mark(ME, table(number), marks, 7));
        }
        assert_eq!(world.finish(remove), calls, "{marks} marks in each");
        assert_eq!(world.left(), before);
    }
    // A table that is missing ends the run.
    [0, 1, 3].into_iter().for_each(|number| _ = world.finish(PageOp::mark(ME, table(number), 1, 7)));
    assert_eq!(world.run(remove), Ok(2));
    assert_eq!(world.run(remove.skip(2)), Err(Error::NotMapped(table(2).0)));
    assert_eq!(world.run(remove.skip(3)), Ok(1));
    assert_eq!(world.left(), before);
}

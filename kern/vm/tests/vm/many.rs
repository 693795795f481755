//! Runs of pages against the same operations page by page: both must leave the same page maps.

use abi::{Call, EnvId, Error, Frame, Level, PageOp, Perms, Pte, Va, page::span};
use proptest::prelude::*;
use sim::machine::{self, FRAMES, KERNEL_FRAMES, Sim, for_each_entry, free_frames, load, refs, store};
use sim::processor::Access;
use std::collections::BTreeMap;
use vm::{Budget, PageMap};

const ME: EnvId = EnvId::SELF;
/// Runs begin near the end of a table, and so reach into the next one.
const FIRST: Va = Va(TABLE.0 + 470 * 0x1000);
/// The addresses of the first table.
const TABLE: Va = Va(0x40_0000);
/// Where the first table may be shared to, in the same page map.
const ALIASES: Va = Va(0x4000_0000);
/// Pages from the first one on.
const PAGES: u64 = 64;

/// A step: an operation in one of the page maps, or an access by the program that the processor runs.
#[derive(Clone, Debug)]
pub enum Step {
    Run {
        map: usize,
        source: usize,
        op: PageOp,
    },
    /// Touches this many pages from this one on.
    Touch {
        page: u64,
        count: u64,
        write: bool,
    },
    Load {
        map: usize,
    },
    Elsewhere(bool),
    /// Shares the first table with another place in its page map.
    Share {
        map: usize,
        to: u64,
    },
    /// Makes the first table private again.
    Own {
        map: usize,
    },
    /// Protects the first table and the next one, or no longer.
    Seal {
        map: usize,
        perms: Perms,
    },
}

/// The result of a step: its error, all entries without their frames, with the number of references to each frame.
pub type Outcome = (Option<Error>, Vec<BTreeMap<(Level, Va), (u64, u32)>>, usize);

pub struct World {
    template: Frame,
    maps: Vec<PageMap<Sim>>,
    /// The greatest number of pages in one call.
    most: u32,
}

impl World {
    pub fn new(frames: usize, most: u32) -> World {
        machine::start(frames);
        let (template, _) = machine::template();
        let maps: Vec<_> = (0..2).map(|_| PageMap::new(template).expect("a page map")).collect();
        machine::processor(|processor| processor.load(Some(maps[0].root())));
        World { template, maps, most }
    }

    /// Does the first `count` pages or tables of an operation, as far as a kernel entry with this budget gets.
    pub fn enter(
        &mut self,
        map: usize,
        source: usize,
        op: &PageOp,
        count: u32,
        budget: &mut Budget,
    ) -> Result<u32, Error> {
        let call = Call::from_number(op.call.into()).expect("a call");
        let (one, two) = self.maps.split_at_mut(1);
        let (to, other) = if map == 0 { (&mut one[0], &mut two[0]) } else { (&mut two[0], &mut one[0]) };
        let mut from = (source != map).then(|| other.edit());
        let mut edit = to.edit();
        match call {
            Call::ProtectTables => edit.protect_tables(op, count, budget),
            _ if call.is_about_tables() => edit.run_tables(from.as_deref_mut(), call, op, count, budget),
            _ => edit.run_pages(from.as_deref_mut(), call, op, count, budget),
        }
    }

    /// Does an operation with as many calls as it takes. Returns the error that ends it.
    fn run(&mut self, map: usize, source: usize, mut op: PageOp) -> Option<Error> {
        while op.count > 0 {
            match self.enter(map, source, &op, op.count.min(self.most), &mut Budget::of_entry()) {
                Ok(0) => panic!("no progress: {op:?}"),
                Ok(done) => op = op.skip(done),
                Err(error) => return Some(error),
            }
        }
        None
    }

    pub fn step(&mut self, step: &Step) -> Option<Error> {
        match *step {
            Step::Run { map, source, op } => self.run(map, source, op),
            Step::Touch { page, count, write } => {
                for va in (page..page + count).map(|page| FIRST.add_pages(page)) {
                    let _ = if write { store(va, 7) } else { load(va, Access::Read).is_some() };
                }
                None
            }
            Step::Load { map } => {
                machine::processor(|processor| processor.load(Some(self.maps[map].root())));
                None
            }
            Step::Elsewhere(elsewhere) => {
                machine::run_elsewhere(elsewhere);
                None
            }
            Step::Share { map, to } => {
                let to = Va(ALIASES.0 + to * span(Level::L2));
                self.tables(map, PageOp::share_tables(ME, TABLE, ME, to, 1, Level::L2))
            }
            Step::Seal { map, perms } => self.tables(map, PageOp::protect_tables(ME, TABLE, 2, Level::L2, perms)),
            Step::Own { map } => self.tables(map, PageOp::own_tables(TABLE, 1, Level::L2)),
        }
    }

    fn tables(&mut self, map: usize, op: PageOp) -> Option<Error> {
        self.enter(map, map, &op, op.count, &mut Budget::of_entry()).err()
    }

    pub fn outcome(&self, error: Option<Error>, total: usize) -> Outcome {
        let roots: Vec<_> = self.maps.iter().map(|map| map.root()).collect();
        assert_eq!(machine::check(self.template, &roots, 0..0, total), Ok(()));
        assert_eq!(machine::processor(|processor| processor.stale()), None, "a stale translation");
        // While a shootdown is pending, a page that has just lost its other user is copied all the same.
        let varies = Pte::FRAME | if machine::runs_elsewhere() { Pte::ACCESSED | Pte::DIRTY } else { 0 };
        let entries = roots.iter().map(|&root| {
            let mut all = BTreeMap::new();
            for_each_entry(root, &mut |va, level, pte| {
                let page = if pte.is_present() { (pte.0 & !varies, refs(pte.frame())) } else { (pte.0, 0) };
                all.insert((level, va), page);
            });
            all
        });
        (error, entries.collect(), free_frames())
    }
}

/// The outcomes of all steps, with at most this many pages in a call.
fn play(steps: &[Step], frames: usize, most: u32) -> Vec<Outcome> {
    let mut world = World::new(frames, most);
    let outcomes = steps.iter().map(|step| {
        let error = world.step(step);
        world.outcome(error, frames)
    });
    outcomes.collect()
}

/// Where a run starts, counted from the first page: often at the same places.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(42), 2 => 0..PAGES]
}

/// The length of a run: often so long that single TLB invalidations do not pay.
fn length() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(1), 1 => 1..10_u32, 2 => 36..60_u32]
}

fn ops() -> impl Strategy<Value = PageOp> {
    let perms = prop_oneof![
        Just(Perms::READ),
        Just(Perms::WRITE),
        Just(Perms::WRITE),
        Just(Perms::WRITE | Perms::KEEP),
        Just(Perms::COW),
        Just(Perms::EXEC),
    ];
    (0..7, start(), start(), length(), perms, 0..4_u64).prop_map(|(call, from, to, count, perms, word)| {
        let (from, to) = (FIRST.add_pages(from), FIRST.add_pages(to));
        match call {
            0 => PageOp::alloc(ME, to, count, perms),
            1 => PageOp::map(ME, from, ME, to, count, perms),
            2 => PageOp::copy(ME, from, ME, to, count, perms),
            3 => PageOp::protect(ME, to, count, perms),
            4 => PageOp::unmap(ME, to, count),
            5 => PageOp::mark(ME, to, count, word),
            _ => PageOp::own(to, count),
        }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let map = || 0..2_usize;
    let step = prop_oneof![
        8 => (map(), map(), ops()).prop_map(|(map, source, op)| Step::Run { map, source, op }),
        3 => (start(), length(), any::<bool>())
            .prop_map(|(page, count, write)| Step::Touch { page, count: count.into(), write }),
        1 => map().prop_map(|map| Step::Load { map }),
        1 => any::<bool>().prop_map(Step::Elsewhere),
        1 => (map(), 0..4_u64).prop_map(|(map, to)| Step::Share { map, to }),
        1 => map().prop_map(|map| Step::Own { map }),
        1 => (map(), prop_oneof![Just(Perms::READ), Just(Perms::WRITE)])
            .prop_map(|(map, perms)| Step::Seal { map, perms }),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_run_leaves_what_single_pages_leave(steps in steps(), frames in prop_oneof![Just(FRAMES - KERNEL_FRAMES), 40..90_usize]) {
        let (runs, singles) = (play(&steps, frames, u32::MAX), play(&steps, frames, 1));
        for (step, (run, single)) in steps.iter().zip(runs.iter().zip(&singles)) {
            prop_assert!(run == single, "{:?}: {:?} and {:?}", step, run.0, single.0);
        }
    }
}

/// Nor below a sealed one, while its own entries are changed by the fast path.
#[test]
fn a_run_passes_on_no_rights_that_a_sealed_table_takes() {
    let elsewhere = Va(ALIASES.0);
    let steps = [
        Step::Run { map: 0, source: 0, op: PageOp::alloc(ME, FIRST, 42, Perms::READ) },
        Step::Seal { map: 0, perms: Perms::READ },
        Step::Run { map: 0, source: 0, op: PageOp::protect(ME, FIRST, 42, Perms::WRITE) },
        Step::Run { map: 0, source: 0, op: PageOp::alloc(ME, elsewhere, 2, Perms::WRITE) },
        Step::Run { map: 0, source: 0, op: PageOp::map(ME, FIRST, ME, elsewhere.add_pages(2), 5, Perms::WRITE) },
    ];
    let (runs, singles) = (play(&steps, FRAMES - KERNEL_FRAMES, u32::MAX), play(&steps, FRAMES - KERNEL_FRAMES, 1));
    assert!(runs == singles);
    assert_eq!(runs[2].0, None);
    assert_eq!(runs[4].0, Some(Error::NoRight(FIRST.0)));
}

/// A page below a shared table is not passed on writable, even if the run finds its target at hand.
#[test]
fn a_run_passes_on_no_rights_that_a_shared_table_takes() {
    let target = FIRST.add_pages(50);
    let steps = [
        Step::Run { map: 0, source: 0, op: PageOp::alloc(ME, FIRST, 42, Perms::WRITE) },
        Step::Share { map: 0, to: 0 },
        Step::Run { map: 0, source: 0, op: PageOp::alloc(ME, FIRST.add_pages(45), 2, Perms::WRITE) },
        Step::Run { map: 0, source: 0, op: PageOp::map(ME, FIRST, ME, target, 5, Perms::WRITE) },
    ];
    let (runs, singles) = (play(&steps, FRAMES - KERNEL_FRAMES, u32::MAX), play(&steps, FRAMES - KERNEL_FRAMES, 1));
    assert!(runs == singles);
    assert!(matches!(runs[3].0, Some(Error::TableShared(_))), "{:?}", runs[3].0);
}

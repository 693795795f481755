//! Random steps: contents are those of the model, and no frame and no slot is lost.

use crate::world::{APART, Name, PAGES, Size, World};
use proptest::prelude::*;
use std::iter;
use std::ops::Range;
use swap::{Direction, Error};

#[derive(Clone, Debug)]
enum Step {
    Read(u64),
    Write(u64),
    Sweep(Range<u64>, bool),
    Discard(Range<u64>),
    WillNeed(Range<u64>),
    /// Slots that cannot be written or read become so.
    Spoil(Direction, u32),
    /// A request fails.
    Fail(u64),
    Mend,
    /// Everything that is in flight ends.
    Settle,
}

fn page() -> impl Strategy<Value = u64> {
    (0..PAGES, prop::bool::ANY).prop_map(|(page, upper)| page + if upper { APART } else { 0 })
}

fn pages() -> impl Strategy<Value = Range<u64>> {
    (page(), 1..30u64).prop_map(|(first, count)| first..(first + count).min(first / APART * APART + PAGES))
}

fn step(fails: bool) -> impl Strategy<Value = Step> {
    let direction = prop_oneof![Just(Direction::Read), Just(Direction::Write)];
    let fails = u32::from(fails);
    prop_oneof![
        6 => page().prop_map(Step::Read),
        10 => page().prop_map(Step::Write),
        4 => (pages(), prop::bool::ANY).prop_map(|(pages, write)| Step::Sweep(pages, write)),
        2 => pages().prop_map(Step::Discard),
        1 => pages().prop_map(Step::WillNeed),
        1 => Just(Step::Settle),
        fails => (direction, 1..100u32).prop_map(|(direction, slot)| Step::Spoil(direction, slot)),
        2 * fails => (0..6u64).prop_map(Step::Fail),
        fails => Just(Step::Mend),
    ]
}

fn size() -> impl Strategy<Value = Size> {
    let policy = prop::sample::select(Name::ALL.to_vec());
    let requests = (2usize..9, 1usize..6).prop_map(|(own, disk)| [own, disk]);
    let log = prop_oneof![Just(0), 7_000usize..100_000];
    let sizes = (8usize..80, 50u32..150, requests, 1usize..10, policy, log);
    sizes.prop_map(|(frames, slots, requests, batch, policy, log)| Size { frames, slots, requests, batch, policy, log })
}

impl World {
    fn step(&mut self, step: &Step, value: u64) -> Result<(), Error> {
        match step.clone() {
            Step::Read(page) => self.read(page),
            Step::Write(page) => self.write(page, value),
            Step::Sweep(mut pages, false) => pages.try_for_each(|page| self.read(page)),
            Step::Sweep(mut pages, true) => pages.try_for_each(|page| self.write(page, value + 2 * page)),
            Step::WillNeed(pages) => self.will_need(pages),
            _ => {
                self.arrange(step);
                Ok(())
            }
        }
    }

    /// What cannot fail.
    fn arrange(&mut self, step: &Step) {
        match step.clone() {
            Step::Discard(pages) => self.discard(pages),
            Step::Settle => _ = self.swap.settle(&mut self.host),
            Step::Spoil(direction, slot) => self.disk.inside().bad.push((direction, slot)),
            Step::Fail(later) => {
                let mut disk = self.disk.inside();
                disk.fails_at = Some(disk.reads + disk.writes + later);
            }
            _ => self.mend(),
        }
    }

    /// The disk is as good as new.
    pub fn mend(&mut self) {
        let mut disk = self.disk.inside();
        (disk.fails_at, disk.dead) = (None, false);
        disk.bad.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// On a disk that never fails, a fault fails only if the disk is full.
    #[test]
    fn pages_keep_their_contents(size in size(), seed: u64, steps in prop::collection::vec(step(false), 1..150)) {
        let mut world = World::new(size);
        world.disk.inside().random = seed;
        for (number, step) in (1..).zip(&steps) {
            if let Err(error) = world.step(step, number << 32) {
                assert_eq!(error, Error::DiskFull, "{step:?}");
                assert_eq!(world.swap.slots().free(), 0);
            }
            world.check();
        }
        world.end();
    }

    /// On a disk that fails, nothing is lost: a step fails, or has its effect.
    #[test]
    fn pages_survive_failures(size in size(), seed: u64, steps in prop::collection::vec(step(true), 1..150)) {
        let mut world = World::new(size);
        world.disk.inside().random = seed;
        for (number, step) in (1..).zip(&steps) {
            if let Err(error) = world.step(step, number << 32) {
                let expected = matches!(error, Error::Read(..) | Error::Write(_) | Error::DiskFull | Error::AllPinned(_));
                assert!(expected, "{error:?} of {step:?}");
            }
            world.check();
        }
        world.mend();
        world.end();
    }

    /// With page tables at hand, no fault needs a frame of the system.
    #[test]
    fn nothing_but_page_tables_needs_memory(size in size(), steps in prop::collection::vec(step(false), 1..80)) {
        let mut world = World::new(size);
        for (number, step) in (1..).zip(&steps) {
            let taken: Vec<_> = iter::from_fn(|| world.host.memory.alloc().ok()).collect();
            let result = world.step(step, number << 32);
            let has_tables = [0, APART].map(|first| {
                let va = World::page(first);
                world.host.has_table(va)
            });
            taken.into_iter().rev().for_each(|frame| world.host.memory.release(frame));
            match result {
                Err(Error::Kernel(abi::Error::NoMemory(_))) => {
                    assert_ne!(has_tables, [true; 2], "{step:?}");
                    let _ = world.step(step, number << 32);
                }
                Err(error) => assert_eq!(error, Error::DiskFull),
                Ok(()) => {}
            }
            world.check();
        }
        world.end();
    }

    /// Without the operation that the kernel refuses next, a step fails, and nothing is lost.
    #[test]
    fn the_kernel_may_refuse_any_operation(
        size in size(),
        steps in prop::collection::vec((step(false), 0usize..40), 1..80),
    ) {
        let mut world = World::new(size);
        for (number, (step, after)) in (1..).zip(&steps) {
            if !matches!(step, Step::Discard(_)) {
                world.host.fail_after = Some(*after);
            }
            let result = world.step(step, number << 32);
            world.host.fail_after = None;
            if let Err(error) = result {
                assert!(matches!(error, Error::Kernel(_) | Error::DiskFull), "{error:?} of {step:?}");
            }
            world.check();
        }
        world.end();
    }
}

//! A disk that fails, and one that is full.

use crate::world::{Name, PAGES, Size, World};
use abi::Va;
use pager::{Order, PageCalls};
use swap::{Cause, Direction, Error, Failure, Slot};

/// Writes pages and reads them again, each until it succeeds, and returns the errors on the way.
fn work(world: &mut World, pages: u64) -> Vec<Error> {
    let mut errors = Vec::new();
    for round in 0..3 {
        for number in 0..pages {
            let mut access = || match (number + round) % 3 {
                0 => world.write(number, number << 8 | round),
                _ => world.read(number),
            };
            errors.extend(access().err());
            if errors.len() > 20 {
                return errors;
            }
            world.check();
        }
    }
    errors
}

/// The failure of a slot.
fn medium(slot: u32) -> Failure {
    Failure { cause: Cause::Medium, sector: u64::from(slot) * 8 }
}

#[test]
fn any_request_may_fail() {
    let mut world = World::new(Size::new(16, 200));
    assert_eq!(work(&mut world, 50), []);
    let requests = world.swap.counts().requests;
    assert!(requests > 60, "{requests} requests");
    for number in 0..requests {
        let mut world = World::new(Size::new(16, 200));
        world.disk.inside().fails_at = Some(number);
        let errors = work(&mut world, 50);
        // A request to write is repeated, and so is one for several pages. Then nobody notices.
        assert!(errors.len() <= 1, "request {number}: {errors:?}");
        assert!(errors.iter().all(|error| matches!(error, Error::Read(..))), "request {number}: {errors:?}");
        assert_eq!(world.swap.counts().failures, 1, "request {number}");
        assert_eq!(world.swap.take_failure().map(|failure| failure.cause), Some(Cause::Deadline));
        assert_eq!(world.swap.take_failure(), None);
        world.end();
    }
}

#[test]
fn a_slot_that_cannot_be_written_is_set_aside() {
    let mut world = World::new(Size::new(16, 200));
    let bad = [2, 3, 17];
    world.disk.inside().bad.extend(bad.map(|slot| (Direction::Write, slot)));
    assert_eq!(work(&mut world, 50), []);
    (0..50).for_each(|number| world.write(number, 7).expect("other slots are good"));
    world.settle();
    assert!(world.swap.take_failure().is_some());
    assert_eq!(world.swap.slots().set_aside_so_far(), 3);
    assert!(bad.iter().all(|&slot| !world.swap.slots().is_free(Slot::new(slot).expect("not 0"))));
    world.end();
}

#[test]
fn a_page_that_cannot_be_read_keeps_its_mark() {
    let mut world = World::new(Size::new(64, 200));
    (0..50).chain(512..560).for_each(|number| world.write(number, number).expect("there is room"));
    world.settle();
    let words = world.marks();
    let (page, slot) = words.into_iter().find(|(page, _)| (4..20).contains(page)).expect("one is on the disk");
    world.disk.inside().bad.push((Direction::Read, slot.number()));
    for number in page - 3..page + 3 {
        let expected = match number == page {
            true => Err(Error::Read(World::page(page), medium(slot.number()))),
            false => Ok(()),
        };
        assert_eq!(world.read(number), expected, "page {number}");
        world.check();
    }
    world.disk.inside().bad.clear();
    world.read(page).expect("the disk was mended");
    world.end();
}

#[test]
fn a_disk_that_does_not_answer_ends_in_an_error() {
    let mut world = World::new(Size::new(16, 200));
    world.disk.inside().dead = true;
    let mut next = 0;
    let error = loop {
        match world.write(next, next) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Write(Failure { cause: Cause::Deadline, .. })), "{error:?}");
    assert!(world.swap.counts().failures <= 8, "{:?}", world.swap.counts());
    world.check();
    // Nothing is lost: pages whose write failed are in their frames.
    (0..next).for_each(|number| world.read(number).expect("it was never written to the disk"));
    world.mend();
    (0..50).for_each(|number| world.write(number, number).expect("the disk was mended"));
    world.end();
}

#[test]
fn a_driver_that_forgets_is_noticed() {
    let mut world = World::new(Size::new(16, 200));
    (0..50).for_each(|number| world.write(number, number).expect("there is room"));
    world.settle();
    world.disk.inside().forgets = true;
    let (page, slot) = world.marks()[0];
    let lost = Failure { cause: Cause::Lost, sector: slot.sector() };
    assert_eq!(world.read(page), Err(Error::Read(World::page(page), lost)));
    world.check();
    world.disk.inside().forgets = false;
    world.end();
}

/// At every number of slots, exactly as many pages fit as there are slots and frames, but for the reserve.
#[test]
fn a_full_disk_is_an_error_to_who_touches_a_fresh_page() {
    for slots in 1..40 {
        let size = Size::new(16, slots);
        let mut world = World::new(size);
        let fits = (0..60).take_while(|&number| world.write(number, number << 4).is_ok()).count() as u64;
        assert_eq!(fits, World::room(size), "{slots} slots");
        assert_eq!(world.write(fits, 1), Err(Error::DiskFull));
        world.check();
        for round in 0..2 {
            (0..fits).for_each(|number| world.read(number).expect("it is there"));
            (0..fits).for_each(|number| world.write(number, number + round).expect("it has a place"));
        }
        world.check();
        world.discard(3..4);
        world.write(fits, 1).expect("there is a place");
        assert_eq!(world.write(3, 1), Err(Error::DiskFull));
        world.end();
    }
}

#[test]
fn a_neighbour_that_cannot_be_read_does_no_harm() {
    let mut world = World::new(Size { batch: 16, ..Size::new(80, 400) });
    (0..50).chain(512..560).for_each(|number| world.write(number, number).expect("there is room"));
    (0..3).for_each(|_| (512..560).for_each(|number| world.write(number, number).expect("there is room")));
    world.settle();
    let marks = world.marks();
    let follow = |two: &&[(u64, Slot)]| two[0].0 + 1 == two[1].0 && two[0].1.ahead(1) == two[1].1;
    let two = marks.windows(2).find(follow).expect("neighbours in slots that follow");
    world.disk.inside().bad.push((Direction::Read, two[1].1.number()));
    world.regions[0].order = Order::Sequential;
    let failures = world.swap.counts().failures;
    world.read(two[0].0).expect("it can be read alone");
    assert_eq!(world.swap.counts().failures, failures + 1, "both were read at once");
    world.check();
    world.mend();
    world.end();
}

/// The kernel refuses a part of the marks when pages move to other slots.
#[test]
fn marks_that_cannot_change_stay() {
    let mut refused = 0;
    for after in 0..8 {
        let mut world = World::new(Size { batch: 8, ..Size::new(64, 400) });
        world.disk.inside().dead = true;
        let mut next = PAGES;
        while world.swap.counts().failures == 0 {
            next -= 1;
            world.write(next, next).expect("frames are free");
        }
        world.mend();
        (world.host.fail_after, world.host.fails_once) = (Some(after), true);
        let result = world.swap.settle(&mut world.host);
        world.host.fail_after = None;
        refused += u32::from(matches!(result, Err(Error::Kernel(_))));
        world.check();
        world.settle();
        world.check();
        world.end();
    }
    assert!(refused > 3, "{refused} times");
}

/// Pages that were touched last make room for a fresh one.
#[test]
fn a_fresh_page_takes_the_last_place() {
    let size = Size::new(16, 20);
    let mut world = World::new(size);
    let fits = (0..60).take_while(|&number| world.write(number, number).is_ok()).count() as u64;
    assert_eq!(fits, World::room(size));
    let mut touched = 0;
    let mut last = 0;
    for number in 0..fits {
        if touched < 3 && !world.host.pte(World::page(number)).is_present() {
            world.read(number).expect("it is on the disk");
            (touched, last) = (touched + 1, number);
        }
    }
    world.discard(last..last + 1);
    world.write(last, 1).expect("there is a place for one page");
    world.check();
    world.end();
}

/// An instruction that needs four pages gets them all, also if nothing else can be evicted, and whatever its pages are.
#[test]
fn an_instruction_gets_four_pages_at_once() {
    for policy in Name::ALL {
        for size in [Size::new(16, 20), Size::new(8, 100), Size { batch: 2, ..Size::new(16, 100) }] {
            for first in 0..30 {
                let mut world = World::new(Size { policy, ..size });
                let fits = (0..60).take_while(|&number| world.write(number, number).is_ok()).count() as u64;
                let pages = [0, 7, 13, 19].map(|next| (first + next) % fits);
                let mut faults = 0;
                while let Some(&page) = pages.iter().find(|&&page| !world.host.pte(World::page(page)).is_present()) {
                    world.read(page).expect("it is on the disk");
                    faults += 1;
                    assert!(faults < 30, "{pages:?} with {policy:?}");
                }
                world.check();
                world.end();
            }
        }
    }
}

/// Four requests to write that end in every order, while pages of them are touched.
#[test]
fn requests_end_in_any_order() {
    let orders = (0..4 * 3 * 2).map(|n| [n % 4, n / 4 % 3, n / 12, 0]);
    for order in orders {
        for touched in 0..4 {
            let mut world = World::new(Size::new(16, 100));
            world.disk.inside().slow = true;
            world.disk.inside().most = 8;
            let mut next = 0;
            while world.disk.inside().writes < 4 && next < 60 {
                world.write(next, next << 8).expect("there is room");
                next += 1;
            }
            world.disk.inside().order = order.into();
            world.read(touched).expect("it is there");
            world.settle();
            world.check();
            (0..next).for_each(|number| world.read(number).expect("it is there"));
            world.end();
        }
    }
}

impl World {
    /// The pages that are on the disk, with their slots.
    pub fn marks(&self) -> Vec<(u64, Slot)> {
        let entries = self.regions.iter().flat_map(|region| self.host.entries(region.range()));
        let number = |va: Va| (va.0 - World::page(0).0) / abi::PAGE_SIZE;
        let slot = |entry| match swap::Place::of(entry) {
            swap::Place::Disk(slot) => Some(slot),
            _ => None,
        };
        entries.filter_map(|(va, entry)| Some((number(va), slot(entry)?))).collect()
    }
}

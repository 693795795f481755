//! Compressed memory above the disk. (The random tests have it, too, in half of their cases.)

use crate::disk::Fake;
use crate::machine::{Host, POOL, fill, words};
use crate::world::{Layers, PAGES, Packer, Size, World};
use pager::PageCalls;
use swap::{Compressed, CompressedCounts, Direction, Disk, PoolFrame, RequestId, Room, Slot};

/// Pages are written, and all are read again, several times.
fn used(size: Size, value: u64) -> (World, CompressedCounts) {
    let mut world = World::new(size);
    world.disk.inside().random = 7;
    for round in 0..4 {
        for page in 0..PAGES {
            world.write(page, value + round).expect("there is room");
            world.check();
        }
        for page in (0..PAGES).rev() {
            world.read(page).expect("it is somewhere");
        }
    }
    let counts = world.swap.disk().counts();
    (world, counts)
}

/// A log with room for all: no page is ever read or written.
#[test]
fn a_large_log_needs_no_disk() {
    let (world, counts) = used(Size { batch: 4, log: 40_000, ..Size::new(16, 100) }, 0);
    let disk = world.disk.inside();
    assert_eq!((disk.reads, disk.writes, counts.passed, counts.cleaned), (0, 0, 0, 0));
    assert!(counts.compressed > PAGES && counts.restored > PAGES, "{counts:?}");
    drop(disk);
    world.end();
}

/// A log that is too small for all: the oldest pages go to the disk, many in a request, and come from there.
#[test]
fn the_oldest_pages_go_to_the_disk() {
    let (world, counts) = used(Size { batch: 4, log: 20_000, ..Size::new(16, 100) }, 1 << 32);
    let disk = world.disk.inside();
    let is_ahead = counts.passed * 2 < counts.cleaned;
    assert!(counts.cleaned > 20 && counts.restored > 20 && disk.reads > 0 && is_ahead, "{counts:?}");
    assert!(disk.writes < counts.cleaned + counts.passed, "{} requests, {counts:?}", disk.writes);
    drop(disk);
    world.end();
}

/// Pages that do not become smaller go to the disk at once.
#[test]
fn large_pages_pass() {
    let (world, counts) = used(Size { batch: 4, log: 100_000, ..Size::new(16, 100) }, 5 << 32);
    assert!(counts.passed > PAGES && counts.compressed == 0, "{counts:?}");
    world.end();
}

/// Hardly a page is written that the program gives up soon: the log has room for one round.
#[test]
fn what_is_given_up_is_forgotten() {
    let mut world = World::new(Size { batch: 4, log: 7_000, ..Size::new(16, 1000) });
    world.disk.inside().instant = true;
    for round in 0..10 {
        (0..PAGES).for_each(|page| world.write(page, round).expect("there is room"));
        world.settle();
        world.discard(0..PAGES);
        world.check();
    }
    let counts = world.swap.disk().counts();
    assert!(counts.compressed > 300 && counts.cleaned * 4 < counts.compressed && counts.passed == 0, "{counts:?}");
    world.end();
}

/// A slot gets another page while a request still writes the one before: no other request writes there meanwhile, and
/// when it ends the new page is not taken for written.
#[test]
fn a_slot_is_written_by_one_request_at_a_time() {
    let host = Host::new(6);
    let pool: Vec<_> = (0..6).map(|number| host.pte(POOL.add_pages(number)).frame()).collect();
    let disk = Fake::new(pool.clone(), 8);
    disk.inside().slow = true;
    let room = Room { log: vec![0; 40_000].leak(), places: vec![0; 64].leak(), spares: 2..6 };
    let mut layers = Compressed::new(disk.clone(), Packer(pool.clone()), room);
    let slot = |number| Slot::new(number).expect("not 0");
    let leave = |layers: &mut Layers, number, value: u64| {
        layers.forget(slot(number));
        fill(pool[0], &[value; 512]);
        layers.submit(RequestId(0), Direction::Write, slot(number), &[PoolFrame(0)]).expect("there is room");
        let ended = layers.poll().or_else(|| layers.wait());
        assert_eq!(ended.map(|ended| ended.result), Some(Ok(())));
        assert_eq!(layers.check(), Ok(()));
    };
    // The oldest page stays, so the log fills.
    leave(&mut layers, 9, 1 << 32);
    (0..20).for_each(|round| (1..4).for_each(|number| leave(&mut layers, number, (1 << 32) + round)));
    assert!((1..6).contains(&layers.counts().cleaned), "{:?}", layers.counts());
    // The requests end, and other pages come into the log until it has gone round.
    assert_eq!(layers.wait(), None);
    for number in 10..64 {
        disk.inside().slow = false;
        leave(&mut layers, number, 1 << 32);
        _ = layers.poll();
    }
    for number in 1..4 {
        layers.submit(RequestId(0), Direction::Read, slot(number), &[PoolFrame(1)]).expect("there is room");
        assert_eq!(layers.wait().map(|ended| ended.result), Some(Ok(())));
        assert_eq!(words(pool[1])[7], (1 << 32) + 19, "slot {number}");
    }
}

/// While the disk can write nothing, compressed pages stay, and all can be read. Afterwards they are written.
#[test]
fn pages_stay_while_the_disk_cannot_write() {
    let mut world = World::new(Size { batch: 4, log: 30_000, ..Size::new(40, 200) });
    world.disk.inside().bad = (0..200).map(|slot| (Direction::Write, slot)).collect();
    let mut done = 0;
    while done < PAGES && world.write(done, (1 << 32) + done).is_ok() {
        done += 1;
    }
    assert!(done > 40, "{done} pages fit");
    world.check();
    (0..done).for_each(|page| _ = world.read(page));
    world.mend();
    let before = world.swap.disk().counts();
    // The oldest entries are of pages that stay as they are.
    for round in 0..10 {
        (done / 2..done).for_each(|page| world.write(page, (1 << 32) + done + round).expect("it is somewhere"));
    }
    let after = world.swap.disk().counts();
    assert!(after.cleaned > before.cleaned + 10, "{after:?}, before {before:?}");
    world.end();
}

//! Single cases that random tests would not find.

use crate::host::Host;
use crate::rig::{BASE, Rig, page, range, region, write};
use abi::layout::{ARCHIVE, USER_LIMIT};
use abi::{EnvId, PAGE_SIZE, PageOp, Perms, Va};
use pager::ranges::Advice;
use pager::{Cause, Error, File, Guard, Inherit, PageCalls, Pager, Region, Resolution, Shared, Touch, Zeros};
use sim::machine::free_frames;
use sim::processor::Access;
use std::cell::Cell;
use std::rc::Rc;

static ZEROS: Zeros = Zeros::named("zeros");
static FILE: File = File { name: "file" };

/// Pages outside of all regions, as they arrive in messages.
fn alloc(rig: &mut Rig, number: u64, perms: Perms) {
    rig.host.alloc(page(number), 1, perms).expect("memory");
}

#[test]
fn copy_on_write_needs_no_region() {
    let mut rig = Rig::new(&[]);
    alloc(&mut rig, 0, Perms::WRITE);
    assert!(rig.write(0, 1));
    alloc(&mut rig, 1, Perms::READ);
    assert_eq!((rig.write(1, 1), rig.access(1, Access::Fetch), rig.read(2)), (false, None, None));
    let child = rig.fork(&[]).expect("memory");
    assert!(rig.write(0, 2));
    rig.host.switch(child);
    assert_eq!((rig.read(0), rig.write(0, 3)), (Some(1), true));
    assert!(!rig.write(1, 1), "a page that is only to be read stays so");
    rig.host.switch(0);
    assert_eq!(rig.read(0), Some(2));
    rig.end();
}

#[test]
fn addresses_outside_the_users_part_are_nobodys() {
    let mut rig = Rig::new(&[Region::new(Va(USER_LIMIT.0 - PAGE_SIZE)..USER_LIMIT, Perms::WRITE, &ZEROS)]);
    let last = (USER_LIMIT.0 - BASE.0) / PAGE_SIZE - 1;
    assert!(rig.write(last, 1) && !rig.write(last + 1, 1));
    assert_eq!(rig.read(last + 1), Some(0), "a window");
    rig.end();
}

/// Every second page is treated differently from its neighbours, so no two become one operation, and the operations do
/// not fit into one call.
#[test]
fn many_operations_become_several_calls() {
    const PAGES: u64 = 150;
    let mut rig = Rig::new(&[region(0..PAGES, &ZEROS)]);
    for number in (0..PAGES).step_by(2) {
        assert!(rig.write(number, number as u8));
    }
    let child = rig.fork(&[]).expect("memory");
    rig.protect(0..PAGES, Perms::READ).expect("a region is there");
    assert!((0..PAGES).step_by(2).all(|number| !rig.write(number, 1)));
    rig.protect(0..PAGES, Perms::WRITE).expect("a region is there");
    rig.relocate(0..PAGES, 1000..1000 + PAGES).expect("memory");
    assert_eq!(rig.held().len() as u64, PAGES / 2);
    for number in (0..PAGES).step_by(2) {
        assert!(rig.write(1000 + number, 200));
    }
    rig.unmap(1000..1000 + PAGES).expect("room");
    assert_eq!(rig.held(), []);
    rig.host.switch(child);
    for number in 0..PAGES {
        let expected = if number % 2 == 0 { number as u8 } else { 0 };
        assert_eq!(rig.read(number), Some(expected), "page {number} of the child");
    }
    rig.end();
}

#[test]
fn what_is_excepted_is_not_shared() {
    let mut rig = Rig::new(&[region(0..8, &ZEROS)]);
    assert!((0..8).all(|number| rig.write(number, 7)));
    let child = rig.fork(&[range(1..2), range(4..6)]).expect("memory");
    assert!((0..8).all(|number| rig.write(number, 8)));
    rig.host.switch(child);
    assert_eq!(rig.held(), [0, 2, 3, 6, 7]);
    assert_eq!([0, 1, 2, 4].map(|number| rig.read(number)), [Some(7), Some(0), Some(7), Some(0)]);
    rig.end();
}

#[test]
fn a_child_does_not_get_what_is_not_inherited() {
    struct Mine;
    impl Pager<Host> for Mine {
        fn name(&self) -> &'static str {
            "mine"
        }
        fn fault(&self, host: &mut Host, touch: &Touch, region: &Region<Host>) -> Result<Resolution, abi::Error> {
            ZEROS.fault(host, touch, region)
        }
        fn on_fork(&self) -> Inherit {
            Inherit::Not
        }
    }
    let mut rig = Rig::new(&[region(0..2, &ZEROS), region(2..4, &Mine), region(4..6, &Mine), region(6..8, &ZEROS)]);
    assert!((0..8).filter(|number| *number != 3).all(|number| rig.write(number, 7)));
    rig.host.mark(page(3), 5).expect("room");
    let child = rig.fork(&[]).expect("memory");
    rig.host.switch(child);
    assert_eq!(rig.held(), [0, 1, 6, 7]);
    assert_eq!((rig.read(1), rig.read(2), rig.read(3), rig.read(6)), (Some(7), None, None, Some(7)));
    rig.host.switch(0);
    assert_eq!((rig.read(2), rig.read(4)), (Some(7), Some(7)));
    rig.end();
}

/// Pages that begin with a byte of the archive, and stay shared.
struct Shelf;

impl Pager<Host> for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn fault(&self, host: &mut Host, touch: &Touch, region: &Region<Host>) -> Result<Resolution, abi::Error> {
        host.alloc(touch.va.page(), 1, region.perms)?;
        host.copy(ARCHIVE, touch.va.page(), 1);
        Ok(Resolution::Resume(Cause::Custom))
    }

    fn on_fork(&self) -> Inherit {
        Inherit::Shared
    }
}

#[test]
fn what_stays_shared_comes_from_its_pager() {
    let perms = Perms::WRITE | Perms::KEEP;
    let mut rig = Rig::new(&[Region { perms, ..region(0..4, &Shelf) }]);
    let child = rig.fork(&[]).expect("memory");
    rig.host.switch(child);
    assert_eq!(rig.read(2), Some(crate::host::file_byte(0)));
    assert!(rig.write(2, 77));
    rig.host.switch(0);
    assert_eq!((rig.read(2), rig.read(3)), (Some(77), Some(crate::host::file_byte(0))));
    rig.end();
}

/// During a fork the parent writes to all of its pages, after every page that is shared. (An interrupt may do that; so
/// may a pager.) In the end the child must have its own contents.
#[test]
fn a_parent_that_writes_during_the_fork_does_not_write_to_the_child() {
    const PAGES: u64 = 6;
    let mut rig = Rig::new(&[region(0..PAGES, &ZEROS)]);
    assert!((0..4).all(|number| rig.write(number, 1)));
    // Some pages are copy-on-write already, one is a page of zeros, one is missing.
    rig.protect(0..2, Perms::READ).and_then(|()| rig.protect(0..2, Perms::WRITE)).expect("it is covered");
    assert_eq!(rig.read(4), Some(0));
    let (clock, regions) = (Rc::new(Cell::new(1)), rig.books[0].regions());
    let time = Rc::clone(&clock);
    rig.host.between = Some(Box::new(move |host| {
        time.set(time.get() + 1);
        assert!((0..PAGES - 1).all(|number| write(host, &regions, number, time.get())));
    }));
    let child = rig.fork(&[]).expect("memory");
    rig.host.between = None;
    let now = clock.get();
    assert!(now > 9, "nothing came in between");
    assert!((0..PAGES - 1).all(|number| rig.read(number) == Some(now)));

    rig.host.switch(child);
    let inherited = [0, 1, 2, 3, 4].map(|number| rig.read(number));
    rig.host.switch(0);
    assert!((0..PAGES).all(|number| rig.write(number, 222)));
    rig.host.switch(child);
    assert_eq!([0, 1, 2, 3, 4].map(|number| rig.read(number)), inherited);
    assert!((0..PAGES).all(|number| rig.write(number, 111)));
    rig.host.switch(0);
    assert!((0..PAGES).all(|number| rig.read(number) == Some(222)));
    rig.end();
}

#[test]
fn rights_that_exclude_each_other_or_are_not_rights_are_refused() {
    let mut rig = Rig::new(&[region(0..2, &ZEROS)]);
    for perms in [Perms::WRITE | Perms::EXEC, Perms::KEEP, Perms::COW, Perms::SOFT, Perms::all()] {
        assert_eq!(rig.protect(0..2, perms), Err(Error::BadProtection(page(0))));
    }
    assert_eq!(rig.books[0].regions()[0].perms, Perms::WRITE);
    rig.end();
}

#[test]
fn bits_of_a_region_that_are_libos_own_are_in_every_page() {
    let soft = Perms::from_bits_retain(0x55 << 52);
    let zeros = Region { perms: Perms::WRITE | soft, ..region(0..4, &ZEROS) };
    let file = FILE.region(range(4..8), Perms::WRITE | soft, ARCHIVE, 3 * PAGE_SIZE + 5);
    let mut rig = Rig::new(&[zeros, file]);
    for (number, access) in (0..8).zip([Access::Read, Access::Write].into_iter().cycle()) {
        assert!(rig.access(number, access).is_some());
    }
    rig.fork(&[]).expect("memory");
    for rights in [Perms::READ, Perms::EXEC, Perms::WRITE] {
        rig.protect(0..8, rights).expect("it is covered");
        for number in 0..8 {
            let perms = rig.host.pte(page(number)).perms();
            assert_eq!(perms & Perms::SOFT, soft, "page {number} with {rights:?}");
        }
    }
    rig.end();
}

#[test]
fn a_shared_page_that_was_given_to_be_read_cannot_be_written() {
    let shared = Region { perms: Perms::KEEP, ..region(0..3, &Shared) };
    let mut rig = Rig::new(&[shared]);
    let child = rig.fork(&[]).expect("memory");
    rig.protect(0..3, Perms::WRITE).expect("they are its own pages");
    assert!(rig.write(2, 9));
    rig.host.switch(child);
    let refused = Error::Kernel(abi::Error::NoRight(page(0).0));
    assert_eq!(rig.protect(0..3, Perms::WRITE), Err(refused));
    assert_eq!((rig.write(2, 1), rig.read(2)), (false, Some(9)));
    rig.unmap(0..3).expect("room");
    assert_eq!(rig.held(), []);
    rig.end();
}

/// The rights to a shared page depend neither on its place, nor on a temporary change of the region's rights.
#[test]
fn a_shared_page_that_moves_while_it_is_only_read_can_be_written_again() {
    for rights in [Perms::READ, Perms::EXEC] {
        let mut rig = Rig::new(&[Region { perms: Perms::WRITE | Perms::KEEP, ..region(0..3, &Shared) }]);
        let child = rig.fork(&[]).expect("memory");
        rig.protect(0..3, rights).expect("they are its own pages");
        rig.relocate(0..3, 600..603).expect("memory");
        let allowed = [Access::Read, Access::Write, Access::Fetch].map(|how| rig.access(600, how).is_some());
        assert_eq!(allowed, [true, false, rights == Perms::EXEC], "{rights:?}");
        rig.protect(600..603, Perms::WRITE).expect("they still are");
        assert!(rig.write(602, 9));
        rig.host.switch(child);
        assert_eq!(rig.read(2), Some(9), "it is not shared any more");
        // Granted for reading: moving the page gives no new right.
        rig.host.switch(0);
        rig.protect(600..603, Perms::READ).expect("it is covered");
        let grandchild = rig.fork(&[]).expect("memory");
        rig.host.switch(grandchild);
        rig.relocate(600..603, 0..3).expect("memory");
        let refused = Error::Kernel(abi::Error::NoRight(page(0).0));
        assert_eq!(rig.protect(0..3, Perms::WRITE), Err(refused));
        rig.end();
    }
}

/// A move that fails for lack of any frame leaves the pages unchanged, including their rights.
#[test]
fn a_move_that_fails_leaves_shared_pages_as_they_were() {
    let mut rig = Rig::new(&[Region { perms: Perms::WRITE | Perms::KEEP, ..region(0..3, &Shared) }]);
    assert!((0..3).all(|number| rig.write(number, 5)));
    rig.protect(0..3, Perms::READ).expect("they are its own pages");
    let to = 600_000..600_003;
    let mut taken: Vec<_> = std::iter::from_fn(|| rig.host.memory.alloc().ok()).collect();
    let mut failures = 0;
    while rig.relocate(0..3, to.clone()).is_err() {
        failures += 1;
        assert_eq!((rig.held(), rig.write(0, 6), rig.read(0)), (vec![0, 1, 2], false, Some(5)));
        rig.host.memory.release(taken.pop().expect("no more than all"));
    }
    assert!(failures > 0, "the new tables take frames");
    taken.into_iter().for_each(|frame| rig.host.memory.release(frame));
    rig.protect(to.clone(), Perms::WRITE).expect("they still are");
    assert!(rig.write(to.start, 6));
    rig.end();
}

#[test]
fn pages_stay_whose_pager_knows_them_by_address() {
    struct Fixed;
    impl Pager<Host> for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn fault(&self, host: &mut Host, touch: &Touch, region: &Region<Host>) -> Result<Resolution, abi::Error> {
            ZEROS.fault(host, touch, region)
        }

        fn can_move(&self) -> bool {
            false
        }
    }
    let mut rig = Rig::new(&[region(0..4, &Fixed)]);
    assert!(rig.write(0, 5));
    assert_eq!(rig.relocate(0..4, 20..24), Err(Error::NotSupported(page(0))));
    assert_eq!((rig.read(0), rig.read(20)), (Some(5), None));
    rig.end();
}

#[test]
fn only_whole_regions_move_and_only_to_where_nothing_is() {
    let mut rig = Rig::new(&[region(0..4, &ZEROS), region(10..12, &Guard("guard"))]);
    assert!(rig.write(0, 5));
    let before = free_frames();
    for old in [0..3, 1..4, 5..9, 0..5] {
        assert_eq!(rig.relocate(old.clone(), 20..24), Err(Error::NoRegion(page(old.start))));
    }
    assert_eq!(rig.relocate(0..4, 8..12), Err(Error::Overlap(page(10))));
    assert_eq!(rig.relocate(0..4, 2..6), Err(Error::Overlap(page(2))));
    assert_eq!(rig.relocate(0..4, 0..4), Err(Error::Overlap(page(0))));
    assert_eq!((rig.read(0), free_frames()), (Some(5), before));
    rig.relocate(0..4, 4..8).expect("neighbours do not meet");
    assert_eq!((rig.read(4), rig.read(0)), (Some(5), None));
    rig.end();
}

#[test]
fn what_follows_the_file_in_the_archive_is_not_seen() {
    let bytes = PAGE_SIZE + 10;
    for access in [Access::Read, Access::Write] {
        let file = FILE.region(range(0..3), Perms::WRITE, ARCHIVE, bytes);
        let mut rig = Rig::new(&[file]);
        assert!(rig.access(1, access).is_some());
        let frame = rig.host.pte(page(1)).frame();
        let contents = sim::machine::contents(frame);
        assert!((0..10).all(|at| contents[at] == crate::host::file_byte(PAGE_SIZE + at as u64)));
        assert!(contents[10..].iter().all(|byte| *byte == 0));
        rig.end();
    }
}

/// The last frame brings in the touched page, without its neighbours: the program continues.
#[test]
fn what_comes_with_a_page_may_fail_without_harm() {
    let file = FILE.region(range(509..520), Perms::WRITE, ARCHIVE, 11 * PAGE_SIZE);
    let mut rig = Rig::new(&[region(0..8, &ZEROS), region(8..16, &Shared), file]);
    rig.advise(0..16, Advice::Sequential).expect("it is covered");
    rig.advise(509..520, Advice::Sequential).expect("it is covered");
    assert_eq!(rig.read(7), Some(0), "tables are there, but for the second half of the file");
    let mut taken: Vec<_> = std::iter::from_fn(|| rig.host.memory.alloc().ok()).collect();
    assert!(rig.read(509).is_some(), "that takes no frame");
    for number in [2, 9] {
        rig.host.memory.release(taken.pop().expect("a frame"));
        assert!(rig.write(number, 1));
    }
    let (host, book) = rig.parts();
    let none = crate::world::touch(host, &book.regions(), page(3), Access::Write);
    assert_eq!(none, Err(abi::Error::NoMemory(0)));
    assert_eq!(rig.held(), [2, 7, 9, 509, 510, 511]);
    taken.into_iter().for_each(|frame| rig.host.memory.release(frame));
    assert!([3, 10, 512].into_iter().all(|number| rig.write(number, 1)));
    rig.end();
}

#[test]
fn the_host_refuses_what_the_kernel_refuses() {
    let mut rig = Rig::new(&[]);
    let host = &mut rig.host;
    let me = EnvId::SELF;
    let both = Perms::WRITE | Perms::EXEC;
    let refused = [
        (PageOp::alloc(me, BASE, 0, Perms::READ), abi::Error::BadCount(0)),
        (PageOp::alloc(me, Va(1), 1, Perms::READ), abi::Error::Unaligned(1)),
        (PageOp::alloc(me, USER_LIMIT, 1, Perms::READ), abi::Error::BadAddress(USER_LIMIT.0)),
        (PageOp::alloc(me, BASE, 1, both), abi::Error::BadPerms(both.bits())),
        (PageOp::map(me, ARCHIVE, me, BASE, 1, Perms::WRITE), abi::Error::NoRight(ARCHIVE.0)),
        (PageOp::map(me, USER_LIMIT, me, BASE, 1, Perms::READ), abi::Error::BadAddress(USER_LIMIT.0)),
        (PageOp::unmap(me, BASE, 1), abi::Error::NotMapped(BASE.0)),
    ];
    for (op, error) in refused {
        assert_eq!(host.op(op), Err(error), "{op:?}");
    }
    assert_eq!(rig.held(), []);
    rig.end();
}

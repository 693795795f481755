//! Memory that is protected by whole tables.

use crate::host::By;
use crate::rig::{OTHER_GIB, Rig, page, range, region};
use abi::{Level, PAGE_SIZE, Perms, Pte, Va};
use pager::ranges::{Advice, Table};
use pager::{PageCalls, Region, Zeros};

static ZEROS: Zeros = Zeros::named("zeros");
/// The number of pages that one table translates.
const TABLE: u64 = 512;
/// Pages that were written before: each holds the low bits of its number.
const WRITTEN: [u64; 3] = [3, 15, 500];

/// A full table of a writable region, and the beginning of the next table.
fn full() -> Rig {
    let mut rig = Rig::new(&[region(0..TABLE + 8, &ZEROS)]);
    rig.by = By::Tables(Some(OTHER_GIB));
    (0..TABLE).for_each(|number| assert_eq!(rig.read(number), Some(0)));
    WRITTEN.into_iter().chain([TABLE + 1]).for_each(|number| assert!(rig.write(number, number as u8)));
    rig
}

fn is_sealed(rig: &Rig, number: u64) -> bool {
    rig.host.table(page(number), Level::L2).has(Pte::SEALED)
}

/// Such a table, protected.
fn sealed() -> Rig {
    let mut rig = full();
    rig.protect(0..TABLE + 8, Perms::READ).expect("memory");
    assert!(is_sealed(&rig, 0) && !is_sealed(&rig, TABLE), "only full tables are sealed");
    rig
}

fn holds_what_was_written(rig: &mut Rig, moved: u64) {
    WRITTEN.into_iter().for_each(|number| assert_eq!(rig.read(number + moved), Some(number as u8)));
    assert_eq!(rig.read(4 + moved), Some(0));
}

#[test]
fn a_seal_protects_every_page_and_can_be_lifted() {
    let mut rig = sealed();
    // (A write to a page of zeros first copies that, and is refused then.)
    assert!([3, 15, 500, TABLE + 1].into_iter().all(|number| !rig.write(number, 9)));
    holds_what_was_written(&mut rig, 0);
    rig.protect(0..TABLE + 8, Perms::WRITE).expect("memory");
    assert!(!is_sealed(&rig, 0));
    assert!(rig.host.pte(page(3)).has(Pte::WRITABLE), "the entries kept their rights");
    assert!([0, 3, 511, TABLE + 1].into_iter().all(|number| rig.write(number, 9)));
    rig.end();
}

#[test]
fn a_part_is_changed_page_by_page() {
    for rights in [Perms::WRITE, Perms::EXEC] {
        let mut rig = sealed();
        rig.protect(10..20, rights).expect("memory");
        assert!(!is_sealed(&rig, 0));
        assert_eq!([3, 15, 500].map(|number| rig.write(number, 7)), [false, rights == Perms::WRITE, false]);
        rig.protect(0..TABLE + 8, Perms::WRITE).expect("memory");
        assert!([3, 15, 500].into_iter().all(|number| rig.write(number, 8)));
        rig.end();
    }
}

#[test]
fn a_hole_can_be_filled_with_other_memory() {
    let mut rig = sealed();
    rig.unmap(10..20).expect("memory");
    rig.books[0].edit(|book| book.add(Region::new(range(10..20), Perms::WRITE, &ZEROS))).expect("room");
    assert!(rig.write(15, 1) && !rig.write(3, 1) && !rig.write(500, 1));
    rig.end();
}

#[test]
fn pages_that_come_back_can_be_written_when_the_rest_can() {
    let mut rig = sealed();
    rig.advise(10..20, Advice::DontNeed).expect("it is covered");
    assert_eq!((rig.read(15), rig.write(15, 1)), (Some(0), false));
    rig.protect(0..TABLE + 8, Perms::WRITE).expect("memory");
    assert!((0..20).all(|number| rig.write(number, 5)));
    // All of a table goes with its seal.
    rig.protect(0..TABLE + 8, Perms::READ).expect("memory");
    rig.advise(0..TABLE, Advice::DontNeed).expect("it is covered");
    assert_eq!((rig.read(3), rig.write(3, 1)), (Some(0), false));
    rig.protect(0..TABLE + 8, Perms::WRITE).expect("memory");
    assert!(rig.write(3, 1));
    rig.end();
}

#[test]
fn both_sides_of_a_fork_are_protected() {
    for by in [By::Tables(Some(OTHER_GIB)), By::Pages] {
        let mut rig = sealed();
        rig.by = by;
        let child = rig.fork(&[]).expect("memory");
        for env in [child, 0] {
            rig.host.switch(env);
            assert!([3, 15, 500].into_iter().all(|number| !rig.write(number, 9)));
            holds_what_was_written(&mut rig, 0);
        }
        rig.host.switch(child);
        rig.protect(0..TABLE + 8, Perms::WRITE).expect("memory");
        assert!(rig.write(3, 77));
        rig.host.switch(0);
        holds_what_was_written(&mut rig, 0);
        assert!(!rig.write(3, 9));
        rig.protect(0..TABLE, Perms::WRITE).expect("memory");
        assert!(rig.write(3, 78));
        rig.host.switch(child);
        assert_eq!(rig.read(3), Some(77));
        rig.end();
    }
}

#[test]
fn a_seal_moves_with_its_table() {
    for (to, stays) in [(4 * TABLE, true), (4 * TABLE + 1, false)] {
        let mut rig = sealed();
        rig.relocate(0..TABLE + 8, to..to + TABLE + 8).expect("there is room");
        assert_eq!(is_sealed(&rig, to), stays);
        holds_what_was_written(&mut rig, to);
        assert!([3, 15, 500].into_iter().all(|number| !rig.write(number + to, 9)));
        rig.protect(to..to + TABLE + 8, Perms::WRITE).expect("memory");
        holds_what_was_written(&mut rig, to);
        assert!([0, 3, 500].into_iter().all(|number| rig.write(number + to, 9)));
        rig.end();
    }
}

#[test]
fn shared_memory_and_pagers_with_marks_are_not_sealed() {
    let kept = Region { perms: Perms::WRITE | Perms::KEEP, ..region(0..TABLE, &pager::Shared) };
    let mut rig = Rig::new(&[kept]);
    let frame = |number: u64| Va(crate::rig::BASE.0 + number * PAGE_SIZE);
    assert!(rig.write(0, 1));
    // The same page everywhere: a machine of the test has few frames.
    (1..TABLE).for_each(|number| {
        let perms = Perms::WRITE | Perms::KEEP;
        rig.host.map(frame(0), frame(number), 1, perms).expect("memory");
    });
    rig.protect(0..TABLE, Perms::READ).expect("memory");
    assert!(!is_sealed(&rig, 0) && !rig.write(5, 1));
    rig.protect(0..TABLE, Perms::WRITE).expect("memory");
    assert!(rig.write(5, 2));
    rig.end();
}

/// A page that comes while the rest is protected has fewer rights than those that were there.
#[test]
fn a_table_with_a_hole_is_protected_page_by_page() {
    let mut rig = Rig::new(&[region(0..TABLE, &ZEROS)]);
    (0..TABLE).filter(|number| *number != 7).for_each(|number| assert_eq!(rig.read(number), Some(0)));
    assert!(rig.write(3, 1));
    rig.protect(0..TABLE, Perms::READ).expect("memory");
    assert_eq!((is_sealed(&rig, 0), rig.write(3, 9), rig.read(7)), (false, false, Some(0)));
    rig.protect(0..TABLE, Perms::WRITE).expect("memory");
    assert!(rig.write(7, 2) && rig.write(3, 3));
    rig.end();
}

//! Forks that share tables: single cases.

use crate::host::{By, Host, id};
use crate::rig::{OTHER_GIB, Rig, SAME_GIB, page, range, region};
use crate::world::{Secret, touch};
use abi::{EnvId, Level, PageOp, Perms, Pte, Va, fault::PageFaultCode, page::span};
use pager::fork::{self, Plan};
use pager::{Cause, PageCalls, Region, Resolution, Shared, Zeros, ranges::Advice};
use sim::machine::free_frames;
use sim::processor::Access;

static ZEROS: Zeros = Zeros::named("zeros");

/// The pages that one table of level 1 translates.
const TABLE: u64 = 512;

/// An environment in which forks share every table they can, up to those of 1 GiB.
fn rig(regions: &[Region<Host>]) -> Rig {
    Rig { by: By::Tables(Some(OTHER_GIB)), ..Rig::new(regions) }
}

fn is_shared(rig: &Rig, number: u64, level: Level) -> bool {
    rig.host.table(page(number), level).is_shared_table()
}

/// The cause of the fault when a program writes a page.
fn cause_of_write(rig: &mut Rig, number: u64) -> Option<Cause> {
    let (host, book) = rig.parts();
    touch(host, &book.regions(), page(number), Access::Write).expect("there is enough memory").1
}

#[test]
fn a_fork_takes_as_many_frames_as_the_top_has_tables() {
    let mut rig = rig(&[region(0..4 * TABLE, &ZEROS)]);
    for number in (0..4 * TABLE).step_by(100) {
        assert!(rig.write(number, number as u8));
    }
    let free = free_frames();
    let child = rig.fork(&[]).expect("memory");
    assert_eq!(free - free_frames(), 2, "its root, and the table of level 3");
    assert!(is_shared(&rig, 0, Level::L3) && rig.host.table(page(0), Level::L4).has(Pte::WRITABLE));
    for env in [0, child] {
        rig.host.switch(env);
        assert!((0..4 * TABLE).step_by(100).all(|number| rig.read(number) == Some(number as u8)));
    }
    assert_eq!(free - free_frames(), 2, "reading makes nothing private");
    // A write makes the two tables above the page and the page private.
    assert_eq!(cause_of_write(&mut rig, 100), Some(Cause::Copy));
    assert_eq!(free - free_frames(), 5);
    assert!(!is_shared(&rig, 100, Level::L3) && !is_shared(&rig, 100, Level::L2) && is_shared(&rig, 600, Level::L2));
    rig.end();
}

#[test]
fn the_largest_table_is_shared_that_may_be() {
    for (private, level) in [(Some(SAME_GIB), Level::L2), (Some(OTHER_GIB), Level::L3), (None, Level::L4)] {
        let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
        rig.by = By::Tables(private);
        assert!(rig.write(0, 1) && rig.write(TABLE, 2));
        let child = rig.fork(&[]).expect("memory");
        for env in [0, child] {
            rig.host.switch(env);
            assert_eq!(Level::TABLES.map(|other| is_shared(&rig, 0, other)), Level::TABLES.map(|other| other == level));
        }
        // A write makes all tables above the page private, and no others.
        assert_eq!(cause_of_write(&mut rig, 0), Some(Cause::Copy));
        assert_eq!(Level::TABLES.map(|other| is_shared(&rig, 0, other)), [false; 3]);
        assert!(is_shared(&rig, TABLE, Level::L2));
        rig.end();
    }
}

/// Of the private span the child gets only the parts that the caller of fork does not handle itself.
#[test]
fn what_is_private_is_shared_page_by_page() {
    let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
    let numbers = [0, 1, 2, 3, TABLE];
    assert!(numbers.iter().all(|number| rig.write(*number, 7)));
    let child = {
        rig.host.create(1).expect("memory");
        let (host, book) = rig.parts();
        let (except, private) = ([range(1..2), range(3..TABLE)], range(0..TABLE));
        let plan = Plan { child: id(1), regions: &book.regions(), except: &except, private };
        fork::share_tables(host, &plan).expect("memory");
        let inherited = book.inherited();
        rig.books.push(inherited);
        1
    };
    assert!(!is_shared(&rig, 0, Level::L2) && is_shared(&rig, TABLE, Level::L2));
    rig.host.switch(child);
    assert_eq!(numbers.map(|number| rig.read(number)), [Some(7), Some(0), Some(7), Some(0), Some(7)]);
    rig.end();
}

/// A page that is shared on purpose stays writable on both sides, and is one page.
#[test]
fn pages_that_are_kept_are_not_copied() {
    let mut rig = rig(&[Region::new(range(0..4), Perms::WRITE | Perms::KEEP, &Shared)]);
    assert!(rig.write(0, 1));
    let frame = rig.host.pte(page(0)).frame();
    let child = rig.fork(&[]).expect("memory");
    let grandchild = {
        rig.host.switch(child);
        rig.fork(&[]).expect("memory")
    };
    for (env, value) in [(grandchild, 2), (0, 3), (child, 4)] {
        rig.host.switch(env);
        assert_eq!(cause_of_write(&mut rig, 0), Some(Cause::Unshared));
        assert_eq!(cause_of_write(&mut rig, 1), None);
        assert!(rig.write(0, value));
        assert_eq!(rig.host.pte(page(0)).frame(), frame);
    }
    rig.host.switch(grandchild);
    assert_eq!(rig.read(0), Some(4));
    rig.end();
}

/// The child has its own page, or nothing; it still inherits the other pages of that table.
#[test]
fn regions_that_are_not_inherited_are_not_there() {
    let mut rig = rig(&[region(0..4, &ZEROS), region(4..8, &Secret), region(TABLE..TABLE + 4, &ZEROS)]);
    for number in [0, 4, TABLE] {
        assert!(rig.write(number, 7));
    }
    let except = [range(TABLE + 1..TABLE + 2)];
    assert!(rig.write(TABLE + 1, 7));
    let child = rig.fork(&except).expect("memory");
    assert!(!is_shared(&rig, 0, Level::L2) && !is_shared(&rig, TABLE, Level::L2), "page by page");
    rig.host.switch(child);
    assert_eq!([0, 4, TABLE, TABLE + 1].map(|number| rig.read(number)), [Some(7), None, Some(7), Some(0)]);
    rig.end();
}

/// Each of these operations must make shared tables private, or give them up, and the other side sees nothing of it.
#[test]
fn changes_to_ranges_are_ones_own() {
    type Change = fn(&mut Rig);
    let changes: [(&str, Change); 5] = [
        ("unmap", |rig| rig.unmap(3..TABLE + 3).expect("memory")),
        ("unmap all", |rig| rig.unmap(0..3 * TABLE).expect("memory")),
        ("protect", |rig| rig.protect(3..TABLE + 3, Perms::READ).expect("memory")),
        ("advise", |rig| rig.advise(3..TABLE + 3, Advice::DontNeed).expect("memory")),
        ("relocate", |rig| rig.relocate(0..2 * TABLE, 4 * TABLE..6 * TABLE).expect("memory")),
    ];
    for (what, change) in changes {
        for who in [0, 1] {
            let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
            let pages = [0, 2, 3, 4, TABLE, TABLE + 2, TABLE + 3];
            assert!(pages.iter().all(|number| rig.write(*number, *number as u8 + 1)));
            let child = rig.fork(&[]).expect("memory");
            rig.host.switch([0, child][who]);
            change(&mut rig);
            rig.host.switch([child, 0][who]);
            for number in pages {
                assert_eq!(rig.read(number), Some(number as u8 + 1), "{what}: {number}");
                assert!(rig.write(number, 0), "{what}: {number}");
            }
            rig.end();
        }
    }
}

/// A table that is completely in the range is given up, and nothing is copied for that.
#[test]
fn whole_tables_are_given_up_without_a_copy() {
    let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
    assert!((0..2 * TABLE).step_by(64).all(|number| rig.write(number, 1)));
    let child = rig.fork(&[]).expect("memory");
    rig.host.switch(child);
    let free = free_frames();
    rig.unmap(0..TABLE).expect("memory");
    assert_eq!(free_frames(), free - 1, "the table of level 2 was copied, and no other");
    assert_eq!((rig.read(0), rig.read(TABLE)), (None, Some(1)));
    // The last user has the table alone again.
    rig.host.switch(0);
    assert_eq!(rig.unmap(0..2 * TABLE), Ok(()));
    assert_eq!(rig.held(), []);
    rig.end();
}

/// The parent ends, and then the child: the grandchild has everything, and nothing more is copied for it.
#[test]
fn the_last_one_copies_nothing() {
    let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
    assert!(rig.write(0, 1) && rig.write(TABLE, 2));
    let child = rig.fork(&[]).expect("memory");
    rig.host.switch(child);
    let grandchild = rig.fork(&[]).expect("memory");
    rig.host.switch(grandchild);
    for env in [0, child] {
        rig.host.tear_down(env);
        assert_eq!((rig.read(0), rig.read(TABLE)), (Some(1), Some(2)));
    }
    let free = free_frames();
    assert_eq!(cause_of_write(&mut rig, 0), Some(Cause::Unshared));
    assert!(rig.write(TABLE, 3));
    assert_eq!(free_frames(), free);
    rig.end_of(&[grandchild]);
}

/// A page that the program has protected does not become writable for it, no matter who shares the table.
#[test]
fn what_is_protected_stays_so() {
    let mut rig = rig(&[region(0..4, &ZEROS)]);
    assert!(rig.write(0, 1) && rig.write(1, 1));
    rig.protect(0..1, Perms::READ).expect("memory");
    let child = rig.fork(&[]).expect("memory");
    for env in [child, 0] {
        rig.host.switch(env);
        assert!(rig.write(1, 2), "this makes the table private");
        assert!(!rig.write(0, 2));
        assert_eq!(rig.access(0, Access::Fetch), None);
        assert!(rig.parts().1.regions()[0].perms == Perms::READ);
        rig.protect(0..1, Perms::WRITE).expect("memory");
        assert!(rig.write(0, 5 + env as u8));
    }
    rig.host.switch(child);
    assert_eq!(rig.read(0), Some(5 + child as u8));
    rig.end();
}

/// Marks are in tables like pages.
#[test]
fn marks_are_shared_with_their_table() {
    let mut rig = rig(&[]);
    rig.host.mark(page(3), 33).expect("memory");
    let child = rig.fork(&[]).expect("memory");
    rig.host.switch(child);
    assert_eq!(rig.host.pte(page(3)), Pte::mark(33));
    rig.host.mark(page(3), 44).expect("memory");
    rig.host.switch(0);
    assert_eq!(rig.host.pte(page(3)), Pte::mark(33));
    rig.end();
}

/// The fault can be repeated, whichever frame is missing.
#[test]
fn a_write_below_shared_tables_fails_and_succeeds_as_a_whole() {
    let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
    assert!(rig.write(0, 1) && rig.write(1, 1));
    let child = rig.fork(&[]).expect("memory");
    rig.host.switch(child);
    let mut taken: Vec<_> = std::iter::from_fn(|| rig.host.memory.alloc().ok()).collect();
    // Two tables and the page.
    for missing in (0..3).rev() {
        let (host, book) = rig.parts();
        let failed = touch(host, &book.regions(), page(0), Access::Write);
        assert_eq!(failed, Err(abi::Error::NoMemory(0)), "{missing} more are missing");
        assert_eq!((rig.read(0), rig.read(1)), (Some(1), Some(1)));
        rig.host.memory.release(taken.pop().expect("many"));
    }
    assert!(rig.write(0, 9));
    taken.iter().for_each(|frame| rig.host.memory.release(*frame));
    rig.host.switch(0);
    assert_eq!(rig.read(0), Some(1));
    rig.end();
}

/// Protects everything below the tables around a page, or no longer.
fn seal(rig: &mut Rig, number: u64, level: Level, perms: Perms) {
    let table = Va(page(number).0 & !(span(level) - 1));
    rig.host.op(PageOp::protect_tables(EnvId::SELF, table, 1, level, perms)).expect("a table");
}

/// A write below a sealed table is one to a page that does not allow it: nobody resolves it, and it ends.
#[test]
fn a_write_below_a_sealed_table_is_not_resolved() {
    for level in [Level::L2, Level::L3] {
        let mut rig = rig(&[region(0..2 * TABLE, &ZEROS)]);
        assert!(rig.write(0, 1));
        seal(&mut rig, 0, level, Perms::READ);
        assert!(!rig.write(0, 2));
        assert_eq!((rig.read(0), rig.read(1)), (Some(1), Some(0)), "it can be read, and filled");
        seal(&mut rig, 0, level, Perms::WRITE);
        assert!(rig.write(0, 3) && rig.write(1, 3));
        // Also if the table is shared first: the seal stays when it is owned.
        seal(&mut rig, 0, level, Perms::READ);
        let child = rig.fork(&[]).expect("memory");
        for env in [0, child] {
            rig.host.switch(env);
            let cause = |rig: &mut Rig| {
                let (host, book) = rig.parts();
                pager::resolve(host, |va| pager::region::find(&book.regions(), va).copied(), page(0), PageFaultCode(7))
            };
            // The page is copy-on-write for the first one: it is copied before the seal is found.
            if env == 0 {
                assert_eq!(cause(&mut rig), Ok(Resolution::Resume(Cause::Copy)));
            }
            assert_eq!(cause(&mut rig), Ok(Resolution::Unhandled));
            assert!(!rig.write(0, 4));
            assert_eq!(rig.read(0), Some(3));
            seal(&mut rig, 0, level, Perms::WRITE);
            assert!(rig.write(0, 5));
        }
        rig.end();
    }
}

/// The pages of a region move with their table if they are equally far from its start at the new place.
#[test]
fn whole_tables_move_and_go() {
    for (to, by_tables) in [(4 * TABLE, true), (4 * TABLE + 1, false)] {
        let mut rig = rig(&[region(TABLE - 4..3 * TABLE + 4, &ZEROS), region(3 * TABLE + 4..3 * TABLE + 6, &ZEROS)]);
        let written = [TABLE - 2, TABLE, TABLE + 100, 3 * TABLE - 1, 3 * TABLE + 3];
        for number in written.into_iter().chain([3 * TABLE + 5]) {
            assert!(rig.write(number, number as u8));
        }
        assert_eq!(rig.read(TABLE + 1), Some(0));
        let table = |rig: &Rig, number| rig.host.table(page(number), Level::L2).frame();
        let (first, free) = (table(&rig, TABLE), free_frames());
        rig.relocate(TABLE - 4..3 * TABLE + 4, TABLE - 4 + to..3 * TABLE + 4 + to).expect("there is room");
        assert_eq!(table(&rig, TABLE + to) == first, by_tables);
        for number in written {
            assert_eq!(rig.read(number + to), Some(number as u8));
            assert!(rig.write(number + to, 1));
            assert_eq!(rig.read(number + to), Some(1));
        }
        assert!(rig.write(TABLE + 1 + to, 2), "a page of zeros is copied");
        assert_eq!(rig.read(3 * TABLE + 5), Some((3 * TABLE + 5) as u8), "what follows stays");
        let held: Vec<u64> = written.iter().map(|number| number + to).chain([TABLE + 1 + to]).collect();
        assert!(rig.held().iter().all(|number| held.contains(number) || *number == 3 * TABLE + 5));
        assert!(free_frames() + 3 > free, "the tables at the edges, and a page");
        rig.unmap(TABLE + to..2 * TABLE + to).expect("whole tables can always go");
        assert_eq!(rig.held().len(), 4, "three pages around the hole, and one of the other region");
        rig.end();
    }
}

/// Writes of the one do not reach the other, although both had the table.
#[test]
fn a_table_that_is_shared_moves() {
    let mut rig = rig(&[region(TABLE..2 * TABLE, &ZEROS)]);
    assert!(rig.write(TABLE + 7, 1));
    let child = rig.fork(&[]).expect("memory");
    rig.relocate(TABLE..2 * TABLE, 5 * TABLE..6 * TABLE).expect("there is room");
    assert!(rig.write(5 * TABLE + 7, 2));
    rig.host.switch(child);
    assert_eq!((rig.read(TABLE + 7), rig.write(TABLE + 7, 3)), (Some(1), true));
    rig.host.switch(0);
    assert_eq!(rig.read(5 * TABLE + 7), Some(2));
    rig.end();
}

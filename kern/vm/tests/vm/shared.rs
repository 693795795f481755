//! Single cases of tables that two page maps share.

use crate::case::{MOST, OTHER, PAGE, set_refs};
use crate::world::{ALL, World};
use abi::layout::MACHINE;
use abi::{Error, Frame, Perms, Pte, Va};
use sim::machine::{self, Sim, free_frames, load, processor, refs, store};
use sim::processor::Access;
use std::sync::atomic::Ordering::SeqCst;
use vm::{Machine, Space};

/// The other page below the same table of level 1, and one below the same table of level 2.
const NEXT: Va = Va(PAGE.0 + 0x1000);
const NEAR: Va = Va(PAGE.0 + 0x20_0000);

const fn shared(va: Va, level: u32) -> Error {
    Error::TableShared((va.0 & !(abi::page::span(level) - 1)) | level as u64)
}

impl World {
    /// Shares a table of the first page map with the second one, at the same place.
    fn share_table(&mut self, level: u32) {
        let World { memory, spaces, .. } = self;
        let table = spaces[0].grant_table(memory, PAGE, level).expect("a table to share");
        spaces[1].accept_table(memory, PAGE, level, table).expect("room for it");
        spaces.iter_mut().for_each(|space| space.settle(memory));
    }

    /// Tears everything down, for cases that the model does not know.
    fn just_end(mut self) {
        processor(|processor| processor.load(None));
        for space in &mut self.spaces {
            while !space.tear_down(&self.memory, &mut 100) {}
            space.free(&self.memory);
        }
        assert_eq!(free_frames(), ALL, "frames at the end");
    }
}

/// The leaf of a page.
fn leaf(space: &Space<Sim>, va: Va) -> Pte {
    machine::entry(space.root(), va)
}

#[test]
fn nothing_below_a_shared_table_is_changed_by_any_call() {
    for level in [2, 3, 4] {
        let mut world = World::new(ALL);
        let World { memory, spaces, .. } = &mut world;
        spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
        spaces[0].mark(memory, NEXT, 7).unwrap();
        spaces[2].alloc(memory, OTHER, Perms::WRITE).unwrap();
        world.share_table(level);
        let World { memory, spaces, .. } = &mut world;
        let no = shared(PAGE, level);
        for (space, end) in spaces.split_at_mut(2).0.iter_mut().zip(["parent", "child"]) {
            let before = (free_frames(), refs(leaf(space, PAGE).frame()));
            let frame = memory.alloc().unwrap();
            assert_eq!(space.alloc(memory, PAGE, Perms::WRITE), Err(no), "{end}");
            assert_eq!(space.alloc(memory, Va(NEXT.0 + 0x1000), Perms::WRITE), Err(no), "{end}");
            assert_eq!(space.accept(memory, PAGE, frame, Perms::READ), Err(no), "{end}");
            assert_eq!(space.protect(PAGE, Perms::READ), Err(no), "{end}");
            assert_eq!(space.unmap(memory, PAGE), Err(no), "{end}");
            assert_eq!(space.unmap(memory, NEXT), Err(no), "{end}");
            assert_eq!(space.mark(memory, NEXT, 8), Err(no), "{end}");
            assert_eq!(space.mark(memory, NEXT, 0), Err(no), "{end}");
            assert_eq!(space.mark(memory, PAGE, 8), Err(Error::Mapped(PAGE.0)), "{end}");
            assert_eq!(space.own(memory, PAGE), Err(no), "{end}");
            assert_eq!(space.dirty(PAGE), Err(no), "{end}");
            assert_eq!(space.grant(memory, PAGE, Perms::WRITE), Err(no), "{end}");
            assert_eq!(space.is_private(memory, PAGE), Err(Error::NoRight(PAGE.0)), "{end}");
            assert_eq!(space.is_open(PAGE), Err(no), "{end}");
            assert_eq!(space.page(PAGE).map(|page| page.writable), Some(false), "{end}");
            for below in 2..level {
                assert_eq!(space.grant_table(memory, PAGE, below), Err(no), "{end}");
                assert_eq!(space.own_table(memory, PAGE, below), Err(no), "{end}");
                assert_eq!(space.unmap_table(memory, PAGE, below), Err(no), "{end}");
            }
            assert_eq!((free_frames(), refs(leaf(space, PAGE).frame())), before, "{end}");
        }
        // Reading still works, and a page may be granted for reading.
        let frame = spaces[1].grant(memory, PAGE, Perms::READ).unwrap();
        spaces[2].accept(memory, PAGE, frame, Perms::READ).unwrap();
        assert_eq!(load(PAGE, Access::Read), Some(0));
        assert!(!store(PAGE, 1));
        world.just_end();
    }
}

#[test]
fn a_table_is_not_put_below_a_shared_one_nor_where_something_is() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    spaces[2].alloc(memory, NEAR, Perms::WRITE).unwrap();
    spaces[2].alloc(memory, PAGE, Perms::WRITE).unwrap();
    world.share_table(3);
    let World { memory, spaces, .. } = &mut world;
    let free = free_frames();
    for (to, error) in [(1, shared(PAGE, 3)), (2, Error::Mapped(PAGE.0))] {
        let table = spaces[2].grant_table(memory, NEAR, 2).unwrap();
        assert_eq!(refs(table), 2);
        assert_eq!(spaces[to].accept_table(memory, PAGE, 2, table), Err(error));
        assert_eq!((refs(table), free_frames()), (1, free));
        // The page map that wanted to share has lost the right to write, and nothing else.
        assert_eq!(spaces[2].own(memory, NEAR), Err(shared(NEAR, 2)));
        assert_eq!(spaces[2].own_table(memory, NEAR, 2), Ok(false));
        assert_eq!(spaces[2].own(memory, NEAR), Ok(false));
    }
    assert_eq!(spaces[2].grant_table(memory, OTHER, 2), Err(Error::NotMapped(OTHER.0)));
    assert_eq!(spaces[2].own_table(memory, OTHER, 4), Err(Error::NotMapped(OTHER.0)));
    assert_eq!(spaces[2].unmap_table(memory, OTHER, 3), Err(Error::NotMapped(OTHER.0)));
    world.just_end();
}

#[test]
fn a_missing_frame_loses_no_table() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    let table = spaces[0].grant_table(memory, PAGE, 2).unwrap();
    let mut taken: Vec<_> = std::iter::from_fn(|| memory.alloc().ok()).collect();
    // The target needs two tables.
    for _ in 0..2 {
        memory.share(table).unwrap();
        assert_eq!(spaces[1].accept_table(memory, PAGE, 2, table), Err(Error::NoMemory(0)));
        assert_eq!(refs(table), 2);
        memory.release(taken.pop().unwrap());
    }
    spaces[1].accept_table(memory, PAGE, 2, table).unwrap();
    assert_eq!(free_frames(), 0);
    assert_eq!(spaces[1].own_table(memory, PAGE, 2), Err(Error::NoMemory(0)));
    assert_eq!((refs(table), refs(leaf(&spaces[0], PAGE).frame())), (2, 1));
    memory.release(taken.pop().unwrap());
    assert_eq!(spaces[1].own_table(memory, PAGE, 2), Ok(true));
    taken.iter().for_each(|frame| memory.release(*frame));
    world.just_end();
}

#[test]
fn a_table_that_has_too_many_references_or_names_what_has_stays_as_it_is() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    spaces[0].mark(memory, NEXT, 7).unwrap();
    let last = Va(PAGE.0 + 0x1f_f000);
    spaces[0].alloc(memory, last, Perms::WRITE).unwrap();
    world.share_table(2);
    let World { memory, spaces, .. } = &mut world;
    let table = spaces[0].grant_table(memory, PAGE, 2).unwrap();
    memory.release(table);
    set_refs(table, MOST);
    let many = |frame: Frame| Error::TooManyRefs(frame.address());
    assert_eq!(spaces[0].grant_table(memory, PAGE, 2), Err(many(table)));
    set_refs(table, 2);

    let (first, last_frame) = (leaf(&spaces[0], PAGE).frame(), leaf(&spaces[0], last).frame());
    let (before, free) = ([leaf(&spaces[0], PAGE), leaf(&spaces[0], last)], free_frames());
    set_refs(last_frame, MOST);
    assert_eq!(spaces[1].own_table(memory, PAGE, 2), Err(many(last_frame)));
    assert_eq!((refs(first), refs(last_frame), refs(table), free_frames()), (1, MOST, 2, free));
    assert_eq!([leaf(&spaces[0], PAGE), leaf(&spaces[0], last)], before);
    assert_eq!(spaces[1].own(memory, PAGE), Err(shared(PAGE, 2)));
    set_refs(last_frame, 1);
    assert_eq!(spaces[1].own_table(memory, PAGE, 2), Ok(true));
    world.just_end();
}

#[test]
fn a_table_of_ones_own_is_owned_at_no_cost_and_gives_up_nothing() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    let frame = spaces[0].grant(memory, PAGE, Perms::WRITE).unwrap();
    spaces[0].accept(memory, NEXT, frame, Perms::WRITE).unwrap();
    let (before, free) = (leaf(&spaces[0], PAGE), free_frames());
    for level in [2, 3, 4] {
        assert_eq!(spaces[0].own_table(memory, PAGE, level), Ok(false));
        assert_eq!(spaces[0].unmap_table(memory, PAGE, level), Err(Error::NotShared(PAGE.0)));
    }
    assert_eq!((leaf(&spaces[0], PAGE), free_frames()), (before, free));
    assert!(store(PAGE, 5));
    assert_eq!(load(NEXT, Access::Read), Some(5));
    world.just_end();
}

/// The result for each kind of entry when its table is copied; in the end also for the page map that keeps the table.
#[test]
fn owning_lowers_what_two_have_and_keeps_the_rest() {
    let mut world = World::new(ALL);
    let at = |n: u64| PAGE.add_pages(n);
    let kinds = [
        (Perms::WRITE, Perms::COW),
        (Perms::READ, Perms::READ), // it could be made writable
        (Perms::COW, Perms::COW),
        (Perms::EXEC | Perms::SOFT, Perms::EXEC | Perms::SOFT),
        (Perms::WRITE | Perms::KEEP, Perms::WRITE | Perms::KEEP),
        (Perms::KEEP, Perms::KEEP),
    ];
    let World { memory, spaces, .. } = &mut world;
    for (n, (perms, _)) in (0..).zip(kinds) {
        spaces[0].alloc(memory, at(n), Perms::WRITE).unwrap();
        assert!(store(at(n), n));
        spaces[0].protect(at(n), perms).unwrap();
    }
    let mark = at(100);
    spaces[0].mark(memory, mark, Pte::MARK_MAX).unwrap();
    world.share_table(2);
    let check = |space: &Space<Sim>, who: &str| {
        for (n, (before, after)) in (0..).zip(kinds) {
            let pte = leaf(space, at(n));
            let kept = before.contains(Perms::KEEP);
            assert_eq!((pte.perms(), pte.has(Pte::MAY)), (after, kept), "{who}: {before:?}");
            assert!(pte.has(Pte::ACCESSED | Pte::DIRTY), "{who}: A and D stay");
            assert_eq!(refs(pte.frame()), 2);
        }
        assert_eq!(leaf(space, mark), Pte::mark(Pte::MARK_MAX), "{who}");
    };
    let World { memory, spaces, .. } = &mut world;
    assert_eq!(spaces[1].own_table(memory, PAGE, 2), Ok(true));
    check(&spaces[1], "the copy");
    assert!(!store(PAGE, 1), "the other one's is shared as far as it knows");
    assert_eq!(spaces[0].own_table(memory, PAGE, 2), Ok(false));
    spaces[0].settle(memory);
    check(&spaces[0], "the original");
    // A protected page stays protected, and both can write a kept page.
    assert_eq!(spaces[1].protect(at(1), Perms::WRITE), Err(Error::NoRight(at(1).0)));
    assert!(!store(at(0), 1) && store(at(4), 77));
    processor(|processor| processor.load(Some(world.spaces[1].root())));
    assert_eq!(load(at(4), Access::Read), Some(77));
    world.just_end();
}

/// The pages have no other user any more: they have their old rights again.
#[test]
fn the_last_one_that_has_a_table_has_its_rights_back() {
    for level in [2, 3, 4] {
        let mut world = World::new(ALL);
        let World { memory, spaces, .. } = &mut world;
        spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
        let before = leaf(&spaces[0], PAGE);
        world.share_table(level);
        let World { memory, spaces, .. } = &mut world;
        let free = free_frames();
        spaces[1].unmap_table(memory, PAGE, level).unwrap();
        // The tables above it were made for it.
        assert_eq!(free_frames(), free + 4 - level as usize);
        assert_eq!(spaces[1].page(PAGE), None);
        assert_eq!(spaces[0].unmap_table(memory, PAGE, level), Err(Error::NotShared(PAGE.0)));
        assert_eq!(spaces[0].own(memory, PAGE), Err(shared(PAGE, level)), "it does not know yet");
        for owned in (2..=level).rev() {
            assert_eq!(spaces[0].own_table(memory, PAGE, owned), Ok(false));
        }
        spaces[0].settle(memory);
        assert_eq!(leaf(&spaces[0], PAGE), before);
        assert!(store(PAGE, 1));
        world.just_end();
    }
}

/// Removing a table removes the tables above it only as far as they are empty.
#[test]
fn removing_a_table_prunes_as_far_as_tables_are_empty() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    spaces[1].alloc(memory, NEAR, Perms::WRITE).unwrap();
    world.share_table(2);
    let World { memory, spaces, .. } = &mut world;
    let free = free_frames();
    spaces[1].unmap_table(memory, PAGE, 2).unwrap();
    assert_eq!(free_frames(), free);
    spaces[1].unmap(memory, NEAR).unwrap();
    assert_eq!(free_frames(), free + 4);
    world.just_end();
}

/// A chain of forks: each parent ends before its child, in small steps, and the last one has everything.
#[test]
fn nested_shared_tables_are_torn_down_once() {
    for level in [2, 3, 4] {
        for owned in 1..=level {
            let mut world = World::new(ALL);
            let World { memory, spaces, .. } = &mut world;
            for va in [PAGE, NEXT, NEAR] {
                spaces[0].alloc(memory, va, Perms::WRITE).unwrap();
            }
            assert!(store(PAGE, 42));
            world.share_table(level);
            let World { memory, spaces, .. } = &mut world;
            let table = spaces[1].grant_table(memory, PAGE, level).unwrap();
            spaces[2].accept_table(memory, PAGE, level, table).unwrap();
            // The middle one owns some of them.
            for level in (owned + 1..=level).rev() {
                assert_eq!(spaces[1].own_table(memory, PAGE, level), Ok(true));
            }
            processor(|processor| processor.load(None));
            for space in [0, 1] {
                while !spaces[space].tear_down(memory, &mut 1) {}
                let last = spaces[2].page(PAGE).expect("the last one has the page");
                assert_eq!(Sim::table(last.frame)[0].load(SeqCst), 42);
            }
            processor(|processor| processor.load(Some(spaces[2].root())));
            let pages = if level == 2 { &[PAGE, NEXT][..] } else { &[PAGE, NEXT, NEAR] };
            for va in pages {
                for owned in (2..=level).rev() {
                    assert_eq!(spaces[2].own_table(memory, *va, owned), Ok(false), "nobody else has it");
                }
                spaces[2].settle(memory);
                assert!(store(*va, 1), "nobody else has the page at {va}");
            }
            world.just_end();
        }
    }
}

/// One table twice in one page map: each entry that names it is a user.
#[test]
fn a_space_can_share_a_table_with_itself() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    let table = spaces[0].grant_table(memory, PAGE, 2).unwrap();
    spaces[0].accept_table(memory, NEAR, 2, table).unwrap();
    assert!(!store(NEAR, 1));
    assert_eq!(spaces[0].own_table(memory, NEAR, 2), Ok(true));
    assert_eq!(spaces[0].own(memory, NEAR), Ok(true));
    spaces[0].settle(memory);
    assert!(store(NEAR, 9));
    assert_eq!(load(PAGE, Access::Read), Some(0));
    world.just_end();
}

/// A slice of teardown is short even where all entries name a table that another page map has.
#[test]
fn shared_tables_are_given_up_in_slices() {
    const NAMES: u64 = 100;
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    spaces[0].alloc(memory, PAGE, Perms::WRITE).unwrap();
    for name in 1..NAMES {
        let table = spaces[0].grant_table(memory, PAGE, 2).unwrap();
        let va = Va(PAGE.0 + name * abi::page::span(2));
        spaces[0].accept_table(memory, va, 2, table).unwrap();
    }
    world.share_table(2);
    processor(|processor| processor.load(None));
    let mut slices = 1;
    while !world.spaces[0].tear_down(&world.memory, &mut 1000) {
        slices += 1;
    }
    assert!((5..=20).contains(&slices), "{slices} slices");
    assert!(world.spaces[1].page(PAGE).is_some(), "the other one has it still");
    world.just_end();
}

/// The windows are one table in all page maps, and nobody may change it. (The calls do not let programs name them.)
#[test]
fn what_is_below_a_window_is_not_a_shared_table_of_ones_own() {
    let mut world = World::new(ALL);
    let World { memory, spaces, .. } = &mut world;
    assert_eq!(spaces[0].protect(MACHINE, Perms::READ), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(spaces[0].unmap(memory, MACHINE), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(spaces[0].own(memory, MACHINE), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(spaces[0].dirty(MACHINE), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(spaces[0].alloc(memory, MACHINE, Perms::READ), Err(Error::NoRight(MACHINE.0)));
    world.end();
}

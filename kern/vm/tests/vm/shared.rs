//! Single cases of tables that two page maps share.

use crate::case::{MOST, OTHER, PAGE, set_refs};
use crate::world::{ALL, World};
use abi::{Call, EnvId, Error, Frame, Level, PageOp, Perms, Pte, Va, layout::MACHINE};
use sim::machine::{self, Sim, free_frames, load, processor, refs, store};
use sim::processor::Access;
use std::ops::Range;
use std::sync::atomic::Ordering::SeqCst;
use vm::{Budget, Machine, PageMap};

/// The other page below the same table of level 1, and one below the same table of level 2.
const NEXT: Va = Va(PAGE.0 + 0x1000);
const NEAR: Va = Va(PAGE.0 + 0x20_0000);

const fn shared(va: Va, level: Level) -> Error {
    Error::TableShared((va.0 & !(abi::page::span(level) - 1)) | level as u64)
}

impl World {
    /// Shares a table of the first page map with the second one, at the same place.
    fn share_table(&mut self, level: Level) {
        let World { maps, .. } = self;
        let table = maps[0].edit().grant_table(PAGE, level).expect("a table to share");
        maps[1].edit().accept_table(PAGE, level, table).expect("room for it");
    }

    /// Tears everything down, for cases that the model does not know.
    pub fn just_end(mut self) {
        processor(|processor| processor.load(None));
        for map in &mut self.maps {
            while !map.tear_down(&mut 100) {}
            map.free();
        }
        assert_eq!(free_frames(), ALL, "frames at the end");
    }
}

/// The leaf of a page.
fn leaf(map: &PageMap<Sim>, va: Va) -> Pte {
    machine::entry(map.root(), va)
}

#[test]
fn nothing_below_a_shared_table_is_changed_by_any_call() {
    for level in Level::TABLES {
        let mut world = World::new(ALL);
        let World { maps, .. } = &mut world;
        maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
        maps[0].edit().mark(NEXT, 7).unwrap();
        maps[2].edit().alloc(OTHER, Perms::WRITE).unwrap();
        world.share_table(level);
        let World { memory, maps, .. } = &mut world;
        let no = shared(PAGE, level);
        for (map, end) in maps.split_at_mut(2).0.iter_mut().zip(["parent", "child"]) {
            let before = (free_frames(), refs(leaf(map, PAGE).frame()));
            let frame = memory.alloc().unwrap();
            assert_eq!(map.edit().alloc(PAGE, Perms::WRITE), Err(no), "{end}");
            assert_eq!(map.edit().alloc(Va(NEXT.0 + 0x1000), Perms::WRITE), Err(no), "{end}");
            assert_eq!(map.edit().accept(PAGE, frame, Perms::READ), Err(no), "{end}");
            assert_eq!(map.edit().protect(PAGE, Perms::READ), Err(no), "{end}");
            assert_eq!(map.edit().unmap(PAGE), Err(no), "{end}");
            assert_eq!(map.edit().unmap(NEXT), Err(no), "{end}");
            assert_eq!(map.edit().mark(NEXT, 8), Err(no), "{end}");
            assert_eq!(map.edit().mark(NEXT, 0), Err(no), "{end}");
            assert_eq!(map.edit().mark(PAGE, 8), Err(Error::Mapped(PAGE.0)), "{end}");
            assert_eq!(map.edit().own(PAGE), Err(no), "{end}");
            assert_eq!(map.dirty(PAGE), Err(no), "{end}");
            assert_eq!(map.grant(PAGE, Perms::WRITE), Err(no), "{end}");
            assert_eq!(map.is_private(PAGE), Err(Error::NoRight(PAGE.0)), "{end}");
            assert_eq!(map.is_open(PAGE), Err(no), "{end}");
            assert_eq!(map.page(PAGE).map(|page| page.writable), Some(false), "{end}");
            for below in level.tables_down().skip(1) {
                assert_eq!(map.edit().grant_table(PAGE, below), Err(no), "{end}");
                assert_eq!(map.edit().own_table(PAGE, below), Err(no), "{end}");
                assert_eq!(map.edit().unmap_table(PAGE, below), Err(no), "{end}");
            }
            assert_eq!((free_frames(), refs(leaf(map, PAGE).frame())), before, "{end}");
        }
        // Reading still works, and a page may be granted for reading.
        let frame = maps[1].grant(PAGE, Perms::READ).unwrap();
        maps[2].edit().accept(PAGE, frame, Perms::READ).unwrap();
        assert_eq!(load(PAGE, Access::Read), Some(0));
        assert!(!store(PAGE, 1));
        world.just_end();
    }
}

#[test]
fn a_table_is_not_put_below_a_shared_one_nor_where_something_is() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    maps[2].edit().alloc(NEAR, Perms::WRITE).unwrap();
    maps[2].edit().alloc(PAGE, Perms::WRITE).unwrap();
    world.share_table(Level::L3);
    let World { maps, .. } = &mut world;
    let free = free_frames();
    for (to, error) in [(1, shared(PAGE, Level::L3)), (2, Error::Mapped(PAGE.0))] {
        let table = maps[2].edit().grant_table(NEAR, Level::L2).unwrap();
        assert_eq!(refs(table.frame()), 2);
        assert_eq!(maps[to].edit().accept_table(PAGE, Level::L2, table), Err(error));
        assert_eq!((refs(table.frame()), free_frames()), (1, free));
        // The page map that wanted to share has lost the right to write, and nothing else.
        assert_eq!(maps[2].edit().own(NEAR), Err(shared(NEAR, Level::L2)));
        assert_eq!(maps[2].edit().own_table(NEAR, Level::L2), Ok(false));
        assert_eq!(maps[2].edit().own(NEAR), Ok(false));
    }
    assert_eq!(maps[2].edit().grant_table(OTHER, Level::L2), Err(Error::NotMapped(OTHER.0)));
    assert_eq!(maps[2].edit().own_table(OTHER, Level::L4), Err(Error::NotMapped(OTHER.0)));
    assert_eq!(maps[2].edit().unmap_table(OTHER, Level::L3), Err(Error::NotMapped(OTHER.0)));
    world.just_end();
}

#[test]
fn a_missing_frame_loses_no_table() {
    let mut world = World::new(ALL);
    let World { memory, maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    let table = maps[0].edit().grant_table(PAGE, Level::L2).unwrap();
    let mut taken: Vec<_> = std::iter::from_fn(|| memory.alloc().ok()).collect();
    // The target needs two tables.
    for _ in 0..2 {
        memory.add_reference(table.frame()).unwrap();
        assert_eq!(maps[1].edit().accept_table(PAGE, Level::L2, table), Err(Error::NoMemory(0)));
        assert_eq!(refs(table.frame()), 2);
        memory.release(taken.pop().unwrap());
    }
    maps[1].edit().accept_table(PAGE, Level::L2, table).unwrap();
    assert_eq!(free_frames(), 0);
    assert_eq!(maps[1].edit().own_table(PAGE, Level::L2), Err(Error::NoMemory(0)));
    assert_eq!((refs(table.frame()), refs(leaf(&maps[0], PAGE).frame())), (2, 1));
    memory.release(taken.pop().unwrap());
    assert_eq!(maps[1].edit().own_table(PAGE, Level::L2), Ok(true));
    taken.iter().for_each(|frame| memory.release(*frame));
    world.just_end();
}

#[test]
fn a_table_that_has_too_many_references_or_names_what_has_stays_as_it_is() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    maps[0].edit().mark(NEXT, 7).unwrap();
    let last = Va(PAGE.0 + 0x1f_f000);
    maps[0].edit().alloc(last, Perms::WRITE).unwrap();
    world.share_table(Level::L2);
    let World { memory, maps, .. } = &mut world;
    let table = maps[0].edit().grant_table(PAGE, Level::L2).unwrap().frame();
    memory.release(table);
    set_refs(table, MOST);
    let many = |frame: Frame| Error::TooManyRefs(frame.address());
    assert_eq!(maps[0].edit().grant_table(PAGE, Level::L2), Err(many(table)));
    set_refs(table, 2);

    let (first, last_frame) = (leaf(&maps[0], PAGE).frame(), leaf(&maps[0], last).frame());
    let (before, free) = ([leaf(&maps[0], PAGE), leaf(&maps[0], last)], free_frames());
    set_refs(last_frame, MOST);
    assert_eq!(maps[1].edit().own_table(PAGE, Level::L2), Err(many(last_frame)));
    assert_eq!((refs(first), refs(last_frame), refs(table), free_frames()), (1, MOST, 2, free));
    assert_eq!([leaf(&maps[0], PAGE), leaf(&maps[0], last)], before);
    assert_eq!(maps[1].edit().own(PAGE), Err(shared(PAGE, Level::L2)));
    set_refs(last_frame, 1);
    assert_eq!(maps[1].edit().own_table(PAGE, Level::L2), Ok(true));
    world.just_end();
}

#[test]
fn a_table_of_ones_own_is_owned_at_no_cost_and_gives_up_nothing() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    let frame = maps[0].grant(PAGE, Perms::WRITE).unwrap();
    maps[0].edit().accept(NEXT, frame, Perms::WRITE).unwrap();
    let (before, free) = (leaf(&maps[0], PAGE), free_frames());
    for level in Level::TABLES {
        assert_eq!(maps[0].edit().own_table(PAGE, level), Ok(false));
        if level > Level::L2 {
            assert_eq!(maps[0].edit().unmap_table(PAGE, level), Err(Error::NotShared(PAGE.0)));
        }
    }
    assert_eq!((leaf(&maps[0], PAGE), free_frames()), (before, free));
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
    let World { maps, .. } = &mut world;
    for (n, (perms, _)) in (0..).zip(kinds) {
        maps[0].edit().alloc(at(n), Perms::WRITE).unwrap();
        assert!(store(at(n), n));
        maps[0].edit().protect(at(n), perms).unwrap();
    }
    let mark = at(100);
    maps[0].edit().mark(mark, Pte::MARK_MAX).unwrap();
    world.share_table(Level::L2);
    let check = |map: &PageMap<Sim>, who: &str| {
        for (n, (before, after)) in (0..).zip(kinds) {
            let pte = leaf(map, at(n));
            let kept = before.contains(Perms::KEEP);
            assert_eq!((pte.perms(), pte.has(Pte::MAY)), (after, kept), "{who}: {before:?}");
            assert!(pte.has(Pte::ACCESSED | Pte::DIRTY), "{who}: A and D stay");
            assert_eq!(refs(pte.frame()), 2);
        }
        assert_eq!(leaf(map, mark), Pte::mark(Pte::MARK_MAX), "{who}");
    };
    let World { maps, .. } = &mut world;
    assert_eq!(maps[1].edit().own_table(PAGE, Level::L2), Ok(true));
    check(&maps[1], "the copy");
    assert!(!store(PAGE, 1), "the other one's is shared as far as it knows");
    assert_eq!(maps[0].edit().own_table(PAGE, Level::L2), Ok(false));
    check(&maps[0], "the original");
    // A protected page stays protected, and both can write a kept page.
    assert_eq!(maps[1].edit().protect(at(1), Perms::WRITE), Err(Error::NoRight(at(1).0)));
    assert!(!store(at(0), 1) && store(at(4), 77));
    processor(|processor| processor.load(Some(world.maps[1].root())));
    assert_eq!(load(at(4), Access::Read), Some(77));
    world.just_end();
}

/// The pages have no other user any more: they have their old rights again.
#[test]
fn the_last_one_that_has_a_table_has_its_rights_back() {
    for level in Level::TABLES {
        let mut world = World::new(ALL);
        let World { maps, .. } = &mut world;
        maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
        let before = leaf(&maps[0], PAGE);
        world.share_table(level);
        let World { maps, .. } = &mut world;
        let free = free_frames();
        maps[1].edit().unmap_table(PAGE, level).unwrap();
        // The tables above it were made for it.
        assert_eq!(free_frames(), free + 4 - level as usize);
        assert_eq!(maps[1].page(PAGE), None);
        if level > Level::L2 {
            assert_eq!(maps[0].edit().unmap_table(PAGE, level), Err(Error::NotShared(PAGE.0)));
        }
        assert_eq!(maps[0].edit().own(PAGE), Err(shared(PAGE, level)), "it does not know yet");
        for owned in level.tables_down() {
            assert_eq!(maps[0].edit().own_table(PAGE, owned), Ok(false));
        }
        assert_eq!(leaf(&maps[0], PAGE), before);
        assert!(store(PAGE, 1));
        world.just_end();
    }
}

/// Removing a table removes the tables above it only as far as they are empty.
#[test]
fn removing_a_table_prunes_as_far_as_tables_are_empty() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    maps[1].edit().alloc(NEAR, Perms::WRITE).unwrap();
    world.share_table(Level::L2);
    let World { maps, .. } = &mut world;
    let free = free_frames();
    maps[1].edit().unmap_table(PAGE, Level::L2).unwrap();
    assert_eq!(free_frames(), free);
    maps[1].edit().unmap(NEAR).unwrap();
    assert_eq!(free_frames(), free + 4);
    world.just_end();
}

/// A chain of forks: each parent ends before its child, in small steps, and the last one has everything.
#[test]
fn nested_shared_tables_are_torn_down_once() {
    for level in Level::TABLES {
        for owned in [Level::L1].into_iter().chain(level.tables_down().rev()) {
            let mut world = World::new(ALL);
            let World { maps, .. } = &mut world;
            for va in [PAGE, NEXT, NEAR] {
                maps[0].edit().alloc(va, Perms::WRITE).unwrap();
            }
            assert!(store(PAGE, 42));
            world.share_table(level);
            let World { maps, .. } = &mut world;
            let table = maps[1].edit().grant_table(PAGE, level).unwrap();
            maps[2].edit().accept_table(PAGE, level, table).unwrap();
            // The middle one owns some of them.
            for level in level.tables_down().filter(|above| *above > owned) {
                assert_eq!(maps[1].edit().own_table(PAGE, level), Ok(true));
            }
            processor(|processor| processor.load(None));
            for map in [0, 1] {
                while !maps[map].tear_down(&mut 1) {}
                let last = maps[2].page(PAGE).expect("the last one has the page");
                assert_eq!(Sim::table(last.frame)[0].load(SeqCst), 42);
            }
            processor(|processor| processor.load(Some(maps[2].root())));
            let pages = if level == Level::L2 { &[PAGE, NEXT][..] } else { &[PAGE, NEXT, NEAR] };
            for va in pages {
                for owned in level.tables_down() {
                    assert_eq!(maps[2].edit().own_table(*va, owned), Ok(false), "nobody else has it");
                }
                assert!(store(*va, 1), "nobody else has the page at {va}");
            }
            world.just_end();
        }
    }
}

/// One table twice in one page map: each entry that names it is a user.
#[test]
fn a_page_map_can_share_a_table_with_itself() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    let table = maps[0].edit().grant_table(PAGE, Level::L2).unwrap();
    maps[0].edit().accept_table(NEAR, Level::L2, table).unwrap();
    assert!(!store(NEAR, 1));
    assert_eq!(maps[0].edit().own_table(NEAR, Level::L2), Ok(true));
    assert_eq!(maps[0].edit().own(NEAR), Ok(true));
    assert!(store(NEAR, 9));
    assert_eq!(load(PAGE, Access::Read), Some(0));
    world.just_end();
}

/// A slice of teardown is short even where all entries name a table that another page map has.
#[test]
fn shared_tables_are_given_up_in_slices() {
    const NAMES: u64 = 100;
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    for name in 1..NAMES {
        let table = maps[0].edit().grant_table(PAGE, Level::L2).unwrap();
        let va = Va(PAGE.0 + name * abi::page::span(Level::L2));
        maps[0].edit().accept_table(va, Level::L2, table).unwrap();
    }
    world.share_table(Level::L2);
    processor(|processor| processor.load(None));
    let mut slices = 1;
    while !world.maps[0].tear_down(&mut 1000) {
        slices += 1;
    }
    assert!((5..=20).contains(&slices), "{slices} slices");
    assert!(world.maps[1].page(PAGE).is_some(), "the other one has it still");
    world.just_end();
}

/// The windows are one table in all page maps, and nobody may change it. (The calls do not let programs name them.)
#[test]
fn what_is_below_a_window_is_not_a_shared_table_of_ones_own() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    assert_eq!(maps[0].edit().protect(MACHINE, Perms::READ), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(maps[0].edit().unmap(MACHINE), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(maps[0].edit().own(MACHINE), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(maps[0].dirty(MACHINE), Err(Error::NoRight(MACHINE.0)));
    assert_eq!(maps[0].edit().alloc(MACHINE, Perms::READ), Err(Error::NoRight(MACHINE.0)));
    world.end();
}

/// The pages of a table with pages of all kinds.
const KINDS: u64 = 64;

/// Makes a table with pages of all kinds in the first page map, and shares it. Returns its entries.
fn share_kinds(world: &mut World, level: Level) -> Vec<Pte> {
    for n in 0..KINDS {
        let kind = [Perms::WRITE, Perms::READ, Perms::WRITE | Perms::KEEP, Perms::EXEC][n as usize % 4];
        world.maps[0].edit().alloc(PAGE.add_pages(n), Perms::WRITE).unwrap();
        world.maps[0].edit().protect(PAGE.add_pages(n), kind).unwrap();
    }
    world.share_table(level);
    leaves(&world.maps[0])
}

fn leaves(map: &PageMap<Sim>) -> Vec<Pte> {
    (0..KINDS).map(|n| leaf(map, PAGE.add_pages(n))).collect()
}

/// Owns the tables above a page, which nobody else has. Returns the work on the lowest one.
fn keep(map: &mut PageMap<Sim>, level: Level) -> u32 {
    for level in level.tables_down() {
        map.edit().take_work();
        assert_eq!(map.edit().own_table(PAGE, level), Ok(false));
    }
    map.edit().take_work()
}

/// More than finding a table takes, and less than looking at its entries.
const LOOK: u32 = 900;

#[test]
fn a_table_whose_pages_nobody_else_has_is_kept_without_a_look() {
    for level in Level::TABLES {
        let mut world = World::new(ALL);
        let before = share_kinds(&mut world, level);
        for _ in 0..2 {
            let World { maps, .. } = &mut world;
            maps[1].edit().unmap_table(PAGE, level).unwrap();
            assert!(keep(&mut maps[0], level) < LOOK, "{level:?}");
            assert_eq!(leaves(&maps[0]), before);
            world.share_table(level);
        }
        // It is the same for the one that got the table: the other one ends.
        let World { maps, .. } = &mut world;
        processor(|processor| processor.load(None));
        while !maps[0].tear_down(&mut 1000) {}
        assert!(keep(&mut maps[1], level) < LOOK, "{level:?}");
        assert_eq!(leaves(&maps[1]), before);
        world.just_end();
    }
}

/// A run of pages is mapped for reading, from one page map into the third one.
fn map_run(maps: &mut [PageMap<Sim>], from: usize, pages: Range<u64>) {
    let (first, rest) = maps.split_at_mut(2);
    // There is a table for the run, which is empty where the run goes.
    rest[0].edit().alloc(OTHER.add_pages(500), Perms::READ).unwrap();
    let count = (pages.end - pages.start) as u32;
    let op = PageOp::map(EnvId::SELF, PAGE.add_pages(pages.start), EnvId::SELF, OTHER, count, Perms::READ);
    let (source, budget) = (&mut first[from].edit(), &mut Budget::of_entry());
    assert_eq!(rest[0].edit().run_pages(Some(source), Call::Map, &op, count, budget), Ok(count));
}

/// The other one passes some pages on before it gives up the table, in different ways: exactly these have lost the
/// rights of a sole user.
#[test]
fn pages_that_others_have_lose_their_rights_when_the_table_is_kept() {
    type Way = (&'static str, Range<u64>, fn(&mut [PageMap<Sim>]));
    let ways: [Way; 5] = [
        ("a page by the other one", 4..5, |maps| {
            let frame = maps[1].grant(PAGE.add_pages(4), Perms::READ).unwrap();
            maps[2].edit().accept(OTHER, frame, Perms::READ).unwrap();
        }),
        ("a page by the same one", 4..5, |maps| {
            let frame = maps[0].grant(PAGE.add_pages(4), Perms::READ).unwrap();
            maps[2].edit().accept(OTHER, frame, Perms::READ).unwrap();
        }),
        ("a page by the fast path", 5..6, |maps| {
            maps[0].edit().alloc(OTHER, Perms::READ).unwrap();
            maps[0].map_fast(PAGE.add_pages(5), OTHER.add_pages(1), Perms::READ).unwrap();
        }),
        ("a run by the other one", 8..20, |maps| map_run(maps, 1, 8..20)),
        ("a run by the same one", 8..20, |maps| map_run(maps, 0, 8..20)),
    ];
    for level in Level::TABLES {
        for (way, pages, pass) in ways.clone() {
            let mut world = World::new(ALL);
            let before = share_kinds(&mut world, level);
            pass(&mut world.maps);
            let World { maps, .. } = &mut world;
            maps[1].edit().unmap_table(PAGE, level).unwrap();
            assert!(keep(&mut maps[0], level) > LOOK, "{way}");
            for (n, (before, after)) in (0..).zip(before.iter().zip(leaves(&maps[0]))) {
                let lowered = pages.contains(&n) && !before.perms().contains(Perms::KEEP);
                let may = after.0 & (Pte::WRITABLE | Pte::MAY) != 0;
                assert_eq!((after.frame(), may), (before.frame(), !lowered), "{way}, {level:?}: page {n}");
                assert!(lowered || after == *before, "{way}, {level:?}: page {n}");
            }
            world.just_end();
        }
    }
}

/// The other one copies the table, and perhaps gives up its copy of some pages. The rights go where it has the page.
#[test]
fn a_table_that_was_copied_is_looked_at_when_it_is_kept() {
    for level in Level::TABLES {
        let mut world = World::new(ALL);
        let before = share_kinds(&mut world, level);
        let World { maps, .. } = &mut world;
        level.tables_down().for_each(|level| assert_eq!(maps[1].edit().own_table(PAGE, level), Ok(true)));
        for n in 0..KINDS / 2 {
            maps[1].edit().unmap(PAGE.add_pages(n)).unwrap();
        }
        let noted = keep(&mut maps[0], level);
        assert!(noted > LOOK);
        for (n, (before, after)) in (0..).zip(before.iter().zip(leaves(&maps[0]))) {
            let stays =
                before.0 & (Pte::WRITABLE | Pte::MAY) != 0 && (n < KINDS / 2 || before.perms().contains(Perms::KEEP));
            assert_eq!(after.0 & (Pte::WRITABLE | Pte::MAY) != 0, stays, "{level:?}: page {n}");
        }
        world.just_end();
    }
}

/// A look at a table shows that none of its pages may be written by others: next time there is no need to look.
#[test]
fn a_look_is_needed_once_unless_pages_are_kept() {
    for (perms, again) in [(Perms::WRITE, false), (Perms::WRITE | Perms::KEEP, true)] {
        let mut world = World::new(ALL);
        world.maps[0].edit().alloc(PAGE, perms).unwrap();
        world.share_table(Level::L2);
        assert_eq!(world.maps[1].edit().own_table(PAGE, Level::L2), Ok(true));
        assert!(keep(&mut world.maps[0], Level::L2) > LOOK);
        world.maps[1].edit().unmap(PAGE).unwrap();
        world.share_table(Level::L2);
        world.maps[1].edit().unmap_table(PAGE, Level::L2).unwrap();
        assert_eq!(keep(&mut world.maps[0], Level::L2) > LOOK, again, "{perms:?}");
        world.just_end();
    }
}

/// Pages that were shared on purpose: the last page map that has the table does not get the right to write them.
#[test]
fn pages_that_others_had_before_lose_their_rights_too() {
    type Way = (&'static str, fn(&mut [PageMap<Sim>]));
    let ways: [Way; 4] = [
        ("granted", |maps| {
            maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
            let frame = maps[0].grant(PAGE, Perms::READ).unwrap();
            maps[2].edit().accept(OTHER, frame, Perms::READ).unwrap();
        }),
        ("accepted", |maps| {
            maps[2].edit().alloc(OTHER, Perms::WRITE).unwrap();
            let frame = maps[2].grant(OTHER, Perms::WRITE).unwrap();
            maps[0].edit().accept(PAGE, frame, Perms::WRITE).unwrap();
        }),
        ("mapped by the fast path", |maps| {
            maps[0].edit().alloc(OTHER, Perms::WRITE).unwrap();
            maps[0].edit().alloc(NEXT, Perms::WRITE).unwrap();
            maps[0].map_fast(OTHER, PAGE, Perms::WRITE).unwrap();
        }),
        ("mapped by a run", |maps| {
            for n in 0..4 {
                maps[0].edit().alloc(OTHER.add_pages(n), Perms::WRITE).unwrap();
            }
            maps[0].edit().alloc(PAGE.add_pages(7), Perms::WRITE).unwrap();
            let op = PageOp::map(EnvId::SELF, OTHER, EnvId::SELF, PAGE, 4, Perms::WRITE);
            let done = maps[0].edit().run_pages(None, Call::Map, &op, 4, &mut Budget::of_entry());
            assert_eq!(done, Ok(4));
        }),
    ];
    for (way, share) in ways {
        for last in [0, 1] {
            let mut world = World::new(ALL);
            share(&mut world.maps);
            world.share_table(Level::L2);
            let World { maps, .. } = &mut world;
            maps[1 - last].edit().unmap_table(PAGE, Level::L2).unwrap();
            keep(&mut maps[last], Level::L2);
            let pte = leaf(&maps[last], PAGE);
            assert_eq!((pte.perms(), pte.has(Pte::MAY)), (Perms::COW, false), "{way}, {last}");
            world.just_end();
        }
    }
}

/// The note of a table about its pages does not disturb the number of its entries.
#[test]
fn a_table_that_notes_other_users_goes_with_its_last_entry() {
    for last in 0..4 {
        let mut world = World::new(ALL);
        let World { maps, .. } = &mut world;
        let free = free_frames();
        for n in 0..3 {
            maps[0].edit().alloc(PAGE.add_pages(n), Perms::WRITE).unwrap();
        }
        let frame = maps[0].grant(PAGE, Perms::READ).unwrap();
        maps[2].edit().accept(OTHER, frame, Perms::READ).unwrap();
        let op = PageOp::unmap(EnvId::SELF, PAGE, 3);
        match last {
            0 => (0..3).for_each(|n| maps[0].edit().unmap(PAGE.add_pages(n)).unwrap()),
            1 => (0..3).for_each(|n| {
                let fast = maps[0].unmap_fast(PAGE.add_pages(n));
                assert_eq!(fast.is_some(), n < 2);
                fast.or_else(|| maps[0].edit().unmap(PAGE.add_pages(n)).ok()).unwrap();
            }),
            2 => {
                let done = maps[0].edit().run_pages(None, Call::Unmap, &op, 3, &mut Budget::of_entry());
                assert_eq!(done, Ok(3));
            }
            _ => {
                processor(|processor| processor.load(None));
                while !maps[0].tear_down(&mut 1) {}
            }
        }
        maps[2].edit().unmap(OTHER).unwrap();
        assert_eq!(free_frames(), free, "{last}");
        world.just_end();
    }
}

//! Single cases of tables below which the program has forbidden writes.

use crate::case::{OTHER, PAGE};
use crate::world::{ALL, World};
use abi::{Call, EnvId, Error, Level, PageOp, Perms, Pte, Va, page::span};
use sim::machine::{self, Sim, load, store};
use sim::processor::Access;
use vm::{Budget, PageMap};

const ME: EnvId = EnvId::SELF;
/// The next page below the same table of level 1, and a page below the same table of level 2.
const NEXT: Va = Va(PAGE.0 + 0x1000);
const NEAR: Va = Va(PAGE.0 + 0x20_0000);
const SEAL: Perms = Perms::READ;
const LIFT: Perms = Perms::WRITE;

fn writable(map: &PageMap<Sim>, va: Va) -> bool {
    map.page(va).expect("a page").writable
}

/// The entry that points to a table.
fn pointer(map: &PageMap<Sim>, va: Va, level: Level) -> Pte {
    let (mut found, first) = (Pte(0), Va(va.0 & !(span(level) - 1)));
    machine::for_each_entry(map.root(), &mut |at, of, pte| {
        if (at, of) == (first, level) {
            found = pte;
        }
    });
    found
}

fn is_sealed(map: &PageMap<Sim>, va: Va, level: Level) -> bool {
    pointer(map, va, level).has(Pte::SEALED)
}

fn run(map: &mut PageMap<Sim>, op: PageOp) -> Result<u32, Error> {
    let call = Call::from_number(op.call.into()).expect("a call");
    map.edit().run_tables(None, call, &op, op.count, &mut Budget::of_entry())
}

/// Neither through a translation that was cached before, nor through cached entries that point to tables.
#[test]
fn nothing_is_written_below_a_sealed_table() {
    for (elsewhere, level) in [false, true].into_iter().flat_map(|on| Level::TABLES.map(|level| (on, level))) {
        let mut world = World::new(ALL);
        let map = &mut world.maps[0];
        map.edit().alloc(PAGE, Perms::WRITE).unwrap();
        map.edit().alloc(NEXT, Perms::WRITE).unwrap();
        machine::run_elsewhere(elsewhere);
        assert!(store(PAGE, 1));
        map.edit().protect_table(PAGE, level, SEAL).unwrap();
        assert!(!store(PAGE, 2) && !store(NEXT, 2), "level {level}");
        assert_eq!((load(PAGE, Access::Read), load(NEXT, Access::Read)), (Some(1), Some(0)));
        map.edit().protect_table(PAGE, level, SEAL).unwrap();
        assert!(!store(PAGE, 2), "sealed once more");
        map.edit().protect_table(PAGE, level, LIFT).unwrap();
        assert!(store(PAGE, 3) && store(NEXT, 3));
        machine::run_elsewhere(false);
        world.maps[0].edit().unmap(NEXT).unwrap();
        world.maps[0].edit().unmap(PAGE).unwrap();
    }
}

/// Entries below a sealed table are changed, and pages are not written: neither by the program, nor by the kernel, nor
/// through a mapping elsewhere.
#[test]
fn a_sealed_table_is_edited_and_never_written() {
    for level in Level::TABLES {
        let mut world = World::new(ALL);
        let map = &mut world.maps[0];
        map.edit().alloc(PAGE, Perms::READ).unwrap();
        map.edit().protect_table(PAGE, level, SEAL).unwrap();
        let refused = |map: &mut PageMap<Sim>, page: Va, what: &str| {
            assert!(!writable(map, page) && !store(page, 1), "{what}");
            assert_eq!(map.dirty(page), Err(Error::Fault(page.0)), "{what}");
            assert_eq!(map.grant(page, Perms::WRITE), Err(Error::NoRight(page.0)), "{what}");
            assert_eq!(map.is_private(page), Err(Error::NoRight(page.0)), "{what}");
            assert_eq!(map.map_fast(page, OTHER, Perms::WRITE), None, "{what}");
            assert_eq!(map.is_open(page), Ok(()), "{what}");
            assert_eq!(load(page, Access::Read), Some(0), "{what}");
        };
        map.edit().protect(PAGE, Perms::WRITE).unwrap();
        refused(map, PAGE, "protected");
        map.edit().alloc(NEXT, Perms::WRITE).unwrap();
        refused(map, NEXT, "allocated");
        map.edit().alloc(NEXT, Perms::COW).unwrap();
        assert_eq!(map.edit().own(NEXT), Ok(false));
        refused(map, NEXT, "owned");
        map.edit().alloc(OTHER, Perms::WRITE).unwrap();
        let frame = map.grant(OTHER, Perms::WRITE).unwrap();
        map.edit().accept(NEXT, frame, Perms::WRITE).unwrap();
        refused(map, NEXT, "mapped");
        let frame = map.grant(NEXT, Perms::READ).unwrap();
        map.edit().accept(OTHER, frame, Perms::READ).unwrap();
        if level > Level::L2 {
            // The missing table is made on the way.
            map.edit().alloc(NEAR, Perms::WRITE).unwrap();
            assert_eq!(map.dirty(NEAR), Err(Error::Fault(NEAR.0)));
            refused(map, NEAR, "allocated with its table");
            map.edit().unmap(NEAR).unwrap();
        }
        // The table goes with its last page, and with it the seal.
        map.edit().unmap(NEXT).unwrap();
        map.edit().mark(PAGE, 1).unwrap_err();
        map.edit().unmap(PAGE).unwrap();
        map.edit().alloc(PAGE, Perms::WRITE).unwrap();
        assert_eq!((writable(map, PAGE), is_sealed(map, PAGE, level)), (true, false));
        map.edit().unmap(PAGE).unwrap();
        map.edit().unmap(OTHER).unwrap();
        world.end();
    }
}

/// Lifting a seal gives no more than the leaves allow.
#[test]
fn a_seal_that_is_lifted_leaves_the_rights_of_the_pages() {
    let mut world = World::new(ALL);
    let map = &mut world.maps[0];
    map.edit().alloc(PAGE, Perms::WRITE).unwrap();
    map.edit().alloc(NEXT, Perms::READ).unwrap();
    for level in Level::TABLES {
        map.edit().protect_table(PAGE, level, SEAL).unwrap();
    }
    for level in Level::TABLES {
        assert!(!store(PAGE, 1), "another level is sealed");
        map.edit().protect_table(PAGE, level, LIFT).unwrap();
    }
    assert!(store(PAGE, 1) && !store(NEXT, 1));
}

#[test]
fn a_table_that_may_be_shared_or_is_missing_is_not_sealed() {
    for (level, perms) in Level::TABLES.into_iter().flat_map(|level| [(level, SEAL), (level, LIFT)]) {
        let mut world = World::new(ALL);
        let World { maps, .. } = &mut world;
        assert_eq!(maps[0].edit().protect_table(PAGE, level, perms), Err(Error::NotMapped(PAGE.0)));
        maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
        let table = maps[0].edit().grant_table(PAGE, level).unwrap();
        maps[1].edit().accept_table(PAGE, level, table).unwrap();
        let shared = Error::TableShared((PAGE.0 & !(span(level) - 1)) | level as u64);
        for (map, sealed) in [0, 1].into_iter().flat_map(|map| level.tables_down().map(move |at| (map, at))) {
            assert_eq!(maps[map].edit().protect_table(PAGE, sealed, perms), Err(shared));
            assert!(!is_sealed(&maps[map], PAGE, level));
        }
        world.just_end();
    }
}

/// The seal belongs to the entry: both sides of a fork have it, and each lifts its own.
#[test]
fn a_seal_is_given_away_and_kept_when_a_table_is_owned() {
    for level in Level::TABLES {
        let mut world = World::new(ALL);
        let World { maps, .. } = &mut world;
        maps[0].edit().alloc(PAGE, Perms::WRITE | Perms::KEEP).unwrap();
        maps[0].edit().protect_table(PAGE, level, SEAL).unwrap();
        let table = maps[0].edit().grant_table(PAGE, level).unwrap();
        maps[1].edit().accept_table(PAGE, level, table).unwrap();
        // The first one copies the table, the second one keeps it.
        for (map, copied) in [(1, true), (0, false)] {
            let entry = pointer(&maps[map], PAGE, level);
            assert!(entry.is_shared_table() && entry.has(Pte::SEALED) && !entry.has(Pte::WRITABLE));
            assert_eq!(maps[map].edit().own_table(PAGE, level), Ok(copied));
            level.tables_down().skip(1).for_each(|below| _ = maps[map].edit().own_table(PAGE, below).unwrap());
            let entry = pointer(&maps[map], PAGE, level);
            assert!(!entry.is_shared_table() && entry.has(Pte::SEALED) && !entry.has(Pte::WRITABLE), "{map}");
            assert!(!writable(&maps[map], PAGE));
            maps[map].edit().protect(PAGE, Perms::WRITE | Perms::KEEP).unwrap();
            assert!(!writable(&maps[map], PAGE));
        }
        for (map, other) in [(0, false), (1, true)] {
            maps[map].edit().protect_table(PAGE, level, LIFT).unwrap();
            assert_eq!((writable(&maps[map], PAGE), writable(&maps[1 - map], PAGE)), (true, other));
        }
        world.just_end();
    }
}

/// A table of tables is copied: the seals below it stay, in the copy and in the old table.
#[test]
fn copies_of_tables_keep_the_seals_below() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    for va in [PAGE, NEAR] {
        maps[0].edit().alloc(va, Perms::WRITE | Perms::KEEP).unwrap();
    }
    maps[0].edit().protect_table(PAGE, Level::L2, SEAL).unwrap();
    let table = maps[0].edit().grant_table(PAGE, Level::L3).unwrap();
    maps[1].edit().accept_table(PAGE, Level::L3, table).unwrap();
    for (map, copied) in [(1, true), (0, false)] {
        assert_eq!(maps[map].edit().own_table(PAGE, Level::L3), Ok(copied));
        assert!(is_sealed(&maps[map], PAGE, Level::L2) && !is_sealed(&maps[map], NEAR, Level::L2));
        for va in [PAGE, NEAR] {
            assert!(pointer(&maps[map], va, Level::L2).is_shared_table());
            maps[map].edit().own_table(va, Level::L2).unwrap();
            assert_eq!(writable(&maps[map], va), va == NEAR, "map {map}, {va}");
        }
    }
    world.just_end();
}

/// A table moves to another place of its page map with its seal; and a table that nobody took is as it was.
#[test]
fn a_table_moves_with_its_seal() {
    for sealed in [true, false] {
        let mut world = World::new(ALL);
        let map = &mut world.maps[0];
        map.edit().alloc(PAGE, Perms::WRITE).unwrap();
        map.edit().alloc(OTHER, Perms::WRITE).unwrap();
        map.edit().protect_table(PAGE, Level::L2, if sealed { SEAL } else { LIFT }).unwrap();
        let refused = run(map, PageOp::share_tables(ME, PAGE, ME, OTHER, 1, Level::L2));
        assert_eq!(refused, Err(Error::Mapped(OTHER.0)));
        assert_eq!((is_sealed(map, PAGE, Level::L2), writable(map, PAGE)), (sealed, !sealed));
        assert_eq!(map.edit().protect(PAGE, Perms::WRITE), Ok(()), "the table is private");

        assert_eq!(run(map, PageOp::share_tables(ME, PAGE, ME, NEAR, 1, Level::L2)), Ok(1));
        assert_eq!(run(map, PageOp::unmap_tables(ME, PAGE, 1, Level::L2)), Ok(1));
        assert_eq!(run(map, PageOp::own_tables(NEAR, 1, Level::L2)), Ok(1));
        assert_eq!((is_sealed(map, NEAR, Level::L2), writable(map, NEAR)), (sealed, !sealed));
        assert_eq!(store(NEAR, 1), !sealed);
        world.just_end();
    }
}

/// One TLB shootdown is enough for all tables of a run.
#[test]
fn a_run_of_tables_is_sealed_at_once() {
    const TABLES: u32 = 32;
    for elsewhere in [false, true] {
        let mut world = World::new(ALL);
        let map = &mut world.maps[0];
        let table = |number: u32| Va(PAGE.0 + u64::from(number) * span(Level::L2));
        (0..TABLES).for_each(|number| map.edit().alloc(table(number), Perms::WRITE).unwrap());
        machine::run_elsewhere(elsewhere);
        assert!((0..TABLES).all(|number| store(table(number), 1)));
        machine::take_flushed();
        let op = PageOp::protect_tables(ME, PAGE, TABLES + 5, Level::L2, SEAL);
        let protect =
            |map: &mut PageMap<Sim>, op: PageOp| map.edit().protect_tables(&op, op.count, &mut Budget::of_entry());
        assert_eq!(protect(map, op), Ok(TABLES));
        assert_eq!(machine::take_flushed(), u32::from(elsewhere));
        assert!(!(0..TABLES).any(|number| store(table(number), 2)));
        let rest = op.skip(TABLES);
        assert_eq!((rest.count, rest.va, rest.source), (5, table(TABLES), op.source));
        assert_eq!(protect(map, rest), Err(Error::NotMapped(table(TABLES).0)));
        assert_eq!(protect(map, PageOp { arg: 5, ..op }), Err(Error::BadLevel(5)));
        machine::run_elsewhere(false);
        world.just_end();
    }
}

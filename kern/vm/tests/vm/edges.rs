//! Single cases that random tests would not find: frames, pages, windows and the self map.

use crate::case::{MOST, OTHER, PAGE, set_refs};
use crate::world::{ALL, World};
use abi::layout::{KERNEL_HALF, MACHINE, UVPT_SLOT, WINDOWS};
use abi::{Error, Frame, Level, Perms, Pte, Va};
use sim::machine::{self, Sim, free_frames, load, processor, refs, store};
use sim::processor::Access;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use vm::{Machine, PageMap};

fn frame_at(world: &World, va: Va) -> Frame {
    world.maps[0].page(va).expect("a page").frame
}

#[test]
fn every_frame_is_handed_out_once_and_zeroed() {
    let memory = machine::start(ALL);
    let all: Vec<_> = std::iter::from_fn(|| memory.alloc().ok()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), ALL);
    assert!(all.iter().all(|&frame| refs(frame) == 1));
    let zero = |&frame: &Frame| Sim::table(frame).iter().all(|word| word.load(SeqCst) == 0);
    assert!(all.iter().all(zero), "a frame with old contents");
    assert_eq!(free_frames(), 0);
    assert_eq!(memory.alloc(), Err(Error::NoMemory(0)));
    assert_eq!(memory.alloc_copy(all[0], &mut 0), Err(Error::NoMemory(0)));
    assert!(PageMap::<Sim>::new(all[0]).is_err());
    all.iter().for_each(|&frame| memory.release(frame));
    assert_eq!(free_frames(), ALL);
}

#[test]
fn the_frame_that_was_freed_last_goes_first() {
    let memory = machine::start(ALL);
    let (a, b) = (memory.alloc().unwrap(), memory.alloc().unwrap());
    memory.release(a);
    memory.release(b);
    assert_eq!((memory.alloc(), memory.alloc()), (Ok(b), Ok(a)));
}

/// Freed tables are empty, and need not be cleared: neither a lower table, nor a top-level table.
#[test]
fn tables_come_back_as_they_were_freed() {
    let memory = machine::start(ALL);
    let (template, _) = machine::template();
    let fill = || {
        let mut map = PageMap::<Sim>::new(template).unwrap();
        map.edit().mark(PAGE, 1).unwrap();
        while !map.tear_down(&mut 100) {}
        map.free();
        machine::take_filled()
    };
    machine::take_filled();
    assert_eq!((fill(), fill()), (4, 0), "frames filled for a root and three tables, at first and again");
    // They are free nevertheless: a processor that has no other frame gets them.
    assert_eq!(free_frames(), ALL);
    let all: BTreeSet<_> = std::iter::from_fn(|| memory.alloc().ok()).collect();
    assert_eq!((all.len(), free_frames()), (ALL, 0));
    assert!(all.iter().all(|frame| Sim::table(*frame).iter().all(|word| word.load(SeqCst) == 0)));
}

#[test]
fn a_copy_is_a_copy() {
    let memory = machine::start(ALL);
    let from = memory.alloc().unwrap();
    (0..).zip(Sim::table(from)).for_each(|(value, word)| word.store(value, SeqCst));
    let to = memory.alloc_copy(from, &mut 0).unwrap();
    assert!((0..).zip(Sim::table(to)).all(|(value, word)| word.load(SeqCst) == value));
}

#[test]
fn a_new_page_map_has_the_kernels_half_the_windows_and_itself() {
    machine::start(ALL);
    let (template, _) = machine::template();
    let map = PageMap::<Sim>::new(template).unwrap();
    let (from, to) = (Sim::table(template), Sim::table(map.root()));
    let entry = |table: &vm::Table, slot: usize| Pte(table[slot].load(SeqCst));
    for slot in 0..WINDOWS.index(Level::L4) {
        assert_eq!(entry(to, slot), Pte(0), "slot {slot}");
    }
    for slot in [WINDOWS.index(Level::L4)].into_iter().chain(KERNEL_HALF.index(Level::L4)..512) {
        assert_eq!(entry(to, slot), entry(from, slot), "slot {slot}");
    }
    let own = entry(to, UVPT_SLOT as usize);
    assert_eq!(own.frame(), map.root());
    assert_eq!(own.0 & !Pte::FRAME, Pte::PRESENT | Pte::USER | Pte::NO_EXEC);
    assert_eq!(free_frames(), ALL - 1);
}

#[test]
fn too_many_references_are_refused_and_not_counted() {
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    let frame = maps[0].page(PAGE).unwrap().frame;
    let free = free_frames();
    for (refs_before, expected) in [
        (MOST - 1, Ok(frame)),
        (MOST, Err(Error::TooManyRefs(frame.address()))),
        (MOST + 1, Err(Error::TooManyRefs(frame.address()))),
    ] {
        set_refs(frame, refs_before);
        assert_eq!(maps[0].grant(PAGE, Perms::READ), expected);
        assert_eq!(refs(frame), refs_before + u32::from(expected.is_ok()));
    }
    assert_eq!(free_frames(), free);
    set_refs(frame, 1);
    maps[0].edit().unmap(PAGE).unwrap();
    world.end();
}

#[test]
fn windows_are_read_and_never_written() {
    let world = World::new(ALL);
    let (_, page) = machine::template();
    Sim::table(page)[1].store(42, SeqCst);
    processor(|processor| processor.load(Some(world.maps[0].root())));
    let word = Va(MACHINE.0 + 8);
    assert_eq!(load(word, Access::Read), Some(42));
    assert!(!store(word, 1));
    assert_eq!(load(word, Access::Fetch), None);
    assert_eq!(load(KERNEL_HALF, Access::Read), None);
    // The leaf would allow writing; a level above does not.
    assert!(!world.maps[0].page(MACHINE).unwrap().writable);
    world.end();
}

/// The boot archive: the kernel has a reference of its own, and the window is read-only.
#[test]
fn a_page_of_a_window_is_granted_read_only_and_copied_when_owned() {
    let mut world = World::new(ALL);
    let (_, archive) = machine::template();
    Sim::table(archive)[0].store(7, SeqCst);
    let World { maps, .. } = &mut world;
    let refused = maps[0].grant(MACHINE, Perms::WRITE);
    assert_eq!((refused, refs(archive)), (Err(Error::NoRight(MACHINE.0)), 1));

    let frame = maps[0].grant(MACHINE, Perms::COW).unwrap();
    maps[1].edit().accept(PAGE, frame, Perms::COW).unwrap();
    assert_eq!((frame, refs(archive)), (archive, 2));
    assert_eq!(maps[1].edit().protect(PAGE, Perms::WRITE), Err(Error::NoRight(PAGE.0)));
    assert_eq!(maps[1].edit().own(PAGE), Ok(true));
    let own = maps[1].page(PAGE).unwrap();
    assert!(own.writable && own.frame != archive);
    assert_eq!(Sim::table(own.frame)[0].load(SeqCst), 7);
    assert_eq!(refs(archive), 1);
    maps[1].edit().unmap(PAGE).unwrap();
    world.end();
}

/// The kernel's promises to pagers about A and D.
#[test]
fn protecting_keeps_the_accessed_and_dirty_bits_and_mapping_again_clears_them() {
    let mut world = World::new(ALL);
    let flags = |world: &World| {
        let mut found = Pte(0);
        machine::for_each_entry(world.maps[0].root(), &mut |_, level, pte| {
            if level == Level::L1 {
                found = pte;
            }
        });
        (found.has(Pte::ACCESSED), found.has(Pte::DIRTY))
    };
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    assert!(store(PAGE, 5));
    maps[0].edit().protect(PAGE, Perms::READ).unwrap();
    assert_eq!(flags(&world), (true, true));

    let World { maps, .. } = &mut world;
    let frame = maps[0].grant(PAGE, Perms::READ).unwrap();
    maps[0].edit().accept(PAGE, frame, Perms::READ).unwrap();
    assert_eq!((flags(&world), refs(frame)), ((false, false), 1));
    assert_eq!(load(PAGE, Access::Read), Some(5));
    assert_eq!(flags(&world), (true, false), "the processor looked at the entry again");

    let World { maps, .. } = &mut world;
    assert_eq!(maps[0].edit().protect(PAGE, Perms::WRITE), Err(Error::NoRight(PAGE.0)));
    assert_eq!(maps[0].edit().own(PAGE), Ok(false));
    maps[0].edit().unmap(PAGE).unwrap();
    world.end();
}

/// A table that is freed and at once reused as a page of the same page map: the self map must show neither the old
/// entries nor the new contents.
#[test]
fn a_freed_table_is_not_seen_through_the_self_map() {
    use abi::layout::uvpt;
    let mut world = World::new(ALL);
    let World { maps, .. } = &mut world;
    maps[0].edit().alloc(OTHER, Perms::WRITE).unwrap();
    maps[0].edit().alloc(PAGE, Perms::WRITE).unwrap();
    let entry = |level| uvpt(PAGE, level);
    assert!(Level::DOWN.into_iter().all(|level| load(entry(level), Access::Read).is_some()));
    maps[0].edit().unmap(PAGE).unwrap();
    for level in [Level::L1, Level::L2, Level::L3] {
        assert_eq!(load(entry(level), Access::Read), None, "level {level}");
    }
    assert_eq!(load(entry(Level::L4), Access::Read), Some(0));
    let frame = frame_at(&world, OTHER);
    assert_eq!(refs(frame), 1);
    let World { maps, .. } = &mut world;
    maps[0].edit().unmap(OTHER).unwrap();
    world.end();
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "released once too often")]
fn releasing_a_free_frame_is_a_bug() {
    let memory = machine::start(ALL);
    let frame = memory.alloc().unwrap();
    memory.release(frame);
    memory.release(frame);
}

#[test]
fn what_the_kernel_writes_for_a_user_is_dirty() {
    let memory = machine::start(ALL);
    let template = memory.alloc().expect("a frame");
    let mut map = PageMap::<Sim>::new(template).expect("a map");
    map.edit().alloc(PAGE, Perms::READ).expect("a page");
    assert_eq!(map.dirty(PAGE), Err(Error::Fault(PAGE.0)), "the page is read-only");
    assert_eq!(map.dirty(OTHER), Err(Error::Fault(OTHER.0)), "there is no page");
    map.edit().protect(PAGE, Perms::WRITE).expect("the page may be written");
    let frame = map.page(PAGE).expect("a page").frame;
    let leaf = |map: &PageMap<Sim>| {
        let mut found = Pte(0);
        machine::for_each_entry(map.root(), &mut |va, level, pte| {
            found = if (va, level) == (PAGE, Level::L1) { pte } else { found }
        });
        found
    };
    assert!(!leaf(&map).has(Pte::DIRTY));
    assert_eq!(map.dirty(PAGE), Ok(frame));
    assert!(leaf(&map).has(Pte::ACCESSED | Pte::DIRTY));
}

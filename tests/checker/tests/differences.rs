//! Page maps that are right pass every check. Each kind of difference, put there by hand, is found.

use abi::layout::{ARCHIVE, UVPT_SLOT, WINDOWS};
use abi::window::FrameInfo;
use abi::{Frame, Level, Perms, Pte, Va};
use checker::{Difference, Found};
use sim::machine::{self, FRAMES, Sim, entry};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use vm::{Machine, PageMap};

const PAGE: Va = Va(0x40_0000);
const MARK: Va = Va(0x41_0000);
const ARCHIVED: Va = Va(0x42_0000);
const SHARED: Va = Va(0x80_0000_0000);
const ARCHIVE_PAGES: usize = 3;
const FREE: usize = FRAMES - machine::kernel_frames(ARCHIVE_PAGES);

/// Two page maps with pages of all kinds.
struct World {
    template: Frame,
    archive: Range<u32>,
    maps: [PageMap<Sim>; 2],
}

impl World {
    fn new() -> World {
        machine::start(FREE);
        let (template, _) = machine::template();
        let archive = machine::archive(template, ARCHIVE_PAGES);
        let archive =
            archive.iter().map(|frame| frame.0).min().unwrap()..archive.iter().map(|frame| frame.0).max().unwrap() + 1;
        let mut maps = [0, 1].map(|_| PageMap::<Sim>::new(template).expect("a page map"));
        let [here, there] = &mut maps;
        // Entries in several groups of eight, of a table that is nearly empty and of one that is full.
        for page in (0..9).chain(512..1024) {
            here.edit().alloc(PAGE.add_pages(page), Perms::WRITE).expect("a page");
            if page >= 512 + 256 {
                here.edit().unmap(PAGE.add_pages(page)).expect("the page");
            }
        }
        here.edit().mark(MARK, 7).expect("room");
        let frame = here.grant(PAGE, Perms::READ).expect("the page");
        there.edit().accept(PAGE, frame, Perms::READ).expect("room");
        let frame = here.grant(ARCHIVE, Perms::READ).expect("a page of the archive");
        here.edit().accept(ARCHIVED, frame, Perms::READ).expect("room");
        here.edit().alloc(SHARED, Perms::WRITE).expect("a page");
        let table = here.edit().grant_table(SHARED, Level::L2).expect("a table");
        there.edit().accept_table(SHARED, Level::L2, table).expect("room");
        World { template, archive, maps }
    }

    fn check(&self) -> Found {
        let roots: Vec<_> = self.maps.iter().map(|map| map.root()).collect();
        machine::check(self.template, &roots, self.archive.clone(), FREE)
    }

    fn root(&self) -> Frame {
        self.maps[0].root()
    }

    /// The entry for an address of the first page map, in the table of a level.
    fn at(&self, va: Va, level: Level) -> &'static AtomicU64 {
        let mut table = self.root();
        for above in Level::DOWN.into_iter().take_while(|&above| above != level) {
            table = Pte(Sim::table(table)[va.index(above)].load(SeqCst)).frame();
        }
        &Sim::table(table)[va.index(level)]
    }

    /// Changes a word, checks, and changes it back. Returns what was found.
    fn with(&self, word: &AtomicU64, change: impl Fn(u64) -> u64) -> Difference {
        let before = word.load(SeqCst);
        word.store(change(before), SeqCst);
        let found = self.check();
        word.store(before, SeqCst);
        assert_eq!(self.check(), Ok(()), "after {found:?}");
        found.expect_err("a difference")
    }
}

#[test]
fn what_is_right_passes_every_check() {
    let world = World::new();
    for _ in 0..40 {
        assert_eq!(world.check(), Ok(()));
    }
}

#[test]
fn a_reference_count_that_is_wrong_is_found() {
    let world = World::new();
    let page = |va: Va| entry(world.root(), va).frame();
    let table = Pte(world.at(SHARED, Level::L2).load(SeqCst)).frame();
    for frame in [page(PAGE), page(ARCHIVED), page(SHARED), table, world.root()] {
        let refs = &Sim::info(frame).refs;
        for change in [1, 1_u32.wrapping_neg()] {
            let before = refs.fetch_add(change, SeqCst);
            let found = world.check().expect_err("a difference");
            refs.store(before, SeqCst);
            let is_it = matches!(found, Difference::References { frame: wrong, .. } if wrong == frame);
            let earlier = matches!(found, Difference::Pointer { .. } | Difference::Others { .. });
            assert!(is_it || earlier, "{frame:?}: {found:?}");
            assert_eq!(world.check(), Ok(()));
        }
    }
}

#[test]
fn a_page_with_other_users_that_its_table_does_not_note_is_found() {
    let world = World::new();
    let table = Pte(world.at(SHARED, Level::L2).load(SeqCst)).frame();
    let frame = entry(world.root(), SHARED).frame();
    let word = &Sim::info(table).word;
    Sim::info(frame).refs.fetch_add(1, SeqCst);
    assert!(matches!(world.check(), Err(Difference::Others { va: SHARED, refs: 2, .. })), "{:?}", world.check());
    word.fetch_or(FrameInfo::OTHERS, SeqCst);
    assert!(matches!(world.check(), Err(Difference::References { .. })));
    Sim::info(frame).refs.fetch_sub(1, SeqCst);
    assert_eq!(world.check(), Ok(()), "the page has no other user any more");
}

#[test]
fn a_frame_that_is_lost_is_found() {
    let world = World::new();
    let frame = Sim::memory().alloc().expect("a frame");
    let Err(Difference::Frames { used, free, total }) = world.check() else { panic!("nothing was found") };
    assert_eq!((used + free + 1, total), (total, FREE as u64));
    Sim::memory().release(frame);
    assert_eq!(world.check(), Ok(()));
}

#[test]
fn a_wrong_number_of_entries_is_found() {
    let world = World::new();
    for level in Level::TABLES {
        let table = Pte(world.at(PAGE, level).load(SeqCst)).frame();
        let (word, right) = (&Sim::info(table).word, Sim::info(table).entries());
        word.fetch_add(1, SeqCst);
        assert_eq!(world.check(), Err(Difference::Entries { table, found: right, recorded: right + 1 }));
        word.fetch_sub(1, SeqCst);
        assert_eq!(world.check(), Ok(()));
    }
    // An entry in a group that was empty at the last look: the next thorough check finds it.
    let stray = world.at(PAGE.add_pages(200), Level::L1);
    stray.store(Pte::mark(5).0, SeqCst);
    let found: Vec<_> = (0..16).map(|_| world.check()).filter(Result::is_err).collect();
    assert!(matches!(found[..], [Err(Difference::Entries { .. }), ..]), "{found:?}");
}

#[test]
fn an_entry_that_must_not_exist_is_found() {
    let world = World::new();
    let page = world.at(PAGE, Level::L1);
    let bits = [3, 4, 7, 8, 11, 60, 62].map(|bit| 1 << bit).into_iter().chain([Pte::USER, Pte::MAY, Pte::NO_EXEC]);
    for bit in bits {
        let found = world.with(page, |entry| entry ^ bit);
        assert!(matches!(found, Difference::Page { va: PAGE, archive: false, .. }), "{bit:#x}: {found:?}");
    }
    let found = world.with(world.at(ARCHIVED, Level::L1), |entry| entry | Pte::MAY);
    assert!(matches!(found, Difference::Page { va: ARCHIVED, archive: true, .. }), "{found:?}");
    let found = world.with(world.at(MARK, Level::L1), |entry| entry | 1 << 5);
    assert!(matches!(found, Difference::Mark { va: MARK, .. }), "{found:?}");
}

#[test]
fn a_wrong_pointer_to_a_table_is_found() {
    let world = World::new();
    for level in Level::TABLES {
        // W is EDIT without SEALED: none of the three changes alone.
        for bit in [Pte::USER, 1 << 3, 1 << 9, Pte::NO_EXEC, Pte::WRITABLE, Pte::EDIT, Pte::SEALED, 1 << 57] {
            let found = world.with(world.at(PAGE, level), |entry| entry ^ bit);
            assert!(matches!(found, Difference::Pointer { refs: 1, .. }), "{level:?} {bit:#x}: {found:?}");
        }
    }
    // A program that writes through this entry changes a table that others have, too.
    for bits in [Pte::WRITABLE, Pte::EDIT, Pte::WRITABLE | Pte::EDIT, Pte::EDIT | Pte::SEALED] {
        let found = world.with(world.at(SHARED, Level::L2), |entry| entry | bits);
        assert!(matches!(found, Difference::Pointer { refs: 2, .. }), "{bits:#x}: {found:?}");
    }
}

#[test]
fn a_wrong_self_map_and_wrong_windows_are_found() {
    let world = World::new();
    let root = Sim::table(world.root());
    for (index, is_self_map) in [(UVPT_SLOT as usize, true), (WINDOWS.index(Level::L4), false)] {
        for change in [Pte::WRITABLE, 1 << 12] {
            match world.with(&root[index], |entry| entry ^ change) {
                Difference::SelfMap { root, .. } => assert!(is_self_map && root == world.root()),
                Difference::Windows { root, .. } => assert!(!is_self_map && root == world.root()),
                found => panic!("{found:?}"),
            }
        }
    }
}

#[test]
fn a_message_has_the_place_and_the_value() {
    let world = World::new();
    let page = world.with(world.at(PAGE, Level::L1), |entry| entry ^ Pte::USER).to_string();
    assert!(page.starts_with("page 0x400000: ") && page.ends_with(')'), "{page}");
    let frames = Difference::Frames { used: 1, free: 2, total: 4 }.to_string();
    assert_eq!(frames, "1 frames used, 2 free, 4 in all");
}

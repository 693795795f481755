//! The kernel's own page tables: the mappings are those that were asked for, and no frame has two uses.

use abi::{Frame, Level, PAGE_SIZE, Pte, Va, page::span};
use proptest::prelude::*;
use sim::machine::{self, FRAMES, Sim, frames, free_frames, refs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;
use vm::{Builder, Machine, Ranges};

const RW: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::NO_EXEC;
const LARGE: u64 = span(Level::L2);
/// A limit with memory of the simulated machine on both sides of it.
const LIMIT: u64 = 1 << 32;

/// All the memory of the simulated machine.
fn usable() -> Ranges {
    let mut ranges = Ranges::empty();
    let mut all = frames().peekable();
    while let Some(first) = all.next() {
        let mut last = first;
        while let Some(next) = all.next_if(|next| next.0 == last.0 + 1) {
            last = next;
        }
        ranges.push(first.address()..last.address() + PAGE_SIZE);
    }
    ranges
}

fn builder() -> Builder<Sim> {
    machine::start(0);
    Builder::new(usable(), LIMIT)
}

/// The frames that are in use as tables, and the mappings: entry and level.
fn contents(builder: &Builder<Sim>) -> (BTreeSet<Frame>, BTreeMap<u64, (Pte, Level)>) {
    let (mut tables, mut pages) = (BTreeSet::new(), BTreeMap::new());
    let mut todo = vec![(builder.root(), Level::L4, Va(0))];
    while let Some((table, level, base)) = todo.pop() {
        assert!(tables.insert(table), "{table:?} is two tables");
        for (index, entry) in Sim::table(table).iter().enumerate() {
            let (pte, va) = (Pte(entry.load(SeqCst)), base.entry(index, level));
            match level.below() {
                _ if pte.is_empty() => {}
                Some(below) if !pte.has(Pte::LARGE) => todo.push((pte.frame(), below, va)),
                _ => _ = pages.insert(va.0, (pte, level)),
            }
        }
    }
    (tables, pages)
}

fn is_free(builder: &Builder<Sim>, frame: Frame) -> bool {
    builder.free().iter().any(|range| range.contains(&frame.address()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Every page translates to its place with its rights; pages are large if and only if they can be, and are not for
    /// users.
    #[test]
    fn physical_memory_is_mapped_as_asked(
        from in 0..2048_u64,
        to in 0..2048_u64,
        pages in 0..2048_u64,
        for_users: bool,
    ) {
        let rights = RW | if for_users { Pte::USER } else { 0 };
        let (from, to) = (from * PAGE_SIZE, to * PAGE_SIZE);
        let end = from + pages * PAGE_SIZE;
        let mut builder = builder();
        builder.map(to, from..end, rights);
        let (_, mapped) = contents(&builder);
        let mut next = to;
        for (va, (pte, level)) in mapped {
            let physical = from + (va - to);
            let fits = !for_users && physical % LARGE == 0 && va % LARGE == 0 && physical + LARGE <= end;
            prop_assert_eq!((va, level), (next, if fits { Level::L2 } else { Level::L1 }));
            prop_assert_eq!(pte.0, physical | rights | if fits { Pte::LARGE } else { 0 });
            next += span(level);
        }
        prop_assert_eq!(next, to + end - from);
    }

    /// Every missing page gets a zeroed frame of its own, below the limit; holes get none.
    #[test]
    fn fresh_memory_is_used_once(
        ranges in prop::collection::vec((0..0x4_0000_u64, 0..0x8000_u64), 1..4),
        holes in prop::collection::btree_set(0..8_usize, 0..3),
    ) {
        let holes: Vec<_> = holes.into_iter().map(|page| page * PAGE_SIZE as usize).collect();
        let mut builder = builder();
        let mut expected = BTreeSet::new();
        for (start, bytes) in ranges {
            let start = if holes.is_empty() { start } else { Va(start).page().0 };
            builder.back_around(start..start + bytes, &holes, RW);
            let pages = (Va(start).page().0..start + bytes).step_by(PAGE_SIZE as usize);
            expected.extend(pages.filter(|va| holes.iter().all(|hole| start + *hole as u64 != *va)));
        }
        let (mut used, pages) = contents(&builder);
        prop_assert!(pages.keys().eq(&expected));
        for (pte, _) in pages.values() {
            let frame = pte.frame();
            prop_assert_eq!(pte.0, frame.address() | RW);
            prop_assert!(used.insert(frame), "{:?} has two uses", frame);
            prop_assert!(Sim::table(frame).iter().all(|word| word.load(SeqCst) == 0));
        }
        prop_assert!(used.iter().all(|frame| frame.address() < LIMIT && !is_free(&builder, *frame)));
        let left = frames().filter(|frame| is_free(&builder, *frame)).count();
        prop_assert_eq!(left + used.len(), FRAMES);
    }
}

/// A walk of a user's page map would mistake a large page for a table.
#[test]
fn what_users_may_read_has_no_large_page() {
    for (rights, pages) in [(RW, 1), (RW | Pte::USER, 512)] {
        let mut builder = builder();
        builder.map(LARGE, LARGE..2 * LARGE, rights);
        assert_eq!(contents(&builder).1.len(), pages);
    }
}

#[test]
fn tables_are_for_users_if_a_page_below_is() {
    let mut builder = builder();
    builder.back(0..PAGE_SIZE, RW);
    let entry = |builder: &Builder<Sim>, va: Va| Pte(Sim::table(builder.root())[va.index(Level::L4)].load(SeqCst));
    assert!(entry(&builder, Va(0)).has(Pte::PRESENT | Pte::WRITABLE) && !entry(&builder, Va(0)).has(Pte::USER));
    builder.back(span(Level::L2)..span(Level::L2) + PAGE_SIZE, RW | Pte::USER);
    assert!(entry(&builder, Va(0)).has(Pte::USER));
    assert!(!machine::entry(builder.root(), Va(0)).has(Pte::USER));
    assert!(machine::entry(builder.root(), Va(span(Level::L2))).has(Pte::USER));
}

#[test]
fn the_books_about_a_range_are_there() {
    let mut builder = builder();
    // A page has 256 entries of 16 bytes; these are numbers 0x100 to 0x17f, and 0x1f0 to 0x20f.
    builder.back_metadata::<[u64; 2]>(span(Level::L3), &(0x10_0000..0x18_0000), RW);
    builder.back_metadata::<[u64; 2]>(span(Level::L3), &(0x1f_0000..0x21_0000), RW);
    let (_, pages) = contents(&builder);
    assert!(pages.into_keys().eq([1, 2].map(|page| span(Level::L3) + page * PAGE_SIZE)));
}

#[test]
fn a_page_can_be_taken_away() {
    let mut builder = builder();
    builder.back(0..3 * PAGE_SIZE, RW);
    builder.unmap(Va(PAGE_SIZE));
    assert!(contents(&builder).1.into_keys().eq([0, 2 * PAGE_SIZE]));
}

#[test]
#[should_panic = "is in a large page"]
fn a_large_page_is_no_table() {
    let mut builder = builder();
    builder.map(0, 0..LARGE, RW);
    builder.back(LARGE - PAGE_SIZE..LARGE, RW);
}

#[test]
fn memory_that_was_not_used_is_free_and_the_lowest_goes_first() {
    let mut builder = builder();
    builder.back(0..5 * PAGE_SIZE, RW);
    let (tables, pages) = contents(&builder);
    let memory = machine::start(0);
    memory.init(&usable(), builder.free());
    assert_eq!(free_frames(), FRAMES - tables.len() - pages.len());
    assert!(tables.into_iter().chain(pages.values().map(|(pte, _)| pte.frame())).all(|frame| refs(frame) == 1));
    let expected: BTreeSet<_> = frames().filter(|frame| is_free(&builder, *frame)).collect();
    let first = memory.alloc().ok();
    assert_eq!(first.as_ref(), expected.first());
    let all: BTreeSet<_> = std::iter::from_fn(|| memory.alloc().ok()).chain(first).collect();
    assert!(all == expected, "other frames are free than were left");
}

//! The table of regions: single cases, and random sequences of changes, compared with a list of pages.

use crate::host::{Book, Host};
use abi::{PAGE_SIZE, Perms, Va, layout::USER_LIMIT};
use pager::{Error, Guard, Order, Region, Regions, ranges::Table, region, region::Filled};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

static ONE: Guard = Guard("one");
static OTHER: Guard = Guard("other");

/// Addresses as page numbers.
fn at(pages: u64) -> Va {
    Va(pages * PAGE_SIZE)
}

fn range(pages: Range<u64>) -> Range<Va> {
    at(pages.start)..at(pages.end)
}

fn plain(pages: Range<u64>) -> Region<Host> {
    Region::new(range(pages), Perms::READ, &ONE)
}

fn add(book: &Book, pages: Range<u64>) -> Result<(), Error> {
    book.edit(|regions| regions.add(plain(pages)))
}

fn remove(book: &Book, pages: Range<u64>) -> Result<(), Error> {
    book.edit(|regions| regions.remove(&range(pages)))
}

fn allow_writing(book: &Book, pages: Range<u64>) -> Result<(), Error> {
    book.edit(|regions| regions.change(&range(pages), |region| region.perms = Perms::WRITE))
}

fn gap(book: &Book, within: Range<u64>, bytes: u64, align: u64) -> Result<Va, Error> {
    book.edit(|regions| {
        let make = |range| Region::new(range, Perms::READ, &ONE);
        let added = regions.add_in_gap(&range(within), bytes, align, make)?;
        regions.remove(&added)?;
        Ok(added.start)
    })
}

/// The regions, as page numbers.
fn ranges(book: &Book) -> Vec<Range<u64>> {
    book.regions().iter().map(|region| region.start.0 / PAGE_SIZE..region.end.0 / PAGE_SIZE).collect()
}

fn book(room: usize, regions: &[Range<u64>]) -> Book {
    let book = Book::new(room);
    regions.iter().for_each(|region| add(&book, region.clone()).expect("room for it"));
    book
}

#[test]
fn ranges_that_no_region_can_have_are_refused_everywhere() {
    let limit = USER_LIMIT.0 / PAGE_SIZE;
    let bad = [
        (Va(1)..at(2), Error::Unaligned(1)),
        (at(1)..Va(0x2fff), Error::Unaligned(0x2fff)),
        (at(3)..at(3), Error::Empty(at(3))),
        (at(3)..at(2), Error::OutsideUser(at(3))),
        (at(limit - 1)..at(limit + 1), Error::OutsideUser(at(limit - 1))),
        (at(limit)..at(limit + 1), Error::OutsideUser(at(limit))),
        (at(1)..Va(u64::MAX - 0xfff), Error::OutsideUser(at(1))),
    ];
    let book = book(4, &[1..3, 8..9]);
    for (range, error) in bad {
        let region = Region { start: range.start, end: range.end, ..plain(0..1) };
        assert_eq!(region::check(&range), Err(error));
        assert_eq!(book.edit(|regions| regions.add(region)), Err(error));
        assert_eq!(book.edit(|regions| regions.remove(&range)), Err(error));
        assert_eq!(book.edit(|regions| regions.change(&range, |_| ())), Err(error));
        let old = at(1)..at(3);
        assert_eq!(book.edit(|regions| regions.resize(&old, &range)), Err(error));
    }
    assert_eq!(ranges(&book), [1..3, 8..9]);
}

#[test]
fn the_first_and_the_last_page_can_be_regions() {
    let limit = USER_LIMIT.0 / PAGE_SIZE;
    let book = book(4, &[limit - 1..limit, 0..1]);
    assert_eq!(ranges(&book), [0..1, limit - 1..limit]);
    let regions = book.regions();
    let found = |va: u64| region::find(&regions, Va(va)).map(|region| region.start);
    assert_eq!((found(0), found(PAGE_SIZE - 1), found(PAGE_SIZE)), (Some(Va(0)), Some(Va(0)), None));
    assert_eq!((found(USER_LIMIT.0 - 1), found(USER_LIMIT.0)), (Some(at(limit - 1)), None));
    assert_eq!(region::find::<Host>(&[], Va(0)).map(Region::range), None);
}

#[test]
fn regions_stay_in_order_and_never_meet() {
    let book = book(8, &[10..12, 2..4, 6..8]);
    assert_eq!(ranges(&book), [2..4, 6..8, 10..12]);
    for (pages, first) in [(6..8, 6), (7..9, 7), (5..7, 6), (0..20, 2), (3..4, 3), (11..12, 11)] {
        assert_eq!(add(&book, pages), Err(Error::Overlap(at(first))));
    }
    add(&book, 4..6).expect("it fits exactly");
    assert_eq!(ranges(&book), [2..4, 4..6, 6..8, 10..12], "neighbours stay apart");
}

#[test]
fn a_full_table_stays_as_it_is() {
    let full = Err(Error::TooManyRegions(3));
    let book = book(3, &[0..10, 10..20, 30..40]);
    assert_eq!(add(&book, 50..51), full);
    assert_eq!(remove(&book, 3..5), full, "a hole makes two of one");
    assert_eq!(allow_writing(&book, 3..5), full);
    assert_eq!(allow_writing(&book, 5..15), full);
    assert_eq!(allow_writing(&book, 5..10), full);
    assert_eq!(ranges(&book), [0..10, 10..20, 30..40]);
    assert!(book.regions().iter().all(|region| !region.is_writable()));
    remove(&book, 5..15).expect("that makes no more of them");
    assert_eq!(ranges(&book), [0..5, 15..20, 30..40]);
    allow_writing(&book, 0..5).expect("that cuts nothing");
}

#[test]
fn a_table_that_lacks_one_slot_of_two_changes_nothing() {
    let book = book(3, &[0..10, 20..30]);
    assert_eq!(allow_writing(&book, 3..5), Err(Error::TooManyRegions(3)));
    assert_eq!(ranges(&book), [0..10, 20..30]);
    remove(&book, 3..5).expect("a hole takes one");
    assert_eq!(ranges(&book), [0..3, 5..10, 20..30]);
}

#[test]
fn removing_cuts_at_both_ends() {
    let book = book(8, &[0..4, 4..8, 12..16]);
    remove(&book, 2..14).expect("room");
    assert_eq!(ranges(&book), [0..2, 14..16]);
    remove(&book, 5..9).expect("nothing is there");
    remove(&book, 0..1).expect("its start");
    remove(&book, 15..16).expect("its end");
    assert_eq!(ranges(&book), [1..2, 14..15]);
}

#[test]
fn taking_goes_upwards_piece_by_piece() {
    let book = book(8, &[0..4, 4..8, 12..16]);
    let take = |pages: Range<u64>| {
        let taken = book.edit(|regions| regions.take(&range(pages))).expect("room");
        taken.map(|(_, piece)| piece)
    };
    assert_eq!(take(2..14), Some(range(2..4)));
    assert_eq!(take(2..14), Some(range(4..8)));
    assert_eq!(take(2..14), Some(range(12..14)));
    assert_eq!(take(2..14), None);
    assert_eq!(ranges(&book), [0..2, 14..16]);
}

#[test]
fn changing_is_for_covered_ranges_only() {
    let book = book(8, &[2..4, 4..6, 8..10]);
    for (pages, hole) in [(0..3, 0), (3..7, 6), (2..10, 6), (9..11, 10), (20..21, 20)] {
        assert_eq!(allow_writing(&book, pages.clone()), Err(Error::NoRegion(at(hole))));
        assert_eq!(book.edit(|regions| regions.require_covered(&range(pages))), Err(Error::NoRegion(at(hole))));
    }
    allow_writing(&book, 3..5).expect("room");
    let writable: Vec<_> = book.regions().iter().map(Region::is_writable).collect();
    assert_eq!((ranges(&book), writable), (vec![2..3, 3..5, 5..6, 8..10], vec![false, true, false, false]));
    book.edit(|regions| regions.change(&range(3..5), |region| region.perms = Perms::READ)).expect("room");
    assert_eq!(ranges(&book), [2..6, 8..10], "what does not differ is one again");
}

#[test]
fn regions_that_differ_in_anything_are_not_joined() {
    let base = plain(4..6);
    let neighbours = [
        Region { pager: &OTHER, ..base },
        Region { perms: Perms::KEEP, ..base },
        Region { order: Order::Sequential, ..base },
        Region { data: [1, 0], ..base },
        Region { data: [0, 1], ..base },
    ];
    for neighbour in neighbours {
        let book = book(4, &[0..1, 2..4]);
        book.edit(|regions| regions.add(neighbour)).expect("room");
        book.edit(|regions| regions.change(&range(2..6), |_| ())).expect("covered");
        assert_eq!(ranges(&book), [0..1, 2..4, 4..6], "{neighbour:?}");
    }
}

#[test]
fn gaps_are_the_lowest_that_fit() {
    let book = book(8, &[2..4, 6..7, 16..20]);
    assert_eq!(gap(&book, 0..100, 2 * PAGE_SIZE, 1), Ok(at(0)));
    assert_eq!(gap(&book, 1..100, 2 * PAGE_SIZE, 1), Ok(at(4)));
    assert_eq!(gap(&book, 3..100, 1, 0), Ok(at(4)), "from within a region");
    assert_eq!(gap(&book, 0..100, 2 * PAGE_SIZE + 1, 1), Ok(at(7)), "part of a page is a page");
    assert_eq!(gap(&book, 0..100, 9 * PAGE_SIZE, 1), Ok(at(7)), "exactly");
    assert_eq!(gap(&book, 0..100, 8 * PAGE_SIZE, 8 * PAGE_SIZE), Ok(at(8)));
    assert_eq!(gap(&book, 0..100, 9 * PAGE_SIZE, 8 * PAGE_SIZE), Ok(at(24)));
    assert_eq!(gap(&book, 0..20, 9 * PAGE_SIZE, 1), Ok(at(7)));
    assert_eq!(gap(&book, 0..15, 9 * PAGE_SIZE, 1), Err(Error::NoSpace(9 * PAGE_SIZE)));
    assert_eq!(gap(&book, 17..20, 1, 1), Err(Error::NoSpace(1)), "all of it is in a region");
    assert_eq!(gap(&book, 0..100, 0, 1), Err(Error::Empty(at(0))));
    assert_eq!(gap(&book, 0..100, u64::MAX, 1), Err(Error::NoSpace(u64::MAX)));
    assert_eq!(gap(&book, 0..100, u64::MAX - 0xfff, 1), Err(Error::NoSpace(u64::MAX - 0xfff)));
    assert_eq!(gap(&book, 0..100, 1, 1 << 63), Ok(at(0)));
    assert_eq!(gap(&book, 1..100, 1, 1 << 63), Err(Error::NoSpace(1)));
}

#[test]
fn the_ends_of_a_region_move_as_far_as_its_neighbours() {
    let book = book(8, &[2..4, 6..8, 10..12]);
    let resize = |old: Range<u64>, new: Range<u64>| book.edit(|regions| regions.resize(&range(old), &range(new)));
    assert_eq!(resize(6..8, 3..8), Err(Error::Overlap(at(3))));
    assert_eq!(resize(6..8, 6..11), Err(Error::Overlap(at(10))));
    assert_eq!(resize(6..8, 20..22), Err(Error::Overlap(at(10))), "not over a neighbour either");
    assert_eq!(resize(6..7, 6..8), Err(Error::NoRegion(at(6))), "it is named by its whole range");
    assert_eq!(resize(4..6, 4..5), Err(Error::NoRegion(at(4))));
    assert_eq!(ranges(&book), [2..4, 6..8, 10..12]);
    assert_eq!(resize(6..8, 4..10), Ok(()));
    assert_eq!(resize(4..10, 7..8), Ok(()));
    assert_eq!(resize(10..12, 9..USER_LIMIT.0 / PAGE_SIZE), Ok(()));
    assert_eq!(resize(2..4, 0..1), Ok(()));
    assert_eq!(ranges(&book), [0..1, 7..8, 9..USER_LIMIT.0 / PAGE_SIZE]);
}

#[test]
fn a_table_without_slots_holds_nothing() {
    let mut filled = Filled::new(0);
    let mut regions: Regions<Host> = Regions::new(&mut [], &mut filled);
    assert_eq!(regions.add(plain(0..1)), Err(Error::TooManyRegions(0)));
    assert_eq!(regions.remove(&range(0..1)), Ok(()));
    let make = |range| Region::new(range, Perms::READ, &ONE);
    assert_eq!(regions.add_in_gap(&range(3..9), 1, 1, make), Err(Error::TooManyRegions(0)));
}

#[test]
fn every_error_says_what_it_means() {
    let va = Va(0x1000);
    let errors = [
        Error::Kernel(abi::Error::NoMemory(0)),
        Error::Empty(va),
        Error::Unaligned(1),
        Error::OutsideUser(va),
        Error::Overlap(va),
        Error::NoRegion(va),
        Error::NoSpace(4096),
        Error::TooManyRegions(7),
        Error::BadProtection(va),
        Error::PastEnd(4096),
        Error::NotSupported(va),
    ];
    let mut texts: Vec<_> = errors.iter().map(Error::to_string).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), errors.len());
}

/// The pages of the random changes.
const PAGES: u64 = 24;
const ROOM: usize = 6;

#[derive(Clone, Debug)]
enum Change {
    Add(Range<u64>, u64),
    Remove(Range<u64>),
    Set(Range<u64>, u64),
    Gap(Range<u64>, u64, u64),
    Resize(u64, Range<u64>),
}

fn change() -> impl Strategy<Value = Change> {
    let range = || (0..PAGES, 1..9_u64).prop_map(|(start, count)| start..(start + count).min(PAGES));
    prop_oneof![
        4 => (range(), 0..3_u64).prop_map(|(range, data)| Change::Add(range, data)),
        2 => range().prop_map(Change::Remove),
        3 => (range(), 0..3_u64).prop_map(|(range, data)| Change::Set(range, data)),
        1 => (range(), 1..6_u64, 1..5_u64).prop_map(|(range, size, align)| Change::Gap(range, size, align)),
        1 => (0..PAGES, range()).prop_map(|(page, range)| Change::Resize(page, range)),
    ]
}

type Pages = BTreeMap<u64, u64>;

/// The expected state of every page after a successful change.
fn apply(pages: &mut Pages, book: &Book, change: &Change) -> Result<(), Error> {
    let whole = |page: u64| ranges(book).into_iter().find(|range| range.contains(&page));
    match change.clone() {
        Change::Add(new, data) => {
            let region = Region { data: [data, 0], ..plain(new.clone()) };
            book.edit(|regions| regions.add(region))?;
            new.for_each(|page| assert_eq!(pages.insert(page, data), None));
        }
        Change::Remove(old) => {
            remove(book, old.clone())?;
            pages.retain(|page, _| !old.contains(page));
        }
        Change::Set(inside, data) => {
            book.edit(|regions| regions.change(&range(inside.clone()), |region| region.data = [data, 0]))?;
            inside.for_each(|page| assert!(pages.insert(page, data).is_some()));
        }
        Change::Gap(within, size, align) => {
            let fits = |first: &u64| (*first..first + size).all(|page| !pages.contains_key(&page));
            let mut places = (within.start..within.end).filter(|first| first % align == 0);
            let expected = places.find(|first| first + size <= within.end && fits(first));
            let found = gap(book, within, size * PAGE_SIZE, align * PAGE_SIZE);
            match found {
                Err(Error::TooManyRegions(room)) => assert_eq!(ranges(book).len(), room),
                found => assert_eq!(found.ok(), expected.map(at)),
            }
        }
        Change::Resize(page, new) => {
            let Some(old) = whole(page) else { return Ok(()) };
            book.edit(|regions| regions.resize(&range(old.clone()), &range(new.clone())))?;
            let data = pages[&page];
            pages.retain(|page, _| !old.contains(page));
            new.for_each(|page| assert_eq!(pages.insert(page, data), None));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// A table finds at each address what a list of all pages has there; a change that fails leaves the table
    /// unchanged.
    #[test]
    fn a_table_is_a_map_from_pages_to_regions(changes in prop::collection::vec(change(), 1..60)) {
        let book = Book::new(ROOM);
        let mut pages = Pages::new();
        for change in &changes {
            let before = ranges(&book);
            let result = apply(&mut pages, &book, change);
            prop_assert!(result.is_ok() || ranges(&book) == before, "{change:?}: {result:?}");
            let regions = book.regions();
            prop_assert!(regions.is_sorted_by(|one, next| one.end <= next.start && one.start < one.end));
            for page in 0..=PAGES {
                let found = region::find(&regions, Va(at(page).0 + 77));
                let by_looking = regions.iter().find(|region| region.range().contains(&at(page)));
                prop_assert_eq!(found.map(Region::range), by_looking.map(Region::range));
                prop_assert_eq!(found.map(|region| region.data[0]), pages.get(&page).copied(), "{:?}", change);
            }
        }
    }
}

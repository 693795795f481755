//! Marks, and a pager that uses them to keep pages elsewhere.

use crate::host::{By, Host};
use crate::rig::{OTHER_GIB, Rig, page, range, region};
use abi::{PAGE_SIZE, Perms, Va};
use pager::{Cause, Error, File, Inherit, PageCalls, Pager, Region, Resolution, Shared, Touch, Zeros, ranges::Advice};
use proptest::prelude::*;
use sim::machine::{contents, put};
use sim::processor::Access;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

static ZEROS: Zeros = Zeros::named("zeros");
static FILE: File = File { name: "file" };

/// A pager that keeps pages that were taken away; the mark names the slot. Slots are never used again, so both sides
/// of a fork find theirs.
#[derive(Default)]
struct Swap {
    slots: Mutex<Vec<Vec<u8>>>,
    discarded: Mutex<Vec<Range<Va>>>,
    /// The words of discarded marks.
    released: Mutex<Vec<u64>>,
}

impl Swap {
    fn leaked() -> &'static Swap {
        Box::leak(Box::default())
    }

    /// Take a page away.
    fn put_out(&self, host: &mut Host, va: Va) {
        let mut slots = self.slots.lock().expect("no test has panicked");
        slots.push(contents(host.pte(va).frame()));
        host.unmap(va, 1).expect("it was there");
        host.mark(va, slots.len() as u64).expect("room for a mark");
    }

    fn discarded(&self) -> Vec<Range<Va>> {
        std::mem::take(&mut self.discarded.lock().expect("no test has panicked"))
    }
}

impl Pager<Host> for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn fault(&self, host: &mut Host, touch: &Touch, region: &Region<Host>) -> Result<Resolution, abi::Error> {
        if touch.entry.is_empty() || touch.entry.is_present() {
            return ZEROS.fault(host, touch, region);
        }
        let page = touch.va.page();
        host.alloc(page, 1, region.perms)?;
        let slots = self.slots.lock().expect("no test has panicked");
        put(host.pte(page).frame(), 0, &slots[touch.entry.word() as usize - 1]);
        Ok(Resolution::Resume(Cause::Custom))
    }

    /// The marks are still there: only they tell which slots are meant.
    fn discard(&self, host: &mut Host, range: &Range<Va>) {
        let marks = host.entries(range.clone()).filter(|(_, entry)| !entry.is_present());
        let words = marks.map(|(_, entry)| entry.word());
        self.released.lock().expect("no test has panicked").extend(words);
        self.discarded.lock().expect("no test has panicked").push(range.clone());
    }
}

fn mark(rig: &mut Rig, number: u64, word: u64) {
    rig.host.mark(page(number), word).expect("room for a mark");
}

#[test]
fn a_mark_is_nothing_to_those_who_did_not_make_it() {
    let file = FILE.region(range(4..6), Perms::EXEC, abi::layout::ARCHIVE, 100);
    let mut rig = Rig::new(&[region(0..2, &ZEROS), region(2..4, &Shared), file]);
    for number in [1, 3, 4, 5] {
        mark(&mut rig, number, 77);
        for access in [Access::Read, Access::Write, Access::Fetch] {
            assert_eq!(rig.access(number, access), None, "{access:?} of page {number}");
        }
    }
    assert_eq!(rig.advise(0..6, Advice::WillNeed), Ok(()));
    for number in [1, 3, 4, 5] {
        assert_eq!(rig.host.pte(page(number)).word(), 77, "page {number}");
    }
    assert_eq!(rig.held(), [0, 1, 2, 3, 4, 5]);
    rig.end();
}

#[test]
fn what_comes_with_a_page_ends_at_a_mark() {
    let file = FILE.region(range(20..30), Perms::WRITE, abi::layout::ARCHIVE, 10 * PAGE_SIZE);
    let mut rig = Rig::new(&[region(0..10, &ZEROS), region(10..20, &Shared), file]);
    rig.advise(0..30, Advice::Sequential).expect("regions are there");
    for first in [0, 10, 20] {
        mark(&mut rig, first + 3, 5);
        assert!(rig.write(first, 9));
    }
    assert_eq!(rig.held(), [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]);
    rig.end();
}

#[test]
fn pages_come_back_from_where_their_marks_say() {
    let swap = Swap::leaked();
    let mut rig = Rig::new(&[region(0..8, swap)]);
    for number in 0..4 {
        assert!(rig.write(number, 10 + number as u8));
        swap.put_out(&mut rig.host, page(number));
    }
    assert_eq!((rig.read(2), rig.read(4)), (Some(12), Some(0)));
    rig.protect(0..8, Perms::READ).expect("a region is there");
    assert_eq!((rig.read(1), rig.write(1, 1), rig.write(3, 1)), (Some(11), false, false));
    rig.protect(0..8, Perms::WRITE).expect("a region is there");
    assert!(rig.write(3, 99) && rig.write(1, 98));
    assert_eq!([0, 1, 2, 3].map(|number| rig.read(number)), [Some(10), Some(98), Some(12), Some(99)]);
    assert_eq!(swap.discarded(), [], "nothing has gone yet");
    rig.end();
}

#[test]
fn marks_are_inherited() {
    let swap = Swap::leaked();
    let mut rig = Rig::new(&[region(0..4, swap)]);
    for number in 0..3 {
        assert!(rig.write(number, 20 + number as u8));
    }
    swap.put_out(&mut rig.host, page(0));
    swap.put_out(&mut rig.host, page(2));
    let child = rig.fork(&[]).expect("memory");
    assert!(rig.write(0, 1) && rig.write(1, 2));
    rig.host.switch(child);
    assert_eq!([0, 1, 2, 3].map(|number| rig.read(number)), [Some(20), Some(21), Some(22), Some(0)]);
    assert!(rig.write(2, 3));
    rig.host.switch(0);
    assert_eq!([0, 1, 2].map(|number| rig.read(number)), [Some(1), Some(2), Some(22)]);
    rig.end();
}

#[test]
fn a_pager_hears_of_exactly_what_goes() {
    let (swap, other) = (Swap::leaked(), Swap::leaked());
    let gap = [region(0..10, swap), region(10..12, &ZEROS), region(12..20, swap), region(24..30, other)];
    let mut rig = Rig::new(&gap);
    for number in [1, 8, 13, 25] {
        assert!(rig.write(number, 1));
        mark(&mut rig, number + 1, 100 + number);
    }
    rig.unmap(8..14).expect("room");
    assert_eq!(swap.discarded(), [range(8..10), range(12..14)]);
    rig.unmap(12..26).expect("room");
    assert_eq!((swap.discarded(), other.discarded()), (vec![range(14..20)], vec![range(24..26)]));
    rig.advise(1..3, Advice::DontNeed).expect("it is covered");
    assert_eq!(swap.discarded(), [range(1..3)]);
    assert_eq!(rig.advise(7..9, Advice::DontNeed), Err(Error::NoRegion(page(8))));
    rig.unmap(8..24).expect("nothing is there");
    assert_eq!((swap.discarded(), other.discarded()), (vec![], vec![]));
    assert_eq!(rig.held(), [26]);
    let released = |swap: &Swap| swap.released.lock().expect("no test has panicked").clone();
    assert_eq!((released(swap), released(other)), (vec![108, 113, 101], vec![]));
    assert_eq!(rig.read(2), Some(0), "as if it had never been touched");
    rig.end();
}

#[test]
fn a_pager_hears_nothing_of_what_stays() {
    let swap = Swap::leaked();
    let mut rig = Rig::new(&[region(0..4, swap), region(4..6, &Shared)]);
    assert!(rig.write(0, 1));
    assert_eq!(rig.advise(0..6, Advice::DontNeed), Err(Error::NotSupported(page(4))));
    let filler: Vec<_> = (10..24).map(|n| region(2 * n..2 * n + 1, &ZEROS)).collect();
    let (_, book) = rig.parts();
    for region in &filler {
        pager::ranges::Table::edit(book, |regions| regions.add(*region)).expect("room");
    }
    assert_eq!(rig.unmap(1..3), Err(Error::TooManyRegions(16)));
    assert_eq!((swap.discarded(), rig.read(0)), (vec![], Some(1)));
    rig.end();
}

/// The contents of a region must not be visible to the next region at its addresses.
#[test]
fn what_cannot_be_given_up_for_want_of_memory_stays() {
    let swap = Swap::leaked();
    let regions = [region(0..16, swap), region(512..513, &ZEROS)];
    let mut rig = Rig { by: By::Tables(Some(OTHER_GIB)), ..Rig::new(&regions) };
    assert!(rig.write(3, 7) && rig.write(512, 1));
    rig.fork(&[]).expect("memory");
    let taken: Vec<_> = std::iter::from_fn(|| rig.host.memory.alloc().ok()).collect();
    let none = Err(Error::Kernel(abi::Error::NoMemory(0)));
    assert_eq!(rig.advise(0..16, Advice::DontNeed), none);
    assert_eq!(rig.protect(0..16, Perms::READ), none);
    assert_eq!(rig.unmap(0..16), none);
    assert_eq!((swap.discarded(), rig.read(3)), (vec![], Some(7)));
    taken.into_iter().for_each(|frame| rig.host.memory.release(frame));
    assert!(rig.write(3, 8) && rig.write(4, 1), "the region is there, and allows what it did");
    rig.unmap(0..16).expect("memory");
    assert_eq!((rig.read(3), rig.held()), (None, vec![512]));
    rig.end();
}

#[test]
fn marks_move_with_their_region() {
    let swap = Swap::leaked();
    let mut rig = Rig::new(&[region(0..4, swap)]);
    for number in 0..3 {
        assert!(rig.write(number, 30 + number as u8));
    }
    swap.put_out(&mut rig.host, page(1));
    // Across the end of a table.
    rig.relocate(0..4, 510..514).expect("memory");
    assert_eq!([510, 511, 512, 513].map(|number| rig.read(number)), [Some(30), Some(31), Some(32), Some(0)]);
    assert_eq!((swap.discarded(), rig.read(0)), (vec![], None));
    assert_eq!(rig.held(), [510, 511, 512, 513]);
    rig.end();
}

#[test]
fn a_move_that_fails_leaves_pages_and_marks_where_they_are() {
    let swap = Swap::leaked();
    let mut rig = Rig::new(&[region(0..4, swap)]);
    for number in 0..3 {
        assert!(rig.write(number, 40 + number as u8));
    }
    swap.put_out(&mut rig.host, page(1));
    swap.put_out(&mut rig.host, page(2));
    let mut taken: Vec<_> = std::iter::from_fn(|| rig.host.memory.alloc().ok()).collect();
    // The new place, at a boundary of 1 GiB, needs three tables, and gets them one after the other.
    let new = (1 << 18) - 2..(1 << 18) + 2;
    for _ in 0..3 {
        assert_eq!(rig.relocate(0..4, new.clone()), Err(Error::Kernel(abi::Error::NoMemory(0))));
        assert_eq!((rig.held(), swap.discarded()), (vec![0, 1, 2], vec![]));
        assert_eq!(rig.books[0].regions().len(), 1);
        rig.host.memory.release(taken.pop().expect("a frame"));
    }
    rig.relocate(0..4, new.clone()).expect("three are enough");
    rig.relocate(new, 0..4).expect("and back");
    taken.into_iter().for_each(|frame| rig.host.memory.release(frame));
    assert_eq!([0, 1, 2].map(|number| rig.read(number)), [Some(40), Some(41), Some(42)]);
    rig.end();
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u8),
    PutOut(u64),
    Unmap(Range<u64>),
    Add(Range<u64>),
    Fork,
    Switch(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..12_u64, 1..5_u64).prop_map(|(start, count)| start..(start + count).min(12));
    prop_oneof![
        6 => (0..12_u64, any::<u8>()).prop_map(|(number, value)| Step::Write(number, value)),
        5 => (0..12_u64).prop_map(Step::PutOut),
        1 => range().prop_map(Step::Unmap),
        2 => range().prop_map(Step::Add),
        1 => Just(Step::Fork),
        2 => (0..3_usize).prop_map(Step::Switch),
    ]
}

/// The contents that programs must see at the first byte of each page.
type Seen = BTreeMap<u64, u8>;

fn play(rig: &mut Rig, swap: &'static Swap, seen: &mut Vec<Seen>, step: Step) {
    let envs = seen.len();
    let mine = &mut seen[rig.host.current];
    match step {
        Step::Write(number, value) => {
            let known = mine.get_mut(&number).map(|seen| *seen = value);
            assert_eq!(rig.write(number, value), known.is_some());
        }
        Step::PutOut(number) => {
            if rig.host.pte(page(number)).is_present() {
                swap.put_out(&mut rig.host, page(number));
            }
        }
        Step::Unmap(pages) => {
            let before = mine.len();
            let gone: u64 = match rig.unmap(pages.clone()) {
                Ok(()) => swap.discarded().iter().map(pager::pages).sum(),
                Err(error) => panic!("{error}"),
            };
            mine.retain(|number, _| !pages.contains(number));
            assert_eq!((before - mine.len()) as u64, gone, "what the pager heard of");
        }
        Step::Add(pages) => {
            let new = region(pages.clone(), swap);
            let (_, book) = rig.parts();
            if pager::ranges::Table::edit(book, |regions| regions.add(new)).is_ok() {
                mine.extend(pages.map(|number| (number, 0)));
            }
        }
        Step::Fork if envs < 3 => {
            let copy = mine.clone();
            rig.fork(&[]).expect("memory");
            seen.push(copy);
        }
        Step::Switch(env) if env < envs => rig.host.switch(env),
        Step::Fork | Step::Switch(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Programs see what they have written, whichever pages are moved out, and at any time.
    #[test]
    fn programs_do_not_see_that_pages_are_put_out(steps in prop::collection::vec(step(), 1..60)) {
        let swap = Swap::leaked();
        let mut rig = Rig::new(&[region(0..6, swap)]);
        let mut seen: Vec<Seen> = vec![(0..6).map(|number| (number, 0)).collect()];
        steps.into_iter().for_each(|step| play(&mut rig, swap, &mut seen, step));
        for (env, seen) in seen.iter().enumerate() {
            rig.host.switch(env);
            for number in 0..12 {
                prop_assert_eq!(rig.read(number), seen.get(&number).copied(), "page {} of {}", number, env);
            }
        }
        rig.end();
    }
}

/// A pager whose pages a child cannot have.
struct Alone;

impl Pager<Host> for Alone {
    fn name(&self) -> &'static str {
        "alone"
    }

    fn fault(&self, host: &mut Host, touch: &Touch, region: &Region<Host>) -> Result<Resolution, abi::Error> {
        ZEROS.fault(host, touch, region)
    }

    fn on_fork(&self) -> Inherit {
        Inherit::Refused
    }
}

#[test]
fn a_fork_fails_while_a_pager_has_pages_that_a_child_cannot_have() {
    for by in [By::Pages, By::Tables(None)] {
        let mut rig = Rig::new(&[region(0..8, &ZEROS), region(8..16, &Alone)]);
        rig.by = by;
        assert!(rig.write(0, 1));
        // The region is empty, and the child does not get it.
        let child = rig.fork(&[]).expect("nothing is lost");
        assert_eq!(rig.books[child].regions().len(), 1);
        rig.end();
        for is_mark in [false, true] {
            let mut rig = Rig::new(&[region(0..8, &ZEROS), region(8..16, &Alone)]);
            rig.by = by;
            match is_mark {
                true => mark(&mut rig, 12, 5),
                false => assert!(rig.write(12, 1)),
            }
            assert_eq!(rig.fork(&[]).err(), Some(Error::NotSupported(page(8))));
        }
    }
}

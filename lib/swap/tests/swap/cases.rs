//! Single cases.

use crate::disk::Fake;
use crate::machine::{Host, POOL};
use crate::world::{APART, BASE, PAGES, Size, World, swap};
use abi::{Perms, Pte, Va};
use pager::{Access, Guard, Order, PageCalls, Pager, Region, Resolution, Touch, Zeros};
use replacement::{Clock, clock};
use swap::{Error, Evict, Memory, PoolFrame, Record, Request, Settings, Slot, Slots, Swap, SwapPager};

const SETTINGS: Settings = Settings { base: BASE, pool: POOL, batch: 1 };

/// A world whose pager evicts pages in batches.
const BATCHES: Size = Size { batch: 16, ..Size::new(64, 400) };

/// A world in which pages from 0 on were written, as many as this.
fn written(size: Size, pages: u64) -> World {
    let mut world = World::new(size);
    (0..pages).for_each(|number| world.write(number, number << 8).expect("there is room"));
    world
}

#[test]
fn pages_that_were_only_read_need_no_slot() {
    let mut world = World::new(Size::new(16, 8));
    (0..40).for_each(|number| world.read(number).expect("zeros"));
    world.check();
    let counts = world.swap.counts();
    assert_eq!((counts.written, counts.requests), (0, 0));
    assert!(counts.dropped > 20, "{counts:?}");
    world.end();
}

#[test]
fn a_page_that_was_only_read_is_not_written_again() {
    let mut world = written(Size::new(16, 100), 40);
    for _ in 0..2 {
        (0..40).for_each(|number| world.read(number).expect("it was written"));
    }
    let once = world.swap.counts().written;
    assert_eq!(once, 40, "each page was written once");
    (0..40).for_each(|number| world.read(number).expect("it was written"));
    assert_eq!(world.swap.counts().written, once);
    let free = world.swap.slots().free();
    world.write(3, 77).expect("it is there");
    (0..40).for_each(|number| world.read(number).expect("it was written"));
    world.settle();
    assert_eq!((world.swap.counts().written, world.swap.slots().free()), (once + 1, free), "the old slot is free");
    world.end();
}

/// A world whose disk has begun to write pages, and does not end it; and the first of those pages.
fn writing() -> (World, u64) {
    let mut world = World::new(Size::new(16, 100));
    world.disk.inside().slow = true;
    let mut next = PAGES;
    while world.disk.inside().writes == 0 {
        next -= 1;
        world.write(next, next << 8).expect("frames are free");
    }
    let left = (next..PAGES).find(|&number| !world.host.pte(World::page(number)).is_present());
    (world, left.expect("a page was evicted"))
}

#[test]
fn a_page_is_rescued_while_it_is_written() {
    for is_changed in [false, true] {
        let (mut world, page) = writing();
        world.read(page).expect("it is in its frame");
        world.check();
        assert_eq!((world.swap.counts().rescued, world.disk.inside().reads), (1, 0));
        if is_changed {
            world.write(page, 99).expect("it is there");
        }
        world.settle();
        let written = world.swap.counts().written;
        let others = (0..PAGES).filter(|number| *number != page);
        others.for_each(|number| world.read(number).expect("there is room"));
        // A page that was not changed has a good copy.
        let again = world.disk.inside().writes;
        world.read(page).expect("it is on the disk");
        assert!(world.disk.inside().reads > 0 && world.disk.inside().writes >= again && written > 0);
        world.end();
    }
}

#[test]
fn what_is_given_up_while_it_is_written_comes_back() {
    for is_rescued in [false, true] {
        let (mut world, page) = writing();
        if is_rescued {
            world.read(page).expect("it is in its frame");
        }
        world.discard(page..page + 1);
        world.check();
        world.write(page, 5).expect("it begins anew");
        world.check();
        world.settle();
        world.check();
        world.end();
    }
}

#[test]
fn a_page_that_somebody_else_has_stays() {
    const ELSEWHERE: Va = Va(0x2000_0000);
    let mut world = written(Size::new(16, 100), 1);
    world.host.lend(World::page(0), ELSEWHERE);
    let frame = world.host.pte(World::page(0)).frame();
    (1..50).for_each(|number| world.write(number, number).expect("there is room"));
    assert_eq!(world.host.pte(World::page(0)).frame(), frame);
    // Its frame is not used for others.
    world.discard(0..1);
    (0..50).for_each(|number| world.write(number, number).expect("there is room"));
    world.check();
    assert_eq!(Host::references(frame), 3, "the pool, the device, and somebody else");
    world.host.take_back(ELSEWHERE);
    world.end();
}

#[test]
fn a_page_that_was_brought_in_to_be_read_can_become_writable() {
    let mut world = written(Size::new(16, 100), 50);
    world.regions[0].perms = Perms::KEEP;
    for number in 0..50 {
        world.read(number).expect("it was written");
        let entry = world.host.pte(World::page(number));
        assert!(!entry.has(Pte::WRITABLE) && entry.has(Pte::MAY), "page {number}: {entry:?}");
    }
    world.check();
    world.end();
}

/// The requests to read that a scan of pages takes.
fn reads_of(world: &mut World, pages: impl Iterator<Item = u64>) -> u64 {
    world.disk.inside().instant = true;
    let before = world.disk.inside().reads;
    pages.for_each(|number| world.read(number).expect("it was written"));
    world.disk.inside().reads - before
}

#[test]
fn ascending_touches_bring_in_more_and_more() {
    let mut world = written(BATCHES, PAGES);
    (0..PAGES).for_each(|number| world.write(APART + number, number).expect("there is room"));
    assert_eq!(world.swap.counts().page_ins, 0);
    // 1, 2, 4, 8, 16, ...; more requests where the slots of two batches meet.
    let reads = reads_of(&mut world, 0..PAGES);
    assert!((6..=12).contains(&reads), "{reads} requests");
    (0..PAGES).for_each(|number| world.write(APART + number, number).expect("there is room"));
    let reads = reads_of(&mut world, (0..PAGES).rev());
    assert!(reads >= PAGES - 4, "{reads} requests");
    world.end();
}

#[test]
fn two_streams_are_followed_at_once() {
    let mut world = written(BATCHES, PAGES);
    (0..PAGES).for_each(|number| world.write(APART + number, number).expect("there is room"));
    let both = (0..PAGES / 2).flat_map(|number| [number, number + PAGES / 2]);
    let reads = reads_of(&mut world, both);
    assert!(reads <= 20, "{reads} requests");
    world.end();
}

#[test]
fn an_order_that_is_known_decides_the_window() {
    let mut world = written(BATCHES, PAGES);
    (0..PAGES).for_each(|number| world.write(APART + number, number).expect("there is room"));
    let ins = world.swap.counts().page_ins;
    world.regions[0].order = Order::Random;
    (0..4).for_each(|number| world.read(number).expect("it was written"));
    assert_eq!(world.swap.counts().page_ins, ins + 4);
    world.regions[0].order = Order::Sequential;
    world.read(4).expect("it was written");
    assert!(world.swap.counts().page_ins > ins + 5, "neighbours come along");
    world.end();
}

#[test]
fn a_window_ends_where_a_page_is_not_on_the_disk() {
    let mut world = written(BATCHES, 12);
    (0..2 * PAGES).for_each(|number| world.write(number % PAGES + APART, number).expect("there is room"));
    world.write(6, 1).expect("it can be brought in");
    world.discard(8..9);
    world.regions[0].order = Order::Sequential;
    world.read(0).expect("it was written");
    let is_present = |number| world.host.pte(World::page(number)).is_present();
    assert!((0..7).all(is_present) && !(7..12).any(is_present));
    world.end();
}

#[test]
fn what_is_read_ahead_is_mapped_with_the_rights_of_its_region() {
    let mut world = written(Size { batch: 16, ..Size::new(80, 400) }, PAGES);
    for _ in 0..3 {
        (0..PAGES).for_each(|number| world.write(APART + number, number).expect("there is room"));
    }
    world.settle();
    let whole = world.regions[0];
    world.disk.inside().slow = true;
    let is_present = |world: &World, number| world.host.pte(World::page(number)).is_present();
    let first = (0..PAGES).find(|&number| !is_present(&world, number)).expect("one is on the disk");
    world.disk.inside().instant = true;
    let mut next = first;
    // Up to a window of eight pages: others are read ahead then.
    while next < first + 15 {
        world.read(next).expect("it was written");
        next += 1;
    }
    let next = (next..PAGES).find(|&number| !is_present(&world, number)).expect("a window ended");
    let cut = World::page(next + 2);
    world.regions[0].end = cut;
    world.regions.insert(1, Region { start: cut, perms: Perms::KEEP, ..whole });
    let reads = world.disk.inside().reads;
    world.read(next).expect("it was read ahead");
    assert!(is_present(&world, next + 1) && !is_present(&world, next + 2), "{reads} requests before");
    world.check();
    world.read(next + 2).expect("it was written");
    assert!(!world.host.pte(World::page(next + 2)).has(Pte::WRITABLE));
    world.check();
    world.end();
}

#[test]
fn what_is_not_the_pagers_is_left_alone() {
    let mut world = World::new(Size::new(8, 8));
    let region = world.regions[0];
    let mut fault = |va, entry| {
        let touch = Touch { va, access: Access::Read, entry };
        world.swap.fault(&mut world.host, &touch, &region)
    };
    assert_eq!(fault(BASE, Pte::mark(Pte::MARK_MAX)), Ok(false));
    assert_eq!(fault(BASE, Pte::mark(3 << 38 | 1)), Ok(false));
    assert_eq!(fault(BASE, Pte::page(abi::Frame(7), Perms::READ)), Ok(false));
    let below = Va(BASE.0 - 1);
    assert_eq!(fault(below, Pte(0)), Err(Error::OutOfRange(below.page())));
    let above = Va(BASE.0 + (1 << 44));
    assert_eq!(fault(above, Pte(0)), Err(Error::OutOfRange(above)));
}

#[test]
fn a_mark_has_a_kind_and_a_number() {
    let slot = Slot::new(u32::MAX).expect("not 0");
    assert_eq!(slot.word(), 1 << 38 | 0xffff_ffff);
    assert_eq!(swap::Place::of(Pte::mark(slot.word())), swap::Place::Disk(slot));
    assert_eq!(swap::Place::of(Pte::mark(1 << 38 | 1 << 32)), swap::Place::Unknown);
    assert_eq!((slot.sector(), Slot::of_sector(slot.sector() + 7)), (0x7_ffff_fff8, Some(slot)));
    assert_eq!((Slot::of_sector(7), Slot::of_sector(u64::MAX)), (None, None));
}

/// Sets a pager up with so much memory.
fn set_up(host: &Host, frames: usize, index: usize, words: [usize; 2], requests: usize) -> Result<(), Error> {
    let mut records = vec![Record::EMPTY; frames];
    let (mut index, mut free, mut held) = (vec![0; index], vec![0; words[0]], vec![0; words[1]]);
    let mut requests: Vec<_> = (0..requests).map(|_| Request::unused()).collect();
    let memory =
        Memory { records: &mut records, index: &mut index, bits: [&mut free, &mut held], requests: &mut requests };
    let (mut slots, mut nodes) = (vec![0; 1], vec![clock::Node::EMPTY; frames]);
    let slots = Slots::new(&mut slots, 8);
    Swap::new(host, SETTINGS, memory, slots, Fake::default(), Clock::new(&mut nodes)).map(|_| ())
}

#[test]
fn too_little_memory_is_refused() {
    let mut host = Host::new(8);
    assert_eq!(set_up(&host, 8, 16, [1, 1], 2), Ok(()));
    assert_eq!(set_up(&host, 7, 16, [1, 1], 2), Err(Error::TooLittle("frames in the pool", 8)));
    assert_eq!(set_up(&host, 8, 15, [1, 1], 2), Err(Error::TooLittle("places in the index", 16)));
    assert_eq!(set_up(&host, 8, 16, [0, 1], 2), Err(Error::TooLittle("words for free frames", 1)));
    assert_eq!(set_up(&host, 8, 16, [1, 0], 2), Err(Error::TooLittle("words for held frames", 1)));
    assert_eq!(set_up(&host, 8, 16, [1, 1], 1), Err(Error::TooLittle("requests", 2)));
    assert_eq!(set_up(&host, 9, 18, [1, 1], 2), Err(Error::BadPool(PoolFrame(8))), "nothing is mapped there");
    host.lend(POOL.add_pages(3), Va(0x2000_0000));
    assert_eq!(set_up(&host, 8, 16, [1, 1], 2), Err(Error::BadPool(PoolFrame(3))));
}

#[test]
fn a_program_gets_pages_through_the_object_that_its_regions_name() {
    let size = Size::new(8, 8);
    let mut host = Host::new(size.frames);
    let pool = (0..8).map(|number| host.pte(POOL.add_pages(number)).frame()).collect();
    let disk = Fake::new(pool, 4);
    static NOBODY: Guard = Guard("nobody");
    static ZEROS: Zeros = Zeros::named("zeros");
    let region = Region::new(BASE..BASE.add_pages(32), Perms::WRITE | Perms::KEEP, &NOBODY);
    let pager = SwapPager::new();
    let fault = |host: &mut Host, va| {
        let touch = Touch { va, access: Access::Write, entry: host.pte(va) };
        Pager::<Host>::fault(&pager, host, &touch, &region)
    };
    assert_eq!(fault(&mut host, BASE), Ok(Resolution::Unhandled), "it has not begun");
    let policy = Clock::new(vec![clock::Node::EMPTY; 8].leak());
    let words = || vec![0u64; 1].leak();
    let memory = Memory {
        records: vec![Record::EMPTY; 8].leak(),
        index: vec![0; 16].leak(),
        bits: [words(), words()],
        requests: Vec::leak((0..4).map(|_| Request::unused()).collect()),
    };
    let slots = Slots::new(vec![0; 1].leak(), 4);
    pager.begin(Swap::new(&host, SETTINGS, memory, slots, disk.clone(), policy).expect("a good pool"));
    let write = |host: &mut Host, number| {
        let va = BASE.add_pages(number);
        while !sim::machine::store(va, number) {
            assert_eq!(fault(host, va)?, Resolution::Resume(pager::Cause::Custom));
        }
        Ok(())
    };
    let results: Vec<_> = (0..9).map(|number| write(&mut host, number)).collect();
    let most = World::room(Size { slots: 4, ..size }) as usize;
    assert!(results[..most].iter().all(|result| result.is_ok()), "{results:?}");
    assert_eq!(results[most..], [Err(abi::Error::NoMemory(0)), Err(abi::Error::NoMemory(0))]);
    assert_eq!((pager.take_error(), pager.take_error()), (Some(Error::DiskFull), None));
    // A page that cannot be read is not resolved.
    disk.inside().dead = true;
    let gone = (0..7).map(|number| BASE.add_pages(number)).find(|va| !host.pte(*va).is_present()).expect("one is");
    let _ = pager.with(|swap| swap.settle(&mut host)).expect("it has begun");
    let _ = pager.take_failure();
    let result = fault(&mut host, gone);
    let error = pager.take_error();
    match error {
        Some(Error::Read(va, failure)) => {
            assert_eq!((result, va), (Ok(Resolution::Unhandled), gone));
            assert_eq!((pager.take_failure(), pager.take_failure()), (Some(failure), None));
        }
        _ => panic!("{result:?}, {error:?}"),
    }
    assert_eq!(Pager::<Host>::on_fork(&pager), pager::Inherit::Refused);
    Pager::<Host>::discard(&pager, &mut host, &region.range());
    assert!(Pager::<Host>::can_discard(&ZEROS) && Pager::<Host>::can_discard(&pager));
    let free = pager.with(|swap| swap.slots().free());
    assert_eq!(free, Some(3));
    let _ = swap(&Host::new(8), size, &disk);
}

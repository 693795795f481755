//! What page-ins cost, in calls and requests, and how many there are.

use crate::world::{Name, Size, World};
use pager::Order;
use replacement::{Page, Policy, Seen};

/// Frames of the pool: the pager evicts 32 pages at once.
const FRAMES: usize = 512;

/// The costs of some accesses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Costs {
    /// Pages that were brought in.
    pages: u64,
    /// Kernel entries, without those of the disk's driver.
    calls: u64,
    reads: u64,
    writes: u64,
    waits: u64,
}

impl World {
    fn costs(&self) -> Costs {
        let disk = self.disk.inside();
        Costs {
            pages: self.swap.counts().page_ins,
            calls: self.host.calls as u64,
            reads: disk.reads,
            writes: disk.writes,
            waits: disk.waits,
        }
    }
}

/// The costs of accesses to twice as many pages as the pool has frames, after all were written.
fn costs(policy: Name, accesses: impl Iterator<Item = (u64, bool)>) -> Costs {
    let mut world =
        World::with_pages(Size { policy, batch: 32, requests: [8, 8], ..Size::new(FRAMES, 2048) }, 2 * FRAMES as u64);
    world.disk.inside().instant = true;
    let mut touch = |(number, is_write): (u64, bool)| match is_write {
        true => world.write(number, number << 8).expect("there is room"),
        false => world.read(number).expect("there is room"),
    };
    (0..2 * FRAMES as u64).for_each(|number| touch((number, true)));
    let accesses: Vec<_> = accesses.collect();
    let (first, second) = accesses.split_at(accesses.len() / 2);
    first.iter().for_each(|access| touch(*access));
    let before = world.costs();
    for &(number, is_write) in second {
        match is_write {
            true => world.write(number, number << 8).expect("there is room"),
            false => world.read(number).expect("there is room"),
        }
    }
    let after = world.costs();
    Costs {
        pages: after.pages - before.pages,
        calls: after.calls - before.calls,
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
        waits: after.waits - before.waits,
    }
}

/// A generator of random numbers.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |limit| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    }
}

/// Sequential reads and writes, and random ones with CLOCK and with LIRS. If a figure shrinks, record it.
#[test]
fn costs_are_as_recorded() {
    let twice = 2 * FRAMES as u64;
    let sequential = |is_write| (0..2 * twice).map(move |number| (number % twice, is_write));
    let uniform = |is_write| {
        let mut draw = random(7);
        (0..4 * twice).map(move |_| (draw(twice), is_write))
    };
    let found = [
        costs(Name::Clock, sequential(false)),
        costs(Name::Clock, sequential(true)),
        costs(Name::Clock, uniform(false)),
        costs(Name::Clock, uniform(true)),
        costs(Name::Lirs, uniform(false)),
        costs(Name::Lirs, uniform(true)),
    ];
    let recorded = [
        Costs { pages: 1024, calls: 90, reads: 37, writes: 0, waits: 5 },
        Costs { pages: 1024, calls: 90, reads: 37, writes: 32, waits: 4 },
        Costs { pages: 1261, calls: 1343, reads: 1258, writes: 0, waits: 1219 },
        Costs { pages: 1252, calls: 1342, reads: 1252, writes: 108, waits: 1172 },
        Costs { pages: 1235, calls: 1331, reads: 1235, writes: 19, waits: 1215 },
        Costs { pages: 1245, calls: 1339, reads: 1245, writes: 114, waits: 1165 },
    ];
    assert_eq!(found, recorded);
}

/// A machine that feeds a policy as the pager should, and does nothing else.
fn page_ins_of(policy: &mut dyn Policy, frames: usize, accesses: &[u64], pages: u64) -> u64 {
    let mut table = vec![(false, false); pages as usize];
    let (mut count, mut since_scan, mut before) = (0, 0, 0);
    for (index, number) in (0..pages).chain(accesses.iter().copied()).enumerate() {
        if index as u64 == pages {
            before = count;
        }
        if !table[number as usize].0 {
            if policy.present() == frames {
                if policy.scan_interval().is_some_and(|interval| since_scan >= interval) {
                    since_scan = 0;
                    for (number, entry) in (0..).zip(&mut table) {
                        if entry.0 && std::mem::take(&mut entry.1) {
                            policy.accessed(Page(number));
                        }
                    }
                }
                let look = &mut |page: Page| match std::mem::take(&mut table[page.0 as usize].1) {
                    true => Seen::Accessed,
                    false => Seen::Idle,
                };
                let victim = policy.evict(look).expect("nothing is pinned");
                table[victim.0 as usize] = (false, false);
            }
            policy.insert(Page(number as u32)).expect("a frame is free");
            table[number as usize].0 = true;
            (count, since_scan) = (count + 1, since_scan + 1);
        }
        table[number as usize].1 = true;
    }
    count - before
}

/// Sequences of accesses for a memory of `frames` frames, as `lib/replacement` has them on a large scale.
fn traces(frames: u64) -> Vec<(&'static str, u64, Vec<u64>)> {
    let mut draw = random(3);
    let popular = |draw: &mut dyn FnMut(u64) -> u64, pages: u64| {
        let most = draw(pages) + 1;
        draw(most) * 79 % pages
    };
    let around = (0..8 * frames).map(|number| number % (frames * 3 / 2)).collect();
    let uniform = (0..8 * frames).map(|_| draw(2 * frames)).collect();
    let skewed = (0..8 * frames).map(|_| popular(&mut draw, 2 * frames)).collect();
    let phases = (0..8 * frames).map(|number| number / (2 * frames) * (frames / 2) + draw(frames * 3 / 4)).collect();
    let mut scan = (0..3 * frames / 2).cycle();
    let hot = (0..8 * frames).map(|_| match draw(2) {
        0 => draw(frames / 2),
        _ => frames / 2 + scan.next().unwrap_or(0),
    });
    let hot = hot.collect();
    vec![
        ("loop", 2 * frames, around),
        ("uniform", 2 * frames, uniform),
        ("skewed", 2 * frames, skewed),
        ("phase", 3 * frames, phases),
        ("scanhot", 2 * frames, hot),
    ]
}

/// The pager tells a policy what it needs: there are as few page-ins as if the policy were fed directly, with the frames
/// that the pager does not keep free.
#[test]
fn policies_choose_as_well_as_on_their_own() {
    const FRAMES: usize = 400;
    for (name, pages, accesses) in traces(FRAMES as u64) {
        for policy in Name::ALL {
            let mut world = World::with_pages(Size { policy, ..Size::new(FRAMES, 2048) }, pages);
            world.disk.inside().instant = true;
            world.regions.iter_mut().for_each(|region| region.order = Order::Random);
            (0..pages).for_each(|number| world.write(number, number).expect("there is room"));
            let before = world.swap.counts().page_ins;
            for &number in &accesses {
                world.read(number).expect("it was written");
            }
            let found = world.swap.counts().page_ins - before;
            let least = page_ins_of(&mut *policy.make(FRAMES), FRAMES - 6, &accesses, pages);
            assert!(found <= least + least / 50 + 5, "{name} with {policy:?}: {found} page-ins, {least} alone");
            world.check();
            world.end();
        }
    }
}

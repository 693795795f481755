//! Single cases.

use crate::Name;
use replacement::{Error, Page, Policy, Seen, clock, lirs};
use std::collections::BTreeSet;
use std::ops::Range;

fn idle(_: Page) -> Seen {
    Seen::Idle
}

/// Goes round and round in some pages. A policy is told of every access.
struct Rounds<'a> {
    policy: &'a mut dyn Policy,
    present: BTreeSet<Page>,
}

impl Rounds<'_> {
    fn new(policy: &mut dyn Policy) -> Rounds<'_> {
        Rounds { policy, present: BTreeSet::new() }
    }

    /// Evicts pages until this many are left.
    fn shrink(&mut self, left: usize) {
        while self.present.len() > left {
            let page = self.policy.evict(&mut idle).expect("a page is present");
            assert!(self.present.remove(&page), "{page:?} is not present");
        }
    }

    /// The number of pages that are present in the last of some rounds, with this many frames.
    fn hits(&mut self, pages: Range<u32>, frames: usize, rounds: usize) -> usize {
        let mut hits = 0;
        for _ in 0..rounds {
            hits = 0;
            for page in pages.clone().map(Page) {
                if self.present.contains(&page) {
                    hits += 1;
                } else {
                    self.shrink(frames - 1);
                    self.policy.insert(page).expect("memory for a page");
                    self.present.insert(page);
                }
                self.policy.accessed(page);
            }
        }
        hits
    }
}

/// The memory that docs/replacement.md states.
#[test]
fn nodes_are_small() {
    assert_eq!((size_of::<clock::Node>(), size_of::<lirs::Node>()), (24, 32));
    assert_eq!(Name::ALL.map(|name| name.nodes(1_000)), [1_000, 1_500, 1_900, 2_000]);
}

/// A pager can lose frames, even all of them, and get them back.
#[test]
fn lirs_keeps_a_loop_after_frames_went_and_came_back() {
    Name::Lirs.with(400, |policy| {
        let mut rounds = Rounds::new(policy);
        assert!(rounds.hits(0..300, 200, 5) >= 198);
        for left in [1, 0] {
            rounds.shrink(left);
            let hits = rounds.hits(300..600, 200, 8);
            assert!(hits > 180, "{hits} hits after {left} pages were left");
        }
    });
}

/// A program can give its pages back, and use others.
#[test]
fn lirs_keeps_a_loop_after_its_pages_went() {
    Name::Lirs.with(400, |policy| {
        let mut rounds = Rounds::new(policy);
        rounds.hits(0..300, 200, 5);
        rounds.present.clear();
        (0..300).for_each(|page| rounds.policy.remove(Page(page)));
        assert_eq!((rounds.policy.present(), rounds.policy.ghosts()), (0, 0));
        assert!(rounds.hits(300..600, 200, 5) >= 198);
    });
}

/// A page that was accessed just once must not seem popular, although its A bit is set when a scan comes.
#[test]
fn lirs_ignores_the_access_that_brought_a_page_in() {
    Name::Lirs.with(20, |policy| {
        let mut rounds = Rounds::new(policy);
        rounds.hits(0..10, 10, 2);
        rounds.shrink(9);
        for page in (10..40).map(Page) {
            rounds.policy.insert(page).expect("memory for a page");
            rounds.policy.accessed(page);
            // The page is chosen again and again, so the other nine stay.
            assert_eq!(rounds.policy.evict(&mut idle), Some(page));
        }
    });
}

#[test]
fn s3_fifo_ignores_the_access_that_brought_a_page_in() {
    Name::S3Fifo.with(40, |policy| {
        let mut accessed: Vec<Page> = Vec::new();
        let evict = |policy: &mut dyn Policy, accessed: &mut Vec<Page>| {
            policy.evict(&mut |page| match accessed.iter().position(|&other| other == page) {
                Some(place) => {
                    accessed.swap_remove(place);
                    Seen::Accessed
                }
                None => Seen::Idle,
            })
        };
        for page in (0..20).map(Page) {
            policy.insert(page).expect("memory for a page");
            accessed.push(page);
        }
        assert_eq!(evict(policy, &mut accessed), Some(Page(0)), "the oldest page was accessed only once");
        assert_eq!(policy.ghosts(), 1, "so it has never been in the main queue");
        accessed.push(Page(1));
        assert_eq!(evict(policy, &mut accessed), Some(Page(2)), "page 1 was accessed again");
    });
}

/// A page that comes back soon after its eviction is kept for longer than others.
#[test]
fn ghosts_are_remembered() {
    for name in [Name::TwoQueues, Name::S3Fifo] {
        name.with(name.nodes(20), |policy| {
            let mut rounds = Rounds::new(policy);
            rounds.hits(0..21, 20, 1);
            assert!(!rounds.present.contains(&Page(0)), "the oldest page is evicted");
            rounds.hits(0..1, 20, 1);
            rounds.hits(21..60, 20, 1);
            assert!(rounds.present.contains(&Page(0)), "{name:?} has forgotten its ghost");
        });
    }
}

#[test]
fn without_memory_no_page_is_inserted() {
    for name in Name::ALL {
        name.with(0, |policy| {
            assert_eq!(policy.insert(Page(3)), Err(Error::Full(Page(3))), "{name:?}");
            policy.remove(Page(3));
            policy.accessed(Page(3));
            assert_eq!((policy.evict(&mut idle), policy.check()), (None, Ok(())));
        });
    }
}

#[test]
fn errors_name_the_page() {
    assert_eq!(Error::Full(Page(7)).to_string(), "no node is left for page 7");
    assert_eq!(Error::Present(Page(7)).to_string(), "page 7 is present already");
}

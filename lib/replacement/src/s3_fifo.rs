//! S3-FIFO with one bit: a page must be accessed again, or come back soon, before it counts as popular.
//!
//! ```text
//!     brought in
//!         |
//!         v
//!       young  [ page ]  until the next eviction, which clears A
//!                   |
//!                   v
//!       small  [ page page page ]  with the young pages a tenth of the frames
//!                   |          |
//!                   |          |  A is clear: evicted, but remembered
//!       A is set    |          v
//!                   |   ghosts [ number number number ]  as many as main has frames
//!                   |              |               |
//!                   |              |               +---- forgotten
//!                   |              |  brought in again
//!                   v              v
//!       main   [ page page page page page ]  CLOCK
//!                                       |
//!                                       +---- evicted, and forgotten
//! ```
//!
//! J. Yang and others described the algorithm in "FIFO queues are all you need for cache eviction" (2023). Theirs counts
//! up to three accesses. Here the A bit tells one from none. The access that brings a page in sets A, too, after the page
//! is mapped. Hence the queue `young`: without it, every page would seem to have been accessed again.
//!
//! **Good at** popular pages (as good as LRU), at scans between them, and at loops that are a little larger than memory.
//! It needs no scan of the A bits.
//!
//! **Bad at** phases: pages that were popular once stay in `main` for long. Pages that are brought in ahead of their
//! first access count as accessed again at that access.

use crate::queues::{Queued, Queues};
use crate::{Error, Inconsistent, Page, Policy, Seen};

/// The memory for a page.
pub type Node = crate::Node<State, 1>;

/// What S3-FIFO knows about a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The node is free.
    Free,
    /// The page is present, and its A bit tells of the access that brought it in.
    Young,
    /// The page is present, and was brought in for the first time.
    Small,
    /// The page is present, and was accessed again or brought in again.
    Main,
    /// The page was evicted.
    Ghost,
}

impl crate::nodes::State for State {
    const FREE: State = State::Free;

    fn is_present(self) -> bool {
        matches!(self, State::Young | State::Small | State::Main)
    }
}

impl Queued for State {
    fn queue(self) -> usize {
        self as usize
    }
}

/// The policy S3-FIFO.
#[derive(Debug)]
pub struct S3Fifo<'a> {
    pages: Queues<'a, State, 5>,
}

impl<'a> S3Fifo<'a> {
    /// A policy without pages. It has as many frames as there are nodes, and ghosts in those that are left.
    #[must_use]
    pub fn new(memory: &'a mut [Node]) -> Self {
        S3Fifo { pages: Queues::new(memory) }
    }

    /// The number of nodes that the policy needs for this many frames.
    #[must_use]
    pub const fn nodes(frames: usize) -> usize {
        2 * frames - frames / 10
    }

    /// Clears the A bits of the young pages.
    fn settle(&mut self, look: &mut dyn FnMut(Page) -> Seen) {
        while let Some((id, page)) = self.pages.oldest(State::Young) {
            look(page);
            self.pages.put(id, State::Small);
        }
    }
}

impl Policy for S3Fifo<'_> {
    fn insert(&mut self, page: Page) -> Result<(), Error> {
        self.pages.insert(page, State::Young, State::Main, State::Ghost)
    }

    fn evict(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        self.settle(look);
        let frames = self.present();
        for _ in 0..2 * frames {
            if self.pages.len(State::Small) >= (frames / 10).max(1) || self.pages.len(State::Main) == 0 {
                let (id, page) = self.pages.oldest(State::Small)?;
                if look(page) == Seen::Idle {
                    self.pages.put(id, State::Ghost);
                    self.pages.keep(State::Ghost, frames - frames / 10);
                    return Some(page);
                }
                self.pages.put(id, State::Main);
            } else if let Some(page) = self.pages.evict_or_spare(State::Main, look) {
                return Some(page);
            }
        }
        self.pages.last_resort(look)
    }

    fn remove(&mut self, page: Page) {
        self.pages.remove(page);
    }

    fn present(&self) -> usize {
        self.pages.len(State::Young) + self.pages.len(State::Small) + self.pages.len(State::Main)
    }

    fn ghosts(&self) -> usize {
        self.pages.len(State::Ghost)
    }

    fn check(&self) -> Result<(), Inconsistent> {
        self.pages.check()
    }
}

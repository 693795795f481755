//! 2Q: a page must come back soon before it counts as popular.
//!
//! ```text
//!     brought in
//!         |
//!         v
//!       new    [ page page page ]  at most a quarter of the frames
//!                             |
//!                             |  evicted, but remembered
//!                             v
//!       ghosts [ number number number ]  half as many as there are frames
//!                   |               |
//!                   |               +---- forgotten
//!                   |  brought in again
//!                   v
//!       main   [ page page page page ]  CLOCK
//!                                  |
//!                                  +---- evicted, and forgotten
//! ```
//!
//! A page that is brought in for the first time goes through the queue `new`, whether it is accessed there or not. If it
//! is brought in again while it is a ghost, it goes to `main`. So a scan displaces only new pages. T. Johnson and D.
//! Shasha described the algorithm in "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm"
//! (1994). Theirs has an LRU list as main queue. A pager does not see the order of accesses, so ours is CLOCK.
//!
//! **Good at** scans between accesses to popular pages, at loops that are a little larger than memory, and at phases.
//!
//! **Bad at** working sets that would just fit: a popular page must be brought in twice.

use crate::queues::{Queued, Queues};
use crate::{Error, Inconsistent, Page, Policy, Seen};

/// The memory for a page.
pub type Node = crate::Node<State, 1>;

/// What 2Q knows about a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The node is free.
    Free,
    /// The page is present, and was brought in for the first time.
    New,
    /// The page is present, and was brought in again.
    Main,
    /// The page was evicted.
    Ghost,
}

impl crate::nodes::State for State {
    const FREE: State = State::Free;

    fn is_present(self) -> bool {
        matches!(self, State::New | State::Main)
    }
}

impl Queued for State {
    fn queue(self) -> usize {
        self as usize
    }
}

/// The policy 2Q.
#[derive(Debug)]
pub struct TwoQueues<'a> {
    pages: Queues<'a, State, 4>,
}

impl<'a> TwoQueues<'a> {
    /// A policy without pages. It has as many frames as there are nodes, and ghosts in those that are left.
    #[must_use]
    pub fn new(memory: &'a mut [Node]) -> Self {
        TwoQueues { pages: Queues::new(memory) }
    }

    /// The number of nodes that the policy needs for this many frames.
    #[must_use]
    pub const fn nodes(frames: usize) -> usize {
        frames + frames / 2
    }
}

impl Policy for TwoQueues<'_> {
    fn insert(&mut self, page: Page) -> Result<(), Error> {
        self.pages.insert(page, State::New, State::Main, State::Ghost)
    }

    fn evict(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        let frames = self.present();
        for _ in 0..2 * frames {
            if self.pages.len(State::New) > frames / 4 || self.pages.len(State::Main) == 0 {
                let (id, page) = self.pages.oldest(State::New)?;
                if look(page) != Seen::Pinned {
                    self.pages.put(id, State::Ghost);
                    self.pages.keep(State::Ghost, frames / 2);
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
        self.pages.len(State::New) + self.pages.len(State::Main)
    }

    fn ghosts(&self) -> usize {
        self.pages.len(State::Ghost)
    }

    fn check(&self) -> Result<(), Inconsistent> {
        self.pages.check()
    }
}

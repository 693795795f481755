//! CLOCK: a second chance for pages that were accessed.
//!
//! ```text
//!     brought in                        the hand
//!         |                                |
//!         v                                v
//!       newest  [ page  page  page ... page ]  oldest
//!         ^                                |
//!         +-------- A is set: clear it ----+---- A is clear: evict it
//! ```
//!
//! The oldest page is evicted if it was not accessed since the hand passed it. Otherwise it becomes the newest one. The
//! pages are usually drawn as a circle around which a hand moves, hence the name. F. Corbató described the algorithm in
//! "A Paging Experiment with the Multics System" (1968).
//!
//! **Good at** a set of popular pages, almost as good as LRU. It needs the least memory: no page is remembered after its
//! eviction.
//!
//! **Bad at** loops over more pages than there are frames, where no access hits, and at scans, which evict everything.

use crate::queues::{Queued, Queues};
use crate::{Error, Inconsistent, Page, Policy, Seen};

/// The memory for a page.
pub type Node = crate::Node<State, 1>;

/// What CLOCK knows about a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The node is free.
    Free,
    /// The page is present.
    Present,
}

impl crate::nodes::State for State {
    const FREE: State = State::Free;

    fn is_present(self) -> bool {
        self == State::Present
    }
}

impl Queued for State {
    fn queue(self) -> usize {
        self as usize
    }
}

/// The policy CLOCK.
#[derive(Debug)]
pub struct Clock<'a> {
    pages: Queues<'a, State, 2>,
}

impl<'a> Clock<'a> {
    /// A policy without pages. It has as many frames as there are nodes.
    #[must_use]
    pub fn new(memory: &'a mut [Node]) -> Self {
        Clock { pages: Queues::new(memory) }
    }

    /// The number of nodes that the policy needs for this many frames.
    #[must_use]
    pub const fn nodes(frames: usize) -> usize {
        frames
    }
}

impl Policy for Clock<'_> {
    fn insert(&mut self, page: Page) -> Result<(), Error> {
        self.pages.insert(page, State::Present, State::Present, State::Present)
    }

    fn evict(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        // After one round, only pages that are accessed meanwhile have another chance.
        for _ in 0..2 * self.present() {
            if let Some(page) = self.pages.evict_or_spare(State::Present, look) {
                return Some(page);
            }
        }
        self.pages.last_resort(look)
    }

    fn remove(&mut self, page: Page) {
        self.pages.remove(page);
    }

    fn present(&self) -> usize {
        self.pages.len(State::Present)
    }

    fn check(&self) -> Result<(), Inconsistent> {
        self.pages.check()
    }
}

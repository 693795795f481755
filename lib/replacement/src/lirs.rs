//! LIRS with a share that adapts: a page is popular if the time between its last two accesses was short.
//!
//! ```text
//!     stack    newest  [ L  r  g  L  r  L  g  L  g  L ]  oldest: always an L
//!     queue    newest  [ r  d  r  o  o ]  oldest: evicted next
//!     ghosts   newest  [ g  g  g ]  oldest: forgotten next
//!
//!     L  popular         in the stack
//!     r  recent          in the stack and in the queue
//!     o  old             in the queue
//!     d  demoted         in the queue, and was popular before
//!     g  ghost           in the stack, but evicted
//! ```
//!
//! The stack has pages in the order of their last access. It reaches down to the oldest popular page: what is older is
//! removed from it (`prune`). So a page that is accessed while it is in the stack was last accessed after the oldest
//! popular page was. The page becomes popular, and if there are too many popular pages then, the oldest one is demoted. A
//! page is brought in as recent, goes through the queue, and remains as a ghost while it is in the stack. The queue has a
//! small share of the frames only, so that a scan or a loop displaces few pages.
//!
//! S. Jiang and X. Zhang described the algorithm in "LIRS: An Efficient Low Inter-reference Recency Set Replacement
//! Policy to Improve Buffer Cache Performance" (2002), with a hundredth of the frames for the queue. With it, pages of a
//! new phase have no time to become popular. So the share of the queue adapts, as N. Megiddo and D. Modha do it in "ARC: A
//! Self-Tuning, Low Overhead Replacement Cache" (2003), and C. Li in "DLIRS: Improving Low Inter-Reference Recency Set
//! Cache Replacement Policy with Dynamics" (2018). The share grows when a ghost is brought in again, since a longer queue
//! would have kept that page. It shrinks when a demoted page is accessed, and a little whenever a page has gone through
//! the queue unused. Without the latter, a program that begins a loop after other work would never get out of the long
//! queue.
//!
//! A scan of the A bits tells which pages were accessed, and finds those of the queue that [`Policy::evict`] does not look
//! at. The access that brings a page in sets A, too, so the first A bit of a page does not count.
//!
//! **Good at** loops and scans, where it keeps almost all that can be kept, and at phases.
//!
//! **Bad at** popular pages without order, where it brings in some percent more than LRU, and at a loop after a phase: the
//! share needs about eight times as many evictions as there are frames to shrink again. It needs the most memory, and the
//! scans.

mod pages;

pub use pages::State;

use crate::nodes::{Id, State as _};
use crate::{Error, Inconsistent, Page, Policy, Seen};
use core::mem;
use pages::{Kind, Pages};

/// The memory for a page.
pub type Node = crate::Node<State, 2>;

/// The policy LIRS.
#[derive(Debug)]
pub struct Lirs<'a> {
    pages: Pages<'a>,
    /// The number of pages that were present before the last eviction. Before the first one no limit is known.
    frames: usize,
    /// The number of frames for the queue. (It can be longer, until enough of its pages become popular.)
    share: usize,
    /// The number of pages that have left the queue unused since the share last shrank for that reason.
    unused: u8,
}

impl<'a> Lirs<'a> {
    /// A policy without pages. It has as many frames as there are nodes, and ghosts in those that are left.
    #[must_use]
    pub fn new(memory: &'a mut [Node]) -> Self {
        Lirs { pages: Pages::new(memory), frames: usize::MAX, share: 0, unused: 0 }
    }

    /// The number of nodes that the policy needs for this many frames.
    #[must_use]
    pub const fn nodes(frames: usize) -> usize {
        2 * frames
    }

    /// The number of pages that may be popular.
    fn room(&self) -> usize {
        self.frames.saturating_sub(self.share)
    }

    /// The most frames by which the share changes at once, so that one bad guess costs little.
    fn step(&self) -> usize {
        (self.frames / 1024).max(1)
    }

    fn set_frames(&mut self, frames: usize) {
        self.frames = frames;
        self.set_share(if self.share == 0 { frames / 100 } else { self.share });
    }

    fn set_share(&mut self, share: usize) {
        self.share = share.min(self.frames.saturating_sub(1)).max(1);
    }

    /// A present page was accessed.
    fn access(&mut self, id: Id) {
        let kind = self.pages.kind(id);
        if kind == Kind::Demoted {
            let by = (self.pages.ghosts.len() / self.pages.count(Kind::Demoted)).clamp(1, self.step());
            self.set_share(self.share.saturating_sub(by));
        }
        match kind {
            Kind::Popular => {
                self.pages.renew_in_stack(id);
                self.pages.prune();
            }
            Kind::Recent => {
                self.pages.renew_in_stack(id);
                self.promote(id);
            }
            _ if self.pages.count(Kind::Popular) < self.room() => self.promote(id),
            _ => {
                self.pages.renew_in_queue(id);
                self.pages.set(id, Kind::Recent);
                self.pages.prune();
            }
        }
    }

    /// Makes a page popular, at the expense of the oldest popular ones.
    fn promote(&mut self, id: Id) {
        self.pages.set(id, Kind::Popular);
        self.demote(self.room());
    }

    /// Demotes the oldest popular pages until at most this many are left.
    fn demote(&mut self, most: usize) {
        while self.pages.count(Kind::Popular) > most
            && let Some(oldest) = self.pages.stack.oldest()
        {
            self.pages.set(oldest, Kind::Demoted);
            self.pages.prune();
        }
    }

    /// A page at the end of the queue is evicted.
    fn let_go(&mut self, id: Id) {
        if self.pages.kind(id) != Kind::Demoted {
            self.unused = (self.unused + 1) % 8;
            self.set_share(self.share - usize::from(self.unused == 0));
        }
        if self.pages.kind(id) == Kind::Recent {
            self.pages.set(id, Kind::Ghost);
            self.pages.keep_ghosts(self.frames);
        } else {
            self.pages.forget(id);
        }
    }

    /// A page is brought in that was never present, or is forgotten.
    fn insert_new(&mut self, id: Id) {
        if self.pages.count(Kind::Popular) < self.room() {
            self.promote(id);
        } else {
            self.pages.set(id, Kind::Recent);
            self.pages.prune();
        }
    }

    /// A ghost is brought in again.
    fn insert_again(&mut self, id: Id) {
        // (As long as more pages may be popular, the page would have become popular anyway.)
        if self.pages.count(Kind::Popular) >= self.room() {
            let by = (self.pages.count(Kind::Demoted) / self.pages.ghosts.len()).clamp(1, self.step());
            self.set_share(self.share + by);
        }
        self.pages.nodes[id].state.is_new = true;
        self.pages.renew_in_stack(id);
        self.promote(id);
    }
}

impl Policy for Lirs<'_> {
    fn insert(&mut self, page: Page) -> Result<(), Error> {
        match self.pages.nodes.find(page) {
            Some(id) if self.pages.kind(id) == Kind::Ghost => self.insert_again(id),
            Some(_) => return Err(Error::Present(page)),
            None => {
                let id = self.pages.add(page).ok_or(Error::Full(page))?;
                self.insert_new(id);
            }
        }
        Ok(())
    }

    fn evict(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        self.set_frames(self.present());
        self.demote(self.room());
        for _ in 0..2 * self.frames {
            if self.pages.queue.len() == 0 {
                self.demote(self.pages.count(Kind::Popular).saturating_sub(1));
            }
            let id = self.pages.queue.oldest()?;
            let page = self.pages.nodes.page(id);
            let seen = look(page);
            if seen == Seen::Idle || seen == Seen::Accessed && self.pages.nodes[id].state.is_new {
                self.let_go(id);
                return Some(page);
            }
            self.access(id);
        }
        let page = self.pages.last_resort(look)?;
        self.remove(page);
        Some(page)
    }

    fn remove(&mut self, page: Page) {
        if let Some(id) = self.pages.nodes.find(page) {
            self.pages.forget(id);
            self.pages.prune();
        }
    }

    fn accessed(&mut self, page: Page) {
        let Some(id) = self.pages.nodes.find(page) else { return };
        let state = &mut self.pages.nodes[id].state;
        if !mem::take(&mut state.is_new) && state.is_present() {
            self.access(id);
        }
    }

    fn scan_interval(&self) -> Option<usize> {
        Some((self.present() / 8).max(1))
    }

    fn present(&self) -> usize {
        self.pages.count(Kind::Popular) + self.pages.queue.len()
    }

    fn ghosts(&self) -> usize {
        self.pages.ghosts.len()
    }

    fn check(&self) -> Result<(), Inconsistent> {
        self.pages.check()
    }
}

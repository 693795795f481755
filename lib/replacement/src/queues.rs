//! Pages that are each in the queue of their state: what CLOCK, 2Q and S3-FIFO are made of.

use crate::list::List;
use crate::nodes::{Id, Node, Nodes, State};
use crate::{Error, Inconsistent, Page, Seen};

/// A state that has a queue.
pub trait Queued: State {
    /// The number of the queue. (That of free nodes stays empty.)
    fn queue(self) -> usize;
}

/// Nodes in `N` queues.
#[derive(Debug)]
pub(crate) struct Queues<'a, S, const N: usize> {
    nodes: Nodes<'a, S, 1>,
    queues: [List<0>; N],
}

impl<'a, S: Queued, const N: usize> Queues<'a, S, N> {
    pub(crate) fn new(memory: &'a mut [Node<S, 1>]) -> Self {
        Queues { nodes: Nodes::new(memory), queues: [List::EMPTY; N] }
    }

    fn queue(&self, state: S) -> &List<0> {
        &self.queues[state.queue()]
    }

    /// The number of pages in a queue.
    pub(crate) fn len(&self, state: S) -> usize {
        self.queue(state).len()
    }

    /// The page that has been in a queue for the longest time.
    pub(crate) fn oldest(&self, state: S) -> Option<(Id, Page)> {
        self.queue(state).oldest().map(|id| (id, self.nodes.page(id)))
    }

    /// Moves a page to the end of a queue, of its own one or of another one.
    #[inline(always)]
    pub(crate) fn put(&mut self, id: Id, state: S) {
        self.take(id);
        self.nodes[id].state = state;
        self.push(id, state);
    }

    fn push(&mut self, id: Id, state: S) {
        self.queues[state.queue()].push(&mut self.nodes, id);
    }

    fn take(&mut self, id: Id) {
        self.queues[self.nodes[id].state.queue()].remove(&mut self.nodes, id);
    }

    /// Adds a page that has been brought in. One that is a ghost gets the state `again`, and others `new`; if no node is
    /// free, the oldest ghost is forgotten.
    pub(crate) fn insert(&mut self, page: Page, new: S, again: S, ghost: S) -> Result<(), Error> {
        if let Some(id) = self.nodes.find(page) {
            if self.nodes[id].state.is_present() {
                return Err(Error::Present(page));
            }
            self.put(id, again);
            return Ok(());
        }
        let mut id = self.nodes.add(page, new);
        if id.is_none() && !ghost.is_present() {
            self.keep(ghost, self.len(ghost).saturating_sub(1));
            id = self.nodes.add(page, new);
        }
        self.push(id.ok_or(Error::Full(page))?, new);
        Ok(())
    }

    /// Forgets the oldest pages of a queue until at most this many are left.
    pub(crate) fn keep(&mut self, state: S, most: usize) {
        while self.len(state) > most
            && let Some((id, _)) = self.oldest(state)
        {
            self.forget(id);
        }
    }

    pub(crate) fn forget(&mut self, id: Id) {
        self.take(id);
        self.nodes.forget(id);
    }

    pub(crate) fn remove(&mut self, page: Page) {
        if let Some(id) = self.nodes.find(page) {
            self.forget(id);
        }
    }

    /// Looks at the oldest page of a queue. Evicts it if it was not accessed; otherwise it becomes the newest one.
    #[inline(always)]
    pub(crate) fn evict_or_spare(&mut self, state: S, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        let (id, page) = self.oldest(state)?;
        if look(page) == Seen::Idle {
            self.forget(id);
            return Some(page);
        }
        self.put(id, state);
        None
    }

    /// Evicts any page, if one can be evicted.
    pub(crate) fn last_resort(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        let page = self.nodes.last_resort(look)?;
        self.remove(page);
        Some(page)
    }

    pub(crate) fn check(&self) -> Result<(), Inconsistent> {
        for (number, queue) in self.queues.iter().enumerate() {
            queue.check(&self.nodes, |state| state.queue() == number)?;
        }
        let queued: usize = self.queues.iter().map(List::len).sum();
        Inconsistent::unless(self.nodes.check()? == queued, "may be the page that is in no queue", Page(0))
    }
}

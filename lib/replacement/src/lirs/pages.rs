//! The pages of LIRS, each in the lists of its kind.

use crate::list::List;
use crate::nodes::{Id, Node, Nodes, State as _};
use crate::{Inconsistent, Page, Seen};

/// What LIRS knows about a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    kind: Kind,
    /// Whether the next A bit tells of the access that brought the page in.
    pub(crate) is_new: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Free,
    Popular,
    Recent,
    Old,
    Demoted,
    Ghost,
}

impl Kind {
    fn is_in_stack(self) -> bool {
        matches!(self, Kind::Popular | Kind::Recent | Kind::Ghost)
    }

    fn is_in_queue(self) -> bool {
        matches!(self, Kind::Recent | Kind::Old | Kind::Demoted)
    }
}

impl crate::nodes::State for State {
    const FREE: State = State { kind: Kind::Free, is_new: false };

    fn is_present(self) -> bool {
        self.kind.is_in_queue() || self.kind == Kind::Popular
    }
}

/// All pages, in the lists that the picture in the module `lirs` shows.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    pub(crate) nodes: Nodes<'a, State, 2>,
    pub(crate) stack: List<0>,
    pub(crate) queue: List<1>,
    pub(crate) ghosts: List<1>,
    counts: [usize; 6],
}

impl<'a> Pages<'a> {
    pub(crate) fn new(memory: &'a mut [Node<State, 2>]) -> Self {
        let nodes = Nodes::new(memory);
        Pages { nodes, stack: List::EMPTY, queue: List::EMPTY, ghosts: List::EMPTY, counts: [0; 6] }
    }

    /// The number of pages of a kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.counts[kind as usize]
    }

    pub(crate) fn kind(&self, id: Id) -> Kind {
        self.nodes[id].state.kind
    }

    /// Changes the kind of a page. The page becomes the newest one of the lists that it was not in before, and keeps its
    /// place in the others.
    #[inline(always)]
    pub(crate) fn set(&mut self, id: Id, kind: Kind) {
        let Pages { nodes, stack, queue, ghosts, counts } = self;
        let before = core::mem::replace(&mut nodes[id].state.kind, kind);
        counts[before as usize] -= usize::from(before != Kind::Free);
        counts[kind as usize] += usize::from(kind != Kind::Free);
        match (before.is_in_stack(), kind.is_in_stack()) {
            (true, false) => stack.remove(nodes, id),
            (false, true) => stack.push(nodes, id),
            _ => {}
        }
        match (before.is_in_queue(), kind.is_in_queue()) {
            (true, false) => queue.remove(nodes, id),
            (false, true) => queue.push(nodes, id),
            _ => {}
        }
        match (before == Kind::Ghost, kind == Kind::Ghost) {
            (true, false) => ghosts.remove(nodes, id),
            (false, true) => ghosts.push(nodes, id),
            _ => {}
        }
    }

    /// Adds a page of which nothing is known, in place of the oldest ghost if no node is free.
    pub(crate) fn add(&mut self, page: Page) -> Option<Id> {
        let new = State { is_new: true, ..State::FREE };
        self.nodes.add(page, new).or_else(|| {
            self.keep_ghosts(self.ghosts.len().saturating_sub(1));
            self.nodes.add(page, new)
        })
    }

    pub(crate) fn renew_in_stack(&mut self, id: Id) {
        self.stack.renew(&mut self.nodes, id);
    }

    pub(crate) fn renew_in_queue(&mut self, id: Id) {
        self.queue.renew(&mut self.nodes, id);
    }

    pub(crate) fn forget(&mut self, id: Id) {
        self.set(id, Kind::Free);
        self.nodes.forget(id);
    }

    /// Forgets the oldest ghosts until at most this many are left.
    pub(crate) fn keep_ghosts(&mut self, most: usize) {
        while self.ghosts.len() > most
            && let Some(id) = self.ghosts.oldest()
        {
            self.forget(id);
        }
    }

    /// Removes from the stack what is older than the oldest popular page.
    pub(crate) fn prune(&mut self) {
        while let Some(id) = self.stack.oldest() {
            match self.kind(id) {
                Kind::Popular => break,
                Kind::Recent => self.set(id, Kind::Old),
                _ => self.forget(id),
            }
        }
    }

    pub(crate) fn last_resort(&self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        self.nodes.last_resort(look)
    }

    pub(crate) fn check(&self) -> Result<(), Inconsistent> {
        self.stack.check(&self.nodes, |state| state.kind.is_in_stack())?;
        self.queue.check(&self.nodes, |state| state.kind.is_in_queue())?;
        self.ghosts.check(&self.nodes, |state| state.kind == Kind::Ghost)?;
        let popular = self.count(Kind::Popular);
        let in_stack = popular + self.count(Kind::Recent) + self.count(Kind::Ghost);
        let in_queue = self.count(Kind::Recent) + self.count(Kind::Old) + self.count(Kind::Demoted);
        let right = self.nodes.check()? == popular + in_queue + self.count(Kind::Ghost)
            && (self.stack.len(), self.queue.len(), self.ghosts.len()) == (in_stack, in_queue, self.count(Kind::Ghost));
        Inconsistent::unless(right, "may be the page that is in no list", Page(0))?;
        let Some(oldest) = self.stack.oldest() else { return Ok(()) };
        let is_popular = self.kind(oldest) == Kind::Popular;
        Inconsistent::unless(is_popular, "is not popular, and the oldest one in the stack", self.nodes.page(oldest))
    }
}

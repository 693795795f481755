//! Lists of nodes, with addition at one end and removal anywhere.

use crate::nodes::{Id, Link, Nodes, State};
use crate::{Inconsistent, Page};

/// A list from the newest node to the oldest. It uses the links number `L` of its nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<const L: usize> {
    newest: Option<Id>,
    oldest: Option<Id>,
    len: usize,
}

impl<const L: usize> List<L> {
    pub(crate) const EMPTY: Self = List { newest: None, oldest: None, len: 0 };

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn oldest(&self) -> Option<Id> {
        self.oldest
    }

    /// Adds a node that is in no list with these links.
    pub(crate) fn push<S: State, const N: usize>(&mut self, nodes: &mut Nodes<S, N>, id: Id) {
        nodes[id].links[L] = Link { newer: None, older: self.newest };
        match self.newest {
            Some(second) => nodes[second].links[L].newer = Some(id),
            None => self.oldest = Some(id),
        }
        self.newest = Some(id);
        self.len += 1;
    }

    /// Removes a node of this list.
    pub(crate) fn remove<S: State, const N: usize>(&mut self, nodes: &mut Nodes<S, N>, id: Id) {
        let Link { newer, older } = nodes[id].links[L];
        match newer {
            Some(newer) => nodes[newer].links[L].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => nodes[older].links[L].newer = newer,
            None => self.oldest = newer,
        }
        self.len -= 1;
    }

    /// Makes a node of this list the newest one.
    pub(crate) fn renew<S: State, const N: usize>(&mut self, nodes: &mut Nodes<S, N>, id: Id) {
        if self.newest != Some(id) {
            self.remove(nodes, id);
            self.push(nodes, id);
        }
    }

    /// Checks that both directions agree, and that each node has one of the states that the list may contain.
    pub(crate) fn check<S: State, const N: usize>(
        &self,
        nodes: &Nodes<S, N>,
        may_contain: impl Fn(S) -> bool,
    ) -> Result<(), Inconsistent> {
        let (mut newer, mut next) = (None, self.newest);
        for _ in 0..self.len {
            let id = next.ok_or(Inconsistent { what: "is missing at the end of a list", page: Page(0) })?;
            let node = &nodes[id];
            Inconsistent::unless(node.links[L].newer == newer, "has a wrong neighbour", nodes.page(id))?;
            Inconsistent::unless(may_contain(node.state), "is in a wrong list", nodes.page(id))?;
            (newer, next) = (Some(id), node.links[L].older);
        }
        Inconsistent::unless(next.is_none() && self.oldest == newer, "is not the end of a list", Page(0))
    }
}

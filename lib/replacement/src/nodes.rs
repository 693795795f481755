//! Nodes, one for each page that a policy remembers, and the index from a page to its node.
//!
//! Both are in one slice that the pager lends. The index is a hash table with chains: the head of chain 7 is in slot 7 of
//! the slice, beside the node of some page. So the cost of finding a page does not depend on the size of the pager's
//! range, and a node takes 16 bytes plus 8 for each list that it can be in. (A table with an entry for each page of the
//! range would be faster, but for a range of a terabyte it would take a gigabyte.)
//!
//! A node is free, or it is in the chain of its page. Free nodes are chained, too.

use crate::{Inconsistent, Page, Seen};
use core::num::NonZeroU32;
use core::ops::{Index, IndexMut};

/// The memory for one page, which can be in `LISTS` lists at once.
#[derive(Clone, Copy, Debug)]
pub struct Node<S, const LISTS: usize> {
    page: Page,
    /// The first node of the chain that has the number of this slot.
    head: Option<Id>,
    /// The next node of the chain that this node is in.
    next: Option<Id>,
    pub(crate) links: [Link; LISTS],
    pub(crate) state: S,
}

impl<S: State, const LISTS: usize> Node<S, LISTS> {
    /// A node that stands for no page.
    pub const EMPTY: Self = Node { page: Page(0), head: None, next: None, links: [Link::NONE; LISTS], state: S::FREE };
}

/// The state of a page, as a policy sees it.
pub trait State: Copy + PartialEq {
    /// The state of a node that stands for no page.
    const FREE: Self;

    /// Whether the page is in memory.
    fn is_present(self) -> bool;
}

/// The neighbours of a node in a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) newer: Option<Id>,
    pub(crate) older: Option<Id>,
}

impl Link {
    const NONE: Link = Link { newer: None, older: None };
}

/// The slot of a node, plus one: so an `Option<Id>` takes four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Id(NonZeroU32);

impl Id {
    fn new(slot: usize) -> Option<Id> {
        u32::try_from(slot + 1).ok().and_then(NonZeroU32::new).map(Id)
    }

    #[inline]
    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The nodes of a policy.
#[derive(Debug)]
pub(crate) struct Nodes<'a, S, const LISTS: usize> {
    slots: &'a mut [Node<S, LISTS>],
    free: Option<Id>,
}

impl<S, const LISTS: usize> Index<Id> for Nodes<'_, S, LISTS> {
    type Output = Node<S, LISTS>;

    #[inline]
    fn index(&self, id: Id) -> &Self::Output {
        &self.slots[id.slot()]
    }
}

impl<S, const LISTS: usize> IndexMut<Id> for Nodes<'_, S, LISTS> {
    #[inline]
    fn index_mut(&mut self, id: Id) -> &mut Self::Output {
        &mut self.slots[id.slot()]
    }
}

impl<'a, S: State, const LISTS: usize> Nodes<'a, S, LISTS> {
    /// Makes all nodes free.
    pub(crate) fn new(memory: &'a mut [Node<S, LISTS>]) -> Self {
        let count = memory.len().min(u32::MAX as usize);
        let slots = &mut memory[..count];
        let mut free = None;
        for (slot, node) in slots.iter_mut().enumerate().rev() {
            *node = Node { next: free, ..Node::EMPTY };
            free = Id::new(slot);
        }
        Nodes { slots, free }
    }

    pub(crate) fn page(&self, id: Id) -> Page {
        self[id].page
    }

    /// The number of the page's chain. The multiplication spreads neighbouring pages evenly over all numbers of 32 bits.
    #[inline]
    fn chain(&self, page: Page) -> usize {
        let spread = page.0.wrapping_mul(0x9e37_79b9);
        ((u64::from(spread) * self.slots.len() as u64) >> 32) as usize
    }

    pub(crate) fn find(&self, page: Page) -> Option<Id> {
        let mut next = self.slots.get(self.chain(page))?.head;
        while let Some(id) = next {
            let node = &self[id];
            if node.page == page {
                break;
            }
            next = node.next;
        }
        next
    }

    /// Takes a free node, if there is one, for a page that has none.
    pub(crate) fn add(&mut self, page: Page, state: S) -> Option<Id> {
        let id = self.free?;
        self.free = self[id].next;
        let chain = self.chain(page);
        let next = self.slots[chain].head.replace(id);
        let node = &mut self[id];
        (node.page, node.next, node.state) = (page, next, state);
        Some(id)
    }

    /// Frees a node that is in no list. Returns its page.
    pub(crate) fn forget(&mut self, id: Id) -> Page {
        let Node { page, next, .. } = self[id];
        let chain = self.chain(page);
        let mut before = self.slots[chain].head;
        if before == Some(id) {
            self.slots[chain].head = next;
        } else {
            while let Some(other) = before {
                before = self[other].next;
                if before == Some(id) {
                    self[other].next = next;
                    break;
                }
            }
        }
        let free = self.free.replace(id);
        let node = &mut self[id];
        (node.next, node.state) = (free, S::FREE);
        page
    }

    /// Some page that can be evicted, accessed or not: what remains when every page that the policy would prefer is
    /// accessed again and again, or pinned.
    #[cold]
    pub(crate) fn last_resort(&self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        let mut present = self.slots.iter().filter(|node| node.state.is_present());
        present.find(|node| look(node.page) != Seen::Pinned).map(|node| node.page)
    }

    /// The number of nodes that stand for a page. Checks that each of them can be found, and that all others are free.
    pub(crate) fn check(&self) -> Result<usize, Inconsistent> {
        let mut used = 0;
        for (slot, node) in self.slots.iter().enumerate().filter(|(_, node)| node.state != S::FREE) {
            used += 1;
            Inconsistent::unless(self.find(node.page) == Id::new(slot), "is not in the index", node.page)?;
        }
        let mut unused = 0;
        let mut next = self.free;
        while let Some(id) = next.filter(|_| used + unused < self.slots.len()) {
            Inconsistent::unless(self[id].state == S::FREE, "has a free node", self[id].page)?;
            unused += 1;
            next = self[id].next;
        }
        let all = next.is_none() && used + unused == self.slots.len();
        Inconsistent::unless(all, "may be the last page of a lost node", Page(0))?;
        Ok(used)
    }
}

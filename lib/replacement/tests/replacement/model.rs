//! Random operations on every policy, compared with a model that knows only which pages are present.

use crate::Name;
use proptest::prelude::*;
use replacement::{Error, Page, Policy, Seen};
use std::collections::BTreeMap;

/// The use of a page by the program or by a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Nothing,
    /// The program has accessed the page.
    Access,
    /// The program accesses the page all the time.
    Constant,
    /// A device uses the page.
    Device,
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Page),
    Evict,
    Remove(Page),
    Use(Page, Use),
    Scan,
}

fn op() -> impl Strategy<Value = Op> {
    let page = || (0u32..24).prop_map(|page| Page(if page < 20 { page } else { u32::MAX - page }));
    let uses = prop::sample::select(vec![Use::Nothing, Use::Access, Use::Access, Use::Constant, Use::Device]);
    prop_oneof![
        8 => page().prop_map(Op::Insert),
        4 => Just(Op::Evict),
        1 => page().prop_map(Op::Remove),
        6 => (page(), uses).prop_map(|(page, uses)| Op::Use(page, uses)),
        2 => Just(Op::Scan),
    ]
}

/// A policy, and the pages that must be present.
struct World<'a> {
    policy: &'a mut dyn Policy,
    present: BTreeMap<Page, Use>,
    nodes: usize,
    /// The most pages that were present so far.
    most: usize,
}

fn look(present: &mut BTreeMap<Page, Use>, page: Page) -> Seen {
    let uses = present.get_mut(&page).unwrap_or_else(|| panic!("{page:?} is not present"));
    match uses {
        Use::Nothing => Seen::Idle,
        Use::Access => {
            *uses = Use::Nothing;
            Seen::Accessed
        }
        Use::Constant => Seen::Accessed,
        Use::Device => Seen::Pinned,
    }
}

impl World<'_> {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::Insert(page) => self.insert(page),
            Op::Evict => self.evict(),
            Op::Remove(page) => {
                self.policy.remove(page);
                self.present.remove(&page);
            }
            Op::Use(page, uses) => {
                self.present.entry(page).and_modify(|before| *before = uses);
            }
            Op::Scan => self.scan(),
        }
        assert_eq!(self.policy.check(), Ok(()));
        assert_eq!(self.policy.present(), self.present.len());
        self.most = self.most.max(self.present.len());
        assert!(self.policy.ghosts() <= self.most, "{} ghosts of {} pages", self.policy.ghosts(), self.most);
        assert!(self.policy.ghosts() + self.present.len() <= self.nodes);
    }

    fn insert(&mut self, page: Page) {
        let expected = if self.present.contains_key(&page) {
            Err(Error::Present(page))
        } else if self.present.len() == self.nodes {
            Err(Error::Full(page))
        } else {
            self.present.insert(page, Use::Access);
            Ok(())
        };
        assert_eq!(self.policy.insert(page), expected);
    }

    fn evict(&mut self) {
        let World { policy, present, .. } = self;
        let can_go = |uses: Option<Use>| uses.is_some_and(|uses| uses != Use::Device);
        let some_can = present.values().any(|uses| can_go(Some(*uses)));
        let victim = policy.evict(&mut |page| look(present, page));
        assert_eq!(victim.is_some(), some_can, "{victim:?} of {present:?}");
        if let Some(page) = victim {
            assert!(can_go(present.remove(&page)), "{page:?} is not present, or is pinned");
        }
    }

    fn scan(&mut self) {
        let pages: Vec<Page> = self.present.keys().copied().collect();
        for page in pages {
            if look(&mut self.present, page) == Seen::Accessed {
                self.policy.accessed(page);
            }
        }
    }

    /// Evicts all pages: each of them once.
    fn end(&mut self) {
        self.present.values_mut().for_each(|uses| *uses = Use::Nothing);
        while !self.present.is_empty() {
            self.step(&Op::Evict);
        }
        self.step(&Op::Evict);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    /// Any operations, with memory for any number of pages.
    #[test]
    fn policies_agree_with_the_model(
        name in prop::sample::select(Name::ALL.to_vec()),
        nodes in 0usize..40,
        steps in prop::collection::vec(op(), 1..300),
    ) {
        name.with(nodes, |policy| {
            let mut world = World { policy, present: BTreeMap::new(), nodes, most: 0 };
            steps.iter().for_each(|op| world.step(op));
            world.end();
        });
    }
}

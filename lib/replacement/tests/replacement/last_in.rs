//! A policy that a program brings along, because it knows what it does.

use crate::machine::Machine;
use crate::optimal;
use crate::traces::Trace;
use replacement::{Error, Page, Policy, Seen};

/// Evicts the page that was brought in last: for a program that goes round and round in more pages than fit.
struct LastIn<const FRAMES: usize> {
    pages: [Page; FRAMES],
    present: usize,
}

impl<const FRAMES: usize> LastIn<FRAMES> {
    fn take(&mut self, place: usize) -> Page {
        let page = self.pages[place];
        self.pages.copy_within(place + 1..self.present, place);
        self.present -= 1;
        page
    }
}

impl<const FRAMES: usize> Policy for LastIn<FRAMES> {
    fn insert(&mut self, page: Page) -> Result<(), Error> {
        *self.pages.get_mut(self.present).ok_or(Error::Full(page))? = page;
        self.present += 1;
        Ok(())
    }

    fn evict(&mut self, look: &mut dyn FnMut(Page) -> Seen) -> Option<Page> {
        let place = (0..self.present).rev().find(|&place| look(self.pages[place]) != Seen::Pinned)?;
        Some(self.take(place))
    }

    fn remove(&mut self, page: Page) {
        if let Some(place) = self.pages[..self.present].iter().position(|&other| other == page) {
            self.take(place);
        }
    }

    fn present(&self) -> usize {
        self.present
    }
}

/// In a loop, it keeps all pages but one, as the best policy does.
#[test]
fn a_program_can_bring_its_own_policy() {
    const FRAMES: usize = 8_280;
    let trace = &Trace::all(1)[0];
    let page_ins = Machine::play(trace, FRAMES, 1, &mut LastIn::<FRAMES> { pages: [Page(0); FRAMES], present: 0 });
    assert!(page_ins * 10 <= optimal::min(trace, FRAMES) * 11, "{} page-ins in a {}", page_ins, trace.name);
}

#[test]
fn it_evicts_the_last_page_that_is_not_pinned() {
    let mut policy = LastIn { pages: [Page(0); 3], present: 0 };
    assert_eq!([1, 2, 3].map(|page| policy.insert(Page(page))), [Ok(()); 3]);
    assert_eq!(policy.insert(Page(4)), Err(Error::Full(Page(4))));
    let look = &mut |page| if page == Page(3) { Seen::Pinned } else { Seen::Accessed };
    assert_eq!(policy.evict(look), Some(Page(2)));
    policy.remove(Page(1));
    policy.remove(Page(7));
    assert_eq!((policy.evict(look), policy.present()), (None, 1));
}

//! A program with a pager. The pager knows only what hardware tells: page faults, and the A bit of each page table entry.

use crate::traces::Trace;
use replacement::{Page, Policy, Seen};

/// A page table entry.
#[derive(Clone, Copy, Default)]
struct Entry {
    present: bool,
    accessed: bool,
}

/// A machine on which one program runs.
pub struct Machine<'a> {
    policy: &'a mut dyn Policy,
    table: Vec<Entry>,
    frames: usize,
    /// The number of pages that are evicted at once.
    batch: usize,
    page_ins: usize,
    page_ins_since_scan: usize,
}

impl Machine<'_> {
    /// The page-ins of a trace, not counting the first access to each page.
    pub fn play(trace: &Trace, frames: usize, batch: usize, policy: &mut dyn Policy) -> usize {
        let table = vec![Entry::default(); trace.pages as usize];
        let mut machine = Machine { policy, table, frames, batch, page_ins: 0, page_ins_since_scan: 0 };
        (0..trace.pages).for_each(|page| machine.access(Page(page)));
        machine.page_ins = 0;
        trace.accesses.iter().for_each(|&page| machine.access(page));
        machine.page_ins
    }

    fn access(&mut self, page: Page) {
        if !self.table[page.0 as usize].present {
            self.fault(page);
        }
        // The access that faulted is repeated, and sets the bit, too.
        self.table[page.0 as usize].accessed = true;
    }

    fn fault(&mut self, page: Page) {
        if self.policy.scan_interval().is_some_and(|interval| self.page_ins_since_scan >= interval) {
            self.scan();
        }
        if self.policy.present() == self.frames {
            for _ in 0..self.batch {
                let table = &mut self.table;
                let victim = self.policy.evict(&mut |page| look(&mut table[page.0 as usize]));
                table[victim.expect("a page that is not pinned").0 as usize] = Entry::default();
            }
        }
        // Here the page would be read from the disk.
        self.policy.insert(page).expect("as many frames as the policy has");
        self.table[page.0 as usize].present = true;
        self.page_ins += 1;
        self.page_ins_since_scan += 1;
    }

    fn scan(&mut self) {
        self.page_ins_since_scan = 0;
        for (page, entry) in (0..).map(Page).zip(&mut self.table) {
            if entry.present && look(entry) == Seen::Accessed {
                self.policy.accessed(page);
            }
        }
    }
}

fn look(entry: &mut Entry) -> Seen {
    if std::mem::take(&mut entry.accessed) { Seen::Accessed } else { Seen::Idle }
}

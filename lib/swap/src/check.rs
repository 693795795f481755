//! A check of everything that the pager has noted, for tests.

use crate::disk::{Disk, PoolFrame};
use crate::kernel::Evict;
use crate::mark::{Place, Slot};
use crate::pool::State;
use crate::swap::Swap;
use abi::Va;
use core::fmt;
use core::ops::Range;
use replacement::Policy;

/// A contradiction in what the pager has noted, or between that and the page table: a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inconsistent {
    what: &'static str,
    value: u64,
}

impl Inconsistent {
    fn unless(right: bool, what: &'static str, value: impl Into<u64>) -> Result<(), Inconsistent> {
        if right { Ok(()) } else { Err(Inconsistent { what, value: value.into() }) }
    }
}

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {:#x}", self.what, self.value)
    }
}

impl core::error::Error for Inconsistent {}

impl<D: Disk, P: Policy> Swap<'_, D, P> {
    /// Checks everything that the pager has noted. `ranges` are those of its regions, and the disk has `slots` slots, none
    /// of which is shared. The time grows with the size of the pool and of the regions.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check<K: Evict>(&self, kernel: &K, ranges: &[Range<Va>], slots: u32) -> Result<(), Inconsistent> {
        let (mut mapped, mut owned) = (0, 0);
        for frame in self.pool.frames() {
            self.check_frame(kernel, frame)?;
            let record = &self.pool[frame];
            mapped += usize::from(record.is_mapped());
            // The slot of a page that is being written, or read, is counted by its mark.
            let counts = record.is_mapped() || record.state == State::Orphan;
            owned += usize::from(counts && record.slot.is_some());
        }
        for (va, entry) in ranges.iter().flat_map(|range| kernel.entries(range.clone())) {
            match Place::of(entry) {
                Place::Disk(slot) => {
                    owned += 1;
                    Inconsistent::unless(!self.slots.is_free(slot), "a mark names a free slot", slot.number())?;
                }
                Place::Memory => {
                    let is_mapped = self.pool.find(entry).is_some_and(|frame| self.pool[frame].is_mapped());
                    Inconsistent::unless(is_mapped, "a page is not known", va.0)?;
                }
                _ => return Err(Inconsistent { what: "a strange mark", value: va.0 }),
            }
        }
        let all = owned + self.slots.free() + self.slots.set_aside_so_far() + 1;
        Inconsistent::unless(all == slots as usize, "slots with an owner, or free", all as u64)?;
        let present = self.policy.present();
        Inconsistent::unless(present == mapped, "pages that the policy knows", present as u64)?;
        Inconsistent::unless(self.policy.check().is_ok(), "the policy", 0u64)
    }

    fn check_frame<K: Evict>(&self, kernel: &K, frame: PoolFrame) -> Result<(), Inconsistent> {
        let record = &self.pool[frame];
        let entry = kernel.pte(self.va(record.page));
        let owner = record.slot.and_then(|slot| self.requests.find(slot)).map(|(_, frame)| frame);
        let (wants_request, wants_entry) = match record.state {
            State::Free => return Inconsistent::unless(self.pool.is_free(frame), "a free frame", frame.0),
            State::Held => return Inconsistent::unless(!self.pool.is_free(frame), "a held frame", frame.0),
            State::Resident => (false, self.pool.find(entry) == Some(frame)),
            State::Rescued => (true, self.pool.find(entry) == Some(frame)),
            State::Writing | State::Reading => (true, record.slot.map(Slot::word) == Some(entry.word())),
            State::Orphan => (true, self.pool.find(entry) != Some(frame)),
        };
        Inconsistent::unless(wants_entry, "the page table entry for a frame", frame.0)?;
        let has_request = owner == Some(frame);
        Inconsistent::unless(has_request == wants_request, "the request of a frame", frame.0)
    }
}

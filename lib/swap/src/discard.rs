//! Pages that the program gives up.

use crate::disk::Disk;
use crate::error::Error;
use crate::evict::TRIES;
use crate::kernel::Evict;
use crate::mark::{Place, Slot};
use crate::pool::State;
use crate::requests::Progress;
use crate::swap::Swap;
use abi::{Pte, Va};
use core::ops::Range;
use replacement::Policy;

impl<D: Disk, P: Policy> Swap<'_, D, P> {
    /// Frees the frames and slots of pages that the program gives up. The caller removes the pages and marks then.
    pub fn discard<K: Evict>(&mut self, kernel: &mut K, range: &Range<Va>) {
        for (_, entry) in kernel.entries(range.clone()) {
            match Place::of(entry) {
                Place::Memory => self.discard_page::<K>(entry),
                Place::Disk(slot) => self.discard_slot::<K>(slot),
                Place::Zeros | Place::Unknown => {}
            }
        }
    }

    fn discard_page<K: Evict>(&mut self, entry: Pte) {
        let Some(frame) = self.pool.find(entry).filter(|&frame| self.pool[frame].is_mapped()) else { return };
        let record = &mut self.pool[frame];
        self.policy.remove(record.page);
        if record.state == State::Rescued {
            record.state = State::Orphan;
        } else {
            let slot = record.slot.take();
            slot.into_iter().for_each(|slot| self.slots.release_on(&mut self.disk, slot));
            // It is still mapped, so it is held for the time being.
            self.pool.release::<K>(frame);
        }
    }

    fn discard_slot<K: Evict>(&mut self, slot: Slot) {
        let Some((id, frame)) = self.requests.find(slot) else { return self.slots.release_on(&mut self.disk, slot) };
        if self.requests[id].progress == Progress::Read {
            self.slots.release_on(&mut self.disk, slot);
            self.pool.release::<K>(frame);
            self.requests.take_out(id, frame);
        } else {
            self.pool[frame].state = State::Orphan;
        }
    }

    /// Waits until everything is written that has left. What could not be written is written again.
    ///
    /// # Errors
    /// [`Error::Write`] if that fails, too. Those of the kernel.
    pub fn settle<K: Evict>(&mut self, kernel: &mut K) -> Result<(), Error> {
        let before = self.counts.failures;
        while self.wait::<K>() || self.counts.failures < before + TRIES && self.write_again(kernel, true)? {}
        self.pool.release_held::<K>();
        match self.unwritten() {
            Some(failure) => Err(Error::Write(failure)),
            None => Ok(()),
        }
    }
}

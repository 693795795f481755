//! Faults: where the contents of a page come from.
//!
//! ```text
//!                      fault: zeros                    evicted: written to
//!     never touched ------------------> resident ----------------------------> being written
//!           ^                            ^ |  ^                                   |  |
//!           |   evicted: never written   | |  |            fault: rescued         |  | written
//!           +----------------------------|-+  +-----------------------------------+  |
//!                                        |                                           v
//!                                        +------------ fault: read ------------- on the disk
//!                                        |                                           ^
//!                                        +-- evicted: not written to since ----------+
//! ```
//!
//! A page that is being written and one on the disk look the same in the page table: their mark names a slot.

use crate::disk::{Disk, PoolFrame};
use crate::error::Error;
use crate::kernel::Evict;
use crate::mark::Place;
use crate::pool::{RESERVE, State};
use crate::swap::Swap;
use pager::{Region, Touch};
use replacement::{Page, Policy};

/// For how many faults pages that were touched last stay.
const STAY: u8 = 16;

impl<D: Disk, P: Policy> Swap<'_, D, P> {
    /// Makes an access possible. Returns whether it is: a page that is present, or a mark that was not made here, is for
    /// somebody else.
    ///
    /// # Errors
    /// See [`Error`]. Nothing is lost, and the access can be tried again.
    pub fn fault<K: Evict>(&mut self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<bool, Error> {
        let page = self.page(touch.va.page())?;
        self.stay = if self.recent.contains(&page) { STAY } else { self.stay.saturating_sub(1) };
        match Place::of(touch.entry) {
            Place::Memory | Place::Unknown => return Ok(false),
            Place::Zeros => self.fresh(kernel, page, region)?,
            Place::Disk(slot) => self.page_in(kernel, page, slot, region)?,
        }
        self.recent.rotate_right(1);
        self.recent[0] = page;
        Ok(true)
    }

    /// Brings in pages that were never touched.
    fn fresh<K: Evict>(&mut self, kernel: &mut K, page: Page, region: &Region<K>) -> Result<(), Error> {
        if self.make_room(kernel, RESERVE + 1).is_err() {
            // A page that was touched lately can be read again, but a fresh page has no other place.
            self.stay = 0;
            self.make_room(kernel, RESERVE + 1)?;
        }
        self.write_ahead(kernel);
        let window = self.ahead.window(page, region.order);
        let most = window.min(self.pool.free() - RESERVE);
        let wanted = self.neighbours(kernel, page, most, region, |_, entry| entry.is_empty());
        let Some(run) = self.pool.take_run(wanted) else { return Err(Error::AllPinned(self.pool.len())) };
        let count = run.len();
        for number in run.clone() {
            kernel.zero(self.pool.va(PoolFrame(number)));
        }
        let result = self.map(kernel, page, PoolFrame(run.start), count as u32, region.perms);
        let mut full = Ok(());
        for (number, at) in run.zip(page.0..) {
            let (frame, at) = (PoolFrame(number), Page(at));
            if result.is_err() && !kernel.pte(self.va(at)).is_present() {
                self.pool.release::<K>(frame);
                continue;
            }
            let record = &mut self.pool[frame];
            (record.state, record.page, record.slot, record.is_dirty) = (State::Resident, at, None, false);
            self.counts.fresh += 1;
            full = full.and(self.inserted(at));
        }
        result?;
        full?;
        self.ahead.note(page, count, window);
        Ok(())
    }
}

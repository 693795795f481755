//! Page-ins: pages come back from the disk, or from a frame whose write has not ended.
//!
//! A page that is read goes into a free frame, which is then mapped: nothing is copied. Its neighbours come with it, if
//! they are in the next slots and the program seems to need them; and when it has got to the end of a stream, the next
//! pages are read while it uses those. What is read ahead is mapped when the first of its pages is touched.

use crate::disk::{BATCH, Cause, Direction, Disk, Failure, PoolFrame, RequestId};
use crate::error::Error;
use crate::kernel::{self, Evict};
use crate::mark::{Place, Slot};
use crate::pool::{RESERVE, State};
use crate::requests::Progress;
use crate::swap::Swap;
use abi::{PageOp, Perms};
use arrayvec::ArrayVec;
use pager::Region;
use replacement::{Page, Policy};

/// The window from which a stream is worth reading ahead of it.
const STEADY: usize = 4;

impl<D: Disk, P: Policy> Swap<'_, D, P> {
    /// Brings in a page that is on the disk, or on the way.
    pub(crate) fn page_in<K: Evict>(
        &mut self,
        kernel: &mut K,
        page: Page,
        slot: Slot,
        region: &Region<K>,
    ) -> Result<(), Error> {
        let found = self.requests.find(slot).map(|(id, frame)| (id, frame, self.requests[id].progress));
        if let Some((_, frame, Progress::InFlight(Direction::Write) | Progress::ToWrite(_))) = found {
            return self.rescue(kernel, frame, region.perms);
        }
        let window = self.ahead.window(page, region.order);
        let result = match found {
            Some((id, ..)) => self.finish_read(kernel, id, page, region),
            None => self.read_now(kernel, page, slot, window, region),
        };
        let count = match result {
            // Only this page is needed.
            Err(Error::Read(..)) if found.is_some() || window > 1 => self.read_now(kernel, page, slot, 1, region)?,
            result => result?,
        };
        self.ahead.note(page, count, window);
        if window >= STEADY {
            self.read_ahead(kernel, Page(page.0 + count as u32), window, region);
        }
        Ok(())
    }

    /// Reads and maps a page, and neighbours as `window` says. Returns how many.
    fn read_now<K: Evict>(
        &mut self,
        kernel: &mut K,
        page: Page,
        slot: Slot,
        window: usize,
        region: &Region<K>,
    ) -> Result<usize, Error> {
        self.make_room(kernel, 1)?;
        while self.requests.unused().is_none() && (self.drop_unclaimed::<K>() || self.wait::<K>()) {}
        let mut id = self.read(kernel, page, slot, window, region);
        while id.is_none() && self.wait::<K>() {
            id = self.read(kernel, page, slot, window, region);
        }
        let lost = Failure { cause: Cause::Lost, sector: slot.sector() };
        self.finish_read(kernel, id.ok_or(Error::Read(self.va(page), lost))?, page, region)
    }

    /// Waits for a request, and maps its pages. Returns how many.
    fn finish_read<K: Evict>(
        &mut self,
        kernel: &mut K,
        id: RequestId,
        page: Page,
        region: &Region<K>,
    ) -> Result<usize, Error> {
        self.awaited = Some(id);
        // The disk reads meanwhile.
        self.write_ahead(kernel);
        while self.requests[id].progress == Progress::InFlight(Direction::Read) {
            self.wait::<K>();
        }
        self.awaited = None;
        if let Progress::NotRead(failure) = self.requests[id].progress {
            self.requests.set(id, Progress::Unused);
            return Err(Error::Read(self.va(page), failure));
        }
        self.claim(kernel, id, page, region)
    }

    /// Maps a page again whose contents are still in its frame. It is written nevertheless: if the program only reads the
    /// page, its slot is good then.
    fn rescue<K: Evict>(&mut self, kernel: &mut K, frame: PoolFrame, perms: Perms) -> Result<(), Error> {
        let page = self.pool[frame].page;
        self.map(kernel, page, frame, 1, perms)?;
        self.counts.rescued += 1;
        let record = &mut self.pool[frame];
        (record.state, record.is_dirty) = (State::Rescued, false);
        Ok(self.policy.insert(page)?)
    }

    /// Begins to read a page, and as many neighbours as `window` says if they are in the next slots. `None`: the disk, or
    /// the table of requests, has no room.
    fn read<K: Evict>(
        &mut self,
        kernel: &K,
        page: Page,
        slot: Slot,
        window: usize,
        region: &Region<K>,
    ) -> Option<RequestId> {
        let id = self.requests.unused()?;
        let is_next = |index, entry| {
            let next = slot.ahead(index);
            Place::of(entry) == Place::Disk(next) && self.requests.find(next).is_none()
        };
        let wanted = self.neighbours(kernel, page, window.min(self.pool.free()), region, is_next);
        let wanted = self.disk.together(slot, wanted);
        let request = &mut self.requests[id];
        let frames = &mut request.frames;
        frames.clear();
        while frames.len() < wanted
            && let Some(run) = self.pool.take_run(wanted - frames.len())
        {
            frames.extend(run.map(|frame| Some(PoolFrame(frame))));
        }
        for (index, frame) in frames.iter().flatten().enumerate() {
            let record = &mut self.pool[*frame];
            (record.state, record.page) = (State::Reading, Page(page.0 + index as u32));
            (record.slot, record.is_dirty) = (Some(slot.ahead(index)), false);
        }
        request.first = slot;
        self.start(id, Direction::Read, Progress::Unused);
        if self.requests[id].progress == Progress::Unused {
            self.requests[id].pages().for_each(|(frame, _)| self.pool.release::<K>(frame));
            return None;
        }
        Some(id)
    }

    /// Maps the pages of a request that has been read, from `page` on, as far as they are in the region. Returns how many.
    fn claim<K: Evict>(
        &mut self,
        kernel: &mut K,
        id: RequestId,
        page: Page,
        region: &Region<K>,
    ) -> Result<usize, Error> {
        let mut ops = ArrayVec::<PageOp, { 2 * BATCH }>::new();
        let mut claimed = ArrayVec::<PoolFrame, BATCH>::new();
        for (frame, _) in self.requests[id].pages() {
            let (source, va) = (self.pool.va(frame), self.va(self.pool[frame].page));
            if !region.range().contains(&va) {
                self.pool.release::<K>(frame);
                continue;
            }
            claimed.push(frame);
            match ops.last_mut().filter(|last| region.is_writable() && continues(last, source, va)) {
                Some(last) => last.count += 1,
                None => kernel::map(source, va, 1, region.perms, |op| {
                    ops.push(op);
                    Ok::<(), Error>(())
                })?,
            }
        }
        self.requests.set(id, Progress::Unused);
        let result = match ops[..] {
            [op] => kernel.op(op),
            _ => kernel.ops(&ops),
        };
        let (mut count, mut full) = (0, Ok(()));
        for &frame in &claimed {
            let at = self.pool[frame].page;
            // After an error, the page table says which pages are there.
            if result.is_err() && !kernel.pte(self.va(at)).is_present() {
                self.pool.release::<K>(frame);
                continue;
            }
            count += usize::from(at >= page);
            self.pool[frame].state = State::Resident;
            full = full.and(self.inserted(at));
        }
        self.counts.page_ins += count as u64;
        full?;
        result?;
        Ok(count)
    }

    /// Begins to read the next pages of a stream, if frames are at hand.
    fn read_ahead<K: Evict>(&mut self, kernel: &K, page: Page, window: usize, region: &Region<K>) {
        let va = self.va(page);
        let window = window.min(self.pool.free().saturating_sub(RESERVE));
        if window > 0
            && region.range().contains(&va)
            && let Place::Disk(slot) = Place::of(kernel.pte(va))
            && self.requests.find(slot).is_none()
        {
            self.read(kernel, page, slot, window, region);
        }
    }
}

/// Whether a page follows those that an operation maps.
fn continues(last: &PageOp, source: abi::Va, va: abi::Va) -> bool {
    let pages = u64::from(last.count);
    last.source.add_pages(pages) == source && last.va.add_pages(pages) == va
}

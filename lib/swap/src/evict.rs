//! Eviction: frames are freed before they are needed.
//!
//! The policy chooses a batch of pages. Each page is replaced by a mark: a clean one by the slot that has its contents, or
//! by nothing if it is still zeros; a dirty one by a new slot. Dirty pages of a batch get consecutive slots, in the order
//! of their addresses, so that one request writes many, and later one request reads many. The program goes on while they
//! are written.

use crate::disk::{BATCH, Direction, Disk, Failure, PoolFrame, RequestId};
use crate::error::Error;
use crate::kernel::Evict;
use crate::looks::{Clearing, Looker};
use crate::mark::Slot;
use crate::pool::{NO_PAGE, State};
use crate::requests::Progress;
use crate::swap::Swap;
use abi::Va;
use arrayvec::ArrayVec;
use replacement::Policy;

/// Frames of pages that leave together.
type Frames = ArrayVec<PoolFrame, BATCH>;

/// How many requests may fail before a fault, or [`Swap::settle`], gives up.
pub(crate) const TRIES: u64 = 4;

/// Writes that are prepared.
type Writes = ArrayVec<RequestId, BATCH>;

impl<D: Disk, P: Policy> Swap<'_, D, P> {
    /// Makes sure that `wanted` frames are free.
    pub(crate) fn make_room<K: Evict>(&mut self, kernel: &mut K, wanted: usize) -> Result<(), Error> {
        if self.pool.free() >= wanted {
            return Ok(());
        }
        let before = self.counts.failures;
        self.collect::<K>();
        while self.pool.free() < wanted {
            let progress = self.counts.failures < before + TRIES
                && (self.requests.writing() == 0 && self.evict(kernel)? > 0
                    || self.drop_unclaimed::<K>()
                    || self.wait::<K>()
                    || self.write_again(kernel, true)?);
            if !progress {
                return Err(self.no_room());
            }
        }
        Ok(())
    }

    /// Notes what has ended.
    fn collect<K: Evict>(&mut self) {
        while let Some(completion) = self.disk.poll() {
            self.complete::<K>(completion);
        }
        self.pool.release_held::<K>();
    }

    /// Evicts a batch if few frames are free, and does not wait for it. What fails here is tried again, and reported, by
    /// [`Swap::make_room`] when a frame is needed.
    pub(crate) fn write_ahead<K: Evict>(&mut self, kernel: &mut K) {
        if self.pool.free() >= self.low() {
            return;
        }
        self.collect::<K>();
        let _ = self.write_again(kernel, false);
        // With few slots left, pages leave only when their frames are needed: others would have to be read again.
        while self.slots.free() >= self.batch
            && self.pool.free() + self.requests.writing() < self.low()
            && self.evict(kernel).is_ok_and(|count| count > 0)
        {}
    }

    /// The failure of a request that is to be written again.
    pub(crate) fn unwritten(&self) -> Option<Failure> {
        self.requests.used().find_map(|id| match self.requests[id].progress {
            Progress::ToWrite(failure) => failure,
            _ => None,
        })
    }

    /// The reason for which no frame could be freed.
    fn no_room(&self) -> Error {
        match self.unwritten() {
            Some(failure) => Error::Write(failure),
            None if self.slots.free() == 0 => Error::DiskFull,
            None => Error::AllPinned(self.pool.len()),
        }
    }

    /// Evicts a batch of pages, and begins to write those that are dirty. Returns how many pages left.
    fn evict<K: Evict>(&mut self, kernel: &mut K) -> Result<usize, Error> {
        if self.requests.unused_for_write().is_none() {
            return Ok(0);
        }
        let mut victims = Frames::new();
        self.choose(kernel, &mut victims);
        victims.sort_unstable_by_key(|&frame| self.pool[frame].page);
        let mut writes = Writes::new();
        self.give_slots(&mut victims, &mut writes)?;
        let words = victims.iter().map(|&frame| {
            let record = &self.pool[frame];
            (self.va(record.page), record.slot.map_or(0, Slot::word))
        });
        let mut marks = ArrayVec::<(Va, u64), BATCH>::new();
        marks.extend(words);
        let result = if marks.is_empty() { Ok(()) } else { kernel.evict(&marks) };
        for &frame in &victims {
            // After an error, the page table says which pages have left.
            let stays = result.is_err() && kernel.pte(self.va(self.pool[frame].page)).is_present();
            self.left::<K>(frame, stays)?;
        }
        for &id in &writes {
            self.start(id, Direction::Write, Progress::ToWrite(None));
        }
        result?;
        Ok(victims.len())
    }

    /// Lets the policy choose pages.
    fn choose<K: Evict>(&mut self, kernel: &mut K, victims: &mut Frames) {
        self.batches = self.batches.wrapping_add(1);
        let most = self.batch;
        let mut looker = Looker {
            kernel,
            pool: &mut self.pool,
            base: self.base,
            slots: self.slots.free(),
            recent: if self.stay > 0 { self.recent } else { [NO_PAGE; _] },
            batch: self.batches,
            clearing: Clearing::new(),
        };
        if self.policy.scan_interval().is_some_and(|interval| self.since_scan >= interval) {
            self.since_scan = 0;
            looker.scan(&mut self.policy);
        }
        while victims.len() < most
            && let Some(page) = self.policy.evict(&mut |page| looker.look(page))
        {
            victims.extend(looker.victim(page));
        }
        looker.finish();
    }

    /// Gives slots to the dirty pages among the victims, and puts these into requests. Pages for which there is no slot
    /// or no request are victims no more.
    fn give_slots(&mut self, victims: &mut Frames, writes: &mut Writes) -> Result<(), Error> {
        let mut dirty = Frames::new();
        dirty.extend(victims.iter().copied().filter(|&frame| self.pool[frame].is_dirty));
        for &frame in &dirty {
            if let Some(stale) = self.pool[frame].slot.take() {
                self.slots.release_on(&mut self.disk, stale);
            }
        }
        let mut rest = &dirty[..];
        while !rest.is_empty()
            && let Some(id) = self.requests.unused_for_write()
            && let Some((first, count)) = self.slots.take_run(rest.len())
        {
            let (now, later) = rest.split_at(count);
            for (index, &frame) in now.iter().enumerate() {
                self.pool[frame].slot = Some(first.ahead(index));
            }
            self.prepare(id, first, now);
            writes.push(id);
            rest = later;
        }
        victims.retain(|frame| !rest.contains(frame));
        for &frame in rest {
            self.policy.insert(self.pool[frame].page)?;
        }
        Ok(())
    }

    /// Fills in a request that is to be written.
    pub(crate) fn prepare(&mut self, id: RequestId, first: Slot, frames: &[PoolFrame]) {
        let request = &mut self.requests[id];
        request.first = first;
        request.frames.clear();
        request.frames.extend(frames.iter().copied().map(Some));
        self.requests.set(id, Progress::ToWrite(None));
    }

    /// Notes that a page has left, or that the kernel did not let it go. In that case a write is in flight while the page
    /// is mapped, as if the page had been rescued.
    fn left<K: Evict>(&mut self, frame: PoolFrame, stays: bool) -> Result<(), Error> {
        let record = &mut self.pool[frame];
        let is_written = record.is_dirty;
        record.state = match (stays, is_written) {
            (true, true) => State::Rescued,
            (true, false) => State::Resident,
            (false, true) => State::Writing,
            (false, false) => {
                self.counts.dropped += 1;
                self.pool.release::<K>(frame);
                return Ok(());
            }
        };
        self.counts.written += u64::from(is_written);
        let page = record.page;
        if stays { Ok(self.policy.insert(page)?) } else { Ok(()) }
    }
}

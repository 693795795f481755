//! The end of requests, and what failed.
//!
//! A page whose write failed is still in its frame. It stays there, is found if it is touched, and is written to another
//! slot when frames are needed. The slot that the disk named is set aside. A page whose read failed keeps its mark, and
//! the next fault on it tries again.

use crate::disk::{BATCH, Cause, Completion, Direction, Disk, Failure, PoolFrame, RequestId};
use crate::error::Error;
use crate::kernel::Evict;
use crate::mark::Slot;
use crate::pool::State;
use crate::requests::Progress;
use crate::swap::Swap;
use abi::Va;
use arrayvec::ArrayVec;
use replacement::Policy;

impl<D: Disk, P: Policy> Swap<'_, D, P> {
    /// Gives a request to the disk. Its state is `otherwise` if the disk has no room.
    pub(crate) fn start(&mut self, id: RequestId, direction: Direction, otherwise: Progress) {
        let request = &self.requests[id];
        // (An `ArrayVec` that is collected is also moved, as a whole.)
        let mut frames = ArrayVec::<PoolFrame, BATCH>::new();
        frames.extend(request.frames.iter().copied().flatten());
        let progress = match self.disk.submit(id, direction, request.first, &frames) {
            Ok(()) => Progress::InFlight(direction),
            Err(_) => otherwise,
        };
        self.counts.requests += u64::from(progress != otherwise);
        self.requests.set(id, progress);
    }

    /// Waits for the end of a request, if one is in flight.
    pub(crate) fn wait<K: Evict>(&mut self) -> bool {
        let waits = self.requests.in_flight() > 0;
        if waits {
            match self.disk.wait() {
                Some(completion) => self.complete::<K>(completion),
                None => self.lose_all::<K>(),
            }
        }
        waits
    }

    /// The driver knows of no request, so all have failed.
    fn lose_all<K: Evict>(&mut self) {
        for id in self.requests.used() {
            let result = Err(Failure { cause: Cause::Lost, sector: self.requests[id].first.sector() });
            self.complete::<K>(Completion { request: id, result });
        }
    }

    /// Notes the end of a request.
    pub(crate) fn complete<K: Evict>(&mut self, completion: Completion) {
        let id = completion.request;
        let Some(Progress::InFlight(direction)) = self.requests.get(id).map(|request| request.progress) else { return };
        if let Err(failure) = completion.result {
            self.last_failure = Some(failure);
            self.counts.failures += 1;
        }
        match direction {
            Direction::Read => self.complete_read::<K>(id, completion.result),
            Direction::Write => self.complete_write::<K>(id, completion.result),
        }
    }

    fn complete_read<K: Evict>(&mut self, id: RequestId, result: Result<(), Failure>) {
        self.requests.set(id, result.map_or_else(Progress::NotRead, |()| Progress::Read));
        for index in 0..self.requests[id].frames.len() {
            let Some((frame, slot)) = self.requests[id].page(index) else { continue };
            let is_orphan = self.pool[frame].state == State::Orphan;
            if is_orphan {
                self.slots.release_on(&mut self.disk, slot);
            }
            if is_orphan && result.is_ok() {
                self.requests.take_out(id, frame);
            }
            if is_orphan || result.is_err() {
                self.pool.release::<K>(frame);
            }
        }
        if result.is_err() && self.awaited != Some(id) {
            self.requests.set(id, Progress::Unused);
        }
    }

    fn complete_write<K: Evict>(&mut self, id: RequestId, result: Result<(), Failure>) {
        if let Err(failure) = result {
            return self.requests.set(id, Progress::ToWrite(Some(failure)));
        }
        for (frame, slot) in self.requests[id].pages() {
            match self.pool[frame].state {
                State::Rescued => self.pool[frame].state = State::Resident,
                state => {
                    if state == State::Orphan {
                        self.slots.release_on(&mut self.disk, slot);
                    }
                    self.pool.release::<K>(frame);
                }
            }
        }
        self.requests.set(id, Progress::Unused);
    }

    /// Frees frames that were read and then not touched. Returns whether there were any.
    pub(crate) fn drop_unclaimed<K: Evict>(&mut self) -> bool {
        let is_read = |id: &RequestId| self.requests[*id].progress == Progress::Read;
        let Some(id) = self.requests.used().find(is_read) else { return false };
        for (frame, _) in self.requests[id].pages() {
            self.pool.release::<K>(frame);
        }
        self.requests.set(id, Progress::Unused);
        true
    }

    /// Writes what the disk had no room for, and with `failed` what it could not write, to other slots if there are some.
    /// Returns whether a request began.
    pub(crate) fn write_again<K: Evict>(&mut self, kernel: &mut K, failed: bool) -> Result<bool, Error> {
        let mut began = false;
        for id in self.requests.used() {
            let Progress::ToWrite(failure) = self.requests[id].progress else { continue };
            let again = match failure {
                None => id,
                Some(failure) if failed => self.find_other_slots(kernel, id, failure)?,
                Some(_) => continue,
            };
            self.start(again, Direction::Write, Progress::ToWrite(failure));
            began |= self.requests[again].progress == Progress::InFlight(Direction::Write);
        }
        Ok(began)
    }

    /// Moves the last pages of a request that failed to other slots, all of them if enough slots follow each other.
    /// Returns the request that has these pages then. If there are no slots, the old ones are tried again.
    fn find_other_slots<K: Evict>(
        &mut self,
        kernel: &mut K,
        id: RequestId,
        failure: Failure,
    ) -> Result<RequestId, Error> {
        let pages: ArrayVec<(PoolFrame, Slot), BATCH> = self.requests[id].pages().collect();
        let Some((first, count)) = self.slots.take_run(pages.len()) else { return Ok(id) };
        let (stay, go) = pages.split_at(pages.len() - count);
        let to = if stay.is_empty() { Some(id) } else { self.requests.unused_for_write() };
        let moved = to.map(|_| self.move_marks(kernel, go, first));
        let bad = Some(failure).filter(|failure| failure.cause == Cause::Medium);
        let bad = bad.and_then(|failure| Slot::of_sector(failure.sector));
        for (index, &(frame, old)) in go.iter().enumerate() {
            let new = first.ahead(index);
            if moved != Some(Ok(())) {
                self.slots.release_on(&mut self.disk, new);
                continue;
            }
            self.pool[frame].slot = Some(new);
            if bad == Some(old) { self.slots.set_aside(old) } else { self.slots.release_on(&mut self.disk, old) }
        }
        moved.transpose()?;
        let Some(to) = to else { return Ok(id) };
        let frames: ArrayVec<PoolFrame, BATCH> = go.iter().map(|(frame, _)| *frame).collect();
        self.requests[id].frames.truncate(stay.len());
        self.prepare(to, first, &frames);
        Ok(to)
    }

    /// Changes the marks of pages to other slots, or changes nothing.
    fn move_marks<K: Evict>(&self, kernel: &mut K, pages: &[(PoolFrame, Slot)], first: Slot) -> Result<(), Error> {
        let marks = pages.iter().enumerate().filter(|(_, (frame, _))| self.pool[*frame].state == State::Writing);
        let marks = marks.map(|(index, (frame, old))| (self.va(self.pool[*frame].page), old, first.ahead(index)));
        let words = marks.clone().map(|(va, _, new)| (va, new.word()));
        let words: ArrayVec<(Va, u64), BATCH> = words.collect();
        if words.is_empty() {
            return Ok(());
        }
        kernel.evict(&words).or_else(|error| {
            // Those that have changed can change back.
            let changed = marks.filter(|(va, _, new)| kernel.pte(*va).word() == new.word());
            let back: ArrayVec<(Va, u64), BATCH> = changed.map(|(va, old, _)| (va, old.word())).collect();
            if !back.is_empty() {
                kernel.evict(&back)?;
            }
            Err(error.into())
        })
    }
}

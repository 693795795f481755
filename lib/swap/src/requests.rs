//! The requests to the disk that are not done with.
//!
//! A page whose write or read is in flight has its slot as a mark, like any page on the disk. Whether its contents are in
//! a frame is found here, among at most 32 requests of consecutive slots.

use crate::disk::{BATCH, Direction, Failure, PoolFrame, RequestId};
use crate::mark::Slot;
use arrayvec::ArrayVec;
use core::ops::{Index, IndexMut};

/// The state of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// The place in the table is free.
    Unused,
    /// The disk works on it.
    InFlight(Direction),
    /// The pages are in their frames, and not mapped yet.
    Read,
    /// The pages are not in the frames, which are free again. A fault that has waited will see this.
    NotRead(Failure),
    /// The pages are to be written: the disk had no room for the request, or could not write them.
    ToWrite(Option<Failure>),
}

/// A request to the disk.
#[derive(Debug)]
pub struct Request {
    pub(crate) progress: Progress,
    /// The slot of the first frame; the others follow.
    pub(crate) first: Slot,
    /// The frames; `None` where a page that was read has been given up.
    pub(crate) frames: ArrayVec<Option<PoolFrame>, BATCH>,
}

impl Request {
    /// No request.
    #[must_use]
    pub fn unused() -> Request {
        let first = Slot::new(1).expect("it is not 0");
        Request { progress: Progress::Unused, first, frames: ArrayVec::new_const() }
    }

    /// The frames with their slots.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (PoolFrame, Slot)> {
        (0..self.frames.len()).filter_map(|index| self.page(index))
    }

    /// The frame with this index, with its slot, unless it has been given up.
    pub(crate) fn page(&self, index: usize) -> Option<(PoolFrame, Slot)> {
        Some(((*self.frames.get(index)?)?, self.first.ahead(index)))
    }
}

/// The requests of a pager.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    all: &'a mut [Request],
    /// The requests that are not [`Progress::Unused`], a bit for each.
    used: u32,
    in_flight: usize,
    /// The number of frames in requests to write.
    writing: usize,
}

impl<'a> Requests<'a> {
    /// An empty table with room for this many requests.
    pub(crate) fn new(all: &'a mut [Request]) -> Requests<'a> {
        all.iter_mut().for_each(|request| *request = Request::unused());
        let most = all.len().min(u32::BITS as usize);
        Requests { all: &mut all[..most], used: 0, in_flight: 0, writing: 0 }
    }

    /// The number of requests that the disk works on.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The number of frames that the disk writes.
    pub(crate) fn writing(&self) -> usize {
        self.writing
    }

    /// The requests that are not done with.
    pub(crate) fn used(&self) -> impl Iterator<Item = RequestId> + use<> {
        let mut used = self.used;
        core::iter::from_fn(move || {
            let first = (used != 0).then_some(RequestId(used.trailing_zeros() as u8));
            used &= used.wrapping_sub(1);
            first
        })
    }

    /// A place for another request.
    pub(crate) fn unused(&self) -> Option<RequestId> {
        let id = self.used.trailing_ones();
        ((id as usize) < self.all.len()).then_some(RequestId(id as u8))
    }

    /// A place for a request to write. One place is left to requests that read: pages that cannot be written must not
    /// keep others from being read.
    pub(crate) fn unused_for_write(&self) -> Option<RequestId> {
        self.unused().filter(|_| (self.used.count_ones() as usize) + 1 < self.all.len())
    }

    /// Changes the state of a request.
    pub(crate) fn set(&mut self, id: RequestId, progress: Progress) {
        let (before, frames) = (self[id].progress, self[id].frames.len());
        let flies = |progress| usize::from(matches!(progress, Progress::InFlight(_)));
        let writes = |progress| if progress == Progress::InFlight(Direction::Write) { frames } else { 0 };
        self.in_flight = self.in_flight + flies(progress) - flies(before);
        self.writing = self.writing + writes(progress) - writes(before);
        let bit = 1 << id.0;
        self.used = if progress == Progress::Unused { self.used & !bit } else { self.used | bit };
        self[id].progress = progress;
    }

    /// The request that a slot belongs to, and its frame there.
    #[inline]
    pub(crate) fn find(&self, slot: Slot) -> Option<(RequestId, PoolFrame)> {
        let mut left = self.used;
        while left != 0 {
            let id = RequestId(left.trailing_zeros() as u8);
            left &= left - 1;
            let request = &self[id];
            let index = slot.number().wrapping_sub(request.first.number()) as usize;
            if let Some(Some(frame)) = request.frames.get(index) {
                return Some((id, *frame));
            }
        }
        None
    }

    /// Takes a page out of a request that has read it. A request without pages is done with.
    pub(crate) fn take_out(&mut self, id: RequestId, frame: PoolFrame) {
        let request = &mut self[id];
        if let Some(place) = request.frames.iter_mut().find(|place| **place == Some(frame)) {
            *place = None;
        }
        if request.frames.iter().all(Option::is_none) {
            self.set(id, Progress::Unused);
        }
    }

    /// The request with this name, if there can be one.
    pub(crate) fn get(&self, id: RequestId) -> Option<&Request> {
        self.all.get(usize::from(id.0))
    }
}

impl Index<RequestId> for Requests<'_> {
    type Output = Request;

    #[inline]
    fn index(&self, id: RequestId) -> &Request {
        &self.all[usize::from(id.0)]
    }
}

impl IndexMut<RequestId> for Requests<'_> {
    #[inline]
    fn index_mut(&mut self, id: RequestId) -> &mut Request {
        &mut self.all[usize::from(id.0)]
    }
}

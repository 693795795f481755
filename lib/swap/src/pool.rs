//! The pool: the frames that the pager has, and what is in them.
//!
//! Frame `i` is mapped at `base + i * 4096` in the program for good, and in the page map of the disk's device. So the
//! program, the pager and the device each have a name for it that never changes. While a page is resident its frame is
//! mapped at the page's own address, too.
//!
//! ```text
//!                       fault: zeros                                evict: dirty
//!          +----------------------------------> Resident ----------------------------> Writing
//!          |                                    |  ^   ^                               |  |  |
//!          |   fault: read            read      |  |   |  written                fault |  |  | discard
//!        Free -----------> Reading -------------|--+   +--------- Rescued <------------+  |  |
//!          ^               |     |              |                    |                    |  |
//!          |  read failed  |     | discard      | evict: clean       | discard            |  |
//!          +---------------+     |              | discard            v                    |  |
//!          |                     +--------------|----------------> Orphan <---------------|--+
//!          |                                    |                    |                    |
//!          +------------- Held <----------------+                    | ended              | written
//!            unmapped everywhere ^                                   |                    |
//!                                +-----------------------------------+--------------------+
//! ```
//!
//! A frame passes through `Held` whenever something has ended: it is used again only when nothing outside of the pool has
//! it any more. Most often that is so at once.

use crate::bits::Bits;
use crate::disk::PoolFrame;
use crate::error::Error;
use crate::kernel::Evict;
use crate::mark::Slot;
use abi::{Frame, Pte, Va};
use core::ops::{Index, IndexMut, Range};
use replacement::Page;

/// The frames that fresh pages leave to pages that are on the disk already. So a program whose disk is full can still
/// reach everything that it has, also by an instruction that needs four pages at once.
pub const RESERVE: usize = 4;

/// The pages that were touched last. An instruction may need several pages at once. If one of them is missing again, they
/// stay for some faults.
pub(crate) type Recent = [Page; RESERVE - 1];

/// No page. (The last page that a pager could serve is not served.)
pub(crate) const NO_PAGE: Page = Page(u32::MAX);

/// The use of a frame of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing.
    Free,
    /// A page that is mapped, and no request uses the frame.
    Resident,
    /// A page that is mapped again while its write is in flight.
    Rescued,
    /// A page that is not mapped, and whose only contents are here until the disk has them.
    Writing,
    /// A page that is brought in, or was brought in before it is touched.
    Reading,
    /// A request uses the frame, but its page is gone.
    Orphan,
    /// Somebody else may still have the frame.
    Held,
}

/// A frame, as the pager knows it.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub(crate) state: State,
    /// The page was written since it was brought in. (The D bit says the same for the time since it was last cleared.)
    pub(crate) is_dirty: bool,
    /// The number of the last batch for which the A bit was seen: it is yet to be cleared, and does not count twice.
    pub(crate) seen_for: u32,
    pub(crate) page: Page,
    /// The page's slot: the copy there is good unless the page is dirty. While a request uses the frame, its slot there.
    pub(crate) slot: Option<Slot>,
    frame: Frame,
}

impl Record {
    /// A record of no frame.
    pub const EMPTY: Record =
        Record { state: State::Held, is_dirty: false, seen_for: 0, page: Page(0), slot: None, frame: Frame(0) };

    /// A page that is mapped.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.state, State::Resident | State::Rescued)
    }
}

/// The frames of a pager.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    base: Va,
    records: &'a mut [Record],
    /// Hash table from frames to numbers in the pool, plus one. Frames stay in the pool, so nothing is ever removed.
    index: &'a mut [u32],
    free: Bits<'a>,
    held: Bits<'a>,
    /// How many entries name a frame that nothing outside of the pool has.
    own_references: u32,
}

/// The multiplier that spreads neighbouring frame numbers over a hash table.
const SPREAD: u32 = 0x9e37_79b9;

impl<'a> Pool<'a> {
    /// The pool of the frames that are mapped from `base` on, one for each record.
    pub(crate) fn new<K: Evict>(
        kernel: &K,
        base: Va,
        records: &'a mut [Record],
        index: &'a mut [u32],
        [free, held]: [&'a mut [u64]; 2],
    ) -> Result<Pool<'a>, Error> {
        let words = Bits::words(records.len());
        let rooms = [("words for free frames", free.len(), words), ("words for held frames", held.len(), words)];
        for (what, there, needed) in rooms.into_iter().chain([("places in the index", index.len(), 2 * records.len())])
        {
            if there < needed {
                return Err(Error::TooLittle(what, needed));
            }
        }
        index.fill(0);
        let own_references = K::references(kernel.pte(base).frame());
        let mut pool = Pool { base, records, index, free: Bits::none(free), held: Bits::none(held), own_references };
        for number in 0..pool.len() {
            let frame = PoolFrame(number as u32);
            let entry = kernel.pte(pool.va(frame));
            let is_good = entry.has(Pte::PRESENT | Pte::WRITABLE) && K::references(entry.frame()) == own_references;
            if !is_good || pool.find(entry).is_some() {
                return Err(Error::BadPool(frame));
            }
            pool.records[number] = Record { state: State::Free, frame: entry.frame(), ..Record::EMPTY };
            pool.enter(entry.frame(), number as u32 + 1);
            pool.free.add(number);
        }
        Ok(pool)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The address of a frame in the pool.
    pub(crate) fn va(&self, frame: PoolFrame) -> Va {
        self.base.add_pages(frame.0.into())
    }

    /// The records of all frames.
    pub(crate) fn records_mut(&mut self) -> &mut [Record] {
        self.records
    }

    /// All frames.
    pub(crate) fn frames(&self) -> impl Iterator<Item = PoolFrame> + use<> {
        (0..self.records.len() as u32).map(PoolFrame)
    }

    /// The places of the index where a frame may be, in the order of the search.
    fn places(&self, frame: Frame) -> impl Iterator<Item = usize> + use<> {
        let places = self.index.len();
        let first = (u64::from(frame.0.wrapping_mul(SPREAD)) * places as u64) >> 32;
        (first as usize..places).chain(0..first as usize)
    }

    fn enter(&mut self, frame: Frame, number: u32) {
        if let Some(place) = self.places(frame).find(|&place| self.index[place] == 0) {
            self.index[place] = number;
        }
    }

    /// The frame that an entry names, if it is one of the pool.
    #[inline]
    pub(crate) fn find(&self, entry: Pte) -> Option<PoolFrame> {
        if !entry.is_present() {
            return None;
        }
        for place in self.places(entry.frame()) {
            let number = self.index[place].checked_sub(1)?;
            if self.records[number as usize].frame == entry.frame() {
                return Some(PoolFrame(number));
            }
        }
        None
    }

    /// Whether somebody else has a frame, besides the pool and `mapped` entries.
    pub(crate) fn has_others<K: Evict>(&self, frame: PoolFrame, mapped: u32) -> bool {
        K::references(self[frame].frame) != self.own_references + mapped
    }

    /// The number of free frames.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn is_free(&self, frame: PoolFrame) -> bool {
        self.free.contains(frame.0 as usize) && !self.held.contains(frame.0 as usize)
    }

    /// Takes free frames, consecutive ones, and at most `most`.
    pub(crate) fn take_run(&mut self, most: usize) -> Option<Range<u32>> {
        let run = self.free.take_run(most)?;
        Some(run.start as u32..run.end as u32)
    }

    /// Frees a frame that no page and no request needs any more, as soon as nobody else has it.
    pub(crate) fn release<K: Evict>(&mut self, frame: PoolFrame) {
        let is_free = !self.has_others::<K>(frame, 0);
        let state = if is_free { State::Free } else { State::Held };
        self[frame] = Record { state, frame: self[frame].frame, ..Record::EMPTY };
        if is_free {
            self.free.add(frame.0 as usize)
        } else {
            self.held.add(frame.0 as usize)
        };
    }

    /// Frees the held frames that nobody else has any more.
    pub(crate) fn release_held<K: Evict>(&mut self) {
        let mut number = 0;
        while self.held.len() > 0 {
            number = self.held.next_member(number);
            if number >= self.len() {
                break;
            }
            self.held.remove(number);
            self.release::<K>(PoolFrame(number as u32));
            number += 1;
        }
    }
}

impl Index<PoolFrame> for Pool<'_> {
    type Output = Record;

    #[inline]
    fn index(&self, frame: PoolFrame) -> &Record {
        &self.records[frame.0 as usize]
    }
}

impl IndexMut<PoolFrame> for Pool<'_> {
    #[inline]
    fn index_mut(&mut self, frame: PoolFrame) -> &mut Record {
        &mut self.records[frame.0 as usize]
    }
}

//! Compressed memory above a disk: pages that leave are compressed, and go to the disk later, or never.
//!
//! [`Compressed`] is a disk itself, so the pager does not know of it. Every page keeps its slot on the disk below. The
//! compressed pages are in a log, in the order in which they left:
//!
//! ```text
//!            tail             cleaned                      head
//!             v                  v                          v
//!   +---------+----+-------+-----+---+------+--------+------+----------------+
//!   |  free   | A* |  -    | B*  | C | D    |   -    | E    |     free       |
//!   +---------+----+-------+-----+---+------+--------+------+----------------+
//!   A*: its slot has it, too     -: dead; the page is not swapped any more, or has left again since
//! ```
//!
//! When the log is rather full, its oldest pages are restored to spare frames and written to their slots, up to
//! [`BATCH`] at once, because pages that left together have slots that follow each other. An entry is
//! good until the tail passes it, and the tail passes only what is dead or has been written. So nothing waits for the
//! disk: if the log has no room, a request goes to the disk as if there were no log.

use crate::disk::{BATCH, Completion, Direction, Disk, Full, PoolFrame, RequestId};
use crate::mark::Slot;
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;

/// The pages of the pool, as something that compresses them.
pub trait Codec {
    /// Compresses the page in a frame. Returns the number of bytes, or `None` if `out` is too small for them.
    fn compress(&mut self, frame: PoolFrame, out: &mut [u8]) -> Option<usize>;

    /// Restores the page that was compressed to these bytes.
    fn restore(&mut self, bytes: &[u8], frame: PoolFrame);
}

/// The unit of places in the log, in bytes.
const UNIT: usize = 8;
/// The bytes of an entry before its page: the slot, the number of bytes, and the state.
const HEADER: usize = 8;
/// A page that does not become this small is not worth it: it goes to the disk.
const LARGEST: usize = 3072;
/// Room for every entry.
const ENTRY: usize = HEADER + LARGEST;
/// The first id of the requests of this disk; those of the pager are smaller.
const IDS: u8 = 32;
/// The most requests of this disk in flight.
const FLIGHTS: usize = 4;

/// An entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    /// The number of the slot; 0: nothing, up to the end of the log.
    slot: u32,
    bytes: u16,
    state: State,
}

/// Where else the page of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Nowhere,
    /// A request that writes it to its slot is in flight.
    Leaving,
    /// In its slot.
    OnDisk,
}

impl Entry {
    fn size(self) -> usize {
        HEADER + usize::from(self.bytes).next_multiple_of(UNIT)
    }
}

/// A request of this disk: it writes these frames to slots from the first on.
#[derive(Debug)]
struct Flight {
    id: RequestId,
    first: Slot,
    frames: ArrayVec<PoolFrame, BATCH>,
}

impl Flight {
    fn has(&self, slot: u32) -> bool {
        let first = self.first.number();
        (first..first + self.frames.len() as u32).contains(&slot)
    }
}

/// Memory for compressed pages.
#[derive(Debug)]
pub struct Room<'a> {
    /// The log: several pages, or nothing.
    pub log: &'a mut [u8],
    /// An element for each slot of the disk.
    pub places: &'a mut [u32],
    /// Frames that the disk can read, beside those of the pool.
    pub spares: Range<u32>,
}

/// How often what happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CompressedCounts {
    /// Pages that were compressed.
    pub compressed: u64,
    /// Pages that were restored for the pager.
    pub restored: u64,
    /// Pages that went to the disk later.
    pub cleaned: u64,
    /// Pages that went to the disk at once, because they do not become smaller, or the log was full.
    pub passed: u64,
}

/// A disk with compressed memory above it.
#[derive(Debug)]
pub struct Compressed<'a, D, C> {
    disk: D,
    codec: C,
    log: &'a mut [u8],
    /// For each slot the place of its page in the log, in units and plus one; 0: it is not there.
    places: &'a mut [u32],
    /// The frames that no request of this disk uses.
    spares: ArrayVec<PoolFrame, BATCH>,
    all_spares: usize,
    /// Where the next entry goes.
    head: usize,
    /// The oldest entry.
    tail: usize,
    /// The bytes from the tail to the head.
    used: usize,
    /// The oldest entry that may have to be written.
    cleaned: usize,
    /// The bytes from there to the head.
    unclean: usize,
    flights: ArrayVec<Flight, FLIGHTS>,
    /// Requests of the pager that have ended.
    ended: ArrayVec<Completion, { 2 * IDS as usize }>,
    counts: CompressedCounts,
}

impl<'a, D: Disk, C: Codec> Compressed<'a, D, C> {
    /// A disk with an empty log. Without a log it is the disk below.
    pub fn new(disk: D, codec: C, room: Room<'a>) -> Self {
        let Room { log, places, spares } = room;
        let log = if log.len() < 2 * ENTRY || spares.is_empty() { &mut [] } else { log };
        let whole = log.len() / UNIT * UNIT;
        let spares: ArrayVec<_, BATCH> = spares.take(BATCH).map(PoolFrame).collect();
        places.fill(0);
        Compressed {
            disk,
            codec,
            log: &mut log[..whole],
            places,
            all_spares: spares.len(),
            spares,
            head: 0,
            tail: 0,
            used: 0,
            cleaned: 0,
            unclean: 0,
            flights: ArrayVec::new(),
            ended: ArrayVec::new(),
            counts: CompressedCounts::default(),
        }
    }

    /// How often what happened so far.
    pub fn counts(&self) -> CompressedCounts {
        self.counts
    }

    /// The disk below.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    fn entry(&self, at: usize) -> Entry {
        let header = self.log[at..].first_chunk::<HEADER>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let state = match header >> 48 {
            0 => State::Nowhere,
            1 => State::Leaving,
            _ => State::OnDisk,
        };
        Entry { slot: header as u32, bytes: (header >> 32) as u16, state }
    }

    fn set_entry(&mut self, at: usize, Entry { slot, bytes, state }: Entry) {
        let header = u64::from(slot) | u64::from(bytes) << 32 | (state as u64) << 48;
        self.log[at..at + HEADER].copy_from_slice(&header.to_le_bytes());
    }

    /// Where the page of a slot is in the log.
    fn place(&self, slot: Slot) -> Option<usize> {
        Some((*self.places.get(slot.number() as usize)? as usize).checked_sub(1)? * UNIT)
    }

    fn is_live(&self, at: usize, entry: Entry) -> bool {
        Slot::new(entry.slot).is_some_and(|slot| self.place(slot) == Some(at))
    }

    fn set_place(&mut self, slot: Slot, at: Option<usize>) {
        if let Some(place) = self.places.get_mut(slot.number() as usize) {
            *place = at.map_or(0, |at| (at / UNIT) as u32 + 1);
        }
    }

    /// The place behind an entry.
    fn behind(&self, at: usize, entry: Entry) -> usize {
        // An entry never reaches the very end: see `make_room`.
        if entry.slot == 0 { 0 } else { at + entry.size() }
    }

    /// The bytes that an entry takes.
    fn size(&self, at: usize, entry: Entry) -> usize {
        if entry.slot == 0 { self.log.len() - at } else { entry.size() }
    }

    /// Moves the tail until there is room for any entry at the head. `false` if a page is in the way that is nowhere else.
    fn make_room(&mut self) -> bool {
        loop {
            let rest = self.log.len() - self.head;
            let wanted = if rest <= ENTRY { rest + ENTRY } else { ENTRY };
            if self.used + wanted <= self.log.len() {
                if rest <= ENTRY {
                    self.set_entry(self.head, Entry { slot: 0, bytes: 0, state: State::OnDisk });
                    (self.head, self.used, self.unclean) = (0, self.used + rest, self.unclean + rest);
                }
                return true;
            }
            let entry = self.entry(self.tail);
            if entry.state != State::OnDisk && self.is_live(self.tail, entry) {
                return false;
            }
            if self.is_live(self.tail, entry)
                && let Some(slot) = Slot::new(entry.slot)
            {
                self.set_place(slot, None);
            }
            self.pass_oldest(entry);
        }
    }

    /// Compresses a page into the log.
    fn put(&mut self, slot: Slot, frame: PoolFrame) -> bool {
        if !self.make_room() {
            return false;
        }
        let (at, page) = (self.head, self.head + HEADER);
        let Some(bytes) = self.codec.compress(frame, &mut self.log[page..page + LARGEST]) else { return false };
        let entry = Entry { slot: slot.number(), bytes: bytes as u16, state: State::Nowhere };
        self.set_entry(at, entry);
        self.set_place(slot, Some(at));
        self.head = self.behind(at, entry);
        (self.used, self.unclean) = (self.used + entry.size(), self.unclean + entry.size());
        true
    }

    /// Moves the tail past what is dead.
    fn drop_dead(&mut self) {
        while self.used > 0 {
            let entry = self.entry(self.tail);
            if self.is_live(self.tail, entry) {
                return;
            }
            self.pass_oldest(entry);
        }
    }

    /// Moves the tail past its entry, which nobody needs.
    fn pass_oldest(&mut self, entry: Entry) {
        self.used -= self.size(self.tail, entry);
        self.tail = self.behind(self.tail, entry);
        if self.unclean > self.used {
            (self.cleaned, self.unclean) = (self.tail, self.used);
        }
    }

    /// Writes the oldest pages to the disk, so that the tail can pass them.
    fn clean(&mut self) {
        self.drop_dead();
        let quarter = self.log.len() / 4;
        while self.used > 2 * quarter && self.used - self.unclean < quarter && self.unclean > 0 {
            if self.flights.is_full() || !self.write_oldest() {
                return;
            }
        }
    }

    /// Begins to write the oldest pages that are nowhere else, if their slots follow each other. `false` if the disk, or
    /// the spare frames, have no room.
    fn write_oldest(&mut self) -> bool {
        let mut frames = ArrayVec::<PoolFrame, BATCH>::new();
        let mut first = None;
        let (mut at, mut left) = (self.cleaned, self.unclean);
        while left > 0 {
            let entry = self.entry(at);
            if self.is_live(at, entry) && entry.state == State::Nowhere {
                let follows = first.is_none_or(|first: Slot| first.number() + frames.len() as u32 == entry.slot);
                let busy = self.flights.iter().any(|flight| flight.has(entry.slot));
                if !follows || busy || self.spares.is_empty() {
                    break;
                }
                let Some(frame) = self.spares.pop() else { break };
                self.codec.restore(&self.log[at + HEADER..][..usize::from(entry.bytes)], frame);
                first = first.or(Slot::new(entry.slot));
                frames.push(frame);
            }
            left -= self.size(at, entry);
            at = self.behind(at, entry);
        }
        let Some(first) = first else {
            let moved = left < self.unclean;
            (self.cleaned, self.unclean) = (at, left);
            return moved;
        };
        let id = (IDS..).map(RequestId).find(|id| self.flights.iter().all(|flight| flight.id != *id));
        let id = id.unwrap_or(RequestId(IDS));
        if self.disk.submit(id, Direction::Write, first, &frames).is_err() {
            self.spares.extend(frames);
            return false;
        }
        for index in 0..frames.len() {
            self.set_state(first.ahead(index), State::Nowhere, State::Leaving);
        }
        self.counts.cleaned += frames.len() as u64;
        self.flights.push(Flight { id, first, frames });
        (self.cleaned, self.unclean) = (at, left);
        true
    }

    /// Changes the state of the page of a slot, if it is in the log with the state `from`.
    fn set_state(&mut self, slot: Slot, from: State, to: State) {
        if let Some(at) = self.place(slot) {
            let entry = self.entry(at);
            if entry.state == from {
                self.set_entry(at, Entry { state: to, ..entry });
            }
        }
    }

    /// Notes the end of a request. Returns it if it is the pager's.
    fn end(&mut self, completion: Completion) -> Option<Completion> {
        let Some(index) = self.flights.iter().position(|flight| flight.id == completion.request) else {
            return Some(completion);
        };
        let Flight { first, frames, .. } = self.flights.swap_remove(index);
        let to = if completion.result.is_ok() { State::OnDisk } else { State::Nowhere };
        for index in 0..frames.len() {
            self.set_state(first.ahead(index), State::Leaving, to);
        }
        self.spares.extend(frames);
        if completion.result.is_err() {
            // They are tried again.
            (self.cleaned, self.unclean) = (self.tail, self.used);
        }
        None
    }

    /// Waits until no request of this disk writes to these slots.
    fn wait_for(&mut self, slots: Range<u32>) {
        while self.flights.iter().any(|flight| slots.clone().any(|slot| flight.has(slot)))
            && let Some(completion) = self.disk.wait()
        {
            let ended = self.end(completion);
            self.ended.extend(ended);
        }
    }

    /// Lets the disk below do a request. If it is full of requests of this disk, one of them has to end first: the pager
    /// does not know of them, and could not wait.
    fn pass(
        &mut self,
        request: RequestId,
        direction: Direction,
        first: Slot,
        frames: &[PoolFrame],
    ) -> Result<(), Full> {
        let mut submitted = self.disk.submit(request, direction, first, frames);
        while submitted.is_err()
            && !self.flights.is_empty()
            && let Some(completion) = self.disk.wait()
        {
            let ended = self.end(completion);
            self.ended.extend(ended);
            submitted = self.disk.submit(request, direction, first, frames);
        }
        submitted
    }

    fn write(&mut self, request: RequestId, first: Slot, frames: &[PoolFrame]) -> Result<(), Full> {
        let slots = || (0..frames.len()).map(|index| first.ahead(index));
        if slots().zip(frames).all(|(slot, &frame)| self.put(slot, frame)) {
            self.counts.compressed += frames.len() as u64;
            self.ended.push(Completion { request, result: Ok(()) });
            self.clean();
            return Ok(());
        }
        slots().for_each(|slot| self.set_place(slot, None));
        self.wait_for(first.number()..first.number() + frames.len() as u32);
        self.clean();
        self.pass(request, Direction::Write, first, frames)?;
        self.counts.passed += frames.len() as u64;
        Ok(())
    }

    /// Checks that the log and the places agree.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), Inconsistent> {
        let (mut at, mut left, mut live, mut leaving) = (self.tail, self.used, 0, 0);
        while left > 0 {
            let entry = self.entry(at);
            let is_live = self.is_live(at, entry);
            live += usize::from(is_live);
            leaving += usize::from(is_live && entry.state == State::Leaving);
            left = left.checked_sub(self.size(at, entry)).ok_or(Inconsistent("an entry reaches over the head"))?;
            at = self.behind(at, entry);
        }
        let flying: usize = self.flights.iter().map(|flight| flight.frames.len()).sum();
        let problems = [
            (at != self.head && left == 0, "the entries do not end at the head"),
            (self.places.iter().filter(|place| **place != 0).count() != live, "a slot names no entry"),
            (leaving > flying, "a page is leaving, and no request writes it"),
            (flying + self.spares.len() != self.all_spares, "a spare frame is lost"),
            (self.unclean > self.used, "more is to be written than there is"),
        ];
        let found = problems.into_iter().find(|(is_wrong, _)| *is_wrong && !self.log.is_empty());
        found.map_or(Ok(()), |(_, what)| Err(Inconsistent(what)))
    }
}

/// A contradiction between the log and the places of slots: a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inconsistent(pub &'static str);

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Inconsistent {}

impl<D: Disk, C: Codec> Disk for Compressed<'_, D, C> {
    fn submit(
        &mut self,
        request: RequestId,
        direction: Direction,
        first: Slot,
        frames: &[PoolFrame],
    ) -> Result<(), Full> {
        if self.log.is_empty() {
            return self.disk.submit(request, direction, first, frames);
        }
        if direction == Direction::Write {
            return self.write(request, first, frames);
        }
        if self.place(first).is_none() {
            return self.pass(request, direction, first, frames);
        }
        for (index, &frame) in frames.iter().enumerate() {
            if let Some(at) = self.place(first.ahead(index)) {
                let entry = self.entry(at);
                self.codec.restore(&self.log[at + HEADER..][..usize::from(entry.bytes)], frame);
            }
        }
        self.counts.restored += frames.len() as u64;
        self.ended.push(Completion { request, result: Ok(()) });
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        loop {
            if let Some(ended) = self.ended.pop() {
                return Some(ended);
            }
            let completion = self.disk.poll()?;
            let ended = self.end(completion);
            self.ended.extend(ended);
        }
    }

    fn wait(&mut self) -> Option<Completion> {
        loop {
            if let Some(ended) = self.ended.pop() {
                return Some(ended);
            }
            let completion = self.disk.wait()?;
            let ended = self.end(completion);
            self.ended.extend(ended);
        }
    }

    fn together(&self, first: Slot, count: usize) -> usize {
        let is_here = |index| self.place(first.ahead(index)).is_some();
        if self.log.is_empty() {
            count
        } else {
            (1..count).take_while(|&index| is_here(index) == is_here(0)).count() + 1
        }
    }

    fn forget(&mut self, slot: Slot) {
        self.set_place(slot, None);
    }
}

//! A disk that does everything that a disk may do: requests end in any order, memory is read and written at any time
//! between, and requests fail.

use crate::machine::{Words, fill, words};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use swap::{BATCH, Cause, Completion, Direction, Disk, Failure, Full, PoolFrame, RequestId, Slot};

/// Bytes that nobody may see: a frame that is read has them until the request ends.
const GARBAGE: Words = [0xa5a5_a5a5_a5a5_a5a5; 512];

/// A request in flight.
struct Flight {
    number: u64,
    id: RequestId,
    direction: Direction,
    first: Slot,
    frames: Vec<abi::Frame>,
    /// The pages as the device has read them, if it has read them already.
    early: Option<Vec<Words>>,
}

/// The state of the disk.
#[derive(Default)]
pub struct Inside {
    /// The frames of the pool.
    pub pool: Vec<abi::Frame>,
    pub slots: BTreeMap<u32, Words>,
    flights: Vec<Flight>,
    /// The most requests in flight; 0 is none.
    pub most: usize,
    /// Decides in which order requests end, and when the device reads memory.
    pub random: u64,
    /// Requests end as soon as they begin.
    pub instant: bool,
    /// Requests end only when somebody waits.
    pub slow: bool,
    /// Which of the requests in flight ends next, as long as there are choices here.
    pub order: VecDeque<usize>,
    /// The driver forgets its requests.
    pub forgets: bool,
    /// Slots that cannot be written, or read.
    pub bad: Vec<(Direction, u32)>,
    /// The request, counted from 0, that fails for another reason.
    pub fails_at: Option<u64>,
    /// All requests fail: the disk does not answer.
    pub dead: bool,
    /// Requests so far: to read, to write, and the pages of both.
    pub reads: u64,
    pub writes: u64,
    pub pages: u64,
    /// How often the pager waited.
    pub waits: u64,
}

impl Inside {
    fn draw(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % limit
    }

    fn failure(&self, flight: &Flight) -> Option<Failure> {
        let slots = (0..flight.frames.len()).map(|index| flight.first.ahead(index));
        let is_bad = |slot: &Slot| self.bad.contains(&(flight.direction, slot.number()));
        let bad = slots.into_iter().find(is_bad).map(|slot| (Cause::Medium, slot));
        let other = (self.dead || self.fails_at == Some(flight.number)).then_some((Cause::Deadline, flight.first));
        other.or(bad).map(|(cause, slot)| Failure { cause, sector: slot.sector() })
    }

    /// Ends a request.
    fn end(&mut self) -> Option<Completion> {
        if self.flights.is_empty() {
            return None;
        }
        let count = self.flights.len();
        let index = self.order.pop_front().map_or_else(|| self.draw(count), |choice| choice % count);
        let flight = self.flights.swap_remove(index);
        let failure = self.failure(&flight);
        for (index, frame) in flight.frames.iter().enumerate() {
            let slot = flight.first.ahead(index).number();
            // A request that fails may have moved some of its pages.
            let moves = failure.is_none() || self.draw(2) == 0;
            match flight.direction {
                Direction::Read if moves => {
                    fill(*frame, self.slots.get(&slot).unwrap_or_else(|| panic!("slot {slot} was never written")));
                }
                Direction::Write if moves && !self.bad.contains(&(Direction::Write, slot)) => {
                    let early = flight.early.as_ref().map(|pages| pages[index]);
                    self.slots.insert(slot, early.unwrap_or_else(|| words(*frame)));
                }
                _ => {}
            }
        }
        Some(Completion { request: flight.id, result: failure.map_or(Ok(()), Err) })
    }
}

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inside>>);

impl Fake {
    /// A disk that can have `most` requests in flight.
    pub fn new(pool: Vec<abi::Frame>, most: usize) -> Fake {
        Fake(Arc::new(Mutex::new(Inside { pool, most, random: 1, ..Inside::default() })))
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("no test has panicked")
    }
}

impl Disk for Fake {
    fn submit(&mut self, id: RequestId, direction: Direction, first: Slot, frames: &[PoolFrame]) -> Result<(), Full> {
        let mut inside = self.inside();
        assert!((1..=BATCH).contains(&frames.len()));
        if inside.flights.len() >= inside.most {
            return Err(Full);
        }
        let frames: Vec<_> = frames.iter().map(|frame| inside.pool[frame.0 as usize]).collect();
        for other in &inside.flights {
            let [one, two] = [first, other.first].map(Slot::number);
            let apart = one + frames.len() as u32 <= two || two + other.frames.len() as u32 <= one;
            assert!(apart, "two requests use slots from {one} and {two} on");
            assert!(other.id != id && !other.frames.iter().any(|frame| frames.contains(frame)), "{id:?}");
        }
        let number = inside.reads + inside.writes;
        let early = (direction == Direction::Write && inside.draw(2) == 0)
            .then(|| frames.iter().map(|frame| words(*frame)).collect());
        if direction == Direction::Read {
            frames.iter().for_each(|frame| fill(*frame, &GARBAGE));
            inside.reads += 1;
        } else {
            inside.writes += 1;
        }
        inside.pages += frames.len() as u64;
        if inside.forgets {
            return Ok(());
        }
        inside.flights.push(Flight { number, id, direction, first, frames, early });
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut inside = self.inside();
        let ends = inside.instant || !inside.slow && inside.draw(3) == 0;
        if ends { inside.end() } else { None }
    }

    fn wait(&mut self) -> Option<Completion> {
        let mut inside = self.inside();
        inside.waits += 1;
        inside.end()
    }
}

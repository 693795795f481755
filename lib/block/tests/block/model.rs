//! Random requests, compared with the contents that the disk must have.

use crate::Machine;
use crate::memory::Buffer;
use block::{Cause, Failed, REQUESTS, Refused, Request, Sector, Ticket};
use proptest::prelude::*;
use std::collections::HashMap;
use std::ops::Range;

/// The sectors that requests use: few, so that they overlap.
const SECTORS: u64 = 64;
/// Sectors that cannot be read or written.
const BAD: Range<u64> = 40..42;

#[derive(Clone, Debug)]
enum Step {
    /// A request: whether it writes, its first sector, and the number of sectors of each segment.
    Submit(bool, u64, Vec<usize>),
    Flush,
    Notify,
    /// The device completes one of the requests that it has taken.
    Complete(usize),
    Take,
    FailAll,
    Start,
}

fn step() -> impl Strategy<Value = Step> {
    let segments = prop::collection::vec(1..9_usize, 1..6);
    prop_oneof![
        8 => (any::<bool>(), 0..SECTORS, segments).prop_map(|(writes, at, parts)| Step::Submit(writes, at, parts)),
        1 => Just(Step::Flush),
        4 => Just(Step::Notify),
        8 => (0..REQUESTS).prop_map(Step::Complete),
        5 => Just(Step::Take),
        1 => Just(Step::FailAll),
        1 => Just(Step::Start),
    ]
}

/// A request in flight, as the test knows it.
struct Noted {
    writes: bool,
    sectors: Range<u64>,
    buffer: Buffer,
    /// The number of sectors of each segment.
    parts: Vec<usize>,
    /// Whether the device was reset since.
    is_lost: bool,
}

impl Noted {
    /// The bytes of the segments, each with its data. In memory they lie in the opposite order.
    fn segments(&self) -> impl Iterator<Item = Range<usize>> {
        let mut end = self.parts.iter().sum::<usize>() * 512;
        self.parts.iter().map(move |part| {
            end -= part * 512;
            end..end + part * 512
        })
    }

    /// The data in the order in which they are on the disk.
    fn data(&self) -> Vec<u8> {
        let memory = self.buffer.get();
        self.segments().flat_map(|range| memory[range].to_vec()).collect()
    }

    fn on_disk(&self) -> Range<usize> {
        self.sectors.start as usize * 512..self.sectors.end as usize * 512
    }
}

/// The contents that the disk must have, and what is in flight: nothing is noted about a flush.
struct Model {
    machine: Machine,
    contents: Vec<u8>,
    open: HashMap<Ticket, Option<Noted>>,
    /// The first byte that the next request has in its memory.
    pattern: u8,
}

impl Model {
    fn new() -> Model {
        let machine = Machine::with(|device| {
            device.shrink(SECTORS as usize + 40);
            device.bad.extend(BAD);
        });
        let contents = machine.device.borrow().contents.clone();
        Model { machine, contents, open: HashMap::new(), pattern: 0 }
    }

    fn submit(&mut self, writes: bool, sector: u64, parts: Vec<usize>) -> Result<(), TestCaseError> {
        let count: usize = parts.iter().sum();
        let sectors = sector..sector + count as u64;
        let noted = Noted { writes, sectors, buffer: self.machine.buffer(count * 512), parts, is_lost: false };
        // Each sector of each write has bytes of its own.
        let bytes = (0..count * 512).map(|at| self.pattern.wrapping_add((at / 512) as u8));
        noted.buffer.set(&bytes.collect::<Vec<_>>());
        self.pattern = self.pattern.wrapping_add(count as u8);
        let segments: Vec<_> = noted.segments().map(|range| noted.buffer.part(range)).collect();
        let request = if writes { Request::Write } else { Request::Read };
        self.note(request(Sector(sector), &segments), Some(noted))
    }

    fn note(&mut self, request: Request, noted: Option<Noted>) -> Result<(), TestCaseError> {
        match self.machine.disk.submit(request) {
            Ok(ticket) => prop_assert!(self.open.insert(ticket, noted).is_none(), "{ticket:?} was given out twice"),
            Err(Refused::Stopped(_)) => prop_assert!(self.machine.disk.stopped().is_some()),
            Err(error) => prop_assert_eq!(error, Refused::Full),
        }
        Ok(())
    }

    /// Takes all results. The device executes requests in the order in which it completes them.
    fn take(&mut self) -> Result<(), TestCaseError> {
        for (ticket, result) in self.machine.results() {
            let noted = self.open.remove(&ticket);
            prop_assert!(noted.is_some(), "{:?} ended twice", ticket);
            if let Some(Some(noted)) = noted {
                self.compare(&noted, result)?;
            }
        }
        prop_assert_eq!(self.machine.disk.in_flight(), self.open.len());
        Ok(())
    }

    fn compare(&mut self, noted: &Noted, result: Result<(), Failed>) -> Result<(), TestCaseError> {
        let failed = |cause| Err(Failed { cause, sector: Some(Sector(noted.sectors.start)) });
        if noted.is_lost {
            prop_assert!(result == failed(Cause::TimedOut) || result == failed(Cause::Stopped), "{:?}", result);
        } else if noted.sectors.start < BAD.end && BAD.start < noted.sectors.end {
            prop_assert_eq!(result, failed(Cause::Io));
        } else if noted.writes {
            prop_assert_eq!(result, Ok(()));
            self.contents[noted.on_disk()].copy_from_slice(&noted.data());
        } else {
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(&noted.data()[..], &self.contents[noted.on_disk()], "read {:?}", noted.sectors);
        }
        Ok(())
    }

    /// Notes that the device was reset: writes in flight have been executed or not.
    fn lose(&mut self) -> Result<(), TestCaseError> {
        let device = self.machine.device.borrow();
        // All bytes of a sector are alike.
        let mut allowed = self.contents.chunks(512).map(|sector| vec![sector[0]]).collect::<Vec<_>>();
        for noted in self.open.values_mut().flatten() {
            if noted.writes && !noted.is_lost {
                let sectors = &mut allowed[noted.sectors.start as usize..noted.sectors.end as usize];
                sectors.iter_mut().zip(noted.data().chunks(512)).for_each(|(allowed, data)| allowed.push(data[0]));
            }
            noted.is_lost = true;
        }
        let is_right = |(sector, allowed): (&[u8], Vec<u8>)| {
            allowed.contains(&sector[0]) && sector.iter().all(|byte| *byte == sector[0])
        };
        prop_assert!(device.contents.chunks(512).zip(allowed).all(is_right));
        self.contents.clone_from(&device.contents);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let device = self.machine.device.clone();
        match step {
            Step::Submit(writes, sector, parts) => self.submit(writes, sector, parts)?,
            Step::Flush => self.note(Request::Flush, None)?,
            Step::Notify => self.machine.disk.notify(),
            Step::Complete(index) if index < device.borrow().taken.len() => device.borrow_mut().complete(index),
            Step::Complete(_) => {}
            Step::Take => self.take()?,
            Step::FailAll => {
                prop_assert_eq!(self.machine.disk.fail_all(Cause::TimedOut), Ok(()));
                self.lose()?;
            }
            Step::Start => {
                prop_assert_eq!(self.machine.start(), Ok(()));
                self.lose()?;
            }
        }
        Ok(())
    }
}

proptest! {
    /// No request is lost or ends twice, and each does what it should.
    #[test]
    fn a_disk_has_the_contents_of_the_model(steps in prop::collection::vec(step(), 1..200)) {
        let mut model = Model::new();
        steps.into_iter().try_for_each(|step| model.step(step))?;
        // In the end the device completes everything.
        model.machine.disk.notify();
        while !model.machine.device.borrow().taken.is_empty() {
            model.step(Step::Complete(0))?;
        }
        model.take()?;
        prop_assert!(model.open.is_empty(), "{} requests were lost", model.open.len());
        prop_assert!(model.contents == model.machine.device.borrow().contents);
        prop_assert!(model.machine.device.borrow().iommu.faults.is_empty());
    }
}

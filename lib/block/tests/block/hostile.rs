//! Devices that do not follow their specification.

use crate::device::Device;
use crate::{Machine, Outcome};
use block::{Cause, Failed, REQUESTS, Request, Sector, Ticket, Violation};
use proptest::prelude::*;
use std::collections::HashSet;

/// Reads two sectors, has the device do something wrong, and takes all results.
fn broken(wrong: impl FnOnce(&mut Device)) -> ([Ticket; 2], Vec<Outcome>, Option<Cause>) {
    let mut machine = Machine::new();
    let buffer = machine.buffer(1024);
    let parts = [buffer.part(0..512), buffer.part(512..1024)];
    let tickets = [4, 5].map(|sector| machine.read(sector, &parts[sector as usize - 4..][..1]).expect("a ticket"));
    machine.disk.notify();
    wrong(&mut machine.device.borrow_mut());
    let results = machine.results();
    let cause = machine.disk.stopped();
    // It can be started again, and works.
    machine.start().expect("a start");
    assert_eq!(machine.results().len(), 2 - results.len());
    machine.read(6, &parts[..1]).expect("a ticket");
    assert_eq!((machine.run().len(), buffer.get()[0]), (1, 6));
    (tickets, results, cause)
}

/// Asserts that both requests fail for this violation.
fn breaks(violation: Violation, wrong: impl FnOnce(&mut Device)) {
    let (tickets, results, stopped) = broken(wrong);
    let cause = Cause::Broken(violation);
    let failed = |sector| Err(Failed { cause, sector: Some(Sector(sector)) });
    assert_eq!(results, [(tickets[0], failed(4)), (tickets[1], failed(5))], "{violation:?}");
    assert_eq!(stopped, Some(cause));
}

#[test]
fn completions_of_requests_that_were_not_made_break_the_disk() {
    // 1 is a descriptor in flight, but not the first one of a request.
    for id in [1, 6, 127, 128, 0x7fff, 0xffff] {
        breaks(Violation::NotInFlight(id), |device| device.push(id.into(), 513));
    }
    // An index that runs ahead shows entries that were never written.
    breaks(Violation::BadStatus(0xff), |device| device.advance(1));
    let (_, results, cause) = broken(|device| {
        device.complete(0);
        device.advance(0x8000);
    });
    assert_eq!((results.len(), cause), (2, Some(Cause::Broken(Violation::NotInFlight(0)))));
}

#[test]
fn a_request_completes_once() {
    let (tickets, results, cause) = broken(|device| {
        let head = device.taken[0].head;
        device.complete(0);
        device.push(head.into(), 513);
    });
    let cause = cause.expect("a stop");
    let failed = Err(Failed { cause, sector: Some(Sector(5)) });
    assert_eq!(
        (cause, results),
        (Cause::Broken(Violation::NotInFlight(0)), vec![(tickets[0], Ok(())), (tickets[1], failed)])
    );
}

#[test]
fn statuses_and_lengths_are_checked() {
    for status in [3, 0x80, 0xff] {
        breaks(Violation::BadStatus(status), |device| device.complete_with(0, status, 513));
    }
    for bytes in [514, u32::MAX, 511, 0] {
        breaks(Violation::BadLength { bytes, expected: 513 }, |device| device.complete_with(0, 0, bytes));
    }
    // The status was never written.
    breaks(Violation::BadStatus(0xff), |device| device.push(0, 513));
}

#[test]
fn the_status_of_an_earlier_request_does_not_count() {
    let mut machine = Machine::new();
    let first = machine.disk.submit(Request::Flush).expect("a ticket");
    assert_eq!(machine.run(), [(first, Ok(()))]);
    let ticket = machine.disk.submit(Request::Flush).expect("a ticket");
    machine.disk.notify();
    let head = machine.device.borrow().taken[0].head;
    machine.device.borrow_mut().push(head.into(), 1);
    let cause = Cause::Broken(Violation::BadStatus(0xff));
    assert_eq!(machine.results(), [(ticket, Err(Failed { cause, sector: None }))]);
}

#[test]
fn a_failed_read_may_be_short() {
    let (tickets, results, cause) = broken(|device| device.complete_with(0, 1, 1));
    let failed = Err(Failed { cause: Cause::Io, sector: Some(Sector(4)) });
    assert_eq!((results, cause), (vec![(tickets[0], failed)], None));
}

#[test]
fn a_write_need_not_count_its_status() {
    let mut machine = Machine::new();
    let ticket = machine.disk.submit(Request::Flush).expect("a ticket");
    machine.disk.notify();
    machine.device.borrow_mut().complete_with(0, 0, 0);
    assert_eq!(machine.results(), [(ticket, Ok(()))]);
}

/// `virtio-drivers` looks at the lower half of an id, so this is a completion of request 0.
#[test]
fn the_upper_half_of_an_id_is_ignored() {
    let (tickets, results, _) = broken(|device| device.complete_with_id(0, 0x5_0000));
    assert_eq!(results, [(tickets[0], Ok(()))]);
}

#[test]
fn a_disk_breaks_without_a_request_in_flight() {
    let mut machine = Machine::new();
    machine.device.borrow_mut().push(0, 0);
    assert_eq!(machine.results(), []);
    assert_eq!(machine.disk.stopped(), Some(Cause::Broken(Violation::NotInFlight(0))));
}

/// A step of a device that writes whatever it likes.
#[derive(Clone, Debug)]
enum Step {
    Submit,
    Complete(usize),
    Push(u32, u32),
    Advance(u16),
    /// Writes bytes anywhere in the two pages that it can write.
    Scribble(u64, u64),
    Take,
    Start,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Submit),
        4 => (0..REQUESTS).prop_map(Step::Complete),
        1 => (0..130_u32, 0..1100_u32).prop_map(|(id, bytes)| Step::Push(id, bytes)),
        1 => any::<u16>().prop_map(Step::Advance),
        1 => (0..8192 - 7_u64, any::<u64>()).prop_map(|(at, bytes)| Step::Scribble(at, bytes)),
        3 => Just(Step::Take),
        1 => Just(Step::Start),
    ]
}

proptest! {
    /// Whatever a device writes, each request ends once, and nothing is accessed that is not the driver's.
    #[test]
    fn requests_end_once_whatever_a_device_writes(steps in prop::collection::vec(step(), 1..200)) {
        let mut machine = Machine::with(|device| device.shrink(8));
        let buffer = machine.buffer(1024);
        let mut open = HashSet::new();
        for step in steps.into_iter().chain([Step::Start, Step::Take]) {
            let device = machine.device.clone();
            let writable = machine.disk.memory().start.0 + 4096;
            match step {
                Step::Submit => {
                    let ticket = machine.read(1, &[buffer.part(0..512), buffer.part(512..1024)]);
                    open.extend(ticket.ok());
                    machine.disk.notify();
                }
                Step::Complete(index) if index < device.borrow().taken.len() => device.borrow_mut().complete(index),
                Step::Push(id, bytes) if device.borrow().enabled => device.borrow_mut().push(id, bytes),
                Step::Advance(entries) if device.borrow().enabled => device.borrow_mut().advance(entries),
                Step::Scribble(at, bytes) => device.borrow_mut().iommu.write(writable + at, &bytes.to_le_bytes()),
                Step::Take => {
                    for (ticket, _) in machine.results() {
                        prop_assert!(open.remove(&ticket), "{ticket:?} ended twice");
                    }
                }
                Step::Start => prop_assert_eq!(machine.start(), Ok(())),
                _ => {}
            }
            prop_assert_eq!(machine.disk.in_flight(), open.len());
        }
        prop_assert!(open.is_empty(), "{open:?} were lost");
    }
}

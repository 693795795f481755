//! DMA faults, deadlines and resets.

use crate::Machine;
use crate::device::Flaw;
use block::{Cause, Failed, Refused, Request, Sector, StartError};

fn failed(cause: Cause, sector: u64) -> Result<(), Failed> {
    Err(Failed { cause, sector: Some(Sector(sector)) })
}

#[test]
fn requests_fail_after_a_fault_although_the_device_reports_success() {
    let mut machine = Machine::new();
    let [blocked, good] = [machine.buffer(512), machine.buffer(512)];
    machine.device.borrow_mut().iommu.unmap(&blocked.range());
    let first = machine.read(1, &[good.all()]).expect("a ticket");
    let second = machine.read(2, &[blocked.all()]).expect("a ticket");
    machine.disk.notify();
    machine.device.borrow_mut().complete(1);
    // The kernel reports the fault beside the interrupt.
    let fault = machine.device.borrow().iommu.faults[0];
    assert_eq!(fault.0, blocked.range().start);
    let cause = Cause::Blocked(fault);
    assert_eq!(machine.disk.fail_all(cause), Ok(()));
    assert_eq!(machine.disk.in_flight(), 2);
    assert_eq!(machine.results(), [(first, failed(cause, 1)), (second, failed(cause, 2))]);
    assert_eq!((blocked.get(), machine.disk.in_flight()), (vec![0; 512], 0));
    assert_eq!(machine.read(1, &[good.all()]), Err(Refused::Stopped(cause)));
    assert_eq!((machine.device.borrow().status, machine.disk.stopped()), (0, Some(cause)));
}

#[test]
fn a_disk_that_does_not_answer_is_started_again() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(4096);
    let old = machine.read(8, &[buffer.all()]).expect("a ticket");
    let flush = machine.disk.submit(Request::Flush).expect("a ticket");
    machine.disk.notify();
    assert_eq!(machine.disk.complete(), None);
    assert_eq!(machine.disk.fail_all(Cause::TimedOut), Ok(()));
    // The reset has ended all accesses to the memory of requests: QEMU executes what it has taken.
    assert_eq!(buffer.get()[..512], [8; 512]);
    assert_eq!(machine.start(), Ok(()));
    // Failed requests are not forgotten, and new ones do not wait for them.
    let new = machine.read(16, &[buffer.all()]).expect("a ticket");
    let results = machine.run();
    let timed_out = Err(Failed { cause: Cause::TimedOut, sector: None });
    assert_eq!(results, [(old, failed(Cause::TimedOut, 8)), (flush, timed_out), (new, Ok(()))]);
    assert_eq!(buffer.get()[..512], [16; 512]);
}

#[test]
fn a_start_fails_what_is_in_flight() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(512);
    let old = machine.read(3, &[buffer.all()]).expect("a ticket");
    assert_eq!(machine.start(), Ok(()));
    assert_eq!(machine.run(), [(old, failed(Cause::Stopped, 3))]);
    // The request was in the queue, but the new queue is empty.
    assert!(machine.device.borrow().taken.is_empty());
    let new = machine.read(3, &[buffer.all()]).expect("a ticket");
    assert_ne!(new, old);
    assert_eq!(machine.run(), [(new, Ok(()))]);
}

#[test]
fn requests_stay_in_flight_while_a_device_does_not_reset() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(512);
    let ticket = machine.read(3, &[buffer.all()]).expect("a ticket");
    machine.disk.notify();
    machine.device.borrow_mut().flaw = Some(Flaw::IgnoresReset);
    assert_eq!(machine.disk.fail_all(Cause::TimedOut), Err(StartError::NotReset(15)));
    assert_eq!((machine.disk.complete(), machine.disk.in_flight()), (None, 1));
    assert_eq!(machine.start(), Err(StartError::NotReset(15)));
    assert_eq!(machine.read(3, &[buffer.all()]), Err(Refused::Stopped(Cause::TimedOut)));
    // It may even complete now: that does not count.
    machine.device.borrow_mut().complete(0);
    assert_eq!(machine.disk.complete(), None);
    // The kernel stops it.
    machine.device.borrow_mut().status = 0;
    assert_eq!(machine.results(), [(ticket, failed(Cause::TimedOut, 3))]);
    machine.device.borrow_mut().flaw = None;
    assert_eq!(machine.start(), Ok(()));
}

#[test]
fn each_failure_keeps_its_own_cause() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(512);
    let first = machine.read(1, &[buffer.all()]).expect("a ticket");
    machine.disk.fail_all(Cause::TimedOut).expect("a reset");
    machine.start().expect("a start");
    let second = machine.read(2, &[buffer.all()]).expect("a ticket");
    machine.disk.fail_all(Cause::Stopped).expect("a reset");
    let results = [(first, failed(Cause::TimedOut, 1)), (second, failed(Cause::Stopped, 2))];
    assert_eq!(machine.results(), results);
}

#[test]
fn a_stopped_disk_stays_as_it_is() {
    let mut machine = Machine::new();
    machine.disk.fail_all(Cause::TimedOut).expect("a reset");
    assert_eq!(machine.disk.fail_all(Cause::Stopped), Ok(()));
    assert_eq!(machine.disk.stopped(), Some(Cause::TimedOut));
}

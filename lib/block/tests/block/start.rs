//! The start of a disk.

use crate::Machine;
use crate::device::{Device, Flaw, Rings};
use block::{Cause, Disk, Features, Limits, Refused, Request, StartError};

#[test]
fn a_disk_starts() {
    let machine = Machine::new();
    let device = machine.device.borrow();
    // Nothing else of what QEMU offers is accepted.
    assert_eq!(device.accepted, 0x3_0000_0244);
    assert_eq!((device.status, device.enabled, device.vectors), (15, true, [0xffff, 0]));
    let start = machine.disk.memory().start.0;
    let Rings { descriptors, available, used } = device.rings;
    assert_eq!([descriptors, available, used], [start, start + 2048, start + 4096]);
    assert_eq!(machine.disk.memory().end.0 - start, 3 * 4096);
    let limits = Limits {
        sectors: 2048,
        block: 512,
        segments: 32,
        segment_bytes: u32::MAX - 1,
        read_only: false,
        has_cache: true,
    };
    assert_eq!((machine.disk.limits(), machine.disk.stopped()), (&limits, None));
}

#[test]
fn limits_are_those_of_the_device() {
    let machine = Machine::with(|device| {
        device.offer(Features::RO | Features::SIZE_MAX);
        device.withhold(Features::FLUSH);
        device.registers = [16, 1, 8192, 5, 0, 4096];
    });
    let sectors = (1 << 32) + 16;
    let limits = Limits { sectors, block: 4096, segments: 5, segment_bytes: 8192, read_only: true, has_cache: false };
    assert_eq!(machine.disk.limits(), &limits);
    // Without the features, these registers have no meaning.
    let machine = Machine::with(|device| {
        device.withhold(Features::SIZE_MAX | Features::SEG_MAX | Features::BLK_SIZE);
        device.registers = [16, 0, 1, 1, 0, 1];
    });
    let limits = machine.disk.limits();
    assert_eq!((limits.block, limits.segments, limits.segment_bytes), (512, 32, u32::MAX - 1));
    // A device that allows no segment at all cannot mean it.
    assert_eq!(Machine::with(|device| device.registers[3] = 0).disk.limits().segments, 1);
}

#[test]
fn a_disk_that_was_not_started_refuses_requests() {
    let mut machine = Machine::stopped(|_| ());
    assert_eq!(machine.disk.submit(Request::Flush), Err(Refused::Stopped(Cause::Stopped)));
    assert_eq!((machine.disk.complete(), machine.disk.limits().sectors), (None, 0));
    machine.disk.notify();
    assert_eq!(machine.device.borrow().notified, 0);
}

#[test]
fn whatever_prevents_the_start_is_an_error_with_its_value() {
    let flaw = |flaw| move |device: &mut Device| device.flaw = Some(flaw);
    let fails = |change: &dyn Fn(&mut Device), error| {
        let mut machine = Machine::stopped(change);
        // A firmware may have used the device.
        machine.device.borrow_mut().status = 3;
        assert_eq!(machine.start(), Err(error));
        let device = machine.device.borrow();
        let is_reset = !matches!(error, StartError::NotReset(_) | StartError::TooFewRegisters(55));
        assert_eq!((device.enabled, device.status), (false, if is_reset { 0x80 } else { 3 }), "{error:?}");
        drop(device);
        assert_eq!(machine.disk.submit(Request::Flush), Err(Refused::Stopped(Cause::Stopped)));
    };
    let offered = Features::SEG_MAX | Features::BLK_SIZE | Features::FLUSH;
    let needed = Features::VERSION_1 | Features::ACCESS_PLATFORM;
    fails(&flaw(Flaw::IgnoresReset), StartError::NotReset(3));
    fails(&flaw(Flaw::RefusesFeatures), StartError::NotAccepted(offered | needed));
    fails(&flaw(Flaw::RefusesVector), StartError::VectorRefused(0xffff));
    fails(&flaw(Flaw::ChangesAlways), StartError::Unstable);
    fails(&flaw(Flaw::QueueInUse), StartError::QueueInUse);
    fails(&|device| device.withhold(Features::VERSION_1), StartError::Missing(Features::VERSION_1));
    fails(&|device| device.withhold(needed), StartError::Missing(needed));
    fails(&|device| device.queue_most = 64, StartError::QueueTooShort(64));
    fails(&|device| device.queue_most = 0, StartError::QueueTooShort(0));
    fails(&|device| device.notify_offset = 0x400, StartError::NotifyOutside(0x1000));
    let far = |device: &mut Device| (device.notify_offset, device.multiplier) = (0xffff, u32::MAX);
    fails(&far, StartError::NotifyOutside(0xffff * u64::from(u32::MAX)));
    fails(&|device| (device.notify_offset, device.multiplier) = (1, 3), StartError::NotifyOutside(3));
    fails(&|device| device.bytes[1] = 1, StartError::NotifyOutside(0));
    fails(&|device| (device.notify_offset, device.bytes[1]) = (3, 13), StartError::NotifyOutside(12));
    fails(&|device| device.bytes[0] = 55, StartError::TooFewRegisters(55));
    fails(&|device| device.bytes[2] = 23, StartError::TooFewRegisters(23));
    for size in [0, 256, 513, 8192] {
        fails(&|device| device.registers[5] = size, StartError::BlockSize(size));
    }
}

#[test]
fn the_last_notify_register_can_be_used() {
    let mut machine = Machine::with(|device| (device.notify_offset, device.bytes[1]) = (3, 14));
    machine.disk.submit(Request::Flush).expect("a ticket");
    assert_eq!(machine.run().len(), 1);
}

#[test]
fn a_start_within_a_start_is_refused() {
    // A page fault interrupts the start of a disk, and its handler starts another one.
    let mut inner = Machine::stopped(|_| ());
    let mut outer = Machine::stopped(|_| ());
    let (send, receive) = std::sync::mpsc::channel();
    outer.device.borrow_mut().on_enable = Some(Box::new(move || {
        // (`Machine::start` would wait for the outer start.)
        let start = Disk::start;
        let first = start(&mut inner.disk);
        send.send((first, inner)).expect("the test waits");
    }));
    assert_eq!(outer.start(), Ok(()));
    let (first, mut inner) = receive.recv().expect("the queue was enabled");
    assert_eq!(first, Err(StartError::Busy));
    assert_eq!(inner.start(), Ok(()));
    for mut machine in [outer, inner] {
        machine.disk.submit(Request::Flush).expect("a ticket");
        assert_eq!(machine.run().len(), 1);
    }
}

//! Requests that succeed, are refused, or fail.

use crate::Machine;
use block::{Cause, Failed, Features, QUEUE, REQUESTS, Refused, Request, SEGMENTS, Sector, Ticket};
use std::collections::HashSet;

#[test]
fn sectors_are_read_and_written() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(8192);
    let read = machine.read(5, &[buffer.all()]).expect("a ticket");
    assert_eq!(machine.run(), [(read, Ok(()))]);
    let expected: Vec<u8> = (5..21).flat_map(|sector| [sector; 512]).collect();
    assert_eq!(buffer.get(), expected);
    buffer.set(&[0xab; 8192]);
    let write = machine.write(100, &[buffer.all()]).expect("a ticket");
    let flush = machine.disk.submit(Request::Flush).expect("a ticket");
    assert_eq!(machine.run(), [(write, Ok(())), (flush, Ok(()))]);
    let device = machine.device.borrow();
    assert_eq!(device.contents[99 * 512..117 * 512], [&[99; 512][..], &[0xab; 8192], &[116; 512]].concat());
    assert!(device.iommu.faults.is_empty());
}

#[test]
fn segments_are_read_and_written_in_their_order() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(SEGMENTS * 512);
    // Backwards: the last piece of memory gets the first sector.
    let segments: Vec<_> = (0..SEGMENTS).rev().map(|index| buffer.part(index * 512..index * 512 + 512)).collect();
    machine.read(0, &segments).expect("a ticket");
    assert_eq!(machine.run().len(), 1);
    let expected: Vec<u8> = (0..SEGMENTS as u8).rev().flat_map(|sector| [sector; 512]).collect();
    assert_eq!(buffer.get(), expected);
    machine.write(64, &segments[1..4]).expect("a ticket");
    assert_eq!(machine.run().len(), 1);
    assert_eq!(machine.device.borrow().contents[64 * 512..67 * 512], [[1; 512], [2; 512], [3; 512]].concat());
}

#[test]
fn one_notification_serves_many_requests() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(512);
    let tickets: Vec<_> = (0..5).map(|sector| machine.read(sector, &[buffer.all()]).expect("a ticket")).collect();
    assert_eq!((machine.device.borrow().taken.len(), machine.disk.in_flight()), (0, 5));
    let results: Vec<_> = tickets.into_iter().map(|ticket| (ticket, Ok(()))).collect();
    assert_eq!(machine.run(), results);
    assert_eq!((machine.device.borrow().notified, machine.disk.in_flight()), (1, 0));
    // The device can ask not to be notified.
    machine.device.borrow_mut().is_quiet = true;
    machine.device.borrow_mut().advance(0);
    machine.read(0, &[buffer.all()]).expect("a ticket");
    machine.disk.notify();
    assert_eq!(machine.device.borrow().notified, 1);
}

#[test]
fn requests_complete_in_any_order() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(4 * 512);
    let part = |index: usize| buffer.part(index * 512..index * 512 + 512);
    let tickets: Vec<_> = (0..4).map(|index| machine.read(index as u64, &[part(index)]).expect("a ticket")).collect();
    machine.disk.notify();
    machine.device.borrow_mut().complete(2);
    assert_eq!(machine.results(), [(tickets[2], Ok(()))]);
    machine.device.borrow_mut().complete(2);
    machine.device.borrow_mut().complete(0);
    assert_eq!(machine.results(), [(tickets[3], Ok(())), (tickets[0], Ok(()))]);
    assert_eq!(machine.disk.in_flight(), 1);
    assert_eq!(buffer.get(), [[0; 512], [0; 512], [2; 512], [3; 512]].concat());
    machine.device.borrow_mut().complete(0);
    assert_eq!(machine.results(), [(tickets[1], Ok(()))]);
}

#[test]
fn tickets_differ_and_their_indexes_too() {
    let mut machine = Machine::new();
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let submit = |_| machine.disk.submit(Request::Flush).expect("a ticket");
        let tickets: Vec<_> = (0..REQUESTS).map(submit).collect();
        assert_eq!(machine.disk.submit(Request::Flush), Err(Refused::Full));
        let indexes: HashSet<_> = tickets.iter().map(|ticket| ticket.index()).collect();
        assert!(indexes.len() == REQUESTS && indexes.iter().all(|&index| index < REQUESTS));
        assert!(tickets.into_iter().all(|ticket| seen.insert(ticket)), "a ticket was given out twice");
        assert_eq!(machine.run().len(), REQUESTS);
    }
}

#[test]
fn descriptors_can_be_exhausted() {
    let mut machine = Machine::new();
    let buffer = machine.buffer(512);
    let most = QUEUE / (SEGMENTS + 2);
    let segments = [buffer.all(); SEGMENTS];
    (0..most).for_each(|_| assert!(machine.read(0, &segments).is_ok()));
    assert_eq!(machine.read(0, &segments), Err(Refused::Full));
    // What is left is enough for smaller ones.
    let rest = QUEUE - most * (SEGMENTS + 2);
    machine.read(0, &segments[..rest - 2]).expect("a ticket");
    assert_eq!(machine.disk.submit(Request::Flush), Err(Refused::Full));
    assert_eq!(machine.run().len(), most + 1);
    assert!(machine.read(0, &segments).is_ok());
}

#[test]
fn rings_wrap_around() {
    // Indexes have 16 bits.
    let mut machine = Machine::new();
    let buffer = machine.buffer(1024);
    for round in 0..70_000_u64 {
        let sector = round % 2000;
        let ticket = machine.read(sector, &[buffer.part(0..512), buffer.part(512..1024)]).expect("a ticket");
        assert_eq!(machine.run(), [(ticket, Ok(()))], "round {round}");
        assert_eq!((buffer.get()[511], buffer.get()[512]), (sector as u8, (sector + 1) as u8));
    }
}

#[test]
fn bad_requests_are_refused_with_the_value() {
    let mut machine = Machine::with(|device| {
        device.offer(Features::SIZE_MAX);
        device.registers = [2048, 0, 8192, 3, 0, 1024];
    });
    let buffer = machine.buffer(16384);
    let part = |bytes| buffer.part(0..bytes);
    let out_of_range = |sector, count| Refused::OutOfRange { sector: Sector(sector), count, sectors: 2048 };
    let cases = [
        (2046, vec![part(2048)], out_of_range(2046, 4)),
        (2048, vec![part(1024)], out_of_range(2048, 2)),
        (2050, vec![part(1024)], out_of_range(2050, 2)),
        (u64::MAX - 1, vec![part(1024)], out_of_range(u64::MAX - 1, 2)),
        (1, vec![part(1024)], Refused::UnalignedSector { sector: Sector(1), block: 1024 }),
        (0, vec![part(1024), part(512)], Refused::UnalignedSegment { bytes: 512, block: 1024 }),
        (0, vec![part(1025)], Refused::UnalignedSegment { bytes: 1025, block: 1024 }),
        (2050, vec![], Refused::Empty(Sector(2050))),
        (2, vec![part(1024), part(0)], Refused::Empty(Sector(2))),
        (0, vec![part(1024); 4], Refused::TooManySegments { segments: 4, most: 3 }),
        (0, vec![part(9216)], Refused::TooLarge { bytes: 9216, most: 8192 }),
    ];
    for (sector, segments, error) in cases {
        assert!(!error.to_string().is_empty());
        assert_eq!(machine.read(sector, &segments), Err(error));
        assert_eq!(machine.write(sector, &segments), Err(error));
    }
    assert_eq!(machine.run(), []);
    assert_eq!((machine.disk.in_flight(), machine.device.borrow().used), (0, 0));
    // The largest request that is possible.
    assert!(machine.read(2000, &[part(8192); 3]).is_ok());
    assert_eq!(machine.run().len(), 1);
}

#[test]
fn a_request_of_4_gib_is_refused() {
    let mut machine = Machine::with(|device| device.registers[1] = 1);
    // Nobody accesses this memory: the requests are refused, or never seen by the device.
    // SAFETY: see above.
    let segment = unsafe { block::Segment::new(abi::Va(0x1000), 1 << 31) };
    let error = Refused::TooLarge { bytes: 1 << 32, most: u32::MAX - 1 };
    assert_eq!(machine.read(0, &[segment; 2]), Err(error));
    assert!(machine.read(0, &[segment]).is_ok());
}

#[test]
fn a_read_only_disk_is_not_written() {
    let mut machine = Machine::with(|device| device.offer(Features::RO));
    let buffer = machine.buffer(512);
    assert_eq!(machine.write(7, &[buffer.all()]), Err(Refused::ReadOnly(Sector(7))));
    machine.read(7, &[buffer.all()]).expect("a ticket");
    assert_eq!(machine.run().len(), 1);
}

#[test]
fn a_disk_without_a_cache_is_not_flushed() {
    let mut machine = Machine::with(|device| device.withhold(Features::FLUSH));
    assert_eq!(machine.disk.submit(Request::Flush), Err(Refused::NothingToFlush));
}

#[test]
fn errors_of_the_device_have_cause_and_sector() {
    let mut machine = Machine::with(|device| device.bad.extend([9, 200]));
    let buffer = machine.buffer(1024);
    let bad: Ticket = machine.read(8, &[buffer.all()]).expect("a ticket");
    let good = machine.read(10, &[buffer.all()]).expect("a ticket");
    let written = machine.write(199, &[buffer.all()]).expect("a ticket");
    let io = |sector| Err(Failed { cause: Cause::Io, sector: Some(Sector(sector)) });
    assert_eq!(machine.run(), [(bad, io(8)), (good, Ok(())), (written, io(199))]);
    let flush = machine.disk.submit(Request::Flush).expect("a ticket");
    machine.disk.notify();
    machine.device.borrow_mut().complete_with(0, 2, 1);
    assert_eq!(machine.results(), [(flush, Err(Failed { cause: Cause::Unsupported, sector: None }))]);
    // Such errors do not stop the disk.
    assert_eq!(machine.disk.stopped(), None);
}

#[test]
fn errors_say_what_to_do() {
    let failed = Failed { cause: Cause::Blocked(abi::Va(0x5000)), sector: Some(Sector(8)) };
    let text = "the request for sector 8 failed: the disk was kept from accessing 0x5000: map the page to the device \
        before it is used";
    assert_eq!(failed.to_string(), text);
    let flush = Failed { cause: Cause::TimedOut, sector: None };
    assert_eq!(flush.to_string(), "the flush failed: the disk did not answer in time: start it again");
    let refused = Refused::OutOfRange { sector: Sector(7), count: 2, sectors: 8 };
    let text = "sector 7 and the 1 after it are not all on the disk, which has 8 sectors";
    assert_eq!(refused.to_string(), text);
    let missing = block::StartError::Missing(Features::ACCESS_PLATFORM);
    let text = "the disk lacks ACCESS_PLATFORM: QEMU needs `disable-legacy=on,iommu_platform=on`";
    assert_eq!(missing.to_string(), text);
}

//! Devices that are told to access what they must not.

use crate::checks::Checks;
use crate::family::{self, becomes, child, listen};
use core::sync::atomic::Ordering::Relaxed;
use libos::abi::Error;
use libos::device::{self, Device};
use libos::disk::{Buffer, Cause, Disk, Request, RequestError, Sector};
use libos::{Command, EnvId, ExitStatus, PAGE_SIZE, Perms, Status, Va, env, ipc, raw, sys, uvpt, windows};

const PAGE: u64 = 0x5000_0000;
const PATTERN: u64 = 0x7061_7474_6572_6e21;

/// Accesses to what a device does not have are refused and reported, and change nothing.
pub fn refused(checks: &mut Checks) {
    let mut disk = Disk::open(0).expect("the disk");
    let mut buffer = Buffer::new(&disk, 1).expect("memory");
    sys::alloc(EnvId::SELF, Va(PAGE), 2, Perms::WRITE).expect("pages");
    fill(PAGE, 2);
    let frame = uvpt::pte(Va(PAGE)).frame().address();
    sys::map(EnvId::SELF, Va(PAGE + PAGE_SIZE), disk.device().id(), Va(PAGE + PAGE_SIZE), 1, Perms::READ)
        .expect("a page");
    let read_only = PAGE + PAGE_SIZE;
    let registers = uvpt::pte(disk.device().registers().start).frame().address();
    // The reasons are those of the architecture: no right to write, no right to read, an address that is too large.
    let targets = [
        ("the frame of a program", frame),
        ("the kernel", 0x10_0000),
        ("a page that was not shared", PAGE),
        ("what lies beyond 512 GiB", 1 << 39),
        ("its registers", registers),
    ];
    for (what, address) in targets {
        for write in [false, true] {
            let segment = [raw::memory_of_disk(address, PAGE_SIZE as u32)];
            let request = if write { Request::Write(Sector(8), &segment) } else { Request::Read(Sector(0), &segment) };
            blocked(checks, &mut disk, what, request, address);
        }
    }
    let segment = [raw::memory_of_disk(read_only, PAGE_SIZE as u32)];
    blocked(checks, &mut disk, "a read-only page", Request::Read(Sector(0), &segment), read_only);
    lost(checks, &mut disk, read_only);
    checks.that("no page has changed", is_full(PAGE, 2));
    checks.that("the disk goes on", buffer.read(&mut disk, Sector(8)).is_ok());
    let words = buffer.bytes().chunks(8).all(|word| word == PATTERN.to_ne_bytes());
    checks.that("and has what was written", words);
    drop((buffer, disk));
    sys::unmap(EnvId::SELF, Va(PAGE), 2).expect("pages");
}

fn blocked(checks: &mut Checks, disk: &mut Disk, what: &str, request: Request, address: u64) {
    let result = disk.execute(request);
    let cause = match result {
        Err(RequestError::Failed(failed)) => Some(failed.cause),
        _ => None,
    };
    checks.equal(what, cause, Some(Cause::Blocked(Va(address))));
    let info = disk.device().info();
    checks.that("the window says so", info.fault_page.load(Relaxed) == address && info.fault_reason.load(Relaxed) != 0);
    // The first page is kept until the device is started again.
    checks.equal("it starts again", disk.restart(), Ok(()));
}

/// A page that the device has used, and that it loses while it is stopped.
fn lost(checks: &mut Checks, disk: &mut Disk, page: u64) {
    let segment = [raw::memory_of_disk(page, PAGE_SIZE as u32)];
    checks.equal("it uses the page", disk.execute(Request::Write(Sector(8), &segment)), Ok(()));
    checks.equal("stop", disk.device().stop(), Ok(()));
    checks.equal("take", disk.device().take(Va(page), 1), Ok(()));
    checks.equal("it starts again", disk.restart(), Ok(()));
    blocked(checks, disk, "a page that it had", Request::Write(Sector(16), &segment), page);
}

fn fill(start: u64, pages: u64) {
    (0..pages * PAGE_SIZE / 8).for_each(|word| raw::write_u64(start + 8 * word, PATTERN));
}

fn is_full(start: u64, pages: u64) -> bool {
    (0..pages * PAGE_SIZE / 8).all(|word| raw::read_u64(start + 8 * word) == PATTERN)
}

/// The number of requests in flight.
const FLYING: u64 = 4;

/// Begins to read into new pages, which the device keeps.
fn begin(disk: &mut Disk) {
    sys::alloc(EnvId::SELF, Va(PAGE), FLYING, Perms::WRITE).expect("pages");
    disk.device().share(Va(PAGE), FLYING, Perms::WRITE).expect("pages");
    for page in 0..FLYING {
        let segment = [raw::memory_of_disk(PAGE + page * PAGE_SIZE, PAGE_SIZE as u32)];
        disk.submit(Request::Read(Sector(8 * page), &segment)).expect("there is room");
    }
    disk.notify();
    // When the first has ended, the disk has the addresses of all.
    assert!(disk.wait().is_some_and(|(_, result)| result.is_ok()), "the first request");
}

/// Pages that were taken from a device that was busy with them stay as their next owner leaves them.
pub fn in_flight(checks: &mut Checks) {
    for round in 0..4 {
        let mut disk = Disk::open(0).expect("the disk");
        begin(&mut disk);
        if round % 2 == 0 {
            checks.equal("stop", disk.device().stop(), Ok(()));
            checks.equal("take", disk.device().take(Va(PAGE), FLYING), Ok(()));
        } else {
            drop(disk);
        }
        fill(PAGE, FLYING);
        wait_a_bit();
        checks.that("the pages stay as they are", is_full(PAGE, FLYING));
        sys::unmap(EnvId::SELF, Va(PAGE), FLYING).expect("pages");
    }
}

/// Waits for some ticks: a device that was not stopped would end its requests meanwhile.
fn wait_a_bit() {
    let from = libos::abi::Awaited { env: EnvId::ANY, ticks: 50 };
    assert_eq!(sys::recv(None, from), Err(Error::TimedOut(50)));
}

/// The ways in which a holder ends.
const ENDS: [(&str, fn()); 3] = [
    ("exits", || sys::exit(0)),
    ("faults", raw::undefined),
    ("is ended", || {
        loop {
            _ = ipc::recv();
        }
    }),
];

/// When the holder of a busy device ends, at any moment, its device is stopped before its pages are somebody else's.
pub fn holders_end(checks: &mut Checks) {
    let me = env::id();
    for (number, (how, end)) in ENDS.into_iter().enumerate() {
        for turns in [0, 1, 50] {
            let holder = child(move || {
                let disk = (0..100_000).find_map(|_| Disk::open(0).inspect_err(|_| sys::yield_now()).ok());
                let mut disk = disk.expect("the disk");
                begin(&mut disk);
                _ = ipc::send(me, uvpt::pte(Va(PAGE)).frame().address());
                (0..turns).for_each(|_| sys::yield_now());
                end();
            });
            device::allow(0, holder.id()).expect("the first program may");
            checks.that(how, ipc::recv().is_ok_and(|message| message.value != 0));
            if number == 2 {
                (0..turns).for_each(|_| sys::yield_now());
                checks.equal(how, sys::destroy(holder.id()), Ok(()));
            }
            let status = sys::wait(holder.id()).map(|(_, status)| status);
            let expected = [ExitStatus::SUCCESS, ExitStatus::killed_by(libos::Vector(6)), ExitStatus::DESTROYED];
            checks.equal(how, status, Ok(expected[number]));
            // The frames of the holder are the next ones that are handed out.
            sys::alloc(EnvId::SELF, Va(PAGE), 64, Perms::WRITE).expect("pages");
            fill(PAGE, 64);
            wait_a_bit();
            checks.that("the pages stay as they are", is_full(PAGE, 64));
            sys::unmap(EnvId::SELF, Va(PAGE), 64).expect("pages");
            checks.that("the device is free again", Device::claim(0).is_ok());
        }
    }
    nested(checks);
}

/// The holder of a device ends because its parent does.
fn nested(checks: &mut Checks) {
    let me = env::id();
    let parent = child(move || {
        let holder = child(move || {
            let disk = (0..100_000).find_map(|_| Disk::open(0).inspect_err(|_| sys::yield_now()).ok());
            let mut disk = disk.expect("the disk");
            begin(&mut disk);
            _ = ipc::send(me, 1);
            listen();
        });
        _ = ipc::send(me, holder.id().0.into());
        listen();
    });
    let holder = ipc::recv().map(|message| EnvId(message.value as u32)).expect("its id");
    device::allow(0, holder).expect("the first program may");
    checks.that("it has begun", ipc::recv().is_ok_and(|message| message.value == 1));
    family::end(parent.id());
    checks.that("all are gone", becomes(|| windows::env(holder).is_none_or(|env| env.status() == Status::Free)));
    checks.that("the device is free again", becomes(|| Device::claim(0).is_ok()));
}

/// The holder of a busy device executes another program, which can claim the disk and use it.
pub fn replaced(checks: &mut Checks) {
    let me = env::id();
    let holder = child(move || {
        let disk = (0..100_000).find_map(|_| Disk::open(0).inspect_err(|_| sys::yield_now()).ok());
        let mut disk = disk.expect("the disk");
        begin(&mut disk);
        _ = ipc::send(me, 1);
        panic!("{}", Command::new("diskbench").exec());
    });
    device::allow(0, holder.id()).expect("the first program may");
    checks.that("it has begun", ipc::recv().is_ok_and(|message| message.value == 1));
    checks.equal("it claims", sys::wait(holder.id()).map(|(_, status)| status), Ok(ExitStatus::SUCCESS));
}

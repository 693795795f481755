//! Devices: what their holder may do with them, and what nobody may.

use crate::checks::{Checks, call};
use crate::family::{self, becomes, child, listen};
use core::sync::atomic::Ordering::Relaxed;
use libos::abi::call::{AGE, MARK_OVER_PAGE, NO_PAGE};
use libos::abi::{Call, Error, Level};
use libos::device::{self, Device};
use libos::disk::{Buffer, Disk, Sector};
use libos::{EnvId, Perms, Status, Va, env, ipc, layout, sys, uvpt, windows};

/// Pages that only this group uses.
const PAGE: u64 = 0x5000_0000;
const OTHER: u64 = PAGE + 0x1000;
const EMPTY: u64 = PAGE + 0x2000;
const W: u64 = Perms::WRITE.bits();
const RUN: u64 = Status::Runnable as u64;
const STOP: u64 = Status::Stopped as u64;

pub fn rules(checks: &mut Checks) {
    sys::alloc(EnvId::SELF, Va(PAGE), 2, Perms::WRITE).expect("pages");
    claiming(checks);
    let device = Device::claim(0).expect("the disk");
    let id = u64::from(device.id().0);
    checks.equal("its status", windows::env(device.id()).map(|env| env.status()), Some(Status::Stopped));
    checks.refuse("it has no page", Call::SetStatus, &[id, RUN], Error::NotMapped(0));
    not_a_program(checks, id);
    checks.allow("stopped already", Call::SetStatus, &[id, STOP], (0, 0));
    checks.allow("a page", Call::Map, &[0, PAGE, id, PAGE, 1, W], (1, 0));
    checks.allow("replaced", Call::Map, &[0, OTHER, id, PAGE, 1, W], (1, 0));
    checks.allow("start", Call::SetStatus, &[id, RUN], (0, 0));
    checks.allow("start again", Call::SetStatus, &[id, RUN], (0, 0));
    while_it_runs(checks, id);
    checks.allow("stop", Call::SetStatus, &[id, STOP], (0, 0));
    checks.allow("now it can go", Call::Unmap, &[id, PAGE, 1], (1, 0));
    checks.that("it is in no pager's way", sys::unmap(device.id(), Va(EMPTY), 2).is_ok());
    drop(device);
    still_mapped(checks);
    sys::unmap(EnvId::SELF, Va(PAGE), 2).expect("pages");
}

fn claiming(checks: &mut Checks) {
    let none = u64::from(windows::devices());
    for index in [none, 8, 1 << 32, u64::MAX] {
        checks.refuse("no such device", Call::Claim, &[index, 0], Error::BadDevice(index));
    }
    let nobody = 0xffff_f000;
    checks.refuse("nobody there", Call::Claim, &[0, nobody], Error::BadEnv(nobody));
    let device = Device::claim(0).expect("the disk");
    let id = u64::from(device.id().0);
    checks.refuse("claimed", Call::Claim, &[0, 0], Error::Taken(id));
    checks.refuse("let a device claim one", Call::Claim, &[0, id], Error::IsDevice(id));
    let pages = device.registers();
    checks.that("it has registers", pages.start < pages.end);
}

/// What can be done with a program, but not with a device.
fn not_a_program(checks: &mut Checks, id: u64) {
    checks.refuse("it has no registers", Call::SetRegs, &[id, PAGE], Error::IsDevice(id));
    checks.refuse("it has no exceptions", Call::SetUpcall, &[id, PAGE, PAGE, 1], Error::IsDevice(id));
    checks.refuse("it does not listen", Call::Send, &[id, 1, NO_PAGE, 0], Error::NotReceiving(id));
    checks.refuse("nobody waits for it", Call::Wait, &[id, 0], Error::NoChild(id));
    checks.refuse("nobody waits for it", Call::Wait, &[0, 1], Error::NoChild(0));
    for status in [0, 3, 4, 8, u64::MAX] {
        checks.refuse("bad status", Call::SetStatus, &[id, status], Error::BadStatus(status));
    }
    let (gib, l2, l3) = (1 << 30, Level::L2 as u64, Level::L3 as u64);
    checks.refuse("tables to it", Call::ShareTables, &[0, PAGE, id, PAGE, 1, l2], Error::Pinned(PAGE));
    checks.refuse("its tables", Call::ShareTables, &[id, PAGE, 0, gib, 1, l2], Error::Pinned(PAGE));
    checks.refuse(
        "its registers",
        Call::ShareTables,
        &[id, layout::REGISTERS.0, 0, gib, 1, l2],
        Error::Pinned(layout::REGISTERS.0),
    );
    checks.refuse(
        "remove tables",
        Call::UnmapTables,
        &[id, layout::REGISTERS.0, 1, l3],
        Error::Pinned(layout::REGISTERS.0),
    );
    checks.refuse(
        "seal tables",
        Call::ProtectTables,
        &[id, layout::REGISTERS.0, 1, l2, 0],
        Error::Pinned(layout::REGISTERS.0),
    );
    checks.refuse("own its pages", Call::Own, &[layout::REGISTERS.0, 1], Error::NotMapped(layout::REGISTERS.0));
    let message = call(Call::Recv, &[NO_PAGE, id | 2 << 32]);
    checks.equal("it says nothing", message, Err(Error::TimedOut(2)));
}

/// The page map of a device that runs only grows.
fn while_it_runs(checks: &mut Checks, id: u64) {
    let pinned = Error::Pinned(PAGE);
    checks.refuse("replace", Call::Map, &[0, OTHER, id, PAGE, 1, W], pinned);
    checks.refuse("replace", Call::Alloc, &[id, PAGE, 1, W], pinned);
    checks.refuse("replace", Call::Copy, &[0, OTHER, id, PAGE, 1, W], pinned);
    checks.refuse("replace by itself", Call::Map, &[id, PAGE, id, PAGE, 1, 0], pinned);
    checks.refuse("protect", Call::Protect, &[id, PAGE, 1, 0], pinned);
    checks.refuse("age", Call::Protect, &[id, PAGE, 1, W | AGE], pinned);
    checks.refuse("remove", Call::Unmap, &[id, PAGE, 1], pinned);
    checks.refuse("remove registers", Call::Unmap, &[id, layout::REGISTERS.0, 1], Error::Pinned(layout::REGISTERS.0));
    checks.refuse("mark", Call::Mark, &[id, PAGE, 1, 7], pinned);
    checks.refuse("mark", Call::Mark, &[id, PAGE, 1, 7 | MARK_OVER_PAGE], pinned);
    checks.refuse("mark", Call::Mark, &[id, PAGE, 2, 7 | MARK_OVER_PAGE], pinned);
    checks.refuse("mark nothing", Call::Mark, &[id, EMPTY, 1, 7], Error::Pinned(EMPTY));
    checks.refuse("remove its table", Call::UnmapTables, &[id, 0, 1, Level::L3 as u64], Error::Pinned(0));
    checks.allow("it grows", Call::Map, &[0, PAGE, id, EMPTY, 1, W], (1, 0));
    checks.allow("up to what is there", Call::Alloc, &[id, OTHER, 2, W], (1, 0));
    checks.refuse("and no further", Call::Alloc, &[id, OTHER, 2, W], Error::Pinned(OTHER));
    checks.allow("with a copy", Call::Copy, &[0, PAGE, id, EMPTY + 0x1000, 1, 0], (1, 0));
    checks.allow("its pages are a source", Call::Map, &[id, OTHER, 0, EMPTY, 1, W], (1, 0));
    checks.that("removed again", sys::unmap(EnvId::SELF, Va(EMPTY), 1).is_ok());
}

/// Somebody else who has the registers keeps the device from being claimed.
fn still_mapped(checks: &mut Checks) {
    let device = Device::claim(0).expect("the disk");
    let me = env::id();
    let other = child(listen);
    sys::map(device.id(), layout::REGISTERS, other.id(), Va(PAGE), 1, Perms::WRITE).expect("a page");
    drop(device);
    checks.refuse("somebody has its registers", Call::Claim, &[0, 0], Error::Taken(0));
    family::end(other.id());
    checks.that("nobody has them any more", Device::claim(0).is_ok());
    checks.equal("the same program", env::id(), me);
}

/// Only the first program and those that it allows claim devices.
pub fn handing_out(checks: &mut Checks) {
    let me = env::id();
    let first = u64::from(me.0);
    let report = |checks: &mut Checks, what: &str| {
        let told = ipc::recv().map(|message| message.value);
        checks.equal(what, told, Ok(1));
    };
    let says = move |holds: bool| _ = ipc::send(me, holds.into());
    let refused = move || call(Call::Claim, &[0, 0]) == Err(Error::NotFirst(first));
    let other = child(move || {
        says(refused());
        says(call(Call::Claim, &[0, u64::from(env::id().0)]) == Err(Error::NotFirst(first)));
        // Until it is allowed.
        let device = (0..100_000).find_map(|_| Device::claim(0).inspect_err(|_| sys::yield_now()).ok());
        says(device.is_some());
        let grandchild = child(move || says(refused()));
        _ = sys::wait(grandchild.id());
        listen();
    });
    report(checks, "a child that nobody allowed it");
    report(checks, "a child that allows it itself");
    checks.that("allowed", device::allow(0, other.id()).is_ok());
    report(checks, "a child that is allowed");
    report(checks, "its child");
    let id = device_of(other.id());
    checks.that("all is quiet", family::reaches(other.id(), Status::Receiving));
    checks.refuse("its child's device", Call::SetStatus, &[id, RUN], Error::NotYours(id));
    checks.refuse("its child's device", Call::Map, &[id, layout::REGISTERS.0, 0, EMPTY, 1, W], Error::NotYours(id));
    checks.refuse("its child's device", Call::Destroy, &[id], Error::NotYours(id));
    checks.refuse("its child has it", Call::Claim, &[0, 0], Error::Taken(id));
    family::end(other.id());
    checks.that("it came back", Device::claim(0).is_ok());
}

fn device_of(holder: EnvId) -> u64 {
    let id = windows::device_infos()[0].env();
    assert_eq!(windows::env(id).map(|env| env.parent()), Some(holder));
    id.0.into()
}

/// A device interrupts once for each wait, however much it does; and its messages do not get lost among others.
pub fn interrupts(checks: &mut Checks) {
    let mut disk = Disk::open(0).expect("the disk");
    let mut buffer = Buffer::new(&disk, 16).expect("memory");
    let info = disk.device().info();
    // A fast disk may be done before anybody waits.
    let mut rounds = 0;
    while info.reported.load(Relaxed) < 20 && rounds < 10_000 {
        checks.that("it reads", buffer.read_pages(&mut disk, Sector(0)).is_ok());
        rounds += 1;
    }
    let (interrupts, reported) = (info.interrupts.load(Relaxed), info.reported.load(Relaxed));
    checks.that("interrupts come", reported >= 20 && interrupts - reported <= 1);
    // Sixteen requests in each round, and at most as many waits.
    checks.that("no more than there were waits", reported <= rounds * 16);
    // Messages of another program come, too.
    let me = env::id();
    let of_device = [disk.device().registers().start, Va(buffer.bytes().as_ptr() as u64)];
    let other = child(move || {
        _ = ipc::send(me, of_device.into_iter().filter(|&va| uvpt::pte(va).is_present()).count() as u64);
        while ipc::send(me, 7).is_ok() {}
    });
    let told = sys::recv(None, other.id()).map(|message| message.value);
    checks.equal("a child has nothing of the device", told, Ok(0));
    let (mut of_device, mut of_other) = (0, 0);
    for round in 0..10 {
        let page = libos::raw::memory_of_disk(buffer.bytes().as_ptr() as u64, 4096);
        checks.that("submitted", disk.submit(libos::disk::Request::Read(Sector(0), &[page])).is_ok());
        disk.notify();
        checks.that(
            "it ends",
            becomes(|| {
                match sys::recv(None, EnvId::ANY) {
                    Ok(message) if message.from == disk.device().id() => of_device += 1,
                    Ok(message) if message.value == 7 => of_other += 1,
                    _ => return true,
                }
                of_device > round && of_other > round && disk.poll().is_some()
            }),
        );
    }
    family::end(other.id());
}

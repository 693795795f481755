//! Messages: to nobody, from nobody, with pages that the sender may not give away.

use crate::checks::{Checks, call};
use crate::family::{self, Family, child, reaches};
use crate::values::{bad_pages, bad_perms, bad_targets};
use libos::abi::call::{GOT_PAGE, NO_PAGE};
use libos::abi::{Call, Error};
use libos::{EnvId, ExitStatus, Perms, Status, Va, env, layout::ARCHIVE, raw, sys, upcall::STACK_LOW, windows};

const PAGE: u64 = 0x2000_0000_0000;
const READ_ONLY: u64 = PAGE + 0x1000;
const EMPTY: u64 = PAGE + 0x2000;
const W: u64 = Perms::WRITE.bits();

pub fn refusals(checks: &mut Checks) {
    sys::alloc(EnvId::SELF, Va(PAGE), 1, Perms::WRITE).expect("a page");
    sys::map(EnvId::SELF, Va(PAGE), EnvId::SELF, Va(READ_ONLY), 1, Perms::READ).expect("a page");
    let family = Family::new();
    nobody_there(checks, &family);
    bad_receiving(checks, &family);
    drop(family);
    pages(checks);
    awaited(checks);
    sys::unmap(EnvId::SELF, Va(PAGE), 2).expect("pages");
}

fn nobody_there(checks: &mut Checks, family: &Family) {
    let me = u64::from(env::id().0);
    for (what, id) in family.nobodies() {
        checks.refuse(what, Call::Send, &[id, 1, NO_PAGE, 0], Error::BadEnv(id));
        checks.refuse(what, Call::SendRecv, &[id, 1, NO_PAGE, 0, NO_PAGE, 0], Error::BadEnv(id));
    }
    // The upper half says how long to wait.
    for (what, id) in family.nobodies().into_iter().filter(|(_, id)| *id as u32 != env::id().0) {
        let (child, error) = (family.child.0.into(), Error::BadEnv(id & 0xffff_ffff));
        checks.refuse(what, Call::Recv, &[NO_PAGE, id], error);
        checks.refuse(what, Call::SendRecv, &[child, 1, NO_PAGE, 0, NO_PAGE, id], error);
    }
    for id in [0, me] {
        checks.refuse("to oneself", Call::Send, &[id, 1, NO_PAGE, 0], Error::NotReceiving(id));
        let args = [id, 1, NO_PAGE, 0, NO_PAGE, 0];
        checks.refuse("to oneself", Call::SendRecv, &args, Error::NotReceiving(id));
    }
    let stopped = sys::exofork().expect("a child");
    let id = u64::from(stopped.0);
    checks.refuse("it does not listen", Call::Send, &[id, 1, NO_PAGE, 0], Error::NotReceiving(id));
    family::end(stopped);
    let picky = child(|| _ = sys::recv(None, family.foreign)).id();
    checks.that("it waits for another", reaches(picky, Status::Receiving));
    let id = u64::from(picky.0);
    checks.refuse("it waits for another", Call::Send, &[id, 1, NO_PAGE, 0], Error::NotReceiving(id));
    family::end(picky);
}

/// With bad arguments for receiving, the message is not sent either.
fn bad_receiving(checks: &mut Checks, family: &Family) {
    let child = u64::from(family.child.0);
    for (va, error) in bad_targets().filter(|(va, _)| *va != NO_PAGE) {
        checks.refuse("page for the answer", Call::Recv, &[va, 0], error);
        checks.refuse("page for the answer", Call::SendRecv, &[child, 1, NO_PAGE, 0, va, 0], error);
    }
    let pinned = STACK_LOW.0;
    checks.refuse("pinned", Call::Recv, &[pinned, 0], Error::Pinned(pinned));
    let args = [child, 1, NO_PAGE, 0, pinned, 0];
    checks.refuse("pinned", Call::SendRecv, &args, Error::Pinned(pinned));
}

/// A receiver that accepts pages reports whether it got one, and its content.
fn pages(checks: &mut Checks) {
    raw::write_u64(PAGE, 0x1122);
    let receiver = child(|| {
        let got = call(Call::Recv, &[EMPTY, 0]);
        let whole = matches!(got, Ok((from, 5)) if from & GOT_PAGE != 0) && raw::read_u64(EMPTY) == 0x1122;
        let read_only = call(Call::Protect, &[0, EMPTY, 1, W]) == Err(Error::NoRight(EMPTY));
        sys::exit(u8::from(whole) | u8::from(read_only) << 1)
    });
    let id = u64::from(receiver.id().0);
    checks.that("it receives", reaches(receiver.id(), Status::Receiving));
    let mut refuse = |what: &str, page: u64, perms: u64, error| {
        checks.refuse(what, Call::Send, &[id, 1, page, perms], error);
        checks.refuse(what, Call::SendRecv, &[id, 1, page, perms, NO_PAGE, 0], error);
    };
    for (va, error) in bad_pages().filter(|(va, _)| *va != NO_PAGE) {
        refuse("bad page", va, 0, error);
    }
    for (bits, error) in bad_perms() {
        refuse("bad perms", PAGE, bits, error);
    }
    refuse("not there", EMPTY, 0, Error::NotMapped(EMPTY));
    refuse("no table", 0x3000_0000_0000, 0, Error::NotMapped(0x3000_0000_0000));
    refuse("read-only", READ_ONLY, W, Error::NoRight(READ_ONLY));
    refuse("archive", ARCHIVE.0, W, Error::NoRight(ARCHIVE.0));
    refuse("pinned", STACK_LOW.0, 0, Error::Pinned(STACK_LOW.0));
    checks.that("it still waits", reaches(receiver.id(), Status::Receiving));
    checks.allow("a page, read-only", Call::Send, &[id, 5, PAGE, 0], (0, 0));
    checks.equal("what it got", receiver.wait(), Ok(ExitStatus(3)));
    pinned_meanwhile(checks);
    many_tables(checks);
}

/// Pages in messages need page tables, and the receiver's own calls do not have to provide them.
fn many_tables(checks: &mut Checks) {
    const COUNT: u64 = 32;
    let place = |n: u64| EMPTY + (n << 39);
    let receiver = child(|| {
        let got = (0..COUNT).all(|n| call(Call::Recv, &[place(n), 0]).is_ok());
        let gone = (0..COUNT).all(|n| call(Call::Unmap, &[0, place(n), 1]) == Ok((1, 0)));
        sys::exit(u8::from(got) | u8::from(gone) << 1)
    });
    for n in 0..COUNT {
        checks.that("it receives", reaches(receiver.id(), Status::Receiving));
        let sent = call(Call::Send, &[receiver.id().0.into(), n, PAGE, 0]);
        checks.equal("a page", sent, Ok((0, 0)));
    }
    checks.equal("all received, all unmapped", receiver.wait(), Ok(ExitStatus(3)));
}

/// The page at which a message is expected becomes pinned while the receiver waits.
fn pinned_meanwhile(checks: &mut Checks) {
    const STACK: u64 = 0x2100_0000_0000;
    let receiver = child(|| _ = call(Call::Recv, &[STACK, 0])).id();
    checks.that("it receives", reaches(receiver, Status::Receiving));
    let id = u64::from(receiver.0);
    sys::alloc(receiver, Va(STACK), 1, Perms::WRITE).expect("a page");
    checks.allow("pin it", Call::SetUpcall, &[id, 0x1000, STACK, 1], (0, 0));
    checks.refuse("pinned there", Call::Send, &[id, 1, PAGE, 0], Error::Pinned(STACK));
    family::end(receiver);
}

/// An environment that waits for another one is told when that one ends.
fn awaited(checks: &mut Checks) {
    let awaited = child(family::listen).id();
    let waiter = child(|| {
        let gone = call(Call::Recv, &[NO_PAGE, awaited.0.into()]);
        sys::exit(if gone == Err(Error::BadEnv(awaited.0.into())) { 7 } else { 1 })
    });
    checks.that("it waits", reaches(waiter.id(), Status::Receiving));
    family::end(awaited);
    checks.equal("the awaited one has ended", waiter.wait(), Ok(ExitStatus(7)));
    checks.that("the slot is free", windows::env(awaited).is_none_or(|env| env.status() == Status::Free));
}

//! No free page frame, no free environment: every kind of call reports an error, and recovers.

use crate::checks::Checks;
use crate::checks::call;
use crate::family::{self, child, reaches};
use core::hint::black_box;
use libos::abi::{Call, Error, call::GOT_PAGE};
use libos::layout::USER_LIMIT;
use libos::{EnvId, ExitStatus, PAGE_SIZE, PageOp, Perms, Status, Va, Vector, fork, raw, sys, upcall, uvpt, windows};

const ME: EnvId = EnvId::SELF;
/// The address to which everything free is mapped.
pub const HOARD: Va = Va(0x4000_0000_0000);
/// A page, and free entries in its page table.
const PAGE: Va = Va(0x2000_0000_0000);
const READ_ONLY: Va = Va(0x2000_0000_1000);
const ROOM: u64 = 0x2000_0000_2000;
/// The address for the frames for which the hoard has no page table: in the same page table as [`PAGE`].
const LEFT_OVER: Va = Va(0x2000_0000_8000);
/// An address at which three page tables are missing.
const NOWHERE: u64 = 0x3000_0000_0000;
const W: u64 = Perms::WRITE.bits();
const KEEP: u64 = Perms::KEEP.bits();
const NONE_LEFT: Error = Error::NoMemory(0);

/// The number of slots whose ids can be recorded.
const MOST: usize = 4096;

pub fn slots(checks: &mut Checks) {
    let slots = windows::envs().len() as u64;
    let mut made = [EnvId::NONE; MOST];
    let mut count = 0;
    let error = loop {
        match sys::exofork() {
            Ok(id) => made[count] = id,
            Err(error) => break error,
        }
        count += 1;
    };
    checks.equal("no slot is left", error, Error::NoEnvs(slots));
    checks.equal("each was given out once", count as u64, slots - 1);
    checks.refuse("exofork", Call::Exofork, &[], Error::NoEnvs(slots));
    checks.equal("fork", fork().err(), Some(Error::NoEnvs(slots).into()));
    let victim = made[count / 2];
    checks.equal("end one", sys::destroy(victim), Ok(()));
    checks.that("it has given back all it had", reaches(victim, Status::Zombie));
    checks.refuse("a zombie has a slot", Call::Exofork, &[], Error::NoEnvs(slots));
    checks.equal("wait for it", sys::wait(victim), Ok((victim, ExitStatus::DESTROYED)));
    let next = sys::exofork();
    checks.equal("the next generation", next, Ok(EnvId(victim.0 + (1 << EnvId::SLOT_BITS))));
    checks.equal("and no more", sys::exofork(), Err(Error::NoEnvs(slots)));
    made[count / 2] = next.unwrap_or_default();
    made[..count].iter().for_each(|id| family::end(*id));
}

pub fn memory(checks: &mut Checks) {
    sys::alloc(ME, PAGE, 1, Perms::WRITE | Perms::KEEP).expect("a page");
    sys::map(ME, PAGE, ME, READ_ONLY, 1, Perms::READ).expect("a page");
    round(checks);
    sys::unmap(ME, PAGE, 2).expect("pages");
    first_fault(checks);
}

/// A child begins with one page of exception stack, and gets the others at its first exception. If no frames are free
/// for them, one page must suffice until there are.
fn first_fault(checks: &mut Checks) {
    let touch = || raw::attempt(|address| _ = black_box(raw::read_u8(address)), NOWHERE).map(|fault| fault.address);
    let has_all = || (0..upcall::STACK_PAGES).all(|page| uvpt::pte(upcall::STACK_LOW.add_pages(page)).is_present());
    let child = child(|| {
        let (hoard, extra) = take_all();
        let poor = (touch(), touch(), has_all());
        sys::unmap(ME, HOARD, hoard).expect("the hoard");
        sys::unmap(ME, LEFT_OVER, extra.max(1)).ok();
        let rich = (touch(), touch(), has_all());
        let fine = poor == (Some(NOWHERE), Some(NOWHERE), false) && rich == (Some(NOWHERE), Some(NOWHERE), true);
        sys::exit(if fine { 7 } else { 1 })
    });
    checks.equal("first faults without memory, and with", child.wait(), Ok(ExitStatus(7)));
    // Printing the place of a fault takes memory, too; reporting the status does not.
    let ends: [(fn(), Vector); 2] =
        [(raw::undefined, Vector::INVALID_OPCODE), (raw::divide_by_zero, Vector::DIVIDE_ERROR)];
    for (end, vector) in ends {
        let child = self::child(|| {
            take_all();
            end();
        });
        checks.equal("an end without memory", child.wait(), Ok(ExitStatus::killed_by(vector)));
    }
}

fn round(checks: &mut Checks) {
    let receiver = child(|| {
        let got = call(Call::Recv, &[NOWHERE, 0]);
        sys::exit(if got.is_ok_and(|(from, _)| from & GOT_PAGE != 0) { 7 } else { 1 })
    });
    let toucher = child(|| {
        family::listen();
        raw::write_u8(NOWHERE, 1);
    });
    let there = reaches(receiver.id(), Status::Receiving) && reaches(toucher.id(), Status::Receiving);
    checks.that("the children wait", there);
    make_private();
    let (hoard, extra) = take_all();
    for left in 0..4 {
        checks.equal("frames left", windows::free_frames(), left);
        short_of_memory(checks, left, receiver.id());
        sys::unmap(ME, Va(HOARD.0 + left * PAGE_SIZE), 1).expect("a page of the hoard");
    }
    // Four frames: three tables and a page.
    checks.allow("now it fits", Call::Alloc, &[0, NOWHERE, 1, W], (1, 0));
    checks.equal("exactly", windows::free_frames(), 0);
    checks.equal("fork", fork().err(), Some(NONE_LEFT.into()));
    make_private();
    checks.equal("no frame was lost", windows::free_frames(), 0);
    // The child cannot even copy its stack. That ends it, and no other environment.
    let _ = sys::send(toucher.id(), family::QUIT, None);
    checks.equal("a touch", toucher.wait(), Ok(ExitStatus::killed_by(Vector::PAGE_FAULT)));
    checks.allow("away", Call::Unmap, &[0, NOWHERE, 1], (1, 0));
    sys::unmap(ME, Va(HOARD.0 + 4 * PAGE_SIZE), hoard - 4).expect("the hoard");
    checks.that("at most one frame was left over", extra < 2);
    if extra > 0 {
        sys::unmap(ME, LEFT_OVER, extra).expect("what was left over");
    }
    let args = [receiver.id().0.into(), 5, PAGE.0, 0];
    checks.allow("the message arrives after all", Call::Send, &args, (0, 0));
    checks.equal("with its page", receiver.wait(), Ok(ExitStatus(7)));
}

/// Copies every copy-on-write page now: later there will be no frame for that.
pub fn make_private() {
    for (va, pte) in uvpt::entries(Va(0)..USER_LIMIT) {
        if pte.is_present() && pte.perms().contains(Perms::COW) {
            raw::write_u8(va.0, raw::read_u8(va.0));
        }
    }
}

/// Takes every frame. Returns how many pages that makes.
pub fn take_all() -> (u64, u64) {
    let mut pages = 0;
    while let Ok((done, _)) = call(Call::Alloc, &[0, HOARD.add_pages(pages).0, 1 << 20, W]) {
        pages += done;
    }
    // One frame can be left: it would have become a page, but there was none for its page table.
    let mut extra = 0;
    while sys::alloc(ME, LEFT_OVER.add_pages(extra), 1, Perms::WRITE).is_ok() {
        extra += 1;
    }
    (pages, extra)
}

/// Checks calls with `left` free frames, at most 3.
fn short_of_memory(checks: &mut Checks, left: u64, receiver: EnvId) {
    let child = u64::from(receiver.0);
    let alloc = PageOp::alloc(ME, Va(NOWHERE), 1, Perms::WRITE);
    checks.refuse("alloc", Call::Alloc, &[0, NOWHERE, 1, W], NONE_LEFT);
    checks.refuse("alloc for a child", Call::Alloc, &[child, NOWHERE, 1, W], NONE_LEFT);
    checks.refuse("a batch", Call::PageOps, &[&raw const alloc as u64, 1], NONE_LEFT);
    if left < 3 {
        checks.refuse("map", Call::Map, &[0, PAGE.0, 0, NOWHERE, 1, W], NONE_LEFT);
        checks.refuse("map to a child", Call::Map, &[0, PAGE.0, child, NOWHERE, 1, W], NONE_LEFT);
        checks.refuse("mark", Call::Mark, &[0, NOWHERE, 1, 5], NONE_LEFT);
        checks.refuse("send", Call::Send, &[child, 5, PAGE.0, 0], NONE_LEFT);
        let args = [child, 5, PAGE.0, 0, u64::MAX, 0];
        checks.refuse("send and receive", Call::SendRecv, &args, NONE_LEFT);
    }
    if left == 0 {
        checks.refuse("a page", Call::Alloc, &[0, ROOM, 1, W], NONE_LEFT);
        checks.refuse("instead of a page", Call::Alloc, &[0, PAGE.0, 1, W], NONE_LEFT);
        checks.refuse("own", Call::Own, &[READ_ONLY.0, 1], NONE_LEFT);
        checks.refuse("exofork", Call::Exofork, &[], NONE_LEFT);
    }
    // The following calls take no frames.
    checks.allow("map", Call::Map, &[0, PAGE.0, 0, ROOM, 1, W], (1, 0));
    checks.allow("unmap", Call::Unmap, &[0, ROOM, 1], (1, 0));
    checks.allow("mark", Call::Mark, &[0, ROOM, 1, 5], (1, 0));
    checks.allow("unmap", Call::Unmap, &[0, ROOM, 1], (1, 0));
    checks.allow("protect", Call::Protect, &[0, PAGE.0, 1, W | KEEP], (1, 0));
}

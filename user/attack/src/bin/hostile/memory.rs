//! Memory from the view of programs: what they cannot reach, which translations the processor must not keep, and what
//! stays private.

use crate::checks::Checks;
use crate::family::child;
use core::hint::black_box;
use libos::abi::{Call, Error};
use libos::layout::{ARCHIVE, DIRECT_MAP, ENVS, FRAMES, KERNEL_HALF, KERNEL_IMAGE, MACHINE, TEXT, USER_LIMIT};
use libos::layout::{STACK_TOP, UVPT, uvpt};
use libos::{EnvId, ExitStatus, Level, PAGE_SIZE, Perms, Pte, Va, Vector, raw, sys, uvpt as tables};

/// A page that is alone in its part of the address space: its page tables come and go with it.
const PAGE: Va = Va(0x2000_0000_0000);
const OTHER: Va = Va(0x2000_0000_1000);
const NOWHERE: u64 = 0x3000_0000_0000;
const ME: EnvId = EnvId::SELF;

fn read(address: u64) {
    black_box(raw::read_u64(address));
}

fn write(address: u64) {
    raw::write_u64(address, 42);
}

/// The address of the page fault that an access raises, if any.
fn fault(access: fn(u64), address: u64) -> Option<u64> {
    let fault = raw::attempt(access, address)?;
    (fault.vector() == Vector::PAGE_FAULT).then_some(fault.address)
}

/// Buffers for calls: text to be printed, memory for input.
pub fn buffers(checks: &mut Checks) {
    const HALF: u64 = 1 << 47;
    sys::alloc(ME, PAGE, 1, Perms::WRITE).expect("a page");
    let end = PAGE.0 + PAGE_SIZE;
    let hole = UVPT.0 + (NOWHERE >> 12) * 8;
    for (what, at, bytes, error) in [
        ("null", 0, 1, Error::Fault(0)),
        ("nothing there", NOWHERE + 3, 5, Error::Fault(NOWHERE + 3)),
        ("runs off", end - 8, 9, Error::Fault(end)),
        ("runs far off", end - 8, u64::MAX >> 18, Error::Fault(end)),
        ("a hole in the self map", hole, 8, Error::Fault(hole)),
        ("the end of the half", HALF - 8, 16, Error::BadAddress(HALF)),
        ("not canonical", HALF, 1, Error::BadAddress(HALF)),
        ("not canonical, nothing", HALF, 0, Error::BadAddress(HALF)),
        ("the kernel", KERNEL_IMAGE.0, 4, Error::BadAddress(KERNEL_IMAGE.0)),
        ("the direct map", DIRECT_MAP.0, 4, Error::BadAddress(DIRECT_MAP.0)),
        ("wraps", u64::MAX - 3, 8, Error::BadAddress(u64::MAX - 3)),
        ("kernel entries", kernel_entry(KERNEL_HALF), 8, Error::Fault(kernel_entry(KERNEL_HALF))),
    ] {
        checks.refuse(what, Call::Write, &[at, bytes], error);
    }
    checks.allow("nothing", Call::Write, &[NOWHERE, 0], (0, 0));
    for (what, at, bytes, error) in [
        ("no room", PAGE.0, 0, Error::BadCount(0)),
        ("null", 0, 1, Error::Fault(0)),
        ("nothing there", NOWHERE + 3, 5, Error::Fault(NOWHERE + 3)),
        ("runs off", end - 8, 9, Error::Fault(end)),
        ("text", TEXT.0 + 5, 1, Error::Fault(TEXT.0 + 5)),
        ("the limit", USER_LIMIT.0 - 1, 2, Error::BadAddress(USER_LIMIT.0)),
        ("a window", MACHINE.0, 8, Error::BadAddress(MACHINE.0)),
        ("the archive", ARCHIVE.0, 8, Error::BadAddress(ARCHIVE.0)),
        ("the self map", UVPT.0, 8, Error::BadAddress(UVPT.0)),
        ("the kernel", KERNEL_IMAGE.0, 4, Error::BadAddress(KERNEL_IMAGE.0)),
        ("wraps", u64::MAX - 3, 8, Error::BadAddress(u64::MAX - 3)),
    ] {
        checks.refuse(what, Call::Read, &[at, bytes], error);
    }
    sys::protect(ME, PAGE, 1, Perms::COW).expect("protected");
    checks.refuse("copy-on-write", Call::Read, &[PAGE.0, 8], Error::Fault(PAGE.0));
    sys::unmap(ME, PAGE, 1).expect("the page");
}

/// The address at which the self map would show the entry of an address in the kernel's half.
fn kernel_entry(va: Va) -> u64 {
    UVPT.0 + (va.0 >> 12 & ((1 << 36) - 1)) * 8
}

/// Memory that no program may read, and memory that it may read but not write.
pub fn access(checks: &mut Checks) {
    let hidden = [
        ("direct map", DIRECT_MAP.0 + 0x10_0000),
        ("kernel image", KERNEL_IMAGE.0 + 0x10_0000),
        ("last word", u64::MAX - 7),
        ("entry of the kernel's half", kernel_entry(KERNEL_HALF)),
        ("entry of the image", kernel_entry(KERNEL_IMAGE)),
        ("table of the kernel's half", UVPT.0 + (kernel_entry(KERNEL_HALF) - UVPT.0) / 512),
    ];
    for (what, address) in hidden {
        let met = fault(read, address);
        checks.that(what, met.is_some_and(|met| met & !7 == address & !7) || what == "table of the kernel's half");
        checks.that(what, fault(write, address).is_some());
    }
    let me = sys::id();
    let shown = [
        ("machine page", MACHINE.0),
        ("environments", ENVS.0 + 64 * me.slot() as u64),
        ("frames", FRAMES.0 + 8 * u64::from(tables::pte(Va(STACK_TOP.0 - 1)).frame().0)),
        ("archive", ARCHIVE.0),
        ("entry of a page", uvpt(TEXT, Level::L1).0),
        ("entry of a table", uvpt(TEXT, Level::L2).0),
        ("top-level entry", uvpt(TEXT, Level::L4).0),
        ("the self map's own", uvpt(UVPT, Level::L4).0),
    ];
    for (what, address) in shown {
        checks.equal(what, fault(read, address), None);
        checks.equal(what, fault(write, address), Some(address));
        checks.equal(what, fault(raw::call, address), Some(address));
    }
    checks.equal("text is not written", fault(write, TEXT.0), Some(TEXT.0));
    checks.equal("a stack is not executed", fault(raw::call, STACK_TOP.0 - 64), Some(STACK_TOP.0 - 64));
}

/// Translations that were valid a moment ago, and must be invalid now. Nothing else runs meanwhile, so only the
/// kernel's own invalidation can remove them from the TLB.
pub fn stale(checks: &mut Checks) {
    let at = PAGE.0;
    let page = |perms| sys::alloc(ME, PAGE, 1, perms).expect("a page");
    page(Perms::WRITE);
    write(at);
    sys::protect(ME, PAGE, 1, Perms::READ).expect("protected");
    checks.equal("protect, then write", fault(write, at), Some(at));
    sys::protect(ME, PAGE, 1, Perms::WRITE).expect("protected");
    checks.equal("unprotect, then write", fault(write, at), None);
    sys::map(ME, PAGE, ME, PAGE, 1, Perms::READ).expect("mapped");
    checks.that("A and D are clear", tables::pte(PAGE).0 & (Pte::ACCESSED | Pte::DIRTY) == 0);
    checks.equal("map onto itself, then write", fault(write, at), Some(at));
    read(at);
    checks.that("the processor looked again", tables::pte(PAGE).has(Pte::ACCESSED));
    page(Perms::READ);
    checks.equal("a fresh page instead", raw::read_u64(at), 0);
    sys::protect(ME, PAGE, 1, Perms::EXEC).expect("protected");
    checks.that("zeros are code", raw::attempt(raw::call, at).is_some_and(|met| met.rip != at));
    sys::protect(ME, PAGE, 1, Perms::READ).expect("protected");
    checks.equal("no code any more", fault(raw::call, at), Some(at));

    page(Perms::WRITE);
    write(at);
    sys::map(ME, PAGE, ME, OTHER, 1, Perms::READ).expect("mapped");
    checks.equal("the same page", raw::read_u64(OTHER.0), 42);
    sys::own(OTHER, 1).expect("a copy");
    raw::write_u64(OTHER.0, 43);
    checks.equal("a copy is one's own", (raw::read_u64(at), raw::read_u64(OTHER.0)), (42, 43));
    sys::unmap(ME, OTHER, 1).expect("unmapped");
    sys::alloc(ME, OTHER, 1, Perms::WRITE).expect("a page");
    checks.equal("a fresh page, in the frame that was just given back", raw::read_u64(OTHER.0), 0);
    sys::unmap(ME, OTHER, 1).expect("unmapped");
    checks.equal("unmap, then read", fault(read, OTHER.0), Some(OTHER.0));
    checks.equal("unmap, then write", fault(write, OTHER.0), Some(OTHER.0));
    freed_tables(checks);
}

/// The page tables of a page, seen through the self map, disappear with it.
fn freed_tables(checks: &mut Checks) {
    for level in Level::DOWN {
        checks.equal("a table is there", fault(read, uvpt(PAGE, level).0), None);
    }
    sys::unmap(ME, PAGE, 1).expect("unmapped");
    for level in [Level::L1, Level::L2, Level::L3] {
        let entry = uvpt(PAGE, level).0;
        checks.equal("a freed table", fault(read, entry), Some(entry));
    }
    checks.equal("no entry at the top", raw::read_u64(uvpt(PAGE, Level::L4).0), 0);
    // The frames are reused at once; the old windows must not show their new content.
    sys::alloc(ME, Va(NOWHERE), 1, Perms::WRITE).expect("a page");
    write(NOWHERE);
    for level in [Level::L1, Level::L2, Level::L3] {
        checks.that("what came after it", fault(read, uvpt(PAGE, level).0).is_some());
    }
    sys::unmap(ME, Va(NOWHERE), 1).expect("unmapped");
}

/// Fork: writes of the one are invisible to the other.
pub fn privacy(checks: &mut Checks) {
    let (shared, fixed) = (PAGE.add_pages(2), PAGE.add_pages(3));
    sys::alloc(ME, PAGE, 2, Perms::WRITE).expect("pages");
    sys::alloc(ME, shared, 1, Perms::WRITE | Perms::KEEP).expect("a page");
    sys::alloc(ME, fixed, 1, Perms::READ).expect("a page");
    sys::mark(ME, PAGE.add_pages(4), 1, 99).expect("a mark");
    raw::write_u64(PAGE.0, 1);
    raw::write_u64(OTHER.0, 1);

    let first = child(|| {
        let seen = raw::read_u64(PAGE.0) == 1 && tables::pte(PAGE.add_pages(4)) == Pte::mark(99);
        raw::write_u64(OTHER.0, 3);
        raw::write_u64(shared.0, 4);
        let kept = fault(write, fixed.0) == Some(fixed.0);
        let raised = sys::protect(ME, fixed, 1, Perms::WRITE) != Err(Error::NoRight(fixed.0));
        let own = sys::own(fixed, 1).is_ok() && fault(write, fixed.0).is_none();
        // One page was written since the last fork, the other one was not.
        let grandchild = child(|| [PAGE, OTHER].into_iter().for_each(|page| raw::write_u64(page.0, 5)));
        let ended = grandchild.wait() == Ok(ExitStatus::SUCCESS);
        let fine = ended && (raw::read_u64(PAGE.0), raw::read_u64(OTHER.0)) == (1, 3);
        sys::exit(u8::from(seen && fine) | u8::from(kept && !raised) << 1 | u8::from(own) << 2)
    });
    // Without a context switch since the fork, the TLB may still hold a writable translation.
    raw::write_u64(PAGE.0, 2);
    checks.equal("what the child saw", first.wait(), Ok(ExitStatus(7)));
    checks.equal("the parent's value", (raw::read_u64(PAGE.0), raw::read_u64(OTHER.0)), (2, 1));
    checks.equal("kept pages are shared", raw::read_u64(shared.0), 4);
    checks.equal("read-only pages are nobody's to write", raw::read_u64(fixed.0), 0);
    checks.equal("still read-only", fault(write, fixed.0), Some(fixed.0));
    sys::unmap(ME, PAGE, 5).expect("pages");
    variables(checks, 3);
}

/// Variables that the parent writes as soon as it has forked; at several depths, since fork itself uses the stack.
#[inline(never)]
fn variables(checks: &mut Checks, depth: usize) {
    let mut local = black_box([1_u8; 1000]);
    let first = child(|| sys::exit(black_box(&local)[depth]));
    black_box(&mut local)[depth] = 2;
    checks.equal("a variable is the child's own", first.wait(), Ok(ExitStatus(1)));
    if depth > 0 {
        variables(checks, depth - 1);
    }
}

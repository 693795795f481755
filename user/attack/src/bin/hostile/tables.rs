//! Whole page tables: which cannot be shared, and what cannot be done below a shared one.

use crate::checks::{self, Checks};
use crate::family::{self, Family, child, reaches};
use crate::values::BAD_COUNTS;
use libos::abi::{Call, Error, page::span};
use libos::layout::{ARCHIVE, KERNEL_HALF, MACHINE, SCRATCH, TEXT, USER_LIMIT, UVPT};
use libos::{EnvId, ExitStatus, Level, PAGE_SIZE, PageOp, Perms, Status, Va, env, ipc, raw, sys, uvpt};

/// An address that is alone in its part of the address space.
const BASE: u64 = 0x2000_0000_0000;
/// An address in the same page table, and one in the next.
const SECOND: u64 = BASE + PAGE_SIZE;
const MARK: u64 = BASE + 2 * PAGE_SIZE;
const NEXT: u64 = BASE + span(Level::L2);
/// An address where nothing is mapped.
const TARGET: u64 = 0x3000_0000_0000;
/// An address under page tables of its own.
const OTHER: u64 = 0x3100_0000_0000;
const ME: EnvId = EnvId::SELF;
const R: u64 = Perms::READ.bits();
const W: u64 = Perms::WRITE.bits();

/// A call on page tables: an example that could succeed, and the meaning of its arguments.
struct TableCall {
    call: Call,
    good: &'static [u64],
    envs: &'static [usize],
    addresses: &'static [usize],
    count: usize,
    level: usize,
}

#[rustfmt::skip]
const CALLS: [TableCall; 4] = [
    TableCall { call: Call::ShareTables, good: &[0, BASE, 0, TARGET, 1, 2], envs: &[0, 2], addresses: &[1, 3], count: 4, level: 5 },
    TableCall { call: Call::OwnTables, good: &[BASE, 1, 2], envs: &[], addresses: &[0], count: 1, level: 2 },
    TableCall { call: Call::UnmapTables, good: &[0, BASE, 1, 2], envs: &[0], addresses: &[1], count: 2, level: 3 },
    TableCall { call: Call::ProtectTables, good: &[0, BASE, 1, 2, W], envs: &[0], addresses: &[1], count: 2, level: 3 },
];

pub fn refusals(checks: &mut Checks) {
    let family = Family::new();
    make_pages();
    for table_call in &CALLS {
        arguments(checks, &family, table_call);
    }
    let child = u64::from(family.child.0);
    let theirs = PageOp { env: family.child, ..PageOp::own_tables(Va(BASE), 1, Level::L2) };
    let error = Error::NotYours(child);
    checks.refuse("a child's to own", Call::PageOps, &[&raw const theirs as u64, 1], error);
    drop(family);
    what_is_there(checks);
    sealed(checks);
    sealed_child(checks);
    pinned(checks);
    below(checks);
    sys::unmap(ME, Va(BASE), 3).expect("pages");
    sys::unmap(ME, Va(NEXT), 1).expect("a page");
    sys::unmap(ME, Va(OTHER), 1).expect("a page");
}

fn make_pages() {
    sys::alloc(ME, Va(BASE), 2, Perms::WRITE).expect("pages");
    sys::mark(ME, Va(MARK), 1, 5).expect("a mark");
    sys::alloc(ME, Va(NEXT), 1, Perms::WRITE).expect("a page");
    sys::alloc(ME, Va(OTHER), 1, Perms::WRITE).expect("a page");
}

/// Tries every bad value of every argument.
fn arguments(checks: &mut Checks, family: &Family, of: &TableCall) {
    let mut refuse = |what: &str, changes: &[(usize, u64)], error| {
        let mut args = [0; 6];
        args[..of.good.len()].copy_from_slice(of.good);
        changes.iter().for_each(|&(at, value)| args[at] = value);
        checks.refuse(what, of.call, &args, error);
    };
    for level in [0, 1, 5, 6, 12, 1 << 32 | 2, u64::MAX] {
        refuse("bad level", &[(of.level, level)], Error::BadLevel(level));
    }
    for count in BAD_COUNTS {
        refuse("bad count", &[(of.count, count)], Error::BadCount(count));
    }
    for &at in of.envs {
        for (what, id, error) in family.not_mine() {
            refuse(what, &[(at, id)], error);
        }
    }
    for &at in of.addresses {
        for (level, va) in [(2, BASE + 1), (2, SECOND), (3, NEXT), (4, BASE + span(Level::L3)), (2, u64::MAX)] {
            refuse("unaligned", &[(at, va), (of.level, level)], Error::Unaligned(va));
        }
        let last = SCRATCH.0 - span(Level::L2);
        for va in [SCRATCH.0, SCRATCH.0 + span(Level::L3), USER_LIMIT.0, MACHINE.0, ARCHIVE.0, UVPT.0, 1 << 47] {
            refuse("not for users", &[(at, va)], Error::BadAddress(va));
        }
        refuse("the kernel", &[(at, KERNEL_HALF.0), (of.level, 4)], Error::BadAddress(KERNEL_HALF.0));
        refuse("runs off", &[(at, last), (of.count, 2)], Error::BadAddress(last));
        if of.call != Call::ShareTables {
            refuse("runs far off", &[(at, 0), (of.level, 4), (of.count, 254)], Error::BadAddress(0));
        }
    }
}

/// Requests that are wrong in the current state of memory.
fn what_is_there(checks: &mut Checks) {
    let share = |from, to, level| [0, from, 0, to, 1, level];
    for level in [2, 3, 4] {
        let missing = Error::NotMapped(TARGET);
        checks.refuse("no table", Call::ShareTables, &share(TARGET, BASE, level), missing);
        checks.refuse("no table", Call::OwnTables, &[TARGET, 1, level], missing);
        checks.refuse("no table", Call::UnmapTables, &[0, TARGET, 1, level], missing);
        if level > 2 {
            checks.refuse("one's own", Call::UnmapTables, &[0, BASE, 1, level], Error::NotShared(BASE));
        } else {
            checks.allow("one's own, with its pages", Call::UnmapTables, &[0, BASE, 1, level], (1, 0));
            checks.refuse("no page", Call::Protect, &[0, BASE, 1, W], Error::NotMapped(BASE));
            checks.allow("pages again", Call::Alloc, &[0, BASE, 2, W], (2, 0));
            checks.allow("a mark again", Call::Mark, &[0, MARK, 1, 5], (1, 0));
        }
        checks.refuse("no table", Call::ProtectTables, &[0, TARGET, 1, level, R], missing);
        checks.allow("one's own", Call::OwnTables, &[BASE, 1, level], (1, 0));
        checks.refuse("onto itself", Call::ShareTables, &share(BASE, BASE, level), Error::Mapped(BASE));
        checks.allow("as it was", Call::Alloc, &[0, BASE, 1, W], (1, 0));
    }
    checks.refuse("onto a table", Call::ShareTables, &share(BASE, NEXT, 2), Error::Mapped(NEXT));
    own_all(checks);
    // How many page tables fit into an entry is not promised, but progress is.
    let done = checks::call(Call::OwnTables, &[BASE, 9, 2]);
    checks.that("at least one for an entry, and no more than there are", matches!(done, Ok((1 | 2, 0))));
    let error = Error::NotMapped(BASE + 2 * span(Level::L2));
    checks.refuse("nothing is there", Call::OwnTables, &[BASE + 2 * span(Level::L2), 7, 2], error);
}

/// Nothing below a sealed page table is written, by any call; everything else goes on as before.
fn sealed(checks: &mut Checks) {
    for perms in [1, 3, Perms::EXEC.bits(), Perms::COW.bits(), Perms::SOFT.bits(), u64::MAX] {
        let error = Error::BadPerms(perms & !W);
        checks.refuse("bad permissions", Call::ProtectTables, &[0, BASE, 1, 2, perms], error);
    }
    for level in [2, 3, 4] {
        raw::write_u64(BASE, level);
        let right = Error::NoRight(BASE);
        for _ in 0..2 {
            checks.allow("seal", Call::ProtectTables, &[0, BASE, 1, level, R], (1, 0));
            checks.refuse("a buffer", Call::Read, &[BASE, 8], Error::Fault(BASE));
            checks.refuse("map writable", Call::Map, &[0, BASE, 0, TARGET, 1, W], right);
            checks.refuse("a stack", Call::SetUpcall, &[0, TEXT.0, BASE, 1], right);
            checks.allow("protect", Call::Protect, &[0, BASE, 1, W], (1, 0));
            checks.allow("protect more", Call::Protect, &[0, BASE, 2, W], (2, 0));
            checks.allow("own", Call::Own, &[BASE, 1], (1, 0));
            checks.allow("map readable", Call::Map, &[0, BASE, 0, TARGET, 1, R], (1, 0));
            checks.refuse("the right is gone", Call::Protect, &[0, TARGET, 1, W], Error::NoRight(TARGET));
            checks.allow("alloc", Call::Alloc, &[0, BASE + 7 * PAGE_SIZE, 1, W], (1, 0));
            checks.refuse("a fresh page", Call::Read, &[BASE + 7 * PAGE_SIZE, 8], Error::Fault(BASE + 7 * PAGE_SIZE));
            checks.allow("unmap", Call::Unmap, &[0, BASE + 7 * PAGE_SIZE, 1], (1, 0));
            checks.allow("away", Call::Unmap, &[0, TARGET, 1], (1, 0));
            checks.that("it is not written", !writes(BASE));
            checks.equal("it can be read", raw::read_u64(BASE), level);
        }
        let seal = PageOp::protect_tables(ME, Va(BASE), 1, Level::from_number(level).expect("a level"), Perms::WRITE);
        checks.allow("lift in a list", Call::PageOps, &[&raw const seal as u64, 1], (1, 0));
        checks.that("it is written", writes(BASE));
    }
}

/// Whether a write succeeds.
fn writes(at: u64) -> bool {
    raw::attempt(|at| raw::write_u64(at, 1), at).is_none()
}

/// A child seals what its parent edits; then the parent lifts the seal.
fn sealed_child(checks: &mut Checks) {
    const THIRD: u64 = BASE + 9 * PAGE_SIZE;
    let child = child(|| {
        let sealed = sys::protect_tables(ME, Va(BASE), 1, Level::L2, Perms::READ).is_ok();
        let _ = ipc::recv();
        let refused = raw::read_u64(THIRD) == 0 && !writes(THIRD);
        let _ = ipc::recv();
        sys::exit((sealed && refused && writes(THIRD)).into())
    });
    let id = child.id();
    let them = u64::from(id.0);
    checks.that("it waits", reaches(id, Status::Receiving));
    checks.allow("alloc", Call::Alloc, &[them, THIRD, 1, R], (1, 0));
    checks.allow("protect", Call::Protect, &[them, THIRD, 1, W], (1, 0));
    checks.refuse("map writable", Call::Map, &[them, THIRD, 0, TARGET, 1, W], Error::NoRight(THIRD));
    checks.equal("go on", sys::send(id, 1, None), Ok(()));
    checks.that("it waits again", reaches(id, Status::Receiving));
    checks.allow("lift", Call::ProtectTables, &[them, BASE, 1, 2, W], (1, 0));
    checks.equal("go on", sys::send(id, 1, None), Ok(()));
    checks.equal("the write failed, and then not", child.wait(), Ok(ExitStatus(1)));
    // The fork has made the pages copy-on-write.
    sys::own(Va(BASE), 2).expect("pages");
}

/// Makes everything private, from the top down.
fn own_all(checks: &mut Checks) {
    for (va, level) in [(BASE, 4), (BASE, 3), (BASE, 2), (NEXT, 2)] {
        checks.allow("one's own again", Call::OwnTables, &[va, 1, level], (1, 0));
    }
}

/// The kernel writes to exception stacks, so they cannot be below shared page tables.
fn pinned(checks: &mut Checks) {
    let env = sys::exofork().expect("a child");
    let id = u64::from(env.0);
    sys::alloc(env, Va(SECOND), 1, Perms::WRITE).expect("a page");
    sys::set_upcall(env, TEXT.0, Va(SECOND), 1).expect("a stack");
    let pinned = Error::Pinned(SECOND);
    for level in [2, 3, 4] {
        checks.refuse("from", Call::ShareTables, &[id, BASE, 0, TARGET, 1, level], pinned);
        checks.refuse("to", Call::ShareTables, &[0, BASE, id, BASE, 1, level], pinned);
        checks.refuse("away", Call::UnmapTables, &[id, BASE, 1, level], pinned);
        for perms in [R, W] {
            checks.refuse("protect", Call::ProtectTables, &[id, BASE, 1, level, perms], pinned);
        }
    }
    sys::set_upcall(env, 0, Va(0), 0).expect("no stack");
    checks.allow("not pinned", Call::ShareTables, &[id, BASE, 0, TARGET, 1, 2], (1, 0));
    checks.refuse("no stack there", Call::SetUpcall, &[id, TEXT.0, SECOND, 1], Error::NoRight(SECOND));
    checks.allow("away", Call::UnmapTables, &[0, TARGET, 1, 2], (1, 0));
    family::end(env);
}

/// Nothing below a shared page table can be changed: neither by the sharer, nor for the other one.
fn below(checks: &mut Checks) {
    for level in [2, 3, 4_u64] {
        let env = sys::exofork().expect("a child");
        let id = u64::from(env.0);
        checks.allow("share", Call::ShareTables, &[0, BASE, id, BASE, 1, level], (1, 0));
        let shared = Error::TableShared(BASE | level);
        for env in [0, id] {
            checks.refuse("alloc", Call::Alloc, &[env, BASE, 1, W], shared);
            checks.refuse("map into", Call::Map, &[0, TEXT.0, env, BASE, 1, R], shared);
            checks.refuse("map writable", Call::Map, &[env, BASE, 0, TARGET, 1, W], shared);
            checks.refuse("protect", Call::Protect, &[env, BASE, 1, R], shared);
            checks.refuse("unmap", Call::Unmap, &[env, BASE, 1], shared);
            checks.refuse("mark", Call::Mark, &[env, MARK, 1, 6], shared);
            checks.refuse("unmark", Call::Mark, &[env, MARK, 1, 0], shared);
            checks.refuse("mark what is empty", Call::Mark, &[env, BASE + 5 * PAGE_SIZE, 1, 6], shared);
            checks.refuse("a stack", Call::SetUpcall, &[env, TEXT.0, BASE, 1], Error::NoRight(BASE));
            for perms in [R, W] {
                checks.refuse("protect it", Call::ProtectTables, &[env, BASE, 1, level, perms], shared);
            }
            for inner in 2..level {
                let args = [env, BASE, 0, TARGET, 1, inner];
                checks.refuse("share below", Call::ShareTables, &args, shared);
                checks.refuse("unmap below", Call::UnmapTables, &[env, BASE, 1, inner], shared);
                checks.refuse("protect below", Call::ProtectTables, &[env, BASE, 1, inner, R], shared);
                let args = [0, OTHER, env, BASE, 1, inner];
                checks.refuse("share into", Call::ShareTables, &args, shared);
                checks.allow("what one wanted to share", Call::OwnTables, &[OTHER, 1, inner], (1, 0));
                checks.allow("and below", Call::OwnTables, &[OTHER, 1, 2], (1, 0));
            }
        }
        checks.refuse("own", Call::Own, &[BASE, 1], shared);
        checks.refuse("room for a message", Call::Recv, &[BASE, env::id().0.into()], shared);
        checks.refuse("a buffer", Call::Read, &[BASE, 8], shared);
        for inner in 2..level {
            checks.refuse("own below", Call::OwnTables, &[BASE, 1, inner], shared);
        }
        for op in
            [PageOp::alloc(ME, Va(BASE), 1, Perms::WRITE), PageOp::own(Va(BASE), 1), PageOp::unmap(env, Va(BASE), 1)]
        {
            checks.refuse("in a batch", Call::PageOps, &[&raw const op as u64, 1], shared);
        }
        checks.allow("it can be read", Call::Write, &[BASE, 0], (0, 0));
        checks.allow("and given on to be read", Call::Map, &[id, BASE, 0, TARGET, 1, R], (1, 0));
        sys::unmap(ME, Va(TARGET), 1).expect("a page");
        let again = sys::share_tables(ME, Va(BASE), env, Va(BASE), 1, Level::from_number(level).expect("a level"));
        checks.equal("the same once more", again, Err(Error::Mapped(BASE)));
        checks.allow("the child's goes", Call::UnmapTables, &[id, BASE, 1, level], (1, 0));
        if level > 2 {
            checks.refuse("one's own", Call::UnmapTables, &[0, BASE, 1, level], Error::NotShared(BASE));
        }
        // libos owns the page tables that are in the way.
        checks.equal("protect", sys::protect(ME, Va(BASE), 1, Perms::WRITE), Ok(()));
        raw::write_u64(BASE, 1);
        checks.that("owned", uvpt::entry(Va(BASE), Level::L2).is_some_and(|entry| !entry.is_shared_table()));
        own_all(checks);
        family::end(env);
    }
    receiver(checks);
}

/// A page is sent to an address whose page table has meanwhile become shared.
fn receiver(checks: &mut Checks) {
    let receiver = child(|| {
        let _ = sys::alloc(ME, Va(TARGET), 1, Perms::WRITE);
        let _ = sys::recv(Some(Va(TARGET)), ME);
    });
    let id = receiver.id();
    checks.that("it waits", reaches(id, Status::Receiving));
    let them = u64::from(id.0);
    checks.allow("share", Call::ShareTables, &[them, TARGET, 0, TARGET, 1, 2], (1, 0));
    let shared = Error::TableShared(TARGET | 2);
    checks.refuse("a page", Call::Send, &[them, 7, TEXT.0, R], shared);
    checks.allow("away", Call::UnmapTables, &[0, TARGET, 1, 2], (1, 0));
    checks.refuse("it does not know", Call::Send, &[them, 7, TEXT.0, R], shared);
    checks.equal("a word", sys::send(id, 7, None), Ok(()));
    let _ = receiver.wait();
}

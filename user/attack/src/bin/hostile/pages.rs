//! The page calls: every argument of each of them, alone and in a batch.

use crate::checks::{Checks, call};
use crate::family::Family;
use crate::values::{BAD_COUNTS, BAD_RUNS, bad_pages, bad_perms_but, bad_targets};
use libos::abi::call::{AGE, PAGE_OPS_MAX};
use libos::abi::{Call, Error};
use libos::layout::{ARCHIVE, ARCHIVE_END, EXCEPTION_STACK_TOP, MACHINE, TEXT, USER_LIMIT};
use libos::{EnvId, PAGE_SIZE, PageOp, Perms, Pte, Va, env, raw, sys, uvpt};

/// Pages for the checks, under page tables of their own.
const BASE: Va = Va(0x2000_0000_0000);
const WRITABLE: u64 = BASE.0;
/// Read-only, and the caller may not make it writable: an alias of the first page.
const READ_ONLY: u64 = BASE.0 + PAGE_SIZE;
const CODE: u64 = BASE.0 + 2 * PAGE_SIZE;
const MARK: u64 = BASE.0 + 3 * PAGE_SIZE;
/// An empty entry in the same page table.
const EMPTY: u64 = BASE.0 + 4 * PAGE_SIZE;
/// An address without page tables.
const NOWHERE: u64 = 0x3000_0000_0000;

const R: u64 = Perms::READ.bits();
const W: u64 = Perms::WRITE.bits();
const X: u64 = Perms::EXEC.bits();

fn make_pages() -> sys::Result<()> {
    let me = EnvId::SELF;
    sys::alloc(me, Va(WRITABLE), 1, Perms::WRITE)?;
    sys::map(me, Va(WRITABLE), me, Va(READ_ONLY), 1, Perms::READ)?;
    sys::alloc(me, Va(CODE), 1, Perms::EXEC)?;
    sys::mark(me, Va(MARK), 1, 77)
}

fn drop_pages() -> sys::Result<()> {
    sys::unmap(EnvId::SELF, BASE, 4)
}

/// A page call: the meaning of its arguments, and an example that would succeed.
struct PageCall {
    call: Call,
    good: &'static [u64],
    envs: &'static [usize],
    targets: &'static [usize],
    sources: &'static [usize],
    count: usize,
    perms: Option<usize>,
}

#[rustfmt::skip]
const CALLS: [PageCall; 6] = [
    PageCall { call: Call::Alloc, good: &[0, EMPTY, 1, W], envs: &[0], targets: &[1], sources: &[], count: 2, perms: Some(3) },
    PageCall { call: Call::Map, good: &[0, WRITABLE, 0, EMPTY, 1, W], envs: &[0, 2], targets: &[3], sources: &[1], count: 4, perms: Some(5) },
    PageCall { call: Call::Protect, good: &[0, WRITABLE, 1, R], envs: &[0], targets: &[1], sources: &[], count: 2, perms: Some(3) },
    PageCall { call: Call::Unmap, good: &[0, WRITABLE, 1], envs: &[0], targets: &[1], sources: &[], count: 2, perms: None },
    PageCall { call: Call::Mark, good: &[0, EMPTY, 1, 5], envs: &[0], targets: &[1], sources: &[], count: 2, perms: None },
    PageCall { call: Call::Own, good: &[WRITABLE, 1], envs: &[], targets: &[0], sources: &[], count: 1, perms: None },
];

/// The last page that could belong to the boot archive.
const LAST: u64 = ARCHIVE_END.0 - PAGE_SIZE;

/// Requests that are wrong in any state of memory, and requests that are wrong with these pages.
const WRONG: [(&str, Call, &[u64], Error); 26] = [
    ("behind the archive", Call::Map, &[0, LAST, 0, EMPTY, 1, R], Error::NotMapped(LAST)),
    ("off the archive", Call::Map, &[0, LAST, 0, EMPTY, 2, R], Error::BadAddress(LAST)),
    ("no page", Call::Map, &[0, EMPTY, 0, WRITABLE, 1, R], Error::NotMapped(EMPTY)),
    ("no table", Call::Map, &[0, NOWHERE, 0, WRITABLE, 1, R], Error::NotMapped(NOWHERE)),
    ("a mark", Call::Map, &[0, MARK, 0, WRITABLE, 1, R], Error::NotMapped(MARK)),
    ("read-only", Call::Map, &[0, READ_ONLY, 0, EMPTY, 1, W], Error::NoRight(READ_ONLY)),
    ("read-only, onto itself", Call::Map, &[0, READ_ONLY, 0, READ_ONLY, 1, W], Error::NoRight(READ_ONLY)),
    ("code", Call::Map, &[0, CODE, 0, EMPTY, 1, W], Error::NoRight(CODE)),
    ("text", Call::Map, &[0, TEXT.0, 0, EMPTY, 1, W], Error::NoRight(TEXT.0)),
    ("archive", Call::Map, &[0, ARCHIVE.0, 0, EMPTY, 1, W], Error::NoRight(ARCHIVE.0)),
    ("no page", Call::Protect, &[0, EMPTY, 1, R], Error::NotMapped(EMPTY)),
    ("no table", Call::Protect, &[0, NOWHERE, 1, R], Error::NotMapped(NOWHERE)),
    ("a mark", Call::Protect, &[0, MARK, 1, R], Error::NotMapped(MARK)),
    ("raising", Call::Protect, &[0, READ_ONLY, 1, W], Error::NoRight(READ_ONLY)),
    ("no page", Call::Unmap, &[0, EMPTY, 1], Error::NotMapped(EMPTY)),
    ("no table", Call::Unmap, &[0, NOWHERE, 1], Error::NotMapped(NOWHERE)),
    ("no page, many", Call::Unmap, &[0, EMPTY, 1 << 31], Error::NotMapped(EMPTY)),
    ("a page", Call::Mark, &[0, WRITABLE, 1, 5], Error::Mapped(WRITABLE)),
    ("a page, word 0", Call::Mark, &[0, WRITABLE, 1, 0], Error::Mapped(WRITABLE)),
    ("41 bits", Call::Mark, &[0, EMPTY, 1, 1 << 40], Error::BadWord(1 << 40)),
    ("64 bits", Call::Mark, &[0, MARK, 1, u64::MAX], Error::BadWord(u64::MAX)),
    ("no page", Call::Own, &[EMPTY, 1], Error::NotMapped(EMPTY)),
    ("no table", Call::Own, &[NOWHERE, 1], Error::NotMapped(NOWHERE)),
    ("a mark", Call::Own, &[MARK, 1], Error::NotMapped(MARK)),
    ("code", Call::Own, &[CODE, 1], Error::Executable(CODE)),
    ("text", Call::Own, &[TEXT.0, 1], Error::Executable(TEXT.0)),
];

/// Tries every bad value of every argument.
pub fn refusals(checks: &mut Checks) {
    let family = Family::new();
    make_pages().expect("pages");
    for page_call in &CALLS {
        page_call.refuse_all(checks, &family);
    }
    for (what, call, args, error) in WRONG {
        refuse(checks, what, call, args, error);
    }
    let child = u64::from(family.child.0);
    let absent = Error::NotMapped(WRITABLE);
    checks.refuse("not the child's", Call::Map, &[child, WRITABLE, 0, EMPTY, 1, R], absent);
    checks.refuse("not the child's", Call::Unmap, &[child, WRITABLE, 1], absent);
    drop_pages().expect("pages");
}

impl PageCall {
    fn refuse_all(&self, checks: &mut Checks, family: &Family) {
        for &at in self.envs {
            for (what, id, error) in family.not_mine() {
                self.refuse(checks, what, at, id, error);
            }
        }
        for &at in self.targets {
            bad_targets().for_each(|(va, error)| self.refuse(checks, "bad page", at, va, error));
        }
        for &at in self.sources {
            bad_pages().for_each(|(va, error)| self.refuse(checks, "bad source", at, va, error));
        }
        for count in BAD_COUNTS {
            self.refuse(checks, "bad count", self.count, count, Error::BadCount(count));
        }
        for &at in self.targets.iter().chain(self.sources) {
            for (va, count) in BAD_RUNS {
                let args = self.with(&[(at, va), (self.count, count)]);
                refuse(checks, "bad run", self.call, &args, Error::BadAddress(va));
            }
        }
        if let Some(at) = self.perms {
            let allowed = if self.call == Call::Protect { AGE } else { 0 };
            bad_perms_but(allowed).for_each(|(bits, error)| self.refuse(checks, "bad perms", at, bits, error));
        }
    }

    fn with(&self, changes: &[(usize, u64)]) -> [u64; 6] {
        let mut args = [0; 6];
        args[..self.good.len()].copy_from_slice(self.good);
        changes.iter().for_each(|&(at, value)| args[at] = value);
        args
    }

    fn refuse(&self, checks: &mut Checks, what: &str, at: usize, value: u64, error: Error) {
        refuse(checks, what, self.call, &self.with(&[(at, value)]), error);
    }
}

/// Checks the call by itself, and as the only operation of a batch.
fn refuse(checks: &mut Checks, what: &str, call: Call, args: &[u64], error: Error) {
    checks.refuse(what, call, args, error);
    if let Some(op) = operation(call, args) {
        checks.refuse(what, Call::PageOps, &[&raw const op as u64, 1], error);
    }
}

/// The call as an operation, if its arguments can be encoded.
fn operation(call: Call, args: &[u64]) -> Option<PageOp> {
    let arg = |n: usize| args.get(n).copied().unwrap_or(0);
    let (env, va, count, last) = match call {
        Call::Map => (arg(2), arg(3), arg(4), arg(5)),
        Call::Own => (0, arg(0), arg(1), 0),
        _ => (arg(0), arg(1), arg(2), arg(3)),
    };
    let source_env = if call == Call::Map { arg(0) } else { 0 };
    Some(PageOp {
        call: call as u32,
        count: count.try_into().ok()?,
        source_env: EnvId(source_env.try_into().ok()?),
        env: EnvId(env.try_into().ok()?),
        source: Va(arg(1)),
        va: Va(va),
        arg: last,
    })
}

/// Runs that meet an obstacle half-way: the part before it is done, and the next call reports the error.
pub fn runs(checks: &mut Checks) {
    make_pages().expect("pages");
    let page = |n: u64| BASE.0 + n * PAGE_SIZE;
    checks.allow("three pages, then a mark", Call::Protect, &[0, WRITABLE, 8, R], (3, 0));
    checks.refuse("the mark", Call::Protect, &[0, MARK, 5, R], Error::NotMapped(MARK));
    checks.allow("raise one", Call::Protect, &[0, WRITABLE, 8, W], (1, 0));
    checks.refuse("the next", Call::Protect, &[0, READ_ONLY, 7, W], Error::NoRight(READ_ONLY));
    checks.allow("three pages, then a mark", Call::Map, &[0, WRITABLE, 0, page(8), 5, R], (3, 0));
    checks.allow("three pages and a mark", Call::Unmap, &[0, page(8), 5], (3, 0));
    checks.refuse("nothing more", Call::Unmap, &[0, page(11), 2], Error::NotMapped(page(11)));
    checks.allow("two, then a page", Call::Mark, &[0, page(6), 2, 9], (2, 0));
    checks.allow("a mark, then nothing", Call::Unmap, &[0, page(6), 9], (2, 0));
    checks.allow("code again", Call::Protect, &[0, CODE, 1, X], (1, 0));
    checks.allow("own two, not the code", Call::Own, &[WRITABLE, 3], (2, 0));
    checks.refuse("the code", Call::Own, &[CODE, 1], Error::Executable(CODE));
    let most = call(Call::Alloc, &[0, page(16), u32::MAX.into(), W]);
    let done = most.map_or(0, |(pages, _)| pages);
    checks.that("a huge run is cut short", (1..1000).contains(&done));
    checks.allow("and what was done is there", Call::Unmap, &[0, page(16), done], (done, 0));
    let last = USER_LIMIT.0 - PAGE_SIZE;
    checks.allow("the last page of all", Call::Alloc, &[0, last, 1, W], (1, 0));
    checks.allow("and away", Call::Unmap, &[0, last, 1], (1, 0));
    drop_pages().expect("pages");
}

/// Arrays of operations: their addresses, their lengths, and errors in the middle.
pub fn batches(checks: &mut Checks) {
    let family = Family::new();
    make_pages().expect("pages");
    let good = PageOp::alloc(EnvId::SELF, Va(EMPTY), 1, Perms::WRITE);
    let gone = PageOp::unmap(EnvId::SELF, Va(EMPTY), 1);
    let at = &raw const good as u64;
    let mut refuse = |what: &str, args: &[u64], error| checks.refuse(what, Call::PageOps, args, error);
    refuse("no operation", &[at, 0], Error::BadCount(0));
    refuse("nothing there", &[NOWHERE, 1], Error::Fault(NOWHERE));
    refuse("runs off", &[BASE.0 + 3 * PAGE_SIZE - 24, 2], Error::Fault(MARK));
    refuse("null", &[0, 1], Error::Fault(0));
    for (va, _) in bad_targets().filter(|(va, _)| *va >= 1 << 47) {
        refuse("kernel", &[va, 1], Error::BadAddress(va));
    }
    refuse("runs out of the half", &[(1 << 47) - 8, 1], Error::BadAddress(1 << 47));
    refuse("wraps", &[u64::MAX - 7, u64::MAX], Error::BadAddress(u64::MAX - 7));
    let stack = (EXCEPTION_STACK_TOP.0 - PAGE_SIZE) | 1 << 48;
    let unpinned = PageOp::protect(EnvId::SELF, Va(stack), 1, Perms::READ);
    refuse("the exception stack, by another name", &[&raw const unpinned as u64, 1], Error::BadAddress(stack));
    let word = raw::read_u64(MACHINE.0) as u32;
    refuse("a window is no array", &[MACHINE.0, 1], Error::BadOp(word.into()));

    let not_page_calls = (0..32)
        .chain([0xffff, u32::MAX])
        .filter(|number| !(Call::Alloc as u32..=Call::ProtectTables as u32).contains(number));
    for number in not_page_calls {
        let op = PageOp { call: number, ..good };
        refuse("not a page call", &[&raw const op as u64, 1], Error::BadOp(number.into()));
    }
    let child = family.child;
    let theirs = PageOp { env: child, ..PageOp::own(Va(WRITABLE), 1) };
    refuse("own for a child", &[&raw const theirs as u64, 1], Error::NotYours(child.0.into()));
    let mine = PageOp { env: env::id(), ..PageOp::own(Va(WRITABLE), 1) };
    checks.allow("own for oneself", Call::PageOps, &[&raw const mine as u64, 1], (1, 0));

    let bad = PageOp::protect(EnvId::SELF, Va(NOWHERE), 1, Perms::READ);
    let list = [good, gone, bad, good];
    let at = &raw const list as u64;
    checks.allow("bad in the middle", Call::PageOps, &[at, 4], (2, 0));
    checks.equal("not done", uvpt::pte(Va(EMPTY)), Pte(0));
    checks.refuse("the bad one", Call::PageOps, &[at + 80, 2], Error::NotMapped(NOWHERE));
    let part = [gone, PageOp::unmap(EnvId::SELF, BASE, 9), good];
    let list = [good, part[0], part[1], part[2]];
    checks.allow("cut short", Call::PageOps, &[&raw const list as u64, 4], (2, 4));
    checks.equal("not done", uvpt::pte(Va(EMPTY)), Pte(0));

    let mut many = [good; 2 * PAGE_OPS_MAX as usize];
    many.iter_mut().skip(1).step_by(2).for_each(|op| *op = gone);
    let at = &raw const many as u64;
    let done = call(Call::PageOps, &[at, 128]).map_or(0, |(done, _)| done);
    checks.that("no more than it takes in", (1..=PAGE_OPS_MAX).contains(&done));
    if done % 2 == 1 {
        checks.allow("tidy up", Call::Unmap, &[0, EMPTY, 1], (1, 0));
    }
}

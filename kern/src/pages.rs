//! The page calls: runs of pages, alone or in batches.
//!
//! Every one of them is a [`PageOp`]. A run is checked as a whole, then done page by page until it
//! is finished, something is wrong, or the entry has taken its time. An error is reported only if
//! nothing was done: otherwise the caller hears how far it got, calls again for the rest, and gets
//! the error then.

use crate::env::{self, Env};
use crate::memory::{MEMORY, Space};
use crate::syscall::{Results, with_space, with_spaces};
use crate::user::UserSlice;
use ::sched::Node;
use abi::call::PAGE_OPS_MAX;
use abi::layout::{ARCHIVE, ARCHIVE_END, STACKS, USER_LIMIT};
use abi::page::span;
use abi::{Call, EnvId, Error, PAGE_SIZE, PageOp, Perms, Va};

/// What an entry may still do, in instructions, roughly. The bound is 20,000.
struct Budget(u32);

impl Budget {
    const ENTRY: Budget = Budget(18_000);
    /// Editing an entry.
    const EDIT: u32 = 90;
    /// Zeroing or copying a frame.
    const FILL: u32 = 560;
    /// Owning a table: a look at each entry, and at what it names.
    const TABLE: u32 = 14_000;
    /// The most that one page can cost: itself and three tables.
    const PAGE: u32 = Budget::EDIT + 4 * Budget::FILL;

    /// Whether there is room for one more page after this many, and this many frames filled.
    #[inline]
    fn has_room(&self, edited: u32, filled: u32) -> bool {
        self.0 >= edited * Budget::EDIT + filled * Budget::FILL + Budget::PAGE
    }

    fn spend(&mut self, edited: u32, filled: u32) {
        self.0 = self.0.saturating_sub(edited * Budget::EDIT + filled * Budget::FILL);
    }
}

/// One page call.
#[inline(never)]
pub fn one(me: &'static Env, op: &PageOp) -> Results {
    run(me, op, &mut Budget(Budget::ENTRY.0)).map(|pages| (pages.into(), 0))
}

/// `page_ops(operations, count)`
#[inline(never)]
pub fn many(me: &'static Env, list: UserSlice) -> Results {
    if list.len == 0 {
        return Err(Error::BadCount(0));
    }
    let mut ops = [PageOp::own(Va(0), 0); PAGE_OPS_MAX as usize];
    let ops = &mut ops[..list.len.min(PAGE_OPS_MAX) as usize];
    list.read(me, ops)?;
    let mut budget = Budget(Budget::ENTRY.0);
    for (done, op) in ops.iter().enumerate() {
        match run(me, op, &mut budget) {
            Ok(pages) if pages == op.count => {}
            Ok(pages) => return Ok((done as u64, pages.into())),
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok((done as u64, 0)),
        }
    }
    Ok((ops.len() as u64, 0))
}

/// Do a run, or the first part of it.
fn run(me: &'static Env, op: &PageOp, budget: &mut Budget) -> Result<u32, Error> {
    let call = Call::from_number(op.call.into()).ok_or(Error::BadOp(op.call.into()))?;
    if op.count == 0 {
        return Err(Error::BadCount(0));
    }
    let env = env::find_own(me, op.env)?;
    if matches!(call, Call::ShareTables | Call::OwnTables | Call::UnmapTables) {
        return tables(me, env, call, op, budget);
    }
    let va = user_va(op.va, op.count.into())?;
    let count = unpinned(env, va, op.count)?;
    match call {
        Call::Alloc => {
            let perms = Perms::checked(op.arg)?;
            each(env, va, count, budget, |space, va| space.alloc(&MEMORY, va, perms))
        }
        Call::Map | Call::Copy => map(me, env, call, op, count, budget),
        Call::Protect => {
            let perms = Perms::checked(op.arg)?;
            each(env, va, count, budget, |space, va| space.protect(va, perms))
        }
        Call::Unmap => each(env, va, count, budget, |space, va| space.unmap(&MEMORY, va)),
        Call::Mark => each(env, va, count, budget, |space, va| space.mark(&MEMORY, va, op.arg)),
        Call::Own if op.env != EnvId::NONE && op.env != me.id() => Err(Error::NotYours(op.env.0.into())),
        Call::Own => each(env, va, count, budget, |space, va| space.own(&MEMORY, va).map(|_copied| ())),
        _ => Err(Error::BadOp(op.call.into())),
    }
}

/// Do something to each page of a run, until there is an error or the budget is spent.
fn each(
    env: &'static Env,
    va: Va,
    count: u32,
    budget: &mut Budget,
    mut f: impl FnMut(&mut Space, Va) -> Result<(), Error>,
) -> Result<u32, Error> {
    with_space(env, |space| {
        let count = still_unpinned(env, va, count)?;
        repeat(space, count, budget, |space, page| f(space, va.add_pages(page.into())))
    })
}

/// Call `f` with the number of each page of a run.
#[inline]
fn repeat(
    space: &mut Space,
    count: u32,
    budget: &mut Budget,
    mut f: impl FnMut(&mut Space, u32) -> Result<(), Error>,
) -> Result<u32, Error> {
    // What came with messages is not this call's work.
    space.take_filled();
    let (mut done, mut result) = (0, Ok(()));
    while done < count && result.is_ok() && budget.has_room(done, space.filled()) {
        result = f(space, done);
        done += u32::from(result.is_ok());
    }
    budget.spend(done, space.take_filled());
    if done == 0 { result.map(|()| 0) } else { Ok(done) }
}

/// Share pages of another environment, or at another place, with `env`; or copy them.
fn map(
    me: &'static Env,
    env: &'static Env,
    call: Call,
    op: &PageOp,
    count: u32,
    budget: &mut Budget,
) -> Result<u32, Error> {
    let perms = Perms::checked(op.arg)?;
    let source = env::find_own(me, op.source_env)?;
    let from = source_va(op.source, op.count.into())?;
    let count = unpinned(source, from, count)?;
    let still = || still_unpinned(source, from, still_unpinned(env, op.va, count)?);
    let pages = |page: u32| (from.add_pages(page.into()), op.va.add_pages(page.into()));
    // Where the page comes from, if that is another page map than the one where it goes.
    let one = |source: Option<&Space>, space: &mut Space, page| {
        let (from, to) = pages(page);
        if call == Call::Copy {
            let frame = source.unwrap_or(space).source(from)?;
            return space.copy(&MEMORY, to, frame, perms);
        }
        let frame = source.unwrap_or(space).grant(&MEMORY, from, perms)?;
        space.accept(&MEMORY, to, frame, perms)
    };
    if core::ptr::eq(source, env) {
        return with_space(env, |space| {
            repeat(space, still()?, budget, |space, page| one(None, space, page))
        });
    }
    with_spaces(source, env, |source, space| {
        repeat(space, still()?, budget, |space, page| one(Some(source), space, page))
    })
}

/// A run of whole tables.
#[inline(never)]
fn tables(
    me: &'static Env,
    env: &'static Env,
    call: Call,
    op: &PageOp,
    budget: &mut Budget,
) -> Result<u32, Error> {
    let level = u32::try_from(op.arg).ok().filter(|level| (2..=4).contains(level));
    let level = level.ok_or(Error::BadLevel(op.arg))?;
    let va = |first: Va, table: u32| Va(first.0 + u64::from(table) * span(level));
    let source = if call == Call::ShareTables { env::find_own(me, op.source_env)? } else { env };
    tables_va(op.va, op.count, level)?;
    if call == Call::OwnTables && !core::ptr::eq(env, me) {
        return Err(Error::NotYours(op.env.0.into()));
    }
    if call == Call::ShareTables {
        tables_va(op.source, op.count, level)?;
    }
    let (edit, most) = match call {
        Call::OwnTables => (Budget::TABLE, Budget::TABLE),
        _ => (2 * Budget::EDIT, Budget::PAGE),
    };
    let mut done = 0;
    while done < op.count && budget.0 >= most {
        let at = va(op.va, done);
        let result = match call {
            Call::OwnTables => with_space(env, |space| space.own_table(&MEMORY, at, level).map(|_copied| 0)),
            Call::UnmapTables => with_space(env, |space| space.unmap_table(&MEMORY, at, level).map(|()| 0)),
            _ => share_table(source, va(op.source, done), env, at, level),
        };
        match result {
            Ok(filled) => budget.0 = budget.0.saturating_sub(edit + filled * Budget::FILL),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        done += 1;
    }
    Ok(done)
}

/// Share one table of `source` with `env`.
fn share_table(source: &'static Env, from: Va, env: &'static Env, to: Va, level: u32) -> Result<u32, Error> {
    let check = || no_pinned_page(source, from, level).and_then(|()| no_pinned_page(env, to, level));
    if core::ptr::eq(source, env) {
        return with_space(env, |space| {
            check()?;
            let table = space.grant_table(&MEMORY, from, level)?;
            space.take_filled();
            space.accept_table(&MEMORY, to, level, table).map(|()| space.take_filled())
        });
    }
    with_spaces(source, env, |source_space, space| {
        check()?;
        let table = source_space.grant_table(&MEMORY, from, level)?;
        space.take_filled();
        space.accept_table(&MEMORY, to, level, table).map(|()| space.take_filled())
    })
}

/// A run of tables that calls may name.
fn tables_va(va: Va, count: u32, level: u32) -> Result<(), Error> {
    if va.0 % span(level) != 0 {
        return Err(Error::Unaligned(va.0));
    }
    let fits = va < STACKS && u64::from(count) <= (STACKS.0 - va.0) / span(level);
    if fits { Ok(()) } else { Err(Error::BadAddress(va.0)) }
}

/// The kernel writes to registered exception stacks: they are never below a shared table.
fn no_pinned_page(env: &Env, va: Va, level: u32) -> Result<(), Error> {
    let (low, top) = (env.upcall.low.get(), env.upcall.top.get());
    let meets = low < va.0 + span(level) && va.0 < top;
    if meets { Err(Error::Pinned(low)) } else { Ok(()) }
}

/// Share one page of `source` with another environment.
pub fn share(source: &'static Env, from: Va, env: &'static Env, to: Va, perms: Perms) -> Result<(), Error> {
    with_spaces(source, env, |source_space, space| {
        unpinned(env, to, 1)?;
        let frame = source_space.grant(&MEMORY, from, perms)?;
        space.accept(&MEMORY, to, frame, perms)
    })
}

/// A run of pages that calls may name.
///
/// # Errors
/// [`Error::Unaligned`], [`Error::BadAddress`].
pub fn user_va(va: Va, pages: u64) -> Result<Va, Error> {
    within(va, pages, Va(0), USER_LIMIT)
}

/// A run of pages that calls may name as a source: the boot archive too.
pub fn source_va(va: Va, pages: u64) -> Result<Va, Error> {
    if va < ARCHIVE { user_va(va, pages) } else { within(va, pages, ARCHIVE, ARCHIVE_END) }
}

fn within(va: Va, pages: u64, low: Va, limit: Va) -> Result<Va, Error> {
    if !va.is_page_aligned() {
        return Err(Error::Unaligned(va.0));
    }
    let fits = (low..limit).contains(&va) && pages <= (limit.0 - va.0) / PAGE_SIZE;
    if fits { Ok(va) } else { Err(Error::BadAddress(va.0)) }
}

/// How many pages at the start of a run are not on a registered exception stack.
///
/// # Errors
/// [`Error::Pinned`] if the first one is.
pub fn unpinned(env: &'static Env, va: Va, count: u32) -> Result<u32, Error> {
    let (low, top) = (env.upcall.low.get(), env.upcall.top.get());
    if (low..top).contains(&va.0) {
        return Err(Error::Pinned(va.0));
    }
    let before = if va.0 < low && low < top { (low - va.0) / PAGE_SIZE } else { u64::MAX };
    // More than 32 bits can count is as good as all.
    Ok(u32::try_from(before).map_or(count, |before| count.min(before)))
}

/// The same once more, with the page map locked: an environment that runs elsewhere may have registered a stack since.
fn still_unpinned(env: &'static Env, va: Va, count: u32) -> Result<u32, Error> {
    if core::ptr::eq(env, crate::cpu::env()) { Ok(count) } else { unpinned(env, va, count) }
}

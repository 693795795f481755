//! The page calls: runs of pages, alone or in batches.
//!
//! Every one of them is a [`PageOp`]. A run is checked as a whole, then done page by page until it
//! is finished, something is wrong, or the entry has taken its time: see `run` in the crate `vm`.

use crate::env::{self, Env};
use crate::memory::{MEMORY, Space};
use crate::syscall::{Results, with_source, with_space};
use crate::user::UserSlice;
use abi::call::PAGE_OPS_MAX;
use abi::{Call, Error, Frame, PageOp, Perms, Va};
use vm::Budget;

/// One page call.
#[inline(never)]
pub fn one(me: &'static Env, op: &PageOp) -> Results {
    run(me, op, &mut Budget::new()).map(|pages| (pages.into(), 0))
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
    let mut budget = Budget::new();
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
    let va = op.va.user_run(op.count.into())?;
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
        Call::Own if !core::ptr::eq(env, me) => Err(Error::NotYours(op.env.0.into())),
        Call::Own => each(env, va, count, budget, |space, va| space.own(&MEMORY, va).map(drop)),
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
        budget.each_page(space, count, |space, page| f(space, va.add_pages(page.into())))
    })
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
    let from = op.source.source_run(op.count.into())?;
    let count = unpinned(source, from, count)?;
    let at = |page: u32| (from.add_pages(page.into()), op.va.add_pages(page.into()));
    let accept = |space: &mut Space, to, frame: Result<Frame, Error>| {
        frame.and_then(|frame| space.accept(&MEMORY, to, frame, perms))
    };
    with_source(source, env, |source_space, space| {
        let count = still_unpinned(source, from, still_unpinned(env, op.va, count)?)?;
        match source_space {
            _ if call == Call::Copy => budget.each_page(space, count, |space, page| {
                let (from, to) = at(page);
                let frame = source_space.as_deref().unwrap_or(space).source(from)?;
                space.copy(&MEMORY, to, frame, perms)
            }),
            Some(source) => budget.each_page(space, count, |space, page| {
                let (from, to) = at(page);
                accept(space, to, source.grant(&MEMORY, from, perms))
            }),
            None => budget.each_page(space, count, |space, page| {
                let (from, to) = at(page);
                let frame = space.grant(&MEMORY, from, perms);
                accept(space, to, frame)
            }),
        }
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
    let (level, shares) = (op.level()?, call == Call::ShareTables);
    let source = if shares { env::find_own(me, op.source_env)? } else { env };
    op.va.table_run(op.count.into(), level)?;
    if call == Call::OwnTables && !core::ptr::eq(env, me) {
        return Err(Error::NotYours(op.env.0.into()));
    }
    if shares {
        op.source.table_run(op.count.into(), level)?;
    }
    with_source(source, env, |source_space, space| {
        let mut count = op.count;
        if shares {
            // The kernel writes to registered exception stacks: they are never below a shared table.
            count = vm::unpinned(source.upcall.stack(), op.source, count, level)?;
            count = vm::unpinned(env.upcall.stack(), op.va, count, level)?;
        }
        space.run_tables(&MEMORY, source_space, call, op, count, budget)
    })
}

/// Share one page of `source` with another environment.
pub fn share(source: &'static Env, from: Va, env: &'static Env, to: Va, perms: Perms) -> Result<(), Error> {
    with_source(source, env, |source_space, space| {
        unpinned(env, to, 1)?;
        let frame = source_space.as_deref().unwrap_or(space).grant(&MEMORY, from, perms)?;
        space.accept(&MEMORY, to, frame, perms)
    })
}

/// How many pages at the start of a run are not on a registered exception stack.
///
/// # Errors
/// [`Error::Pinned`] if the first one is.
pub fn unpinned(env: &'static Env, va: Va, count: u32) -> Result<u32, Error> {
    vm::unpinned(env.upcall.stack(), va, count, 1)
}

/// The same once more, with the page map locked: an environment that runs elsewhere may have registered a stack since.
fn still_unpinned(env: &'static Env, va: Va, count: u32) -> Result<u32, Error> {
    if core::ptr::eq(env, crate::cpu::env()) { Ok(count) } else { unpinned(env, va, count) }
}

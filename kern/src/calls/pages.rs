//! The page calls: runs of pages, alone or in batches.
//!
//! Every page call is a [`PageOp`]. A run of pages is checked as a whole, then handled page by page until it is
//! finished, a page fails, or the [`Budget`] of the entry is spent.

use crate::calls::fast::protect_list_fast;
use crate::env::table::{self, Env, Results, with_page_map, with_page_maps};
use crate::env::{devices, user_memory::UserSlice};
use crate::machine::hardware::Editable;
use abi::{Call, Error, Level, PageOp, Perms, Va, call::AGE, call::PAGE_OPS_MAX};
use core::mem::MaybeUninit;
use vm::Budget;

/// Executes a single page call.
#[inline(never)]
pub fn one(me: &'static Env, op: &PageOp) -> Results {
    run(me, op, &mut Budget::of_entry()).map(|pages| (pages.into(), 0))
}

/// `mark(env, va, 1, word)` with [`MARK_OVER_PAGE`](abi::call::MARK_OVER_PAGE): stores a mark in place of a page.
#[inline(never)]
pub fn mark_over(me: &'static Env, op: &PageOp) -> Results {
    let env = table::find_own(me, op.env)?;
    let va = op.va.user_run(1)?;
    unpinned(env, va, 1)?;
    with_page_map(env, |map| {
        still_editable(env, map, Call::Mark, va, 1)?;
        map.mark_over(va, op.arg).map(|was_dirty| (1, was_dirty.into()))
    })
}

/// `page_ops(operations, count)`: executes a list of page calls.
#[inline(never)]
pub fn many(me: &'static Env, list: UserSlice) -> Results {
    if list.len == 0 {
        return Err(Error::BadCount(0));
    }
    let mut ops = [const { MaybeUninit::uninit() }; PAGE_OPS_MAX as usize];
    let ops: &[PageOp] = list.read(me, &mut ops[..list.len.min(PAGE_OPS_MAX) as usize])?;
    let mut budget = Budget::of_entry();
    let mut done = 0;
    while done < ops.len() && !budget.is_spent() {
        let fast = protect_list_fast(me, &ops[done..]).unwrap_or(0);
        if fast > 0 {
            budget.spend_on_fast(fast);
            done += fast;
            continue;
        }
        let Some(op) = ops.get(done) else { break };
        budget.spend_on_operation(op);
        match run(me, op, &mut budget) {
            Ok(pages) if pages == op.count => done += 1,
            Ok(pages) => return Ok((done as u64, pages.into())),
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok((done as u64, 0)),
        }
    }
    Ok((done as u64, 0))
}

/// Executes an operation on a run of pages or tables, or the first part of it. Returns how many were done.
#[inline(never)]
fn run(me: &'static Env, op: &PageOp, budget: &mut Budget) -> Result<u32, Error> {
    let call = Call::from_number(op.call.into()).ok_or(Error::BadOp(op.call.into()))?;
    if op.count == 0 {
        return Err(Error::BadCount(0));
    }
    let env = table::find_own(me, op.env)?;
    match call {
        Call::ShareTables | Call::OwnTables | Call::UnmapTables => tables(me, env, call, op, budget),
        Call::ProtectTables => protect_tables(env, op, budget),
        Call::Map | Call::Copy => map(me, env, call, op, budget),
        Call::Own if !core::ptr::eq(env, me) => Err(Error::NotYours(op.env.0.into())),
        Call::Alloc | Call::Protect | Call::Unmap | Call::Mark | Call::Own => {
            let va = op.va.user_run(op.count.into())?;
            let count = unpinned(env, va, op.count)?;
            match call {
                Call::Alloc => _ = Perms::checked(op.arg)?,
                Call::Protect => _ = Perms::checked(op.arg & !AGE)?,
                _ => {}
            }
            with_page_map(env, |map| {
                let count = still_editable(env, map, call, va, count)?;
                map.run_pages(None, call, op, count, budget)
            })
        }
        _ => Err(Error::BadOp(op.call.into())),
    }
}

/// Shares pages with `env`, or copies them to it, from another environment or from another address.
fn map(me: &'static Env, env: &'static Env, call: Call, op: &PageOp, budget: &mut Budget) -> Result<u32, Error> {
    let to = op.va.user_run(op.count.into())?;
    let count = unpinned(env, to, op.count)?;
    Perms::checked(op.arg)?;
    let source = table::find_own(me, op.source_env)?;
    let from = op.source.source_run(op.count.into())?;
    let count = unpinned(source, from, count)?;
    with_page_maps(source, env, |source_map, map| {
        let count = still_unpinned(source, from, still_editable(env, map, call, op.va, count)?)?;
        map.run_pages(source_map, call, op, count, budget)
    })
}

/// Executes an operation on a run of whole tables.
#[inline(never)]
fn tables(me: &'static Env, env: &'static Env, call: Call, op: &PageOp, budget: &mut Budget) -> Result<u32, Error> {
    let (level, shares) = (op.level()?, call == Call::ShareTables);
    let source = if shares { table::find_own(me, op.source_env)? } else { env };
    op.va.table_run(op.count.into(), level)?;
    if call == Call::OwnTables && !core::ptr::eq(env, me) {
        return Err(Error::NotYours(op.env.0.into()));
    }
    if shares {
        op.source.table_run(op.count.into(), level)?;
    }
    with_page_maps(source, env, |source_map, map| {
        table::still_own(source).and(table::still_own(env))?;
        let mut count = op.count;
        if shares {
            // The kernel writes to registered exception stacks: they are never below a shared table.
            count = vm::unpinned(source.upcall.stack(), op.source, count, level)?;
        }
        if call != Call::OwnTables {
            // Nor do they go with a table.
            count = vm::unpinned(env.upcall.stack(), op.va, count, level)?;
        }
        map.run_tables(source_map, call, op, count, budget)
    })
}

/// Protects everything below a run of whole tables against writes, or no longer.
#[inline(never)]
fn protect_tables(env: &'static Env, op: &PageOp, budget: &mut Budget) -> Result<u32, Error> {
    let level = op.level()?;
    op.va.table_run(op.count.into(), level)?;
    let stray = op.source.0 & !Perms::WRITE.bits();
    if stray != 0 {
        return Err(Error::BadPerms(stray));
    }
    with_page_map(env, |map| {
        table::still_own(env)?;
        // The kernel writes to registered exception stacks: they are never below a sealed table.
        let count = vm::unpinned(env.upcall.stack(), op.va, op.count, level)?;
        map.protect_tables(op, count, budget)
    })
}

/// How many pages at the start of a run are not on a registered exception stack. (For a device, see
/// [`devices::unpinned`].)
///
/// # Errors
/// [`Error::Pinned`] if the first one is.
#[inline(always)]
pub fn unpinned(env: &'static Env, va: Va, count: u32) -> Result<u32, Error> {
    vm::unpinned(env.upcall.stack(), va, count, Level::L1).or_else(|error| not_by_device(env, error).map(|()| count))
}

#[cold]
#[inline(never)]
fn not_by_device(env: &'static Env, pinned: Error) -> Result<(), Error> {
    if devices::is_program(env) { Err(pinned) } else { Ok(()) }
}

/// Calls [`unpinned`] again, with the page map locked: an environment that runs on another processor may have
/// registered a stack since. Or it may have ended.
fn still_unpinned(env: &'static Env, va: Va, count: u32) -> Result<u32, Error> {
    if table::is_running(env) {
        return Ok(count);
    }
    table::still_own(env)?;
    unpinned(env, va, count)
}

/// Calls [`still_unpinned`] for pages that a call is about to change. While a device runs, its page map only grows.
#[inline(always)]
fn still_editable(env: &'static Env, map: &Editable, call: Call, va: Va, count: u32) -> Result<u32, Error> {
    if table::is_running(env) {
        return Ok(count);
    }
    devices::unpinned(env, map, call, va, still_unpinned(env, va, count)?)
}

//! The fast path of the page calls: the calls of which fault handling consists, on the caller's own pages.
//!
//! A function in this file may refuse more than the slow path ([`pages`](crate::calls::pages)), never less. `None`
//! means that nothing was done: then the slow path does the work, or reports the error.

use crate::env::table::Env;
use abi::{Call, PageOp, Perms, Va, call::AGE, call::MARK_OVER_PAGE, ops::Fields};

/// Whether a call changes one page of the caller, and has a fast path.
#[inline(always)]
pub fn is_usual(call: Call, raw: &Fields<u64>) -> bool {
    let has_fast_path = matches!(call, Call::Alloc | Call::Protect | Call::Unmap | Call::Mark | Call::Own | Call::Map);
    has_fast_path && raw.env == 0 && raw.source_env == 0 && raw.count == 1
}

/// Executes a [usual](is_usual) call. Returns its second result.
#[inline(always)]
pub fn page_fast(me: &'static Env, call: Call, raw: &Fields<u64>) -> Option<u64> {
    let (va, source) = (Va(raw.va), Va(raw.source));
    let perms = checks(me, va, if matches!(call, Call::Own | Call::Mark) { 0 } else { raw.arg })?;
    if call == Call::Map {
        source.source_run(1).ok()?;
        is_unpinned(me, source).then_some(())?;
        return me.page_map.try_lock()?.as_mut()?.map_fast(source, va, perms).map(|()| 0);
    }
    let mut map = me.page_map.try_lock()?;
    let map = map.as_mut()?;
    match call {
        Call::Alloc => map.alloc_fast(va, perms)?,
        Call::Protect => map.protect_fast(va, perms)?,
        Call::Unmap => map.unmap_fast(va)?,
        Call::Mark => return map.mark_over_fast(va, raw.arg ^ MARK_OVER_PAGE).map(u64::from),
        _ => map.own_fast(va)?,
    }
    Some(0)
}

/// Finds the table of the page of a [usual](is_usual) call, if it was not that of the last one.
#[inline(always)]
pub fn find_table(me: &'static Env, raw: &Fields<u64>) -> Option<()> {
    let va = Some(Va(raw.va)).filter(|va| va.is_user_page())?;
    me.page_map.try_lock()?.as_mut()?.find_table(va)
}

/// Changes the permissions of several pages of the caller. Returns how many were done.
#[inline(always)]
pub fn protect_run_fast(me: &'static Env, va: Va, count: u64, argument: u64) -> Option<u64> {
    let perms = permissions(argument)?;
    let pages = u32::try_from(count).ok().filter(|pages| *pages > 0)?;
    va.user_run(count).ok()?;
    if va.add_pages(count).0 > me.upcall.low.get() && va.0 < me.upcall.top.get() {
        return None;
    }
    let mut map = me.page_map.try_lock()?;
    let done = map.as_mut()?.edit_here().protect_run_fast(va, pages as usize, perms);
    Some(done? as u64)
}

/// Executes a list of operations on the caller's pages. Returns how many, from the first one on, were done.
#[inline(always)]
pub fn protect_list_fast(me: &'static Env, ops: &[PageOp]) -> Option<usize> {
    let argument = ops.first()?.arg;
    permissions(argument & !AGE)?;
    let perms = Perms::from_bits_retain(argument);
    let mut map = me.page_map.try_lock()?;
    Some(map.as_mut()?.edit_here().protect_list_fast(ops, perms, me.upcall.stack()))
}

#[inline(always)]
fn checks(me: &'static Env, va: Va, argument: u64) -> Option<Perms> {
    let perms = permissions(argument)?;
    (va.is_user_page() && is_unpinned(me, va)).then_some(perms)
}

/// The permissions in an argument, except those of executable pages: their rule is longer.
#[inline(always)]
fn permissions(argument: u64) -> Option<Perms> {
    Perms::from_bits(argument).filter(|perms| !perms.contains(Perms::EXEC))
}

/// Whether a page is not on the registered exception stack.
#[inline(always)]
fn is_unpinned(env: &Env, va: Va) -> bool {
    va.0 < env.upcall.low.get() || va.0 >= env.upcall.top.get()
}

//! The dispatcher: from the entry stub to the function that executes a call.

use crate::calls::{console, envs, fast, ipc, pages};
use crate::env::table::{self, Env, Results};
use crate::env::{bracket::Entry, run_loop, user_memory::UserSlice};
use crate::machine::registers::reg;
use abi::call::MARK_OVER_PAGE;
use abi::ops::{Fields, Places};
use abi::{Arguments, Call, Error, PageOp, Va, args};
use sched::Node;

/// The result registers: RAX below, RDX above. A scalar: the compiler turns a call at the end of a handler into a jump.
pub type Pair = u128;

/// The handler of a call: six arguments, and two results in the registers that the C calling convention uses.
type Handler = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Pair;

/// The handlers of all calls, by number, for the entry stub.
pub static HANDLERS: [Handler; Call::ALL.len()] = {
    let mut all = [dispatch as Handler; _];
    all[Call::Id as usize] = id;
    macro_rules! page_calls {
        ($($name:ident)*) => { $(all[Call::$name as usize] = page_call::<{ Call::$name as usize }>;)* };
    }
    page_calls!(Alloc Map Protect Unmap Mark Own Copy ShareTables OwnTables UnmapTables ProtectTables);
    all[Call::PageOps as usize] = page_ops;
    all[Call::SendRecv as usize] = send_receive;
    all
};

/// Ends a call, and encodes its results.
#[inline(always)]
fn finish(entry: Entry, number: u64, results: Results) -> Pair {
    entry.end(number);
    let (rax, rdx) = results.unwrap_or_else(Error::encode);
    u128::from(rax) | u128::from(rdx) << 64
}

extern "C" fn id(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Pair {
    let entry = Entry::begin();
    finish(entry, Call::Id as u64, Ok((table::current().id().0.into(), 0)))
}

/// Handles a page call. Each page call has a copy of this function, in which the places of its arguments are constant.
extern "C" fn page_call<const CALL: usize>(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    let entry = Entry::begin();
    let (call, raw) = (Call::ALL[CALL], pick::<CALL>([a, b, c, d, e, f]));
    if !fast::is_usual(call, &raw) {
        return page_call_slow::<CALL>(entry, a, b, c, d, e, f);
    }
    match fast::page_fast(table::current(), call, &raw) {
        Some(second) => finish(entry, CALL as u64, Ok((1, second))),
        None => page_call_again::<CALL>(entry, a, b, c, d, e, f),
    }
}

#[inline(always)]
fn pick<const CALL: usize>(registers: [u64; 6]) -> Fields<u64> {
    const { Places::of(Call::ALL[CALL]).unwrap() }.pick(registers)
}

/// Finds the table of a page, and takes the fast path again.
#[cold]
#[inline(never)]
fn page_call_again<const CALL: usize>(entry: Entry, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    let (me, raw) = (table::current(), pick::<CALL>([a, b, c, d, e, f]));
    match fast::find_table(me, &raw).and_then(|()| fast::page_fast(me, Call::ALL[CALL], &raw)) {
        Some(second) => finish(entry, CALL as u64, Ok((1, second))),
        None => page_call_slow::<CALL>(entry, a, b, c, d, e, f),
    }
}

#[cold]
#[inline(never)]
fn page_call_slow<const CALL: usize>(entry: Entry, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    let (me, call, raw) = (table::current(), Call::ALL[CALL], pick::<CALL>([a, b, c, d, e, f]));
    if call == Call::Protect
        && raw.env == 0
        && let Some(done) = fast::protect_run_fast(me, Va(raw.va), raw.count, raw.arg)
    {
        return finish(entry, CALL as u64, Ok((done, 0)));
    }
    let op = PageOp::from_registers(call, [a, b, c, d, e, f]);
    if call == Call::Mark && raw.count == 1 && raw.arg & MARK_OVER_PAGE != 0 {
        return finish(entry, CALL as u64, op.and_then(|op| pages::mark_over(me, &op)));
    }
    finish(entry, CALL as u64, op.and_then(|op| pages::one(me, &op)))
}

extern "C" fn page_ops(a: u64, b: u64, _: u64, _: u64, _: u64, _: u64) -> Pair {
    let entry = Entry::begin();
    let many = |a: args::PageOps| pages::many(table::current(), UserSlice::new(a.operations, a.count));
    finish(entry, Call::PageOps as u64, with([a, b, 0, 0, 0, 0], many))
}

/// Handles `send_recv`, the most frequent call that may switch. The stub has saved all registers. Returns only if the
/// caller goes on.
extern "C" fn send_receive(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    let entry = Entry::begin();
    let results = ipc::send_receive(entry, table::current(), [a, b, c, d, e, f]);
    finish(entry, Call::SendRecv as u64, results)
}

/// Handles every other number, valid or not. The stub has saved all registers.
pub extern "C" fn dispatch(a: u64, b: u64, c: u64, d: u64, _: u64, _: u64) -> Pair {
    let entry = Entry::begin();
    let me = table::current();
    let number = me.frame.saved().general[reg::RAX];
    finish(entry, number, call(entry, me, number, [a, b, c, d, 0, 0]))
}

fn call(entry: Entry, me: &'static Env, number: u64, args: [u64; 6]) -> Results {
    match Call::from_number(number).ok_or(Error::BadCall(number))? {
        Call::Write => with(args, |a: args::Write| console::write(me, UserSlice::new(a.buffer, a.bytes))),
        Call::Read => with(args, |a: args::Read| console::read(entry, me, UserSlice::new(a.buffer, a.bytes))),
        Call::Exofork => envs::exofork(me),
        Call::Destroy => with(args, |a: args::Destroy| envs::destroy(entry, me, a.env)),
        Call::Exit => with(args, |a: args::Exit| envs::exit(entry, me, a.status)),
        Call::SetStatus => with(args, |a: args::SetStatus| envs::set_status(entry, me, a.env, a.status)),
        Call::SetRegs => with(args, |a: args::SetRegs| envs::set_regs(entry, me, a.env, a.registers)),
        Call::SetUpcall => with(args, |a| envs::set_upcall(entry, me, a)),
        Call::Wait => with(args, |a: args::Wait| envs::wait(entry, me, a.child, a.flags)),
        Call::Yield => with(args, |a: args::Yield| run_loop::yield_to(entry, me, a.env)),
        Call::Send => with(args, |a| ipc::send(me, a)),
        Call::Recv => with(args, |a: args::Recv| ipc::receive(entry, me, a.va.0, a.from)),
        Call::Claim => with(args, |a: args::Claim| envs::claim(me, a.device, a.env)),
        Call::PowerOff => with(args, |a: args::PowerOff| envs::power_off(me, a.status)),
        _ => Err(Error::BadCall(number)),
    }
}

/// Decodes the arguments of a call, and executes it.
#[inline(always)]
fn with<A: Arguments>(registers: [u64; 6], execute: impl FnOnce(A) -> Results) -> Results {
    A::from_registers(registers).and_then(execute)
}

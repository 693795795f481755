//! The dispatcher: from the entry stub to the function that executes a call.

use crate::calls::{console, envs, fast, ipc, pages};
use crate::env::bracket::Entry;
use crate::env::run;
use crate::env::table::{self, Env, Results};
use crate::env::user_memory::UserSlice;
use crate::machine::registers::reg;
use abi::{Call, EnvId, Error, PageOp, Perms, Va};
use sched::Node;

/// The result registers.
#[repr(C)]
pub struct Pair(u64, u64);

/// The handler of a call: six arguments, and two results in the registers that the C calling convention uses.
type Handler = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Pair;

/// The handlers of all calls, by number, for the entry stub.
pub static HANDLERS: [Handler; Call::ALL.len()] = {
    let mut all = [dispatch as Handler; _];
    all[Call::Id as usize] = id;
    all[Call::Alloc as usize] = page_call::<{ Call::Alloc as u64 }>;
    all[Call::Map as usize] = page_call::<{ Call::Map as u64 }>;
    all[Call::Protect as usize] = page_call::<{ Call::Protect as u64 }>;
    all[Call::Unmap as usize] = page_call::<{ Call::Unmap as u64 }>;
    all[Call::Mark as usize] = page_call::<{ Call::Mark as u64 }>;
    all[Call::Own as usize] = page_call::<{ Call::Own as u64 }>;
    all[Call::Copy as usize] = page_call::<{ Call::Copy as u64 }>;
    all[Call::ShareTables as usize] = page_call::<{ Call::ShareTables as u64 }>;
    all[Call::OwnTables as usize] = page_call::<{ Call::OwnTables as u64 }>;
    all[Call::UnmapTables as usize] = page_call::<{ Call::UnmapTables as u64 }>;
    all[Call::PageOps as usize] = page_ops;
    all[Call::SendRecv as usize] = send_receive;
    all
};

/// Ends a call, and encodes its results.
#[inline(always)]
fn finish(entry: Entry, number: u64, results: Results) -> Pair {
    entry.end(number);
    let (rax, rdx) = results.unwrap_or_else(Error::encode);
    Pair(rax, rdx)
}

extern "C" fn id(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Pair {
    let entry = Entry::begin();
    finish(entry, Call::Id as u64, Ok((table::current().id().0.into(), 0)))
}

/// Handles a page call. Each page call has a copy of this function, in which the places of its arguments are constant.
extern "C" fn page_call<const CALL: u64>(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    let entry = Entry::begin();
    let me = table::current();
    let done = match (Call::from_number(CALL), a, c) {
        (Some(call @ (Call::Alloc | Call::Protect)), 0, 1) => fast::page_fast(me, call, Va(b), d),
        (Some(Call::Unmap), 0, 1) => fast::page_fast(me, Call::Unmap, Va(b), 0),
        (Some(Call::Own), _, _) if b == 1 => fast::page_fast(me, Call::Own, Va(a), 0),
        (Some(Call::Map), 0, 0) if e == 1 => fast::map_fast(me, Va(b), Va(d), f),
        _ => None,
    };
    if done.is_some() {
        return finish(entry, CALL, Ok((1, 0)));
    }
    long_page_call::<CALL>(entry, a, b, c, d, e, f)
}

#[cold]
#[inline(never)]
fn long_page_call<const CALL: u64>(entry: Entry, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    if CALL == Call::Protect as u64
        && a == 0
        && let Some(done) = fast::protect_run_fast(table::current(), Va(b), c, d)
    {
        return finish(entry, CALL, Ok((done, 0)));
    }
    let call = Call::from_number(CALL).ok_or(Error::BadCall(CALL));
    let op = call.and_then(|call| PageOp::from_registers(call, [a, b, c, d, e, f]));
    finish(entry, CALL, op.and_then(|op| pages::one(table::current(), &op)))
}

extern "C" fn page_ops(list: u64, len: u64, _: u64, _: u64, _: u64, _: u64) -> Pair {
    let entry = Entry::begin();
    finish(entry, Call::PageOps as u64, pages::many(table::current(), UserSlice::new(list, len)))
}

/// Handles `send_recv`, the most frequent call that may switch. The stub has saved all registers. Returns only if the
/// caller goes on.
extern "C" fn send_receive(to: u64, word: u64, page: u64, perms: u64, at: u64, from: u64) -> Pair {
    let entry = Entry::begin();
    let results = ipc::send_receive(entry, table::current(), [to, word, page, perms, at, from]);
    finish(entry, Call::SendRecv as u64, results)
}

/// Handles every other number, valid or not. The stub has saved all registers.
pub extern "C" fn dispatch(a: u64, b: u64, c: u64, d: u64, _: u64, _: u64) -> Pair {
    let entry = Entry::begin();
    let me = table::current();
    let number = me.frame.saved().general[reg::RAX];
    finish(entry, number, call(entry, me, number, [a, b, c, d]))
}

fn call(entry: Entry, me: &'static Env, number: u64, [a, b, c, d]: [u64; 4]) -> Results {
    match Call::from_number(number).ok_or(Error::BadCall(number))? {
        Call::Write => console::write(me, UserSlice::new(a, b)),
        Call::Read => console::read(entry, me, UserSlice::new(a, b)),
        Call::Exofork => envs::exofork(me),
        Call::Destroy => envs::destroy(entry, me, EnvId::from_register(a)?),
        Call::Exit => envs::exit(entry, me, a),
        Call::SetStatus => envs::set_status(entry, me, EnvId::from_register(a)?, b),
        Call::SetRegs => envs::set_regs(entry, me, EnvId::from_register(a)?, b),
        Call::SetUpcall => envs::set_upcall(entry, me, EnvId::from_register(a)?, b, c, d),
        Call::Wait => envs::wait(entry, me, EnvId::from_register(a)?, b),
        Call::Yield => run::yield_to(entry, me, EnvId::from_register(a)?),
        Call::Send => ipc::send(me, EnvId::from_register(a)?, b, c, perms(d)),
        Call::Recv => ipc::receive(entry, me, a, EnvId::from_register(b)?),
        Call::PowerOff => envs::power_off(me, a),
        _ => Err(Error::BadCall(number)),
    }
}

/// Permission bits as the caller gave them: `ipc` checks them if there is a page.
fn perms(argument: u64) -> Perms {
    Perms::from_bits_retain(argument)
}

//! The dispatcher, and the calls about environments.

use crate::console::trace;
use crate::env::{self, Env};
use crate::memory::{MEMORY, Space};
use crate::pages;
use crate::trap::reg;
use crate::user::UserSlice;
use crate::{console, cpu, ipc, life, power, sched, trap};
use ::sched::{Family, Node};
use abi::call::WAIT_NO_BLOCK;
use abi::layout::{EXCEPTION_STACK_MAX_PAGES, USER_LIMIT};
use abi::{Call, EnvId, Error, ExitStatus, PAGE_SIZE, PageOp, Perms, Registers, Status, Va};
use core::cmp::Ordering::{Equal, Greater, Less};
use core::mem::MaybeUninit;

/// What a call gives back in `rax` and `rdx`.
pub type Results = Result<(u64, u64), Error>;

/// The result registers.
#[repr(C)]
pub struct Pair(u64, u64);

/// What handles a call: six arguments, and results as C returns two words.
type Handler = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Pair;

/// Where each call goes, by its number. For the entry stub.
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

/// The end of a call.
#[inline(always)]
fn finish(number: u64, results: Results) -> Pair {
    sched::leave_kernel(number);
    let (rax, rdx) = results.unwrap_or_else(Error::encode);
    Pair(rax, rdx)
}

extern "C" fn id(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Pair {
    sched::enter_kernel();
    finish(Call::Id as u64, Ok((cpu::env().id().0.into(), 0)))
}

/// A page call: each has a handler of its own, in which the places of its arguments are known.
extern "C" fn page_call<const CALL: u64>(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    sched::enter_kernel();
    let me = cpu::env();
    let done = match (Call::from_number(CALL), a, c) {
        (Some(call @ (Call::Alloc | Call::Protect)), 0, 1) => pages::short(me, call, Va(b), d),
        (Some(Call::Unmap), 0, 1) => pages::short(me, Call::Unmap, Va(b), 0),
        (Some(Call::Own), _, _) if b == 1 => pages::short(me, Call::Own, Va(a), 0),
        (Some(Call::Map), 0, 0) if e == 1 => pages::short_map(me, Va(b), Va(d), f),
        _ => None,
    };
    if done.is_some() {
        return finish(CALL, Ok((1, 0)));
    }
    long_page_call::<CALL>(a, b, c, d, e, f)
}

#[cold]
#[inline(never)]
extern "C" fn long_page_call<const CALL: u64>(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> Pair {
    if CALL == Call::Protect as u64
        && a == 0
        && let Some(done) = pages::short_protect(cpu::env(), Va(b), c, d)
    {
        return finish(CALL, Ok((done, 0)));
    }
    let call = Call::from_number(CALL).ok_or(Error::BadCall(CALL));
    let op = call.and_then(|call| PageOp::from_registers(call, [a, b, c, d, e, f]));
    finish(CALL, op.and_then(|op| pages::one(cpu::env(), &op)))
}

extern "C" fn page_ops(list: u64, len: u64, _: u64, _: u64, _: u64, _: u64) -> Pair {
    sched::enter_kernel();
    finish(Call::PageOps as u64, pages::many(cpu::env(), UserSlice::new(list, len)))
}

/// `send_recv`, of which there are more than of others: all registers are saved. Comes back only if the caller goes on.
extern "C" fn send_receive(to: u64, word: u64, page: u64, perms: u64, at: u64, from: u64) -> Pair {
    sched::enter_kernel();
    let results = ipc::send_receive(cpu::env(), [to, word, page, perms, at, from]);
    finish(Call::SendRecv as u64, results)
}

/// Any other call, or none: all registers are saved, too.
pub extern "C" fn dispatch(a: u64, b: u64, c: u64, d: u64, _: u64, _: u64) -> Pair {
    sched::enter_kernel();
    let me = cpu::env();
    let number = me.frame.saved().general[reg::RAX];
    finish(number, call(me, number, [a, b, c, d]))
}

#[inline]
fn call(me: &'static Env, number: u64, [a, b, c, d]: [u64; 4]) -> Results {
    match Call::from_number(number).ok_or(Error::BadCall(number))? {
        Call::Write => console::write(me, UserSlice::new(a, b)),
        Call::Read => console::read(me, UserSlice::new(a, b)),
        Call::Exofork => exofork(me),
        Call::Destroy => destroy(me, EnvId::from_register(a)?),
        Call::Exit => exit(me, a),
        Call::SetStatus => set_status(me, EnvId::from_register(a)?, b),
        Call::SetRegs => set_regs(me, EnvId::from_register(a)?, b),
        Call::SetUpcall => set_upcall(me, EnvId::from_register(a)?, b, c, d),
        Call::Wait => wait(me, EnvId::from_register(a)?, b),
        Call::Yield => sched::yield_to(me, EnvId::from_register(a)?),
        Call::Send => ipc::send(me, EnvId::from_register(a)?, b, c, perms(d)),
        Call::Recv => ipc::receive(me, a, EnvId::from_register(b)?),
        Call::PowerOff => power_off(me, a),
        _ => Err(Error::BadCall(number)),
    }
}

/// Permission bits as they came: the page calls check them.
fn perms(argument: u64) -> Perms {
    Perms::from_bits_retain(argument)
}

/// `exofork()`
#[inline(never)]
fn exofork(me: &'static Env) -> Results {
    let child = life::create(Some(me))?;
    *child.frame.saved() = *me.frame.saved();
    child.frame.set_results((0, 0));
    child.fp.save();
    Ok((child.id().0.into(), 0))
}

/// `destroy(env)`
#[inline(never)]
fn destroy(me: &'static Env, id: EnvId) -> Results {
    let env = env::find_own(me, id)?;
    trace!("[{}] destroying {}", me.id(), env.id());
    if !life::end(env, ExitStatus::DESTROYED, me.id(), Family::Ends) && !core::ptr::eq(env, me) {
        return Err(Error::BadEnv(id.0.into()));
    }
    if core::ptr::eq(env, me) {
        sched::switch(sched::lock());
    }
    Ok((0, 0))
}

/// `exit(status)`
#[inline(never)]
fn exit(me: &'static Env, status: u64) -> Results {
    let status = ExitStatus::from_register(status)?;
    trace!("[{}] exiting gracefully", me.id());
    life::end(me, status, me.id(), Family::GoesUp);
    sched::switch(sched::lock())
}

/// `set_status(env, status)`
#[inline(never)]
fn set_status(me: &'static Env, id: EnvId, status: u64) -> Results {
    let env = env::find_own(me, id)?;
    let refuse = |now| match now {
        Status::Free | Status::Dying | Status::Zombie => Error::BadEnv(id.0.into()),
        other => Error::BadState(other as u64),
    };
    let mut sched = sched::lock();
    env::still_own(env)?;
    match Status::from_number(status) {
        // Who runs has nothing to start: somebody may be stopping it just now.
        Some(Status::Runnable) if core::ptr::eq(env, me) => {}
        Some(Status::Runnable) => sched.start(env).map_err(refuse)?,
        Some(Status::Stopped) if core::ptr::eq(env, me) => {
            me.frame.set_results((0, 0));
            // Or it was ended meanwhile.
            _ = sched.stop(me);
            sched::switch(sched);
        }
        Some(Status::Stopped) => {
            while sched.stop(env).map_err(refuse)? {
                drop(sched);
                sched = sched::lock_free(env);
                env::still_own(env)?;
            }
        }
        _ => return Err(Error::BadStatus(status)),
    }
    Ok((0, 0))
}

/// `set_regs(env, registers)`
#[inline(never)]
fn set_regs(me: &'static Env, id: EnvId, at: u64) -> Results {
    let env = env::find_own(me, id)?;
    let mut registers = [MaybeUninit::uninit()];
    let registers: &Registers = &UserSlice::new(at, 1).read(me, &mut registers)?[0];
    if !core::ptr::eq(env, me) {
        let stopped = || match env.status() {
            Status::Stopped => Ok(()),
            other => Err(Error::BadState(other as u64)),
        };
        stopped()?;
        // It may have been stopped a moment ago.
        let _sched = sched::lock_free(env);
        env::still_own(env)?;
        stopped()?;
        return env.frame.set_registers(registers).map(|()| (0, 0));
    }
    me.frame.set_registers(registers)?;
    sched::leave_kernel(Call::SetRegs as u64);
    trap::resume_env()
}

/// `set_upcall(env, entry, stack, pages)`
#[inline(never)]
fn set_upcall(me: &'static Env, id: EnvId, entry: u64, stack: u64, pages: u64) -> Results {
    let env = env::find_own(me, id)?;
    if entry >= USER_LIMIT.0 {
        return Err(Error::BadAddress(entry));
    }
    let most = if entry == 0 { 0 } else { EXCEPTION_STACK_MAX_PAGES };
    if pages > most || (pages == 0 && entry != 0) {
        return Err(Error::BadCount(pages));
    }
    let low = Va(stack).user_run(pages)?;
    let other = !core::ptr::eq(env, me);
    if other {
        sched::keep_off(env)?;
    }
    let result = with_space(env, |space| {
        env::still_own(env)?;
        (0..pages).try_for_each(|page| space.is_private(&MEMORY, low.add_pages(page)))?;
        env.upcall.clear();
        if entry != 0 {
            env.upcall.entry.set(entry);
            env.upcall.low.set(low.0);
            env.upcall.top.set(low.0 + pages * PAGE_SIZE);
        }
        Ok((0, 0))
    });
    if other {
        sched::lock().let_go(env);
    }
    result
}

/// Do something with the page map of a living environment.
#[inline(always)]
pub fn with_space<T>(env: &'static Env, f: impl FnOnce(&mut Space) -> Result<T, Error>) -> Result<T, Error> {
    let mut space = env.space.lock();
    let ended = || Error::BadEnv(env.id().0.into());
    let space = space.as_mut().ok_or_else(ended)?;
    if !cpu::is_running(env) {
        if env.status() == Status::Dying {
            return Err(ended());
        }
        space.begin();
    }
    let result = f(space);
    space.settle(&MEMORY);
    result
}

/// The same with the page map of another environment too, unless `source` is this one. Locks are taken in the order of
/// the slots.
pub fn with_source<T>(
    source: &'static Env,
    env: &'static Env,
    f: impl FnOnce(Option<&mut Space>, &mut Space) -> Result<T, Error>,
) -> Result<T, Error> {
    match source.slot().cmp(&env.slot()) {
        Less => with_space(source, |from| with_space(env, |space| f(Some(from), space))),
        Equal => with_space(env, |space| f(None, space)),
        Greater => with_space(env, |space| with_space(source, |from| f(Some(from), space))),
    }
}

/// `wait(child | 0, flags)`
#[inline(never)]
fn wait(me: &'static Env, id: EnvId, flags: u64) -> Results {
    if flags & !WAIT_NO_BLOCK != 0 {
        return Err(Error::BadFlags(flags));
    }
    let mut sched = sched::lock();
    let child = sched.child(me, id).ok_or(Error::NoChild(id.0.into()))?;
    if child.status() == Status::Zombie {
        sched.reap(child);
        return Ok((child.id().0.into(), child.info().exit().0.into()));
    }
    if flags & WAIT_NO_BLOCK != 0 {
        return Ok((0, 0));
    }
    sched.wait(me, id);
    sched::switch(sched)
}

/// `power_off(status)`
#[inline(never)]
fn power_off(me: &'static Env, status: u64) -> Results {
    if me.id() != power::first_env() {
        return Err(Error::NotFirst(power::first_env().0.into()));
    }
    power::off(ExitStatus::from_register(status)?)
}

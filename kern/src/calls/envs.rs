//! The calls about environments.

use crate::env::table::{self, Env, Results, with_page_map};
use crate::env::{bracket::Entry, devices, life, run_loop, scheduler, switch, user_memory::UserSlice};
use crate::machine::hardware::{Hardware, MEMORY};
use crate::machine::iommu::{self, Device};
use crate::machine::{power, print::trace, vectors};
use abi::layout::{EXCEPTION_STACK_MAX_PAGES, REGISTERS, USER_LIMIT};
use abi::window::DeviceInfo;
use abi::{Call, EnvId, Error, ExitStatus, PAGE_SIZE, Perms, Registers, Status, Va, args, call::WAIT_NO_BLOCK};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::Relaxed;
use sched::{Family, Node};
use vm::Machine;

/// `exofork()`: makes a stopped child without pages, with the caller's registers.
#[inline(never)]
pub fn exofork(me: &'static Env) -> Results {
    let child = life::create(Some(me), 0)?;
    *child.frame.saved() = *me.frame.saved();
    child.frame.set_results((0, 0));
    child.fp.save();
    Ok((child.id().0.into(), 0))
}

/// `destroy(env)`: ends an environment and all of its descendants.
#[inline(never)]
pub fn destroy(entry: Entry, me: &'static Env, id: EnvId) -> Results {
    let env = table::find_own(me, id)?;
    trace!("[{}] destroying {}", me.id(), env.id());
    let ended = life::end(env, ExitStatus::DESTROYED, me.id(), Family::Ends);
    if core::ptr::eq(env, me) {
        run_loop::switch(entry, scheduler::lock());
    }
    if ended { Ok((0, 0)) } else { Err(Error::BadEnv(id.0.into())) }
}

/// `exit(status)`: ends the caller. Its children go up to its parent.
#[inline(never)]
pub fn exit(entry: Entry, me: &'static Env, status: u64) -> Results {
    let status = ExitStatus::from_register(status)?;
    trace!("[{}] exiting gracefully", me.id());
    life::end(me, status, me.id(), Family::GoesUp);
    run_loop::switch(entry, scheduler::lock())
}

/// `set_status(env, status)`: starts or stops an environment.
#[inline(never)]
pub fn set_status(entry: Entry, me: &'static Env, id: EnvId, status: u64) -> Results {
    let (env, wanted) = (table::find_own(me, id)?, Status::from_number(status));
    if devices::program(env).is_err() {
        return devices::set_status(env, wanted.ok_or(Error::BadStatus(status))?);
    }
    let mut locked = scheduler::lock();
    table::still_own(env)?;
    let done = match wanted {
        // The caller runs already. If somebody is stopping it just now, it stays stopped.
        Some(Status::Runnable) if core::ptr::eq(env, me) => Ok(()),
        Some(Status::Runnable) => locked.start(env),
        Some(Status::Stopped) => return stop(entry, locked, me, env),
        _ => return Err(Error::BadStatus(status)),
    };
    done.map(|()| (0, 0)).map_err(|now| refusal(env, now))
}

/// Stops an environment. One that runs elsewhere runs no longer when this returns.
#[inline(never)]
fn stop(entry: Entry, mut locked: scheduler::Locked, me: &'static Env, env: &'static Env) -> Results {
    if core::ptr::eq(env, me) {
        me.frame.set_results((0, 0));
        // Fails if the caller was ended meanwhile.
        _ = locked.stop(me);
        run_loop::switch(entry, locked);
    }
    while locked.stop(env).map_err(|now| refusal(env, now))? {
        drop(locked);
        locked = switch::lock_free(entry, env);
        table::still_own(env)?;
    }
    Ok((0, 0))
}

/// Why an environment with this status is neither started nor stopped.
fn refusal(env: &Env, now: Status) -> Error {
    if now.is_alive() { Error::BadState(now as u64) } else { Error::BadEnv(env.id().0.into()) }
}

/// `set_regs(env, registers)`: sets the registers of the caller or of a stopped child.
#[inline(never)]
pub fn set_regs(entry: Entry, me: &'static Env, id: EnvId, at: Va) -> Results {
    let env = devices::program(table::find_own(me, id)?)?;
    let mut registers = [MaybeUninit::uninit()];
    let registers: &Registers = &UserSlice::new(at, 1).read(me, &mut registers)?[0];
    if !core::ptr::eq(env, me) {
        // If it was stopped a moment ago, another processor may still hold it.
        let _locked = switch::lock_free(entry, env);
        table::still_own(env)?;
        return match env.status() {
            Status::Stopped => env.frame.set_registers(registers).map(|()| (0, 0)),
            other => Err(Error::BadState(other as u64)),
        };
    }
    me.frame.set_registers(registers)?;
    entry.end(Call::SetRegs as u64);
    vectors::resume_env(&me.frame)
}

/// `set_upcall(env, handler, stack, pages)`: registers an exception handler and its stack, which is pinned from then
/// on.
#[inline(never)]
pub fn set_upcall(entry: Entry, me: &'static Env, arguments: args::SetUpcall) -> Results {
    let args::SetUpcall { env, entry: handler, stack, pages } = arguments;
    let env = devices::program(table::find_own(me, env)?)?;
    if handler >= USER_LIMIT.0 {
        return Err(Error::BadAddress(handler));
    }
    let most = if handler == 0 { 0 } else { EXCEPTION_STACK_MAX_PAGES };
    if pages > most || (pages == 0 && handler != 0) {
        return Err(Error::BadCount(pages));
    }
    let low = stack.user_run(pages)?;
    let other = !core::ptr::eq(env, me);
    if other {
        switch::keep_off(entry, env)?;
    }
    let result = with_page_map(env, |map| {
        table::still_own(env)?;
        (0..pages).try_for_each(|page| map.is_private(low.add_pages(page)))?;
        env.upcall.set(handler, if handler == 0 { 0..0 } else { low.0..low.0 + pages * PAGE_SIZE });
        Ok((0, 0))
    });
    if other {
        scheduler::lock().let_go(env);
    }
    result
}

/// `wait(child | 0, flags)`: waits for the end of a child, or of any child, and returns its exit status.
#[inline(never)]
pub fn wait(entry: Entry, me: &'static Env, id: EnvId, flags: u64) -> Results {
    if flags & !WAIT_NO_BLOCK != 0 {
        return Err(Error::BadFlags(flags));
    }
    let mut locked = scheduler::lock();
    let child = locked.child(me, id).ok_or(Error::NoChild(id.0.into()))?;
    if child.status() == Status::Zombie {
        locked.reap(child);
        return Ok((child.id().0.into(), child.info().exit().0.into()));
    }
    if flags & WAIT_NO_BLOCK != 0 {
        return Ok((0, 0));
    }
    locked.wait(me, id);
    run_loop::switch(entry, locked)
}

/// `claim(device, env | 0)`: makes a device a stopped child. Or lets another program do so, for the first one only.
#[inline(never)]
pub fn claim(me: &'static Env, index: u64, to: EnvId) -> Results {
    let (device, first) = (iommu::device(index)?, power::first_env());
    let allowed = &device.info().allowed;
    if me.id() != first && (to != EnvId::SELF || me.id().0 != allowed.load(Relaxed)) {
        return Err(Error::NotFirst(first.0.into()));
    }
    if to != EnvId::SELF {
        allowed.store(devices::program(table::find(me, to)?)?.id().0, Relaxed);
        return Ok((0, 0));
    }
    make(me, device)
}

/// Makes an environment for a device that nobody else has, with its registers.
fn make(holder: &'static Env, device: &Device) -> Results {
    let info = device.info();
    let taken = |id: u32| Error::Taken(id.into());
    info.env.compare_exchange(EnvId::NONE.0, DeviceInfo::LOST.0, Relaxed, Relaxed).map_err(taken)?;
    let is_free = device.registers().all(|frame| Hardware::info(frame).refs.load(Relaxed) == 1);
    let env = if is_free { life::create(Some(holder), device.index as u32 + 1) } else { Err(taken(0)) };
    let env = env.inspect_err(|_| info.env.store(EnvId::NONE.0, Relaxed))?;
    // Everything is pinned: so no call shares a table with it, and the page calls look closer.
    env.upcall.set(0, 0..u64::MAX);
    holder.info().devices.fetch_add(1, Relaxed);
    info.env.store(env.id().0, Relaxed);
    let registers = with_page_map(env, |map| {
        device.registers().enumerate().try_for_each(|(page, frame)| {
            MEMORY.add_reference(frame)?;
            map.accept(REGISTERS.add_pages(page as u64), frame, Perms::WRITE)
        })
    });
    registers.inspect_err(|_| _ = life::end(env, ExitStatus::DESTROYED, holder.id(), Family::Ends))?;
    Ok((env.id().0.into(), 0))
}

/// `power_off(status)`: ends the machine, for the first program only.
#[inline(never)]
pub fn power_off(me: &'static Env, status: u64) -> Results {
    if me.id() != power::first_env() {
        return Err(Error::NotFirst(power::first_env().0.into()));
    }
    power::off(ExitStatus::from_register(status)?)
}

//! How environments begin and end.
//!
//! Ending is work: every page is released. It is done in slices, so that no entry to the kernel
//! runs long: a dying environment stays in the queue and spends its turns on giving back.
//!
//! ```text
//!          exofork              set_status                    exit, destroy, exception
//!   Free ----------> Stopped <-------------> Runnable/Running ------------------------> Dying
//!    ^                                        |  ^                                        | slices
//!    |                        recv, wait, read|  |message, end, input                     v
//!    |                                        v  |                   parent waits      Zombie
//!    |                             Receiving, Waiting, Reading       or is gone           |
//!    +------------------------------------------------------------------------------------+
//! ```

use crate::console::{kprintln, trace};
use crate::env::{self, Env};
use crate::memory::{MEMORY, Space, kernel_root, load_root};
use crate::sched::{self, Sched};
use crate::trap::Saved;
use crate::{cpu, power};
use abi::{EnvId, Error, ExitStatus, Status, Vector};
use core::sync::atomic::Ordering::Relaxed;

/// Instructions that one slice of teardown may take, roughly.
const SLICE: u32 = 14_000;
/// Children that one slice of teardown sees to, at most.
const CHILDREN: u32 = 64;

/// A new environment without pages, stopped.
///
/// # Errors
/// [`Error::NoEnvs`], [`Error::NoMemory`].
pub fn create(parent: Option<&'static Env>) -> Result<&'static Env, Error> {
    let space = Space::new(&MEMORY, kernel_root())?;
    let mut guard = sched::lock();
    let sched = &mut *guard;
    let Some(env) = sched.take_slot() else {
        MEMORY.release(space.root());
        return Err(Error::NoEnvs(env::slots() as u64));
    };
    let info = env.info();
    let parent_id = parent.map_or(EnvId::NONE, Env::id);
    let id = EnvId::new(info.id().generation() + 1, env.slot());
    info.id.store(id.0, Relaxed);
    info.parent.store(parent_id.0, Relaxed);
    info.runs.store(0, Relaxed);
    info.exit.store(0, Relaxed);
    env.upcall.clear();
    env.fp.reset();
    env.fp_cpu.store(u32::MAX, Relaxed);
    *env.space.lock() = Some(space);
    env.set_status(Status::Stopped, sched);
    if let Some(parent) = parent {
        parent.adopt(env, sched);
    }
    drop(guard);
    trace!("[{parent_id}] new env {id}");
    Ok(env)
}

/// A program raised an exception, and no upcall could be made (`entry.s`): end it, and say why.
pub fn kill(env: &'static Env, saved: &Saved) -> ! {
    if matches!(saved.vector, 2 | 8 | 18) {
        // Not its fault: the machine's.
        crate::panic::exception(saved);
    }
    let (id, vector) = (env.id(), Vector(saved.vector as u8));
    let fault = saved.as_fault();
    if vector == Vector::PAGE_FAULT {
        kprintln!("[{id}] user fault va {:016x} ip {:016x}", fault.address, fault.rip);
    } else {
        kprintln!("[{id}] user exception {} ip {:016x}", vector.0, fault.rip);
    }
    kprintln!("{fault}");
    let nobody = env.upcall.entry.get() == 0;
    let why = if nobody { "nobody handles it" } else { "the exception stack is full" };
    kprintln!("[{id}] destroyed: {vector}, and {why}");
    end(env, ExitStatus::killed_by(vector), id);
    sched::switch()
}

/// Begin to end an environment. If it is the one that runs, the caller goes on to `switch`. Returns `false` if
/// it has been ending already.
pub fn end(env: &'static Env, exit: ExitStatus, by: EnvId) -> bool {
    if !condemn(env, exit, by) {
        return false;
    }
    if core::ptr::eq(cpu::env(), env) || !sched::lock().hold(env) {
        return true;
    }
    // Small ones are gone when the call returns.
    slice(env);
    env.held_by.give_back();
    true
}

/// From now on the environment only gives back what it has. Returns `false` if that is so already: it may have
/// ended by itself since the caller looked.
fn condemn(env: &'static Env, exit: ExitStatus, by: EnvId) -> bool {
    let mut sched = sched::lock();
    match env.status() {
        Status::Free | Status::Dying | Status::Zombie => return false,
        Status::Receiving => forget_awaited(env, &sched),
        Status::Reading => sched.readers -= 1,
        _ => {}
    }
    env.links(&sched).ended_by.set(by);
    env.info().exit.store(exit.0.into(), Relaxed);
    env.set_status(Status::Dying, &mut sched);
    sched.enqueue(env);
    sched::interrupt_holder(env);
    true
}

/// A receiver does not wait for a certain sender any longer.
pub fn forget_awaited(receiver: &'static Env, sched: &Sched) {
    let from = receiver.links(sched).awaits.take();
    if from != EnvId::NONE {
        let awaited = &env::at(from.slot()).links(sched).awaited;
        awaited.set(awaited.get() - 1);
    }
}

/// Do a part of the work of ending; the rest when it is this environment's turn again. This processor holds
/// the environment.
pub fn slice(env: &'static Env) {
    if cpu::this().fp_env.get() == env {
        cpu::this().fp_env.set(core::ptr::null());
    }
    if env.links(&sched::lock()).receiving.get() || !orphan_children(env) {
        return;
    }
    let mut space = env.space.lock();
    if let Some(map) = space.as_mut() {
        if cpu::this().root() == map.root() {
            // SAFETY: the kernel's own page map.
            unsafe { load_root(kernel_root()) };
        }
        if !map.tear_down(&MEMORY, &mut SLICE.clone()) {
            return;
        }
        MEMORY.release(map.root());
    }
    *space = None;
    drop(space);
    bury(env);
}

/// The children belong to the kernel now. Returns whether that is done.
fn orphan_children(env: &'static Env) -> bool {
    for _ in 0..CHILDREN {
        let mut sched = sched::lock();
        let Some(child) = env.any_child(&sched) else {
            return true;
        };
        env.disown(child, &mut sched);
        child.info().parent.store(EnvId::NONE.0, Relaxed);
        match child.status() {
            Status::Zombie => sched.give_slot(child),
            // Nobody is left who could start it.
            Status::Stopped => {
                drop(sched);
                condemn(child, ExitStatus::DESTROYED, child.id());
            }
            _ => {}
        }
    }
    false
}

/// Everything is given back: tell the parent, or free the slot.
fn bury(env: &'static Env) {
    let mut guard = sched::lock();
    let sched = &mut *guard;
    if env.status() != Status::Dying {
        return;
    }
    trace!("[{}] free env {}", env.links(sched).ended_by.get(), env.id());
    if env.links(sched).awaited.get() > 0 {
        wake_receivers(env.id(), sched);
    }
    if env.id() == power::first_env() {
        power::set_status(env.info().exit());
    }
    let Some(parent) = env.parent() else {
        sched.give_slot(env);
        return;
    };
    parent.disown(env, sched);
    env.set_status(Status::Zombie, sched);
    parent.adopt(env, sched);
    let awaits = parent.links(sched).awaits.get();
    let waits = parent.status() == Status::Waiting;
    if waits && (awaits == EnvId::NONE || awaits == env.id()) {
        parent.frame.set_results(reap(env, sched));
        sched.wake(parent);
    }
}

/// Free the slot of a zombie. Returns the results of `wait`.
pub fn reap(zombie: &'static Env, sched: &mut Sched) -> (u64, u64) {
    let results = (zombie.id().0.into(), zombie.info().exit().0.into());
    if let Some(parent) = zombie.parent() {
        parent.disown(zombie, sched);
    }
    sched.give_slot(zombie);
    results
}

/// Receivers that wait for a message from `id` alone will not get one.
fn wake_receivers(id: EnvId, sched: &mut Sched) {
    for env in env::all() {
        if env.status() == Status::Receiving && env.links(sched).awaits.get() == id {
            forget_awaited(env, sched);
            env.frame.set_results(Error::BadEnv(id.0.into()).encode());
            sched.wake(env);
        }
    }
}

/// Nothing can run, and nothing can wake anything.
pub fn report_deadlock() -> ! {
    kprintln!("deadlock: nothing can run, and nothing is left that could wake anything");
    for env in env::all().filter(|env| env.status() != Status::Free) {
        kprintln!("  [{}] {:?}, parent {}", env.id(), env.status(), env.info().parent());
    }
    power::off(ExitStatus::DEADLOCK)
}

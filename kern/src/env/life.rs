//! How environments begin and end.
//!
//! Ending is work: every page is released. It is done in slices, so that no entry to the kernel
//! runs long: a dying environment stays in the queue and spends its turns on giving back.
//! The states, and who may go from which to which, are in the crate `sched`.

use crate::env::scheduler::{self, Locked};
use crate::env::switch;
use crate::env::table::{self, Env};
use crate::machine::hardware::{MEMORY, Space, kernel_root};
use crate::machine::print::{kprintln, trace};
use crate::machine::registers::Saved;
use crate::machine::{cpu, panic, power};
use abi::{EnvId, Error, ExitStatus, Status, Vector};
use core::sync::atomic::Ordering::Relaxed;
use sched::{Family, Node};

/// Instructions that one slice of teardown may take, roughly.
const SLICE: u32 = 13_000;
/// Children that one slice of teardown sees to, at most; and what each costs.
const CHILDREN: u32 = 64;
const CHILD_COST: u32 = 150;

/// A new environment without pages, stopped.
///
/// # Errors
/// [`Error::NoEnvs`], [`Error::NoMemory`].
pub fn create(parent: Option<&'static Env>) -> Result<&'static Env, Error> {
    let mut space = Space::new(&MEMORY, kernel_root())?;
    let mut locked = scheduler::lock();
    let Some(env) = locked.create(parent) else {
        space.free(&MEMORY);
        return Err(Error::NoEnvs(table::slots() as u64));
    };
    env.info().runs.store(0, Relaxed);
    env.upcall.clear();
    env.fp.reset();
    env.root.set(space.root());
    *env.space.lock() = Some(space);
    drop(locked);
    trace!("[{}] new env {}", env.info().parent(), env.id());
    Ok(env)
}

/// A program raised an exception, and no upcall could be made (`entry.s`): end it, and say why.
pub fn kill(env: &'static Env, saved: &Saved) {
    if matches!(saved.vector, 2 | 8 | 18) {
        // Not its fault: the machine's.
        panic::exception(saved);
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
    end(env, ExitStatus::killed_by(vector), id, Family::GoesUp);
}

/// Begin to end an environment. If it is the one that runs, the caller goes on to `switch`. Returns `false` if
/// it has been ending already, or is gone: by itself, perhaps, since the caller looked.
pub fn end(env: &'static Env, exit: ExitStatus, by: EnvId, family: Family) -> bool {
    let mut locked = scheduler::lock();
    if table::still_own(env).is_err() || !locked.condemn(env, exit, by, family) {
        return false;
    }
    if !table::is_running(env) && locked.hold(env, cpu::here()) {
        drop(locked);
        // Small ones are gone when the call returns.
        slice(env);
        scheduler::lock().let_go(env);
    }
    true
}

/// Do a part of the work of ending; the rest when it is this environment's turn again. This processor holds
/// the environment.
pub fn slice(env: &'static Env) {
    switch::forget(env);
    if scheduler::lock().is_claimed(env) {
        return;
    }
    let children = (0..CHILDREN).take_while(|_| scheduler::lock().part(env)).count() as u32;
    // With many of them, what is left of the slice is not enough for the rest.
    if children > CHILDREN / 2 {
        return;
    }
    let mut space = env.space.lock();
    if let Some(map) = space.as_mut() {
        if !map.tear_down(&MEMORY, &mut (SLICE - children * CHILD_COST)) {
            return;
        }
        map.free(&MEMORY);
    }
    *space = None;
    drop(space);
    bury(env);
}

/// Everything is given back: tell those who wait for a message, and then the parent, or free the slot.
fn bury(env: &'static Env) {
    let mut locked = scheduler::lock();
    let (id, exit) = (env.id(), env.info().exit());
    let error = Error::BadEnv(id.0.into()).encode();
    if !locked.fail_receivers(env, |receiver| receiver.frame.set_results(error)) {
        return;
    }
    // Children of a child that ended since the last look.
    if locked.child(env, EnvId::ANY).is_some() {
        return;
    }
    trace!("[{}] free env {id}", locked.ended_by(env));
    if id == power::first_env() {
        power::end_first(exit);
    }
    if let Some(parent) = locked.bury(env) {
        parent.frame.set_results((id.0.into(), exit.0.into()));
        locked.wake(parent);
    }
}

/// Nothing can run, and nothing can wake anything. What the first program left behind is ended, and then the machine ends
/// with the status of that; while the first program is among those that wait, the machine ends here.
///
/// The scheduler has been locked since that was found out: another processor that finds it out, too, comes later.
pub fn nothing_runs(mut locked: Locked) {
    let Some(root) = locked.root().filter(|_| power::first_env() == EnvId::NONE) else {
        kprintln!("deadlock: nothing can run, and nothing is left that could wake anything");
        report_all();
        power::off(ExitStatus::DEADLOCK)
    };
    kprintln!("nothing can run, and nothing is left that could wake anything: these are ended");
    report_all();
    locked.condemn(root, ExitStatus::DESTROYED, EnvId::NONE, Family::Ends);
}

/// The limit of ticks that the command line names was reached.
pub fn report_time_up() -> ! {
    kprintln!("time is up: these are left");
    report_all();
    power::off(ExitStatus::TIMEOUT)
}

/// Where everybody is: what runs now, was when it last entered the kernel.
fn report_all() {
    for env in table::all().iter().filter(|env| env.status() != Status::Free) {
        let (id, status, parent, rip) = (env.id(), env.status(), env.info().parent(), env.frame.saved().rip);
        match env.holder() {
            Some(cpu) => kprintln!("  [{id}] {status:?}, parent {parent}, ip {rip:016x}, on CPU {cpu}"),
            None => kprintln!("  [{id}] {status:?}, parent {parent}, ip {rip:016x}"),
        }
    }
}

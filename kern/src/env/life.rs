//! Creation and teardown of environments.
//!
//! Teardown releases every page, which takes long. It is done in slices, so that no entry to the kernel runs long: a
//! dying environment stays in the run queue, and a processor that takes it performs one slice. The states, and the
//! transitions between them, are in the crate `sched`.

use crate::env::devices;
use crate::env::scheduler::{self, Locked};
use crate::env::switch;
use crate::env::table::{self, Env};
use crate::machine::hardware::{PageMap, kernel_root};
use crate::machine::print::{kprintln, trace};
use crate::machine::{cpu, panic, power, registers::Saved};
use abi::{EnvId, Error, ExitStatus, Status, Vector};
use core::sync::atomic::Ordering::Relaxed;
use sched::{Family, Node};

/// Instructions that one slice of teardown may take, roughly.
const SLICE: u32 = 13_000;
/// Children that one slice of teardown handles, at most; and the instructions that each of them costs.
const CHILDREN: u32 = 64;
const CHILD_COST: u32 = 150;

/// Creates a stopped environment without pages: a program (0), or the device with an index (plus 1).
///
/// # Errors
/// [`Error::NoEnvs`], [`Error::NoMemory`].
pub fn create(parent: Option<&'static Env>, device: u32) -> Result<&'static Env, Error> {
    let mut map = PageMap::new(kernel_root())?;
    let mut locked = scheduler::lock();
    let Some(env) = locked.create(parent, device) else {
        map.free();
        return Err(Error::NoEnvs(table::slots() as u64));
    };
    env.info().runs.store(0, Relaxed);
    env.info().devices.store(0, Relaxed);
    env.upcall.set(0, 0..0);
    env.fp.reset();
    env.root.set(map.root());
    *env.page_map.lock() = Some(map);
    drop(locked);
    trace!("[{}] new env {}", env.info().parent(), env.id());
    Ok(env)
}

/// Ends a program that raised an exception for which no upcall could be made (`entry.s`), and prints the reason.
pub fn kill(env: &'static Env, saved: &Saved) {
    if matches!(saved.vector, 2 | 8 | 18) {
        // NMI, double fault or machine check: the program did not cause it.
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

/// Begins the teardown of an environment. If it is the caller, the caller goes on to `run_loop::switch`. Returns
/// `false` if the environment is already ending, or is gone since the caller looked it up.
pub fn end(env: &'static Env, exit: ExitStatus, by: EnvId, family: Family) -> bool {
    let mut locked = scheduler::lock();
    if table::still_own(env).is_err() || !locked.condemn(env, exit, by, family) {
        return false;
    }
    if !table::is_running(env) && locked.hold(env, cpu::here()) {
        drop(locked);
        // A small environment is gone when the call returns.
        slice(env);
        scheduler::lock().let_go(env);
    }
    true
}

/// Performs one slice of the teardown of an environment that this processor holds. If work is left, the environment
/// stays in the run queue.
pub fn slice(env: &'static Env) {
    switch::forget(env);
    if scheduler::lock().is_claimed(env) {
        return;
    }
    if !devices::end(env) {
        return;
    }
    let children = (0..CHILDREN).take_while(|_| scheduler::lock().part(env)).count() as u32;
    // After many children, the rest of the slice is too small for the page map.
    if children > CHILDREN / 2 {
        return;
    }
    let mut page_map = env.page_map.lock();
    if let Some(map) = page_map.as_mut() {
        if !map.tear_down(&mut (SLICE - children * CHILD_COST)) {
            return;
        }
        map.free();
    }
    *page_map = None;
    drop(page_map);
    bury(env);
}

/// Finishes the teardown: fails the receivers that wait for this environment alone, then tells the parent or frees the
/// slot.
fn bury(env: &'static Env) {
    let mut locked = scheduler::lock();
    let (id, exit) = (env.id(), env.info().exit());
    let error = Error::BadEnv(id.0.into()).encode();
    if !locked.fail_receivers(env, |receiver| receiver.frame.set_results(error)) {
        return;
    }
    // A child that ended since the last look has passed its children on.
    if locked.child(env, EnvId::ANY).is_some() {
        return;
    }
    trace!("[{}] free env {id}", locked.ended_by(env));
    devices::release(env);
    if id == power::first_env() {
        power::end_first(exit);
    }
    if let Some(parent) = locked.bury(env) {
        parent.frame.set_results((id.0.into(), exit.0.into()));
        locked.wake(parent);
    }
}

/// Handles a deadlock: nothing can run, and nothing can wake anything. If the first program waits, too, the machine
/// ends here. If it has ended, the environments that it left behind are ended, and the machine then ends with the
/// status of the first program.
///
/// The scheduler has been locked since the deadlock was found, so that only one processor handles it at a time.
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

/// Ends the machine, because it reached the limit of ticks that the command line sets.
pub fn report_time_up() -> ! {
    kprintln!("time is up: these are left");
    report_all();
    power::off(ExitStatus::TIMEOUT)
}

/// Prints the state of every environment. The `ip` of one that runs now is that of its last entry to the kernel.
fn report_all() {
    for env in table::all().iter().filter(|env| env.status() != Status::Free) {
        let (id, status, parent, rip) = (env.id(), env.status(), env.info().parent(), env.frame.saved().rip);
        match env.holder() {
            Some(cpu) => kprintln!("  [{id}] {status:?}, parent {parent}, ip {rip:016x}, on CPU {cpu}"),
            None => kprintln!("  [{id}] {status:?}, parent {parent}, ip {rip:016x}"),
        }
    }
}

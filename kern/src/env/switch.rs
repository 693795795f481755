//! Context switches: save the registers of one environment, load the page map and the registers of another.
//!
//! The states of environments and the run queue are in the crate `sched`. A processor holds an environment until
//! [`give_back`]: `docs/decisions.md` (Several processors) explains what that protects, and how a call changes an
//! environment that another processor holds.

use crate::env::bracket::Entry;
use crate::env::scheduler::{self, Locked};
use crate::env::table::{self, Env};
use crate::machine::cpu::{self, Cpu, here, load_root};
use crate::machine::hardware::kernel_root;
use abi::{EnvId, Error, Status, call::NO_PAGE};
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use sched::{NEVER, Node};
use x86_64::instructions::segmentation::{DS, ES, FS, GS, Segment};

/// Gives up the environment that ran here, so that another processor can take it. With one processor the environment
/// stays loaded: no other can take it.
pub fn leave() {
    let cpu = cpu::this();
    let Some(env) = table::loaded(cpu).filter(|_| cpu::count() > 1) else { return };
    env.fp.save();
    forget(env);
    give_back(env);
}

/// Unloads this environment's page map without saving registers. As soon as this processor no longer holds the
/// environment, another one may free the page map.
pub fn forget(env: &Env) {
    let cpu = cpu::this();
    if table::is_loaded(cpu, env) {
        // SAFETY: the root of the kernel's own page map.
        unsafe { load_root(cpu, kernel_root()) };
        cpu.env.set(core::ptr::null());
    }
}

/// Stops holding an environment that is no longer loaded here. If it has work to do, wakes an idle processor.
#[inline]
pub fn give_back(env: &'static Env) {
    if sched::give_back(env) {
        scheduler::lock().offer(env);
    }
}

/// Switches from the environment that is loaded here, if any, to one that was taken. The previous one (`last`) is still
/// held afterwards.
#[inline(always)]
pub fn turn_to(cpu: &Cpu, last: Option<&'static Env>, env: &'static Env) {
    #[cfg(feature = "check")]
    crate::env::check::check_taken(env);
    let info = env.info();
    info.runs.store(info.runs.load(Relaxed) + 1, Relaxed);
    info.cpu.store(cpu.number.get(), Relaxed);
    if let Some(last) = last {
        last.fp.save();
    }
    // SAFETY: the root of a page map that exists, and stays while the environment is held.
    unsafe { load_root(cpu, env.root.get()) };
    cpu.set_frame(&env.frame);
    env.fp.load();
    reset_selectors();
}

/// Clears the segment selectors if another environment left any: this one must not see them. Their bases are 0.
#[inline]
fn reset_selectors() {
    if DS::get_reg().0 | ES::get_reg().0 | FS::get_reg().0 | GS::get_reg().0 != 0 {
        clear_selectors();
    }
}

#[cold]
fn clear_selectors() {
    // SAFETY: the null selector is allowed in all four; GS of the user is the one that is set.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}",
            "swapgs", "mov gs, {0:e}", "swapgs", in(reg) 0, options(nostack, preserves_flags));
    }
}

/// Locks the scheduler at a moment when no other processor holds this environment in the status `Stopped`. (In another
/// status, it may be held for long.)
pub fn lock_free(entry: Entry, env: &Env) -> Locked {
    let is_leaving = || env.status() == Status::Stopped && env.holder().is_some_and(|holder| holder != here());
    loop {
        let locked = scheduler::lock();
        if !is_leaving() {
            return locked;
        }
        drop(locked);
        entry.wait_while(is_leaving);
    }
}

/// Makes this processor hold an environment that is not the caller, wherever it runs now, so that it runs nowhere until
/// it is let go.
///
/// # Errors
/// [`Error::BadEnv`]: the environment is ending, and processors hold it nearly all of the time.
pub fn keep_off(entry: Entry, env: &'static Env) -> Result<(), Error> {
    while !scheduler::lock().keep_off(env, here()) {
        if !env.status().is_alive() {
            return Err(Error::BadEnv(env.id().0.into()));
        }
        entry.wait_while(|| env.holder().is_some() && env.status() != Status::Running);
    }
    Ok(())
}

/// Parks the caller under the scheduler's lock, where [`sched::park`] failed: another environment is ending or stopping
/// the caller, or keeps it off.
#[cold]
#[inline(never)]
pub fn park_locked(me: &'static Env, from: EnvId) {
    scheduler::lock().receive(me, NO_PAGE, from, NEVER);
    give_back(me);
}

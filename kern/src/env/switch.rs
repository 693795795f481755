//! Context switches: registers and page maps change hands.
//!
//! The states of environments and the queue are in the crate `sched`. A processor *holds* an environment while it runs
//! it, and a little longer: until the registers are saved and the page map is not loaded any more ([`give_back`]). Only
//! then can another one take it. Who wants to change something of an environment that is held elsewhere lets that
//! processor give it up first: it takes the status away and interrupts.

use crate::env::bracket::Entry;
use crate::env::check;
use crate::env::scheduler::{self, Locked};
use crate::env::table::{self, Env};
use crate::machine::cpu::{self, Cpu, here, load_root};
use crate::machine::hardware::kernel_root;
use abi::call::NO_PAGE;
use abi::{EnvId, Error, Status};
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use sched::Node;

/// Give up the environment that ran here: afterwards another processor can take it. With one processor there is
/// nobody who could.
pub fn leave() {
    let cpu = cpu::this();
    let Some(env) = table::loaded(cpu).filter(|_| cpu::count() > 1) else { return };
    env.fp.save();
    forget(env);
    give_back(env);
}

/// Nothing of this environment is here from now on, and its registers are not needed any more. Its page map may be given
/// back by another processor the moment that this one does not hold it.
pub fn forget(env: &Env) {
    let cpu = cpu::this();
    if table::is_loaded(cpu, env) {
        // SAFETY: the kernel's own page map.
        unsafe { load_root(cpu, kernel_root()) };
        cpu.env.set(core::ptr::null());
    }
}

/// Nothing of this environment is here any more. If it wants to run again, somebody may be idle.
#[inline]
pub fn give_back(env: &'static Env) {
    if sched::give_back(env) {
        scheduler::lock().offer(env);
    }
}

/// Leave the environment whose page map and floating-point state are loaded, if any, for one that was taken. The last
/// one is still held.
#[inline(always)]
pub fn turn_to(cpu: &Cpu, last: Option<&'static Env>, env: &'static Env) {
    if cfg!(feature = "check") {
        check::check_taken(env);
    }
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

/// What another environment left in the selectors is not for this one to see. The bases are 0.
#[inline]
fn reset_selectors() {
    // SAFETY: only reads. The jump is to a block of its own.
    unsafe {
        asm!("mov {0:e}, ds", "mov {1:e}, es", "or {0:e}, {1:e}", "mov {1:e}, fs", "or {0:e}, {1:e}",
            "mov {1:e}, gs", "or {0:e}, {1:e}", "jnz {2}", out(reg) _, out(reg) _, label { clear_selectors() },
            options(nostack, nomem));
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

/// The scheduler, locked, when no other processor holds a stopped environment any more. (One that is not stopped
/// may be held for long.)
pub fn lock_free(entry: Entry, env: &Env) -> Locked {
    let is_leaving =
        || env.status() == Status::Stopped && env.holder().is_some_and(|holder| holder != here());
    loop {
        let locked = scheduler::lock();
        if !is_leaving() {
            return locked;
        }
        drop(locked);
        entry.wait_while(is_leaving);
    }
}

/// Let this processor hold an environment that is not the caller, wherever it is now, so that it runs nowhere
/// until it is let go.
///
/// # Errors
/// [`Error::BadEnv`]: it is ending, and held nearly all of the time.
pub fn keep_off(entry: Entry, env: &'static Env) -> Result<(), Error> {
    while !scheduler::lock().keep_off(env, here()) {
        if matches!(env.status(), Status::Dying | Status::Zombie | Status::Free) {
            return Err(Error::BadEnv(env.id().0.into()));
        }
        entry.wait_while(|| env.holder().is_some() && env.status() != Status::Running);
    }
    Ok(())
}

/// Somebody is ending or stopping the caller, or keeps it off its processor.
#[cold]
#[inline(never)]
pub fn park_locked(me: &'static Env, from: EnvId) {
    scheduler::lock().receive(me, NO_PAGE, from);
    give_back(me);
}

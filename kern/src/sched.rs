//! Who runs: one queue for all processors, first come, first served, with a turn of one timer tick.
//!
//! A processor *holds* an environment while it runs it, and a little longer: until the registers are saved
//! and the page map is not loaded any more ([`leave`]). Only then can another one take it: under the
//! scheduler's lock it changes from nobody to a processor, and back without it.
//! Who wants to change something of an environment that is held elsewhere lets that processor give it up
//! first: it takes the status away and interrupts.
//!
//! Locks, in the order in which they are taken: the scheduler's, page maps in the order of their slots, page
//! frames, the console.

use crate::env::{self, Env, FpState};
use crate::memory::{Kernel, Lock, kernel_root, load_root};
use crate::{apic, console, cpu, flush, life, power, selftest, trap};
use abi::window::LockKind;
use abi::{EnvId, Error, Status};
use core::arch::asm;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The vector of the timer.
pub const TIMER: u64 = 32;
/// The vector by which processors interrupt each other.
pub const KICK: u64 = 33;

/// A cause for [`leave_kernel`]: going over to another environment. No page map changes in that.
const SWITCH: u64 = 0x200;

/// The queue and the free slots. Its lock guards the status and the links of all environments.
pub struct Sched {
    first: Option<&'static Env>,
    last: Option<&'static Env>,
    free: Option<&'static Env>,
    /// Slots that are not free.
    used: usize,
    /// Environments that wait for console input.
    pub readers: usize,
    /// Processors that found nothing to do, one bit for each.
    idle: u64,
}

// SAFETY: the references are to the environment table, which is `Sync`.
unsafe impl Send for Sched {}

/// The scheduler, for whoever has locked it.
pub type Locked = vm::Guard<'static, Sched, Kernel>;

static SCHED: Lock<Sched> = Lock::new(
    LockKind::Scheduler,
    Sched { first: None, last: None, free: None, used: 0, readers: 0, idle: 0 },
);

/// The scheduler, locked.
#[inline]
pub fn lock() -> Locked {
    SCHED.lock()
}

/// All slots are free; the lowest goes first.
pub fn init() {
    let mut sched = lock();
    for slot in (0..env::slots()).rev() {
        let env = env::at(slot);
        env.links(&sched).next_free.set(sched.free);
        sched.free = Some(env);
    }
}

impl Sched {
    /// A free slot.
    pub fn take_slot(&mut self) -> Option<&'static Env> {
        let env = self.free?;
        self.free = env.links(self).next_free.take();
        self.used += 1;
        Some(env)
    }

    /// A slot is free again; it goes first. One that has used all its generations is retired.
    pub fn give_slot(&mut self, env: &'static Env) {
        env.set_status(Status::Free, self);
        self.used -= 1;
        if env.id().generation() < EnvId::MAX_GENERATION {
            env.links(self).next_free.set(self.free);
            self.free = Some(env);
        }
    }

    /// To the end of the queue.
    pub fn enqueue(&mut self, env: &'static Env) {
        if env.links(self).queued.replace(true) {
            return;
        }
        env.links(self).next.set(None);
        match self.last.replace(env) {
            Some(last) => last.links(self).next.set(Some(env)),
            None => self.first = Some(env),
        }
        self.wake_a_processor();
    }

    /// There is something to do for one that is idle.
    fn wake_a_processor(&mut self) {
        if self.idle != 0 {
            let number = self.idle.trailing_zeros();
            self.idle &= !(1 << number);
            cpu::others().filter(|cpu| cpu.number.get() == number).for_each(|cpu| cpu.interrupt());
        }
    }

    /// The first in the queue that can be taken; it is, and if it is runnable it runs from now on. Those
    /// that lost interest since are left out. Those that another processor is just giving up stay.
    fn dequeue(&mut self) -> Option<&'static Env> {
        let (mut before, mut at): (Option<&'static Env>, _) = (None, self.first);
        while let Some(env) = at {
            at = env.links(self).next.get();
            let wanted = matches!(env.status(), Status::Runnable | Status::Dying);
            if wanted && !self.hold(env) {
                before = Some(env);
                continue;
            }
            match before {
                Some(before) => before.links(self).next.set(at),
                None => self.first = at,
            }
            if at.is_none() {
                self.last = before;
            }
            env.links(self).queued.set(false);
            if wanted {
                if env.status() == Status::Runnable {
                    env.set_status(Status::Running, self);
                }
                if self.first.is_some() {
                    self.wake_a_processor();
                }
                return Some(env);
            }
        }
        None
    }

    /// Let this processor hold an environment, if no other does.
    pub fn hold(&mut self, env: &Env) -> bool {
        env.held_by.hold(cpu::this().number.get())
    }

    /// The same for one that is to run now, whatever is before it in the queue.
    fn take(&mut self, env: &Env) -> bool {
        let taken = env.status() == Status::Runnable && self.hold(env);
        if taken {
            env.set_status(Status::Running, self);
        }
        taken
    }

    /// An environment that waited goes to the end of the queue.
    pub fn wake(&mut self, env: &'static Env) {
        if env.status() == Status::Reading {
            self.readers -= 1;
        }
        env.set_status(Status::Runnable, self);
        self.enqueue(env);
    }

    /// The environment that runs here lets others go first. (Unless it was stopped or ended meanwhile.)
    pub fn requeue(&mut self, env: &'static Env) {
        if env.status() == Status::Running {
            self.wake(env);
        }
    }

    /// The environment that runs here waits from now on. `false` if it was ended meanwhile. One that is being
    /// stopped waits all the same: what its call did is done, and whoever stops it finds out.
    pub fn block(&mut self, env: &'static Env, status: Status) -> bool {
        if env.status() == Status::Dying {
            return false;
        }
        if status == Status::Reading {
            self.readers += 1;
        }
        env.set_status(status, self);
        true
    }
}

/// Run whatever is next. The environment that ran has been put where it belongs.
pub fn switch() -> ! {
    leave_kernel(SWITCH);
    leave();
    run_next()
}

/// Nothing runs here, and this processor is not in the kernel, as checking kernels see it.
fn run_next() -> ! {
    loop {
        let mut sched = lock();
        let next = sched.dequeue();
        if next.is_none() {
            sched.idle |= 1 << cpu::this().number.get();
        }
        let all_idle = sched.idle.count_ones() == cpu::count();
        let (used, readers) = (sched.used, sched.readers);
        drop(sched);
        match next {
            Some(env) if env.status() == Status::Dying => end_a_slice(env),
            Some(env) => run(env),
            None if used == 0 && all_idle => power::off_with_status(),
            None if readers == 0 && all_idle => life::report_deadlock(),
            None => rest(),
        }
    }
}

/// Nothing to do, until an interrupt.
fn rest() {
    trap::wait_for_interrupt();
    lock().idle &= !(1 << cpu::this().number.get());
    wake_readers();
}

fn end_a_slice(env: &'static Env) {
    enter_kernel();
    life::slice(env);
    let mut sched = lock();
    env.held_by.give_back();
    if env.status() == Status::Dying {
        sched.enqueue(env);
    }
    drop(sched);
    leave_kernel(0x201);
}

/// Give up the environment that ran here: afterwards another processor can take it. With one processor there is
/// nobody who could.
fn leave() {
    if cpu::count() == 1 {
        return;
    }
    let cpu = cpu::this();
    // SAFETY: null or an environment; those are never unmapped.
    let env = unsafe { cpu.env.get().as_ref() };
    let Some(env) = env.filter(|env| is_held_here(env)) else { return };
    if core::ptr::eq(cpu.fp_env.get(), env) {
        env.fp.save();
    }
    // SAFETY: the kernel's own page map.
    unsafe { load_root(kernel_root()) };
    env.held_by.give_back();
}

fn is_held_here(env: &Env) -> bool {
    env.held_by.is(cpu::this().number.get())
}

/// The scheduler, locked, when no other processor holds a stopped environment any more. (One that is not stopped
/// may be held for long.)
pub fn lock_free(env: &Env) -> Locked {
    let is_leaving = || env.status() == Status::Stopped && !env.held_by.is_nobody();
    loop {
        let sched = lock();
        if !is_leaving() || is_held_here(env) {
            return sched;
        }
        drop(sched);
        wait_while(is_leaving);
    }
}

/// Wait for another processor, which may have to enter the kernel for it.
fn wait_while(condition: impl Fn() -> bool) {
    leave_kernel(SWITCH);
    while condition() {
        flush::relax();
    }
    enter_kernel();
}

/// Stop an environment that runs on another processor, and wait until that has given it up. It may have begun
/// to wait, or to end, meanwhile.
pub fn stop(env: &'static Env, mut sched: Locked) -> Locked {
    env.set_status(Status::Stopped, &mut sched);
    interrupt_holder(env);
    drop(sched);
    lock_free(env)
}

/// Let this processor hold an environment that is not the caller, wherever it is now, so that it runs nowhere.
/// Returns whether it was stopped for that.
pub fn keep_off(env: &'static Env) -> bool {
    let mut stopped = false;
    loop {
        let mut sched = lock();
        if sched.hold(env) {
            return stopped;
        }
        if env.status() == Status::Running {
            stopped = true;
            drop(stop(env, sched));
        } else {
            drop(sched);
            wait_while(|| !env.held_by.is_nobody() && env.status() != Status::Running);
        }
    }
}

/// The end of [`keep_off`].
pub fn go_on(env: &'static Env, stopped: bool) {
    let mut sched = lock();
    env.held_by.give_back();
    match env.status() {
        Status::Stopped if stopped => sched.wake(env),
        Status::Runnable | Status::Dying => sched.wake_a_processor(),
        _ => {}
    }
}

/// Let the processor that holds an environment look at its status.
pub fn interrupt_holder(env: &Env) {
    cpu::others().filter(|cpu| env.held_by.is(cpu.number.get())).for_each(|cpu| cpu.interrupt());
}

/// Run an environment that was taken.
fn run(env: &'static Env) -> ! {
    let (cpu, info) = (cpu::this(), env.info());
    info.runs.store(info.runs.load(Relaxed) + 1, Relaxed);
    info.cpu.store(cpu.number.get(), Relaxed);
    cpu::set_env(env);
    let space = env.space.lock();
    let root = space.as_ref().map(|space| space.root()).expect("a runnable environment has a page map");
    if cpu.root() != root {
        // With the page map locked: whoever is changing it believes that it is not loaded anywhere else.
        // SAFETY: the root of a page map that exists, and stays while the environment is held.
        unsafe { load_root(root) };
    }
    drop(space);
    switch_fp(env);
    trap::resume_env()
}

/// Run this environment now if that is possible, and otherwise whatever is next.
pub fn run_or_switch(env: &'static Env, cause: abi::Call) -> ! {
    leave_kernel(cause as u64);
    leave();
    if lock().take(env) { run(env) } else { run_next() }
}

/// Bring in the floating-point state and reset the segment selectors, if someone else ran.
fn switch_fp(env: &'static Env) {
    let cpu = cpu::this();
    let last = cpu.fp_env.replace(env);
    let here = cpu.number.get();
    if core::ptr::eq(last, env) && env.fp_cpu.load(Relaxed) == here {
        return;
    }
    env.fp_cpu.store(here, Relaxed);
    // With several processors it was saved when the environment left.
    // SAFETY: `last` is null or an environment; environments are never unmapped.
    if let Some(last) = unsafe { last.as_ref() }.filter(|_| cpu::count() == 1) {
        last.fp.save();
    }
    env.fp.load();
    // What another environment left in the selectors is not for this one to see. The bases are 0.
    // SAFETY: the null selector is allowed in all four; GS of the user is the one that is set.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}",
            "swapgs", "mov gs, {0:e}", "swapgs", in(reg) 0, options(nostack, preserves_flags));
    }
}

impl FpState {
    /// Store what is in the registers.
    pub fn save(&self) {
        // SAFETY: 512 bytes, aligned; they belong to the environment that ran.
        unsafe { asm!("fxsave64 [{}]", in(reg) self.0.get(), options(nostack, preserves_flags)) };
    }

    fn load(&self) {
        // SAFETY: the image was stored by `save` or made by `reset`.
        unsafe { asm!("fxrstor64 [{}]", in(reg) self.0.get(), options(nostack, preserves_flags)) };
    }

    /// The state of a new environment: all exceptions masked, everything empty.
    pub fn reset(&self) {
        // SAFETY: the environment does not exist yet.
        let image = unsafe { &mut *self.0.get() };
        *image = [0; 32];
        image[0] = 0x037f; // x87 control word
        image[1] = 0x1f80 << 64; // mxcsr
    }
}

/// The timer, while a program ran: its turn is over, if anybody else wants one.
pub fn tick(env: &'static Env) {
    count_tick();
    wake_readers();
    let mut sched = lock();
    if sched.first.is_some() || env.status() != Status::Running {
        sched.requeue(env);
        drop(sched);
        switch();
    }
}

/// The timer.
pub fn count_tick() {
    if cpu::this().number.get() == 0 {
        Kernel::machine().ticks.fetch_add(1, Relaxed);
    }
    apic::end_of_interrupt();
}

/// Another processor wants something: that caches are flushed, or that the environment gives way.
pub fn kicked(env: &'static Env) {
    kick();
    if env.status() != Status::Running {
        switch();
    }
}

/// The same, while nothing ran.
pub fn kick() {
    apic::end_of_interrupt();
    flush::serve();
}

/// If there is console input, let those who want it make their call again.
fn wake_readers() {
    let mut sched = lock();
    if sched.readers == 0 || !console::has_input() {
        return;
    }
    for env in env::all().filter(|env| env.status() == Status::Reading) {
        sched.wake(env);
    }
}

/// `yield(env)`.
///
/// # Errors
/// [`Error::BadEnv`].
#[inline(never)]
pub fn yield_to(caller: &'static Env, id: EnvId) -> Result<(u64, u64), Error> {
    let to = env::find(caller, id)?;
    let mut sched = lock();
    let hand_over = to.status() == Status::Runnable && (to.id() == id);
    if !hand_over && sched.first.is_none() {
        return Ok((0, 0));
    }
    caller.frame.set_results((0, 0));
    sched.requeue(caller);
    drop(sched);
    if hand_over {
        run_or_switch(to, abi::Call::Yield);
    }
    switch()
}

/// In a checking kernel, one processor at a time is in the kernel: tables are to hold still while they are
/// compared.
static ALONE: AtomicBool = AtomicBool::new(false);

/// An entry to the kernel begins.
#[inline]
pub fn enter_kernel() {
    while cfg!(feature = "check") && ALONE.swap(true, Acquire) {
        flush::relax();
    }
    if cfg!(feature = "count") {
        cpu::this().entered.set(cpu::time_stamp());
    }
}

/// An entry to the kernel ends; `cause` is a call's number, or 0x100 + a vector.
#[inline]
pub fn leave_kernel(cause: u64) {
    if cfg!(feature = "check") {
        if cause != SWITCH {
            selftest::all();
        }
        ALONE.store(false, Release);
    }
    if cfg!(feature = "count") {
        let spent = cpu::time_stamp() - cpu::this().entered.get();
        let machine = Kernel::machine();
        if spent > machine.longest_entry.load(Relaxed) {
            machine.longest_entry.store(spent, Relaxed);
            machine.longest_cause.store(cause, Relaxed);
        }
    }
}

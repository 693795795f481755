//! Who runs: one queue, first come, first served, with a turn of one timer tick.

use crate::env::{self, Env, FpState};
use crate::memory::{Kernel, load_root};
use crate::{apic, console, cpu, life, power, selftest, trap};
use abi::{EnvId, Error, Status};
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use spin::{Mutex, MutexGuard};
use vm::Machine;

/// The vector of the timer.
pub const TIMER: u64 = 32;

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
}

// SAFETY: the references are to the environment table, which is `Sync`.
unsafe impl Send for Sched {}

static SCHED: Mutex<Sched> = Mutex::new(Sched { first: None, last: None, free: None, used: 0, readers: 0 });

/// The scheduler, locked.
#[inline]
pub fn lock() -> MutexGuard<'static, Sched> {
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
    }

    /// From the head of the queue. Those that lost interest since are left out.
    fn dequeue(&mut self) -> Option<&'static Env> {
        loop {
            let env = self.first?;
            self.first = env.links(self).next.take();
            if self.first.is_none() {
                self.last = None;
            }
            env.links(self).queued.set(false);
            if matches!(env.status(), Status::Runnable | Status::Dying) {
                return Some(env);
            }
        }
    }

    /// An environment that ran or waited goes to the end of the queue.
    pub fn wake(&mut self, env: &'static Env) {
        if env.status() == Status::Reading {
            self.readers -= 1;
        }
        env.set_status(Status::Runnable, self);
        self.enqueue(env);
    }

    /// The environment that runs waits from now on.
    pub fn block(&mut self, env: &'static Env, status: Status) {
        if status == Status::Reading {
            self.readers += 1;
        }
        env.set_status(status, self);
    }
}

/// Run whatever is next. The environment that ran has been put where it belongs.
pub fn switch() -> ! {
    leave_kernel(SWITCH);
    loop {
        let mut sched = lock();
        let (next, used, readers) = (sched.dequeue(), sched.used, sched.readers);
        drop(sched);
        match next {
            Some(env) if env.status() == Status::Dying => end_a_slice(env),
            Some(env) => run(env),
            None if used == 0 => power::off_with_status(),
            None if readers == 0 => life::report_deadlock(),
            None => {
                trap::wait_for_interrupt();
                wake_readers();
            }
        }
    }
}

fn end_a_slice(env: &'static Env) {
    enter_kernel();
    life::slice(env);
    let mut sched = lock();
    if env.status() == Status::Dying {
        sched.enqueue(env);
    }
    drop(sched);
    leave_kernel(0x201);
}

/// Put an environment on this processor.
pub fn run(env: &'static Env) -> ! {
    env.set_status(Status::Running, &mut lock());
    let runs = &env.info().runs;
    runs.store(runs.load(Relaxed) + 1, Relaxed);
    cpu::set_env(env);
    let root = env.space.lock().as_ref().map(|space| space.root());
    let root = root.expect("a runnable environment has a page map");
    if cpu::this().root.get() != root {
        // SAFETY: the root of a page map that exists, and stays while the environment runs.
        unsafe { load_root(root) };
    }
    switch_fp(env);
    trap::resume_env()
}

/// Bring in the floating-point state and reset the segment selectors, if someone else ran.
fn switch_fp(env: &'static Env) {
    let cpu = cpu::this();
    let last = cpu.fp_env.replace(env);
    if core::ptr::eq(last, env) {
        return;
    }
    // SAFETY: `last` is null or an environment; environments are never unmapped.
    if let Some(last) = unsafe { last.as_ref() } {
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
    let waiting = lock().first.is_some();
    if waiting && env.status() == Status::Running {
        lock().wake(env);
        switch();
    }
}

/// The timer.
pub fn count_tick() {
    Kernel::machine().ticks.fetch_add(1, Relaxed);
    apic::end_of_interrupt();
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
    let hand_over = to.status() == Status::Runnable;
    if !hand_over && sched.first.is_none() {
        return Ok((0, 0));
    }
    caller.frame.set_results((0, 0));
    sched.wake(caller);
    drop(sched);
    if hand_over {
        leave_kernel(abi::Call::Yield as u64);
        run(to);
    }
    switch()
}

/// An entry to the kernel begins.
#[inline]
pub fn enter_kernel() {
    if cfg!(feature = "count") {
        cpu::this().entered.set(cpu::time_stamp());
    }
}

/// An entry to the kernel ends; `cause` is a call's number, or 0x100 + a vector.
#[inline]
pub fn leave_kernel(cause: u64) {
    if cfg!(feature = "check") && cause != SWITCH {
        selftest::all();
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

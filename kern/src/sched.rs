//! Who runs: one queue for all processors, first come, first served, with a turn of one timer tick, and what is left of
//! another where it began between two.
//!
//! The states of environments and the queue are in the crate `sched`; here is what changes hands with them: registers
//! and page maps. A processor *holds* an environment while it runs it, and a little longer: until the registers
//! are saved and the page map is not loaded any more ([`give_back`]). Only then can another one take it.
//! Who wants to change something of an environment that is held elsewhere lets that processor give it up
//! first: it takes the status away and interrupts.
//!
//! Locks, in the order in which they are taken: the scheduler's, page maps in the order of their slots, page
//! frames, the console.

use crate::cpu::{self, Cpu};
use crate::env::{self, Env, FpState};
use crate::memory::{Kernel, Lock, kernel_root, load_root};
use crate::{apic, console, count, flush, life, power, selftest, trap};
use ::sched::Node;
use abi::call::NO_PAGE;
use abi::window::{LockKind, MachineInfo};
use abi::{EnvId, Error, Status};
use core::arch::asm;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU64};

/// The vector of the timer.
pub const TIMER: u64 = 32;
/// The vector by which processors interrupt each other.
pub const KICK: u64 = 33;

/// A cause for [`leave_kernel`]. No page map changes in that.
const SWITCH: u64 = MachineInfo::SWITCH;

/// The queue, the free slots, and what ties environments to each other.
pub type Sched = ::sched::Sched<Env>;

/// The scheduler, for whoever has locked it.
pub type Locked = vm::Guard<'static, Sched, Kernel>;

static SCHED: Lock<Sched> = Lock::new(LockKind::Scheduler, Sched::new());

/// The scheduler, locked.
#[inline]
pub fn lock() -> Locked {
    SCHED.lock()
}

/// The number of this processor.
#[inline]
pub fn here() -> u32 {
    cpu::this().number.get()
}

/// Run whatever is next. The environment that ran has been put where it belongs.
pub fn switch(sched: Locked) -> ! {
    // The timer goes on: what is left of the tick is not counted, or who lets others go first just before its end
    // would have nearly all of the time.
    cpu::this().is_turn_new.set(true);
    take_next(sched)
}

fn take_next(mut sched: Locked) -> ! {
    let next = sched.dequeue(here());
    go_over(next, sched, SWITCH)
}

/// Run this environment, which [was just made runnable](Sched::deliver), now if that is possible, and otherwise
/// whatever is next.
#[inline]
pub fn hand_over(to: &'static Env, mut sched: Locked, cause: abi::Call) -> ! {
    if sched.hand_over(to, here()) {
        go_over(Some(to), sched, cause as u64);
    }
    sched.wake(to);
    switch(sched)
}

/// Let an environment run that was [taken](::sched::take), while the caller waits for a word from it, or from anyone.
/// Without the lock: no queue is used, and nobody else is concerned.
#[inline(always)]
pub fn exchange(me: &'static Env, receiver: &'static Env, from: EnvId) -> ! {
    let cpu = cpu::this();
    turn_to(cpu, Some(me), receiver);
    if !::sched::park(me, receiver, from, cpu.number.get()) {
        park_locked(me, from);
    }
    leave_kernel(abi::Call::SendRecv as u64);
    trap::resume_from_call(&receiver.frame)
}

/// Somebody is ending or stopping the caller, or keeps it off its processor.
#[cold]
#[inline(never)]
fn park_locked(me: &'static Env, from: EnvId) {
    lock().receive(me, NO_PAGE, from);
    give_back(me);
}

/// Leave the environment that ran here, and the kernel, for one that was taken.
#[inline]
fn go_over(next: Option<&'static Env>, sched: Locked, cause: u64) -> ! {
    drop(sched);
    leave_kernel(cause);
    if cfg!(feature = "check") && next.is_some() {
        selftest::dawdle();
    }
    match next {
        Some(env) => begin(env),
        None => leave(),
    }
    find_work()
}

/// Nothing runs here, and this processor is not in the kernel, as checking kernels see it.
fn find_work() -> ! {
    loop {
        count::idle();
        let mut sched = lock();
        sched.look(here());
        wake_readers(&mut sched);
        if let Some(next) = sched.dequeue(here()) {
            drop(sched);
            // The timer may have been waiting for long, and what was here only gave back what it had.
            cpu::this().is_turn_new.set(true);
            begin(next);
            // Without a program in between: the timer counts all the same.
            trap::take_interrupts();
            continue;
        }
        if sched.is_cut_short() {
            continue;
        }
        sched.rest(here());
        let all_rest = sched.resting() == cpu::count();
        match (sched.used(), sched.readers()) {
            (0, _) if all_rest => power::off_with_status(),
            (_, 0) if all_rest => {
                life::nothing_runs(sched);
                continue;
            }
            _ => {}
        }
        drop(sched);
        trap::wait_for_interrupt();
    }
}

/// Do what an environment that was taken wants: to run, or to end. Comes back if it was a slice of that.
#[inline]
fn begin(env: &'static Env) {
    if env.status() != Status::Dying {
        run(env);
    }
    if !core::ptr::eq(cpu::this().env.get(), env) {
        leave();
    }
    enter_kernel();
    life::slice(env);
    lock().let_go(env);
    leave_kernel(MachineInfo::ENDING);
}

/// Run an environment that was taken.
fn run(env: &'static Env) -> ! {
    let cpu = cpu::this();
    // SAFETY: null or an environment; those are never unmapped.
    let last = unsafe { cpu.env.get().as_ref() };
    if last.is_none_or(|last| !core::ptr::eq(last, env)) {
        turn_to(cpu, last, env);
        last.filter(|_| cpu::count() > 1).into_iter().for_each(give_back);
    }
    trap::resume_env()
}

/// Give up the environment that ran here: afterwards another processor can take it. With one processor there is
/// nobody who could.
fn leave() {
    let cpu = cpu::this();
    // SAFETY: null or an environment; those are never unmapped.
    let Some(env) = (unsafe { cpu.env.get().as_ref() }).filter(|_| cpu::count() > 1) else { return };
    env.fp.save();
    forget(env);
    give_back(env);
}

/// Nothing of this environment is here from now on, and its registers are not needed any more. Its page map may be given
/// back by another processor the moment that this one does not hold it.
pub fn forget(env: &Env) {
    let cpu = cpu::this();
    if core::ptr::eq(cpu.env.get(), env) {
        // SAFETY: the kernel's own page map.
        unsafe { load_root(cpu, kernel_root()) };
        cpu.env.set(core::ptr::null());
    }
}

/// Nothing of this environment is here any more. If it wants to run again, somebody may be idle.
#[inline]
fn give_back(env: &'static Env) {
    if ::sched::give_back(env) {
        lock().offer(env);
    }
}

/// Leave the environment whose page map and floating-point state are loaded, if any, for one that was taken. The last
/// one is still held.
#[inline(always)]
fn turn_to(cpu: &Cpu, last: Option<&'static Env>, env: &'static Env) {
    if cfg!(feature = "check") {
        selftest::check_taken(env);
    }
    let info = env.info();
    info.runs.store(info.runs.load(Relaxed) + 1, Relaxed);
    info.cpu.store(cpu.number.get(), Relaxed);
    if let Some(last) = last {
        last.fp.save();
    }
    // SAFETY: the root of a page map that exists, and stays while the environment is held.
    unsafe { load_root(cpu, env.root.get()) };
    cpu.set_env(env);
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
pub fn lock_free(env: &Env) -> Locked {
    let is_leaving =
        || env.status() == Status::Stopped && env.holder().is_some_and(|holder| holder != here());
    loop {
        let sched = lock();
        if !is_leaving() {
            return sched;
        }
        drop(sched);
        wait_while(is_leaving);
    }
}

/// Wait for another processor, which may have to enter the kernel for it.
fn wait_while(condition: impl Fn() -> bool) {
    if cfg!(feature = "check") {
        ALONE.store(false, Release);
    }
    while condition() {
        flush::relax();
    }
    be_alone();
}

/// Let this processor hold an environment that is not the caller, wherever it is now, so that it runs nowhere
/// until it is let go.
///
/// # Errors
/// [`Error::BadEnv`]: it is ending, and held nearly all of the time.
pub fn keep_off(env: &'static Env) -> Result<(), Error> {
    while !lock().keep_off(env, here()) {
        if matches!(env.status(), Status::Dying | Status::Zombie | Status::Free) {
            return Err(Error::BadEnv(env.id().0.into()));
        }
        wait_while(|| env.holder().is_some() && env.status() != Status::Running);
    }
    Ok(())
}

impl FpState {
    /// Store what is in the registers.
    pub fn save(&self) {
        // SAFETY: 512 bytes, aligned; they belong to the environment that ran.
        unsafe { asm!("fxsave64 [{}]", in(reg) self.0.get(), options(nostack, preserves_flags)) };
    }

    /// Load what was stored. Where that leaves the x87 pointers of somebody else as they are, they are reset before:
    /// `trap::patch` removes that where it is not needed.
    #[inline(always)]
    fn load(&self) {
        // SAFETY: the image was stored by `save` or made by `reset`.
        unsafe {
            asm!("77: fninit", ".pushsection .x87_sites, \"a\"; .quad 77b; .popsection", "fxrstor64 [{}]",
                in(reg) self.0.get(), options(nostack, preserves_flags));
        }
    }

    /// Whether the image has all of the state in it. Older processors of AMD's, and emulators, leave out where the last x87
    /// instruction and its operand were, unless an exception is pending.
    pub fn is_whole() -> bool {
        let (image, number) = (FpState::default(), 0u32);
        let mut found = [0u32; 7];
        // SAFETY: nobody's state is in the registers yet.
        unsafe {
            asm!("fninit", "fild dword ptr [{1}]", "fxsave64 [{0}]", "fninit", "fxrstor64 [{0}]", "fnstenv [{2}]", "fninit",
                in(reg) image.0.get(), in(reg) &raw const number, in(reg) &raw mut found, options(nostack));
        }
        found[3] != 0
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

/// The timer, while a program ran: its turn is over, if anybody else wants one, and if it had a whole tick.
pub fn tick(env: &'static Env) {
    count_tick();
    let mut sched = lock();
    wake_readers(&mut sched);
    let is_over = !cpu::this().is_turn_new.replace(false) && sched.has_waiting();
    if is_over || env.status() != Status::Running {
        sched.requeue(env);
        take_next(sched);
    }
}

/// After so many ticks, the machine ends.
pub static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// The timer.
pub fn count_tick() {
    if here() == 0 && Kernel::machine().ticks.fetch_add(1, Relaxed) >= LIMIT.load(Relaxed) {
        life::report_time_up();
    }
    apic::count_again();
}

/// Another processor wants something: that caches are flushed, or that the environment gives way.
pub fn kicked(env: &'static Env) {
    kick();
    if env.status() != Status::Running {
        switch(lock());
    }
}

/// The same, while nothing ran.
pub fn kick() {
    apic::end_of_interrupt();
    flush::serve();
}

/// If there is console input, let those who want it make their call again.
fn wake_readers(sched: &mut Sched) {
    if sched.readers() > 0 && console::has_input() {
        sched.wake_readers();
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
    // (One that names itself may be on its way off this processor: it does not come back by that.)
    let taken = to.id() == id && !core::ptr::eq(to, caller) && sched.hand_over(to, here());
    if !taken && !sched.has_waiting() {
        return Ok((0, 0));
    }
    caller.frame.set_results((0, 0));
    sched.requeue(caller);
    if taken {
        go_over(Some(to), sched, abi::Call::Yield as u64);
    }
    switch(sched)
}

/// In a checking kernel, one processor at a time is in the kernel: tables are to hold still while they are
/// compared.
static ALONE: AtomicBool = AtomicBool::new(false);

/// An entry to the kernel begins.
#[inline]
pub fn enter_kernel() {
    be_alone();
    count::begin();
}

#[inline]
fn be_alone() {
    if cfg!(feature = "check") {
        while ALONE.swap(true, Acquire) {
            flush::relax();
        }
        selftest::check_holders();
    }
}

/// An entry to the kernel ends; `cause` is what [`MachineInfo`] has as the cause of the longest one.
#[inline]
pub fn leave_kernel(cause: u64) {
    if cfg!(feature = "check") {
        if cause != SWITCH {
            selftest::all();
        }
        ALONE.store(false, Release);
    }
    count::end(cause);
}

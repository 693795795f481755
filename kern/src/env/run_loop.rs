//! The run loop: which environment runs next, and what a processor does when there is none.
//!
//! All processors share one run queue, first come, first served. A time slice is one timer tick, and what is left of
//! the current tick if the slice begins between two ticks.

use crate::env::scheduler::{self, Locked};
use crate::env::table::{self, Env, Results};
use crate::env::{bracket::Entry, devices, life, switch};
use crate::machine::cpu::{self, here};
use crate::machine::{apic, flush, iommu, power, print, vectors, windows};
use abi::{EnvId, Status, window::MachineInfo};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sched::{Node, Scheduler};

/// Runs the next environment of the run queue. The caller has already set the state of the one that ran.
pub fn switch(entry: Entry, locked: Locked) -> ! {
    // The timer goes on, and the rest of the current tick is not counted. Otherwise an environment that always yields
    // just before the tick would get nearly all of the time.
    cpu::this().is_turn_new.set(true);
    take_next(entry, locked)
}

fn take_next(entry: Entry, mut locked: Locked) -> ! {
    let next = locked.dequeue(here());
    go_over(entry, next, locked, MachineInfo::SWITCH)
}

/// Runs this environment, which [was just made runnable](Scheduler::deliver), now if that is possible; otherwise the
/// next one of the run queue.
#[inline]
pub fn hand_over(entry: Entry, to: &'static Env, mut locked: Locked, cause: abi::Call) -> ! {
    if locked.hand_over(to, here()) {
        go_over(entry, Some(to), locked, cause as u64);
    }
    locked.wake(to);
    switch(entry, locked)
}

/// Leaves the environment that ran here, and the kernel, for an environment that was taken, or for the idle loop.
#[inline]
fn go_over(entry: Entry, next: Option<&'static Env>, locked: Locked, cause: u64) -> ! {
    drop(locked);
    entry.end(cause);
    #[cfg(feature = "check")]
    crate::env::check::dawdle();
    match next {
        Some(env) => begin(env),
        None => switch::leave(),
    }
    find_work()
}

/// The idle loop: looks for work, and halts while there is none. For a checking kernel, this processor is outside.
fn find_work() -> ! {
    loop {
        #[cfg(feature = "count")]
        cpu::COUNTER.idle(here());
        let mut locked = scheduler::lock();
        locked.look(here());
        wake_waiting(&mut locked);
        if let Some(next) = locked.dequeue(here()) {
            drop(locked);
            // A timer interrupt may have been pending for long, while only teardown ran here. It must not end this time
            // slice.
            cpu::this().is_turn_new.set(true);
            begin(next);
            // No program ran in between, and interrupts were off: let the timer count.
            vectors::take_interrupts();
            continue;
        }
        if locked.is_cut_short() {
            continue;
        }
        locked.rest(here());
        let all_rest = locked.resting() == cpu::count();
        if all_rest && locked.used() == 0 {
            power::off_with_status();
        }
        let ticks = windows::machine().tick_ns.load(Relaxed) > 0;
        let waits = locked.readers() > 0 || ticks && locked.has_deadlines() || devices::are_awaited(&locked);
        if all_rest && !waits {
            life::nothing_runs(locked);
            continue;
        }
        drop(locked);
        #[cfg(feature = "count")]
        cpu::COUNTER.halt(here());
        cpu::this().halted.set(cpu::time_stamp());
        vectors::wait_for_interrupt();
    }
}

/// Runs an environment that was taken, or, if it is dying, performs one slice of its teardown and returns.
#[inline]
fn begin(env: &'static Env) {
    if env.status() != Status::Dying {
        run(env);
    }
    if !table::is_loaded(cpu::this(), env) {
        switch::leave();
    }
    let entry = Entry::begin();
    life::slice(env);
    scheduler::lock().let_go(env);
    entry.end(MachineInfo::ENDING);
}

/// Runs an environment that was taken.
fn run(env: &'static Env) -> ! {
    let cpu = cpu::this();
    let last = table::loaded(cpu);
    if last.is_none_or(|last| !core::ptr::eq(last, env)) {
        switch::turn_to(cpu, last, env);
        last.filter(|_| cpu::count() > 1).into_iter().for_each(switch::give_back);
    }
    vectors::resume_env(&table::current().frame)
}

/// Runs an environment that was [taken](sched::take), while the caller waits for a message from it, or from anyone.
/// Takes no lock: the run queue does not change, and no other environment is concerned.
#[inline(always)]
pub fn exchange(entry: Entry, me: &'static Env, receiver: &'static Env, from: EnvId) -> ! {
    let cpu = cpu::this();
    switch::turn_to(cpu, Some(me), receiver);
    if !sched::park(me, receiver, from, cpu.number.get()) {
        switch::park_locked(me, from);
    }
    entry.end(abi::Call::SendRecv as u64);
    vectors::resume_call(&receiver.frame)
}

/// Handles a timer interrupt while a program ran. Its time slice is over if another environment waits and this one had
/// a whole tick.
pub fn tick(entry: Entry, env: &'static Env) {
    count_tick();
    let mut locked = scheduler::lock();
    wake_waiting(&mut locked);
    let is_over = !cpu::this().is_turn_new.replace(false) && locked.has_waiting();
    if is_over || env.status() != Status::Running {
        locked.requeue(env);
        take_next(entry, locked);
    }
}

/// The number of ticks after which the machine ends.
pub static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Handles a timer interrupt: the boot processor counts ticks, and each processor starts its timer again.
pub fn count_tick() {
    if here() == 0 && windows::machine().ticks.fetch_add(1, Relaxed) >= LIMIT.load(Relaxed) {
        life::report_time_up();
    }
    apic::count_again();
}

/// Handles an interrupt from another processor while a program ran: a TLB shootdown, or the program has to give way.
pub fn kicked(entry: Entry, env: &'static Env) {
    kick();
    if env.status() != Status::Running {
        switch(entry, scheduler::lock());
    }
}

/// Counts the time that this processor has halted, if it has.
pub fn count_idle() {
    let halted = cpu::this().halted.take();
    if halted != 0 {
        windows::machine().idle.fetch_add(cpu::time_stamp() - halted, Relaxed);
    }
}

/// Handles an interrupt from another processor while no program ran.
pub fn kick() {
    apic::end_of_interrupt();
    flush::serve();
}

/// Wakes receivers whose deadline has passed. If there is console input, wakes the environments that wait for it; they
/// make their call again.
fn wake_waiting(scheduler: &mut Scheduler<Env>) {
    if scheduler.expire(windows::machine().ticks.load(Relaxed)) {
        iommu::take_faults();
    }
    if scheduler.readers() > 0 && print::has_input() {
        scheduler.wake_readers();
    }
}

/// `yield(env)`: runs another environment, `env` if that is possible.
///
/// # Errors
/// [`Error::BadEnv`](abi::Error::BadEnv).
#[inline(never)]
pub fn yield_to(entry: Entry, caller: &'static Env, id: EnvId) -> Results {
    let to = table::find(caller, id)?;
    let mut locked = scheduler::lock();
    // (A caller that names itself may be about to lose this processor, and must not get it back in this way.)
    let taken = to.id() == id && !core::ptr::eq(to, caller) && locked.hand_over(to, here());
    if !taken && !locked.has_waiting() {
        return Ok((0, 0));
    }
    caller.frame.set_results((0, 0));
    locked.requeue(caller);
    if taken {
        go_over(entry, Some(to), locked, abi::Call::Yield as u64);
    }
    switch(entry, locked)
}

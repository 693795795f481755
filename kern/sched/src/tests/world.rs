//! A machine of a few processors, as `loom` drives it.

use crate::*;
use abi::{Status, window::EnvInfo};
use core::sync::atomic::Ordering::Release;
use loom::sync::{Arc, Mutex, MutexGuard, Notify};
use loom::{cell::UnsafeCell, thread};
use std::array;

/// Tries all orders of events in which a processor is preempted at most twice where it could have gone on: more would
/// take hours, and finds no more bugs.
pub fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

/// The interrupts that other processors send to a processor.
#[derive(Default)]
pub struct Bell {
    pub rung: AtomicBool,
    pub sleeper: Notify,
}

pub struct Env {
    pub slot: usize,
    pub links: Links<Link<Env>>,
    pub info: EnvInfo,
    pub word: AtomicU64,
    pub bells: &'static [Bell; 2],
    /// Only the processor that holds the environment accesses this.
    pub registers: UnsafeCell<()>,
    /// Only the processor that ends the environment, or sends it a page, accesses this.
    pub space: UnsafeCell<()>,
}

impl Node for Env {
    fn links(&self) -> &Links<Link<Env>> {
        &self.links
    }

    fn slot(&self) -> usize {
        self.slot
    }

    fn info(&self) -> &EnvInfo {
        &self.info
    }

    fn word(&self) -> &AtomicU64 {
        &self.word
    }

    fn interrupt(&self, processor: u32) {
        let bell = &self.bells[processor as usize];
        bell.rung.store(true, Release);
        bell.sleeper.notify();
    }
}

impl Env {
    /// Accesses data that only the holder may touch.
    pub fn touch(&self) {
        self.registers.with_mut(|registers| assert!(!registers.is_null()));
    }

    /// Accesses the page map: a sender maps a page, or a processor tears it down.
    pub fn map(&self) {
        self.space.with_mut(|space| assert!(!space.is_null()));
    }
}

pub struct World {
    pub sched: Mutex<Scheduler<Env>>,
    pub bells: &'static [Bell; 2],
    pub table: &'static [Env],
}

impl World {
    /// A world of `count` stopped environments; the first one is the parent of all others.
    pub fn new(count: usize) -> Arc<World> {
        let bells: &'static [Bell; 2] = Box::leak(Box::new(array::from_fn(|_| Bell::default())));
        let table = World::table(count, bells);
        let mut sched = Scheduler::empty();
        sched.init(table);
        let first = sched.create(None, 0);
        (1..count).for_each(|_| assert!(sched.create(first, 0).is_some()));
        Arc::new(World { sched: Mutex::new(sched), bells, table })
    }

    pub fn table(count: usize, bells: &'static [Bell; 2]) -> &'static [Env] {
        let env = |slot| Env {
            slot,
            links: Links::default(),
            info: EnvInfo::default(),
            word: AtomicU64::new(0),
            bells,
            registers: UnsafeCell::new(()),
            space: UnsafeCell::new(()),
        };
        Box::leak((0..count).map(env).collect())
    }

    /// A world of `count` stopped environments, each of which is the parent of the next one.
    pub fn of_generations(count: usize) -> Arc<World> {
        let world = World::new(1);
        let table = World::table(count, world.bells);
        let mut sched = Scheduler::empty();
        sched.init(table);
        (0..count).fold(None, |parent, _| sched.create(parent, 0));
        Arc::new(World { sched: Mutex::new(sched), bells: world.bells, table })
    }

    /// Completes the end of a dying environment that is held here, and lets it go.
    pub fn end_here(&self, env: &'static Env) {
        env.touch();
        loop {
            let mut sched = self.lock();
            if !sched.part(env) {
                _ = sched.bury(env);
                break sched.let_go(env);
            }
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Scheduler<Env>> {
        self.sched.lock().unwrap()
    }

    /// Runs a stopped environment on a processor.
    pub fn run(&self, slot: usize, processor: u32) -> &'static Env {
        let mut sched = self.lock();
        sched.set_status(&self.table[slot], Status::Runnable);
        assert!(sched.hand_over(&self.table[slot], processor));
        &self.table[slot]
    }

    /// Saves the registers of an environment, and gives it back.
    pub fn leave(&self, env: &'static Env) {
        env.touch();
        self.give_back(env);
    }

    pub fn give_back(&self, env: &'static Env) {
        if give_back(env) {
            self.lock().offer(env);
        }
    }

    /// Takes the next environment for a processor that has nothing to do. Without an interrupt it sleeps: in a test in
    /// which no other thread is left, that is a deadlock.
    pub fn next(&self, processor: u32) -> &'static Env {
        loop {
            let mut sched = self.lock();
            sched.look(processor);
            if let Some(env) = sched.dequeue(processor) {
                drop(sched);
                env.touch();
                return env;
            }
            sched.rest(processor);
            drop(sched);
            self.bells[processor as usize].sleeper.wait();
        }
    }

    /// Performs a slice of teardown, on the processor that holds the environment.
    pub fn slice(&self, env: &'static Env) {
        env.touch();
        if !self.lock().is_claimed(env) {
            env.map();
            let mut sched = self.lock();
            assert!(sched.fail_receivers(env, |_receiver| ()));
            assert!(sched.bury(env).is_none(), "nobody waits here");
        }
        self.lock().let_go(env);
    }

    /// Keeps an environment off, accesses its registers, and lets it go.
    pub fn touch_kept_off(&self, env: &'static Env, processor: u32) {
        while !self.lock().keep_off(env, processor) {
            thread::yield_now();
        }
        env.touch();
        self.lock().let_go(env);
    }

    /// Locks the scheduler at a moment when no processor holds this environment in the status `Stopped`.
    pub fn lock_free(&self, env: &Env) -> MutexGuard<'_, Scheduler<Env>> {
        loop {
            let sched = self.lock();
            if env.status() != Status::Stopped || env.holder().is_none() {
                return sched;
            }
            drop(sched);
            thread::yield_now();
        }
    }

    /// Stops a child that may run on another processor, as a parent does.
    pub fn stop(&self, env: &'static Env) -> Result<(), Status> {
        while self.lock().stop(env)? {
            drop(self.lock_free(env));
        }
        Ok(())
    }
}

/// Runs two functions on two processors at the same time.
pub fn together(world: &Arc<World>, first: impl FnOnce(&World) + 'static, second: impl FnOnce(&World) + 'static) {
    let other = Arc::clone(world);
    let thread = thread::spawn(move || second(&other));
    first(world);
    thread.join().unwrap();
}

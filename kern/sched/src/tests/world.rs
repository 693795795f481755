//! A machine of a few processors, as `loom` drives it.

use crate::*;
use abi::Status;
use abi::window::EnvInfo;
use core::sync::atomic::Ordering::Release;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex, MutexGuard, Notify};
use loom::thread;
use std::array;

/// All orders in which a processor is overtaken at most twice where it could have gone on: more would take
/// hours, and finds no more.
pub fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

/// What a processor is told by others.
#[derive(Default)]
pub struct Bell {
    pub rung: AtomicBool,
    pub sleeper: Notify,
}

pub struct Env {
    pub slot: usize,
    pub links: Links<Env>,
    pub info: EnvInfo,
    pub word: AtomicU64,
    pub bells: &'static [Bell; 2],
    /// Only the processor that holds it is in here.
    pub registers: UnsafeCell<()>,
    /// Only who ends it, or sends it a page, is in here.
    pub space: UnsafeCell<()>,
}

impl Node for Env {
    fn links(&self) -> &Links<Env> {
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
    /// Something is done to what only its holder may touch.
    pub fn touch(&self) {
        self.registers.with_mut(|registers| assert!(!registers.is_null()));
    }

    /// A sender puts a page into its page map, or who ends it takes that apart.
    pub fn map(&self) {
        self.space.with_mut(|space| assert!(!space.is_null()));
    }
}

pub struct World {
    pub sched: Mutex<Sched<Env>>,
    pub bells: &'static [Bell; 2],
    pub table: &'static [Env],
}

impl World {
    /// So many environments, the others children of the first. They are stopped.
    pub fn new(count: usize) -> Arc<World> {
        let bells: &'static [Bell; 2] = Box::leak(Box::new(array::from_fn(|_| Bell::default())));
        let table = World::table(count, bells);
        let mut sched = Sched::new();
        sched.init(table);
        let first = sched.create(None);
        (1..count).for_each(|_| assert!(sched.create(first).is_some()));
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

    /// So many environments, each the parent of the next one. They are stopped.
    pub fn of_generations(count: usize) -> Arc<World> {
        let world = World::new(1);
        let table = World::table(count, world.bells);
        let mut sched = Sched::new();
        sched.init(table);
        (0..count).fold(None, |parent, _| sched.create(parent));
        Arc::new(World { sched: Mutex::new(sched), bells: world.bells, table })
    }

    /// All that is left to do for one that is dying and held here; then it is given back.
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

    pub fn lock(&self) -> MutexGuard<'_, Sched<Env>> {
        self.sched.lock().unwrap()
    }

    /// A stopped environment begins to run here.
    pub fn run(&self, slot: usize, processor: u32) -> &'static Env {
        let mut sched = self.lock();
        sched.set_status(&self.table[slot], Status::Runnable);
        assert!(sched.hand_over(&self.table[slot], processor));
        &self.table[slot]
    }

    /// The processor saves what is in its registers, and gives up the environment.
    pub fn leave(&self, env: &'static Env) {
        env.touch();
        self.give_back(env);
    }

    pub fn give_back(&self, env: &'static Env) {
        if give_back(env) {
            self.lock().offer(env);
        }
    }

    /// A processor that has nothing to do takes what comes. If it is told of nothing, it sleeps: in a test
    /// in which nobody else is left, that is a deadlock.
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

    /// A slice of ending, by the processor that holds it.
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

    /// A processor keeps an environment off the others, does something to it, and lets it go.
    pub fn touch_kept_off(&self, env: &'static Env, processor: u32) {
        while !self.lock().keep_off(env, processor) {
            thread::yield_now();
        }
        env.touch();
        self.lock().let_go(env);
    }

    /// The scheduler, locked, when no processor holds a stopped environment.
    pub fn lock_free(&self, env: &Env) -> MutexGuard<'_, Sched<Env>> {
        loop {
            let sched = self.lock();
            if env.status() != Status::Stopped || env.holder().is_none() {
                return sched;
            }
            drop(sched);
            thread::yield_now();
        }
    }

    /// What a parent does to a child that may run elsewhere.
    pub fn stop(&self, env: &'static Env) -> Result<(), Status> {
        while self.lock().stop(env)? {
            drop(self.lock_free(env));
        }
        Ok(())
    }
}

/// Two processors, each with what it does.
pub fn together(
    world: &Arc<World>,
    first: impl FnOnce(&World) + 'static,
    second: impl FnOnce(&World) + 'static,
) {
    let other = Arc::clone(world);
    let thread = thread::spawn(move || second(&other));
    first(world);
    thread.join().unwrap();
}

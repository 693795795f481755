//! The scheduler and a model of it, side by side: the run queue, the processors, and the end of environments.

use crate::env::{Disk, Env};
use crate::op::{PROCESSORS, SLOTS};
use abi::{Status, window::EnvInfo};
use sched::{AtomicU64, Links, Scheduler};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// An environment in the model.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Model {
    pub status: Status,
    pub parent: Option<usize>,
    pub holder: Option<u32>,
    pub awaits: Option<usize>,
    /// The deadline of a receiver that has one.
    pub deadline: Option<u64>,
    pub uses: u32,
    /// The time at which it became the child of its parent.
    pub born: usize,
    /// Whether its parent is not the one that made it.
    pub adopted: bool,
    /// Whether its children are ended with it.
    pub takes_all: bool,
    /// Whether a processor waits to keep it off.
    pub reserved: bool,
}

impl Model {
    pub fn is_receiving(&self) -> bool {
        matches!(self.status, Status::Receiving | Status::ReceivingUntil)
    }
}

pub struct World {
    pub sched: Scheduler<Env>,
    /// The device of each environment.
    pub disks: [Disk; SLOTS],
    /// The ticks so far.
    pub time: u64,
    pub table: &'static [Env],
    pub woken: &'static AtomicU64,
    /// The environment that runs on each processor.
    pub runs: [Option<usize>; PROCESSORS as usize],
    pub model: Vec<Model>,
    pub queue: VecDeque<usize>,
    pub births: usize,
    /// The environment without a parent, to which orphans go up.
    pub root: Option<usize>,
    /// Slots that are free again, in the order in which they became free.
    pub freed: VecDeque<usize>,
    pub created: usize,
    pub reached: usize,
}

impl World {
    pub fn new(slots: usize) -> World {
        let woken: &'static AtomicU64 = Box::leak(Box::default());
        let env = |slot| Env { slot, links: Links::default(), info: EnvInfo::default(), woken };
        let table: &'static [Env] = Box::leak((0..slots).map(env).collect());
        let mut sched = Scheduler::empty();
        sched.init(table);
        let free = Model {
            status: Status::Free,
            parent: None,
            holder: None,
            awaits: None,
            deadline: None,
            uses: 0,
            born: 0,
            adopted: false,
            takes_all: false,
            reserved: false,
        };
        World {
            sched,
            disks: Default::default(),
            time: 0,
            table,
            woken,
            runs: [None; PROCESSORS as usize],
            model: vec![free; SLOTS],
            queue: VecDeque::new(),
            births: 0,
            root: None,
            freed: VecDeque::new(),
            created: 0,
            reached: 0,
        }
    }

    pub fn status(&self, env: usize) -> Status {
        self.model[env].status
    }

    pub fn enqueue(&mut self, env: usize) {
        if !self.queue.contains(&env) {
            self.queue.push_back(env);
        }
    }

    pub fn wake(&mut self, env: usize) {
        self.model[env].status = Status::Runnable;
        self.enqueue(env);
    }

    /// The next environment in the model: the first one that is runnable or dying and not held by another processor.
    /// Removes those before it that are neither.
    fn next(&mut self, cpu: u32) -> Option<usize> {
        let mut kept = VecDeque::new();
        let mut found = None;
        while let Some(env) = self.queue.pop_front() {
            let Model { status, holder, reserved, .. } = self.model[env];
            match status {
                Status::Runnable if reserved => kept.push_back(env),
                Status::Runnable | Status::Dying if holder.is_none_or(|holder| holder == cpu) => {
                    found = Some(env);
                    break;
                }
                Status::Runnable | Status::Dying => kept.push_back(env),
                _ => {}
            }
        }
        kept.append(&mut self.queue);
        self.queue = kept;
        found
    }

    /// Leaves the environment that runs, takes the next one, and ends dying ones on the way.
    pub fn switch(&mut self, cpu: u32) {
        self.sched.look(cpu);
        self.woken.fetch_and(!(1 << cpu), Relaxed);
        loop {
            let (found, expected) = (self.sched.dequeue(cpu), self.next(cpu));
            assert_eq!(found.map(|env| env.slot), expected);
            if self.runs[cpu as usize] != expected {
                self.leave(cpu);
            }
            let Some(slot) = expected else {
                // The environment that was just left may be the only one that is runnable.
                if self.queue.iter().any(|&env| self.is_free(env)) {
                    continue;
                }
                self.sched.rest(cpu);
                return;
            };
            self.model[slot].holder = Some(cpu);
            if self.status(slot) == Status::Runnable {
                self.model[slot].status = Status::Running;
                self.runs[cpu as usize] = Some(slot);
                return;
            }
            self.runs[cpu as usize] = None;
            self.end(slot);
        }
    }

    pub fn is_free(&self, env: usize) -> bool {
        let Model { status, holder, reserved, .. } = self.model[env];
        matches!(status, Status::Runnable | Status::Dying) && holder.is_none() && !reserved
    }

    pub fn requeue(&mut self, env: usize) {
        self.sched.requeue(&self.table[env]);
        if self.status(env) == Status::Running {
            self.wake(env);
        }
    }

    pub fn leave(&mut self, cpu: u32) {
        if let Some(env) = self.runs[cpu as usize].take() {
            self.model[env].holder = None;
            self.give_back(env);
        }
    }

    pub fn give_back(&mut self, env: usize) {
        let wants = matches!(self.status(env), Status::Runnable | Status::Dying);
        assert_eq!(sched::give_back(&self.table[env]), wants);
        if wants {
            self.sched.offer(&self.table[env]);
        }
    }

    /// Ends a dying environment completely.
    fn end(&mut self, slot: usize) {
        let env = &self.table[slot];
        while self.sched.part(env) {}
        self.part(slot);
        assert!(self.sched.fail_receivers(env, |_receiver| ()));
        for receiver in 0..SLOTS {
            if self.model[receiver].is_receiving() && self.model[receiver].awaits == Some(slot) {
                self.wake(receiver);
            }
        }
        let parent = self.sched.bury(env);
        let waiting = self.model[slot].parent.filter(|&parent| {
            let Model { status, awaits, .. } = self.model[parent];
            status == Status::Waiting && awaits.is_none_or(|child| child == slot)
        });
        assert_eq!(parent.map(|env| env.slot), waiting);
        let Model { parent, adopted, .. } = self.model[slot];
        self.root = self.root.filter(|&root| root != slot);
        if parent.is_some() && !adopted && waiting.is_none() {
            self.births += 1;
            self.model[slot].born = self.births;
            self.model[slot].status = Status::Zombie;
        } else {
            self.free(slot);
        }
        if let Some(parent) = waiting {
            self.sched.wake(&self.table[parent]);
            self.wake(parent);
        }
        self.sched.let_go(env);
        self.model[slot].holder = None;
    }

    pub fn free(&mut self, slot: usize) {
        self.model[slot].status = Status::Free;
        self.freed.push_back(slot);
    }

    /// Parts a dying environment from its children. The youngest comes first.
    fn part(&mut self, slot: usize) {
        let mut children: Vec<_> = (0..SLOTS).filter(|&child| self.is_child(child, slot)).collect();
        children
            .sort_by_key(|&child| (self.status(child) != Status::Zombie, std::cmp::Reverse(self.model[child].born)));
        for child in children {
            let status = self.status(child);
            self.model[child].parent = None;
            if status == Status::Zombie {
                self.free(child);
            } else if self.model[slot].takes_all {
                self.model[child].takes_all = true;
                self.condemn(child);
            } else {
                let heir = self.model[slot].parent.or(self.root.filter(|&root| root != slot));
                self.births += 1;
                self.model[child].born = self.births;
                self.model[child].parent = heir;
                self.model[child].adopted = true;
                if heir.is_none() && !matches!(status, Status::Dying | Status::Stopped) {
                    self.root = Some(child);
                }
                if status == Status::Stopped {
                    self.condemn(child);
                }
            }
        }
    }

    pub fn condemn(&mut self, slot: usize) {
        if self.status(slot) != Status::Dying {
            self.model[slot].status = Status::Dying;
            self.enqueue(slot);
        }
    }

    pub fn is_child(&self, child: usize, parent: usize) -> bool {
        self.model[child].parent == Some(parent) && self.status(child) != Status::Free
    }
}

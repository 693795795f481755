//! Random operations, and a model that is as simple as can be: after each one, both say the same.

use abi::window::EnvInfo;
use abi::{EnvId, Error, ExitStatus, Status};
use proptest::prelude::*;
use sched::{AtomicU64, Links, Node, Sched};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

const SLOTS: usize = 6;
const PROCESSORS: u32 = 2;

struct Env {
    slot: usize,
    links: Links<Env>,
    info: EnvInfo,
    /// Who was interrupted, one bit for each processor.
    woken: &'static AtomicU64,
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
        &self.info.state
    }

    fn interrupt(&self, processor: u32) {
        self.woken.fetch_or(1 << processor, Relaxed);
    }
}

/// Operations name environments by slot, and processors by number.
#[derive(Clone, Copy, Debug)]
enum Op {
    Create(usize),
    Start(usize),
    Stop(usize),
    /// A processor leaves what it runs, which goes to the end of the queue, and takes the next one.
    Switch(u32),
    /// A processor goes from what it runs to this one.
    HandOver(u32, usize),
    Wait(u32, usize),
    Read(u32),
    Input,
    /// What runs there receives from this one, or from anyone.
    Receive(u32, Option<usize>),
    Send(usize, usize),
    /// What runs there sends to this one without the lock, and waits for its answer alone, or for anyone.
    Exchange(u32, usize, bool),
    /// Keep one off its processor, and let it go.
    KeepOff(u32, usize),
    Condemn(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (slot, cpu) = (0..SLOTS, 0..PROCESSORS);
    let op = prop_oneof![
        3 => slot.clone().prop_map(Op::Create),
        4 => slot.clone().prop_map(Op::Start),
        1 => slot.clone().prop_map(Op::Stop),
        6 => cpu.clone().prop_map(Op::Switch),
        2 => (cpu.clone(), slot.clone()).prop_map(|(cpu, env)| Op::HandOver(cpu, env)),
        1 => (cpu.clone(), slot.clone()).prop_map(|(cpu, env)| Op::Wait(cpu, env)),
        1 => cpu.clone().prop_map(Op::Read),
        1 => Just(Op::Input),
        2 => (cpu.clone(), proptest::option::of(slot.clone())).prop_map(|(cpu, env)| Op::Receive(cpu, env)),
        3 => (slot.clone(), slot.clone()).prop_map(|(from, to)| Op::Send(from, to)),
        4 => (cpu.clone(), slot.clone(), any::<bool>()).prop_map(|(cpu, to, only)| Op::Exchange(cpu, to, only)),
        1 => (cpu, slot.clone()).prop_map(|(cpu, env)| Op::KeepOff(cpu, env)),
        2 => slot.prop_map(Op::Condemn),
    ];
    proptest::collection::vec(op, 1..80)
}

/// An environment in the model.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Model {
    status: Status,
    parent: Option<usize>,
    holder: Option<u32>,
    awaits: Option<usize>,
    uses: u32,
    /// When it was made.
    born: usize,
}

struct World {
    sched: Sched<Env>,
    table: &'static [Env],
    woken: &'static AtomicU64,
    /// What runs on each processor.
    runs: [Option<usize>; PROCESSORS as usize],
    model: Vec<Model>,
    queue: VecDeque<usize>,
    births: usize,
}

impl World {
    fn new() -> World {
        let woken: &'static AtomicU64 = Box::leak(Box::default());
        let env = |slot| Env { slot, links: Links::default(), info: EnvInfo::default(), woken };
        let table: &'static [Env] = Box::leak((0..SLOTS).map(env).collect());
        let mut sched = Sched::new();
        sched.init(table);
        let free = Model { status: Status::Free, parent: None, holder: None, awaits: None, uses: 0, born: 0 };
        let runs = [None; PROCESSORS as usize];
        World { sched, table, woken, runs, model: vec![free; SLOTS], queue: VecDeque::new(), births: 0 }
    }

    fn status(&self, env: usize) -> Status {
        self.model[env].status
    }

    fn enqueue(&mut self, env: usize) {
        if !self.queue.contains(&env) {
            self.queue.push_back(env);
        }
    }

    fn wake(&mut self, env: usize) {
        self.model[env].status = Status::Runnable;
        self.enqueue(env);
    }

    /// The model's next: the first that wants to run and that nobody else holds. Those before it that want nothing
    /// are forgotten.
    fn next(&mut self, cpu: u32) -> Option<usize> {
        let mut kept = VecDeque::new();
        let mut found = None;
        while let Some(env) = self.queue.pop_front() {
            let Model { status, holder, .. } = self.model[env];
            match status {
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

    /// Leave what runs, take the next one; end those that are dying on the way.
    fn switch(&mut self, cpu: u32) {
        self.sched.look(cpu);
        self.woken.fetch_and(!(1 << cpu), Relaxed);
        loop {
            let (found, expected) = (self.sched.dequeue(cpu), self.next(cpu));
            assert_eq!(found.map(|env| env.slot), expected);
            if self.runs[cpu as usize] != expected {
                self.leave(cpu);
            }
            let Some(slot) = expected else {
                // It may be that what was left is the only one that wants to run.
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

    fn is_free(&self, env: usize) -> bool {
        let Model { status, holder, .. } = self.model[env];
        matches!(status, Status::Runnable | Status::Dying) && holder.is_none()
    }

    fn leave(&mut self, cpu: u32) {
        if let Some(env) = self.runs[cpu as usize].take() {
            self.model[env].holder = None;
            self.give_back(env);
        }
    }

    fn give_back(&mut self, env: usize) {
        let wants = matches!(self.status(env), Status::Runnable | Status::Dying);
        assert_eq!(sched::give_back(&self.table[env]), wants);
        if wants {
            self.sched.offer(&self.table[env]);
        }
    }

    /// All that there is to do for one that is dying.
    fn end(&mut self, slot: usize) {
        let env = &self.table[slot];
        while self.sched.orphan(env) {}
        // The youngest comes first.
        let mut children: Vec<_> = (0..SLOTS).filter(|&child| self.is_child(child, slot)).collect();
        children.sort_by_key(|&child| std::cmp::Reverse(self.model[child].born));
        for child in children {
            self.model[child].parent = None;
            match self.status(child) {
                Status::Zombie => self.model[child].status = Status::Free,
                Status::Stopped => {
                    self.model[child].status = Status::Dying;
                    self.enqueue(child);
                }
                _ => {}
            }
        }
        assert!(self.sched.fail_receivers(env, |_receiver| ()));
        for receiver in 0..SLOTS {
            let Model { status, awaits, .. } = self.model[receiver];
            if status == Status::Receiving && awaits == Some(slot) {
                self.wake(receiver);
            }
        }
        let parent = self.sched.bury(env);
        let waiting = self.model[slot].parent.filter(|&parent| {
            let Model { status, awaits, .. } = self.model[parent];
            status == Status::Waiting && awaits.is_none_or(|child| child == slot)
        });
        assert_eq!(parent.map(|env| env.slot), waiting);
        let has_parent = self.model[slot].parent.is_some();
        self.model[slot].status = if has_parent && waiting.is_none() { Status::Zombie } else { Status::Free };
        if let Some(parent) = waiting {
            self.sched.wake(&self.table[parent]);
            self.wake(parent);
        }
        self.sched.let_go(env);
        self.model[slot].holder = None;
    }

    fn is_child(&self, child: usize, parent: usize) -> bool {
        self.model[child].parent == Some(parent) && self.status(child) != Status::Free
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Create(parent) => self.create(parent),
            Op::Start(env) => {
                let result = self.sched.start(&self.table[env]);
                match self.status(env) {
                    Status::Stopped => {
                        assert_eq!(result, Ok(()));
                        self.wake(env);
                    }
                    Status::Runnable | Status::Running => assert_eq!(result, Ok(())),
                    other => assert_eq!(result, Err(other)),
                }
            }
            Op::Stop(env) => {
                let result = self.sched.stop(&self.table[env]);
                match self.status(env) {
                    now @ (Status::Stopped | Status::Runnable | Status::Running) => {
                        assert_eq!(result, Ok(now == Status::Running));
                        self.model[env].status = Status::Stopped;
                    }
                    other => assert_eq!(result, Err(other)),
                }
            }
            Op::Switch(cpu) => {
                if let Some(env) = self.runs[cpu as usize] {
                    self.requeue(env);
                }
                self.switch(cpu);
            }
            Op::HandOver(cpu, to) => {
                let can = self.status(to) == Status::Runnable
                    && self.model[to].holder.is_none_or(|holder| holder == cpu);
                let before = self.runs[cpu as usize];
                if before == Some(to) {
                    return;
                }
                assert_eq!(self.sched.hand_over(&self.table[to], cpu), can);
                if can {
                    self.model[to].status = Status::Running;
                    before.into_iter().for_each(|env| self.requeue(env));
                    self.leave(cpu);
                    self.model[to].holder = Some(cpu);
                    self.runs[cpu as usize] = Some(to);
                    self.sched.look(cpu);
                }
            }
            Op::Wait(cpu, child) => self.wait(cpu, child),
            Op::Read(cpu) => {
                let Some(env) = self.runs[cpu as usize] else { return };
                let blocked = self.sched.block(&self.table[env], Status::Reading);
                assert_eq!(blocked, self.status(env) != Status::Dying);
                if blocked {
                    self.model[env].status = Status::Reading;
                }
                self.switch(cpu);
            }
            Op::Input => {
                self.sched.wake_readers();
                for env in 0..SLOTS {
                    if self.status(env) == Status::Reading {
                        self.wake(env);
                    }
                }
            }
            Op::Receive(cpu, from) => self.receive(cpu, from),
            Op::Send(from, to) => self.send(from, to),
            Op::Exchange(cpu, to, only_from_it) => self.exchange(cpu, to, only_from_it),
            Op::KeepOff(cpu, env) => {
                let holder = self.model[env].holder;
                if self.runs[cpu as usize] == Some(env) || self.status(env) == Status::Free {
                    return;
                }
                let held = self.sched.keep_off(&self.table[env], cpu);
                assert_eq!(held, holder.is_none());
                if held {
                    self.sched.let_go(&self.table[env]);
                    if self.is_free(env) {
                        self.enqueue(env);
                    }
                } else if self.status(env) == Status::Running {
                    // Its processor notices, and later this one has it. (Or not: it may be in the queue since before.)
                    self.model[env].status = Status::Runnable;
                    let other = holder.expect("it is held");
                    self.switch(other);
                    self.run(op);
                }
            }
            Op::Condemn(env) => {
                let alive = !matches!(self.status(env), Status::Free | Status::Dying | Status::Zombie);
                let id = self.table[env].id();
                assert_eq!(self.sched.condemn(&self.table[env], ExitStatus::DESTROYED, id), alive);
                if alive {
                    self.model[env].status = Status::Dying;
                    self.enqueue(env);
                    assert_eq!(self.table[env].info.exit(), ExitStatus::DESTROYED);
                    assert_eq!(self.sched.ended_by(&self.table[env]), id);
                }
            }
        }
    }

    fn create(&mut self, parent: usize) {
        let alive = !matches!(self.status(parent), Status::Free | Status::Dying | Status::Zombie);
        let parent = Some(parent).filter(|_| alive);
        let env = self.sched.create(parent.map(|slot| &self.table[slot]));
        let free = self.model.iter().filter(|env| env.status == Status::Free).count();
        assert_eq!(env.is_some(), free > 0, "a free slot was lost");
        let Some(env) = env else { return };
        let slot = env.slot;
        assert_eq!(self.status(slot), Status::Free, "a slot was given out twice");
        self.births += 1;
        let born = self.births;
        let model = &mut self.model[slot];
        *model =
            Model { status: Status::Stopped, parent, awaits: None, uses: model.uses + 1, born, ..*model };
        assert_eq!(env.id(), EnvId::new(model.uses, slot));
        assert_eq!(env.info.parent(), parent.map_or(EnvId::NONE, |slot| self.table[slot].id()));
    }

    fn requeue(&mut self, env: usize) {
        self.sched.requeue(&self.table[env]);
        if self.status(env) == Status::Running {
            self.wake(env);
        }
    }

    fn wait(&mut self, cpu: u32, child: usize) {
        let Some(me) = self.runs[cpu as usize] else { return };
        let is_child = self.is_child(child, me);
        let (parent, id) = (&self.table[me], self.table[child].id());
        let found = self.sched.child(parent, id).filter(|_| id != EnvId::NONE);
        assert_eq!(found.map(|env| env.slot), is_child.then_some(child));
        if !is_child {
            return;
        }
        if self.status(child) == Status::Zombie {
            self.sched.reap(&self.table[child]);
            self.model[child].status = Status::Free;
            return;
        }
        if self.sched.wait(parent, id) {
            self.model[me].status = Status::Waiting;
            self.model[me].awaits = Some(child);
        }
        self.switch(cpu);
    }

    fn receive(&mut self, cpu: u32, from: Option<usize>) {
        let Some(me) = self.runs[cpu as usize] else { return };
        let from =
            from.filter(|&from| !matches!(self.status(from), Status::Free | Status::Zombie | Status::Dying));
        let id = from.map_or(EnvId::NONE, |from| self.table[from].id());
        let waits = self.sched.receive(&self.table[me], me as u64, id);
        assert_eq!(waits, self.status(me) != Status::Dying);
        if waits {
            self.model[me].status = Status::Receiving;
            self.model[me].awaits = from;
        }
        self.switch(cpu);
    }

    fn send(&mut self, from: usize, to: usize) {
        let (sender, receiver) = (&self.table[from], &self.table[to]);
        let Model { status, awaits, .. } = self.model[to];
        let takes = status == Status::Receiving && awaits.is_none_or(|awaited| awaited == from);
        let id = receiver.id();
        assert_eq!(self.sched.claim(receiver, id, sender.id()).is_some(), takes);
        if takes {
            assert_eq!(self.sched.claim(receiver, id, sender.id()), None, "claimed twice");
            assert!(self.sched.is_claimed(receiver));
            assert!(self.sched.deliver(receiver) && !self.sched.is_claimed(receiver));
            self.sched.wake(receiver);
            self.wake(to);
        }
    }

    fn exchange(&mut self, cpu: u32, to: usize, only_from_it: bool) {
        let Some(me) = self.runs[cpu as usize] else { return };
        let Model { status, awaits, holder, .. } = self.model[to];
        let takes = status == Status::Receiving
            && awaits.is_none_or(|awaited| awaited == me)
            && holder.is_none_or(|holder| holder == cpu);
        let (sender, receiver) = (&self.table[me], &self.table[to]);
        assert_eq!(sched::take(receiver, receiver.id(), sender.id(), cpu), takes);
        if !takes {
            return;
        }
        self.model[to].status = Status::Running;
        self.model[to].holder = Some(cpu);
        let from = if only_from_it { receiver.id() } else { EnvId::NONE };
        let parked = sched::park(sender, receiver, from, cpu);
        assert_eq!(parked, self.status(me) == Status::Running, "somebody wanted something of it");
        if !parked {
            self.sched.receive(sender, me as u64, from);
        }
        if self.status(me) != Status::Dying {
            self.model[me].status = Status::Receiving;
            self.model[me].awaits = only_from_it.then_some(to);
        }
        if !parked {
            self.give_back(me);
        }
        self.model[me].holder = None;
        self.runs[cpu as usize] = Some(to);
    }

    fn compare(&self) {
        for (slot, (env, model)) in self.table.iter().zip(&self.model).enumerate() {
            assert_eq!(env.status(), model.status, "status of {slot}");
            assert_eq!(env.holder(), model.holder, "holder of {slot}");
            let used = self.sched.child(env, EnvId::NONE);
            let children = || {
                (0..SLOTS).filter(|&child| {
                    self.model[child].parent == Some(slot) && self.model[child].status != Status::Free
                })
            };
            let ended = children().any(|child| self.status(child) == Status::Zombie);
            assert_eq!(used.is_some(), children().next().is_some(), "children of {slot}");
            assert!(used.is_none_or(|child| !ended || child.status() == Status::Zombie));
        }
        let count = |status| self.model.iter().filter(|env| env.status == status).count();
        assert_eq!(self.sched.used(), SLOTS - count(Status::Free));
        assert_eq!(self.sched.readers(), count(Status::Reading));
        // None is lost, and none runs twice.
        for (slot, model) in self.model.iter().enumerate() {
            let wants = matches!(model.status, Status::Runnable | Status::Dying);
            assert!(!wants || self.queue.contains(&slot) || model.holder.is_some(), "{slot} is lost");
            let on = self.runs.iter().filter(|runs| **runs == Some(slot)).count();
            assert!(on <= 1 && (model.status != Status::Running || on == 1), "{slot} runs on {on}");
        }
        // Only the living are found, and only oneself and one's children may be acted upon.
        for (caller, env) in (0..SLOTS).flat_map(|caller| (0..SLOTS).map(move |env| (caller, env))) {
            let (me, id, model) = (&self.table[caller], self.table[env].id(), &self.model[env]);
            if id == EnvId::NONE || me.id() == EnvId::NONE {
                continue;
            }
            let living = !matches!(model.status, Status::Free | Status::Dying | Status::Zombie);
            let found = sched::find(self.table, me, id).map(Node::slot);
            assert_eq!(found, if living { Ok(env) } else { Err(Error::BadEnv(id.0.into())) });
            let own = caller == env || model.parent == Some(caller);
            let found_own = sched::find_own(self.table, me, id).map(Node::slot);
            assert_eq!(found_own, if own { found } else { found.and(Err(Error::NotYours(id.0.into()))) });
        }
        // Who is idle has been told of what there is.
        let free = self.queue.iter().filter(|&&env| self.is_free(env)).count() as u32;
        let told = self.woken.load(Relaxed).count_ones();
        assert!(self.sched.resting() == 0 || free <= told, "{free} wait, {told} know");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_model_agrees(ops in ops()) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.compare();
        }
    }
}

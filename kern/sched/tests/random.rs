//! Random operations, and a model that is as simple as can be: after each one, both say the same.

use abi::window::EnvInfo;
use abi::{EnvId, Error, ExitStatus, Status};
use proptest::prelude::*;
use sched::{AtomicU64, Family, Links, Node, Sched};
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
    /// A child of this one, and whether it is started.
    Create(usize, bool),
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
    /// End one, and perhaps its family.
    Condemn(usize, bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (slot, cpu) = (0..SLOTS, 0..PROCESSORS);
    let op = prop_oneof![
        4 => (slot.clone(), any::<bool>()).prop_map(|(parent, start)| Op::Create(parent, start)),
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
        2 => (slot, any::<bool>()).prop_map(|(env, family)| Op::Condemn(env, family)),
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
    /// When it became the child of its parent.
    born: usize,
    /// Its parent did not make it.
    adopted: bool,
    /// It ends, and its children end too.
    takes_all: bool,
    /// A processor waits to keep it off the others.
    reserved: bool,
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
    /// Who has no parent, and is the heir of all.
    root: Option<usize>,
    /// Slots that are free again, in the order in which they became free; and how many were never used.
    freed: VecDeque<usize>,
    created: usize,
    reached: usize,
}

impl World {
    fn new(slots: usize) -> World {
        let woken: &'static AtomicU64 = Box::leak(Box::default());
        let env = |slot| Env { slot, links: Links::default(), info: EnvInfo::default(), woken };
        let table: &'static [Env] = Box::leak((0..slots).map(env).collect());
        let mut sched = Sched::new();
        sched.init(table);
        let free = Model {
            status: Status::Free,
            parent: None,
            holder: None,
            awaits: None,
            uses: 0,
            born: 0,
            adopted: false,
            takes_all: false,
            reserved: false,
        };
        World {
            sched,
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
        let Model { status, holder, reserved, .. } = self.model[env];
        matches!(status, Status::Runnable | Status::Dying) && holder.is_none() && !reserved
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
        while self.sched.part(env) {}
        self.part(slot);
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

    fn free(&mut self, slot: usize) {
        self.model[slot].status = Status::Free;
        self.freed.push_back(slot);
    }

    /// What becomes of the children of one that is dying. The youngest comes first.
    fn part(&mut self, slot: usize) {
        let mut children: Vec<_> = (0..SLOTS).filter(|&child| self.is_child(child, slot)).collect();
        children.sort_by_key(|&child| {
            (self.status(child) != Status::Zombie, std::cmp::Reverse(self.model[child].born))
        });
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

    fn condemn(&mut self, slot: usize) {
        if self.status(slot) != Status::Dying {
            self.model[slot].status = Status::Dying;
            self.enqueue(slot);
        }
    }

    fn is_child(&self, child: usize, parent: usize) -> bool {
        self.model[child].parent == Some(parent) && self.status(child) != Status::Free
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Create(parent, start) => {
                if let Some(env) = self.create(parent).filter(|_| start) {
                    self.run(Op::Start(env));
                }
            }
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
                } else if matches!(self.status(env), Status::Running | Status::Runnable) {
                    // Its processor notices, and nobody has it before this one.
                    self.model[env].status = Status::Runnable;
                    self.model[env].reserved = true;
                    let other = holder.expect("it is held");
                    self.switch(other);
                    self.model[env].reserved = false;
                    self.run(op);
                }
            }
            Op::Condemn(env, takes_all) => {
                let alive = !matches!(self.status(env), Status::Free | Status::Dying | Status::Zombie);
                let id = self.table[env].id();
                let family = if takes_all { Family::Ends } else { Family::GoesUp };
                let condemned = self.sched.condemn(&self.table[env], ExitStatus::DESTROYED, id, family);
                assert_eq!(condemned, alive);
                if alive {
                    self.model[env].takes_all = takes_all;
                    self.condemn(env);
                    assert_eq!(self.table[env].info.exit(), ExitStatus::DESTROYED);
                    assert_eq!(self.sched.ended_by(&self.table[env]), id);
                }
            }
        }
    }

    fn create(&mut self, parent: usize) -> Option<usize> {
        let is_alive =
            |slot: &usize| !matches!(self.model[*slot].status, Status::Free | Status::Dying | Status::Zombie);
        // Only the very first has no parent: whoever else is made by somebody.
        let parent = Some(parent).filter(is_alive).or(self.root.filter(is_alive));
        if parent.is_none() && self.root.is_some() {
            return None;
        }
        self.created += 1;
        let is_fresh = self.reached < SLOTS && (self.freed.is_empty() || self.created.is_multiple_of(16));
        let expected = if is_fresh { Some(self.reached) } else { self.freed.pop_front() };
        self.reached += usize::from(is_fresh);
        let env = self.sched.create(parent.map(|slot| &self.table[slot]));
        assert_eq!(env.map(|env| env.slot), expected, "the slot that has been free for longest");
        let env = env?;
        let slot = env.slot;
        assert_eq!(self.status(slot), Status::Free, "a slot was given out twice");
        self.births += 1;
        let uses = self.model[slot].uses + 1;
        self.model[slot] = Model {
            status: Status::Stopped,
            parent,
            awaits: None,
            uses,
            born: self.births,
            adopted: false,
            takes_all: false,
            ..self.model[slot]
        };
        if parent.is_none() {
            self.root = Some(slot);
        }
        assert_eq!(env.id(), EnvId::new(uses, slot));
        Some(slot)
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
        let found = self.sched.child(parent, id).filter(|_| id != EnvId::ANY);
        assert_eq!(found.map(|env| env.slot), is_child.then_some(child));
        if !is_child {
            return;
        }
        if self.status(child) == Status::Zombie {
            self.sched.reap(&self.table[child]);
            self.free(child);
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
        let id = from.map_or(EnvId::ANY, |from| self.table[from].id());
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
        let from = if only_from_it { receiver.id() } else { EnvId::ANY };
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

    /// Everyone who is not dying descends from the root: so somebody can end it, unless it is the root itself.
    fn check_family(&self, slot: usize) {
        let Model { parent, status, .. } = self.model[slot];
        if status == Status::Free {
            return;
        }
        let id = parent.map_or(EnvId::NONE, |parent| self.table[parent].id());
        assert_eq!(self.table[slot].info.parent(), id, "parent of {slot}");
        let (mut at, mut is_ending) = (slot, status == Status::Dying);
        while let Some(parent) = self.model[at].parent {
            assert_ne!(self.status(parent), Status::Zombie, "it could do nothing for a child");
            is_ending |= self.model[parent].takes_all && self.status(parent) == Status::Dying;
            at = parent;
        }
        // What is left of a family may be on its way: it goes up as far as there is somebody.
        let is_orphan = Some(at) != self.root;
        assert!(!is_orphan || is_ending || self.status(at) == Status::Dying, "nobody can end {slot}");
    }

    fn compare(&self) {
        for (slot, (env, model)) in self.table.iter().zip(&self.model).enumerate() {
            assert_eq!(env.status(), model.status, "status of {slot}");
            assert_eq!(env.holder(), model.holder, "holder of {slot}");
            let used = self.sched.child(env, EnvId::ANY);
            let children = || {
                (0..SLOTS).filter(|&child| {
                    self.model[child].parent == Some(slot) && self.model[child].status != Status::Free
                })
            };
            let ended = children().any(|child| self.status(child) == Status::Zombie);
            assert_eq!(used.is_some(), children().next().is_some(), "children of {slot}");
            assert!(used.is_none_or(|child| !ended || child.status() == Status::Zombie));
        }
        assert_eq!(self.sched.root().map(Node::slot), self.root);
        for slot in 0..SLOTS {
            self.check_family(slot);
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
        let mut world = World::new(SLOTS);
        for op in ops {
            world.run(op);
            world.compare();
        }
    }
}

/// No slot is ever used up: after the last generation comes the first.
#[test]
fn ids_come_round() {
    let World { mut sched, .. } = World::new(2);
    let first = sched.create(None).expect("the first");
    for n in 0..EnvId::MAX_GENERATION + 3 {
        let env = sched.create(Some(first)).expect("a slot that is free again");
        assert_eq!(env.id(), EnvId::new(n % EnvId::MAX_GENERATION + 1, 1));
        assert!(sched.condemn(env, ExitStatus::SUCCESS, env.id(), Family::GoesUp));
        assert!(sched.dequeue(0).is_some_and(|next| core::ptr::eq(next, env)));
        assert!(sched.bury(env).is_none());
        sched.reap(env);
        sched.let_go(env);
    }
}

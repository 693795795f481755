//! Each operation, on the scheduler and on the model: both give the same result.

use crate::op::{Op, SLOTS};
use crate::world::{Model, World};
use abi::{EnvId, ExitStatus, Status};
use sched::{Device, Family, NEVER, Node};

/// The id that all devices have here.
const DEVICE: EnvId = EnvId(0x2002);

impl World {
    /// Executes an operation.
    pub fn run(&mut self, op: Op) {
        match op {
            Op::Create(parent, start) => {
                if let Some(env) = self.create(parent).filter(|_| start) {
                    self.start(env);
                }
            }
            Op::Start(env) => self.start(env),
            Op::Stop(env) => self.stop(env),
            Op::Switch(cpu) => {
                if let Some(env) = self.runs[cpu as usize] {
                    self.requeue(env);
                }
                self.switch(cpu);
            }
            Op::HandOver(cpu, to) => self.hand_over(cpu, to),
            Op::Wait(cpu, child) => self.wait(cpu, child),
            Op::Read(cpu) => self.read(cpu),
            Op::Input => self.input(),
            Op::Receive(cpu, from, ticks) => self.receive(cpu, from, ticks),
            Op::Interrupt(holder) => self.interrupt(holder),
            Op::Expire(ticks) => self.expire(ticks, None),
            Op::SendLate(from, to, ticks, is_sent) => self.send_late(from, to, ticks, is_sent),
            Op::Send(from, to) => self.send(from, to),
            Op::Exchange(cpu, to, only_from_it) => self.exchange(cpu, to, only_from_it),
            Op::KeepOff(cpu, env) => self.keep_off(cpu, env),
            Op::Condemn(env, takes_all) => self.destroy(env, takes_all),
        }
    }

    fn create(&mut self, parent: usize) -> Option<usize> {
        let is_alive = |slot: &usize| self.model[*slot].status.is_alive();
        // A parent that is not alive is replaced by the root: only the first environment has no parent.
        let parent = Some(parent).filter(is_alive).or(self.root.filter(is_alive));
        if parent.is_none() && self.root.is_some() {
            return None;
        }
        self.created += 1;
        let is_fresh = self.reached < SLOTS && (self.freed.is_empty() || self.created.is_multiple_of(16));
        let expected = if is_fresh { Some(self.reached) } else { self.freed.pop_front() };
        self.reached += usize::from(is_fresh);
        let env = self.sched.create(parent.map(|slot| &self.table[slot]), 0);
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

    fn start(&mut self, env: usize) {
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

    fn stop(&mut self, env: usize) {
        let result = self.sched.stop(&self.table[env]);
        match self.status(env) {
            now @ (Status::Stopped | Status::Runnable | Status::Running) => {
                assert_eq!(result, Ok(now == Status::Running));
                self.model[env].status = Status::Stopped;
            }
            other => assert_eq!(result, Err(other)),
        }
    }

    fn hand_over(&mut self, cpu: u32, to: usize) {
        let can = self.status(to) == Status::Runnable && self.model[to].holder.is_none_or(|holder| holder == cpu);
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

    fn read(&mut self, cpu: u32) {
        let Some(env) = self.runs[cpu as usize] else { return };
        let blocked = self.sched.block(&self.table[env], Status::Reading);
        assert_eq!(blocked, self.status(env) != Status::Dying);
        if blocked {
            self.model[env].status = Status::Reading;
        }
        self.switch(cpu);
    }

    fn input(&mut self) {
        self.sched.wake_readers();
        for env in 0..SLOTS {
            if self.status(env) == Status::Reading {
                self.wake(env);
            }
        }
    }

    fn receive(&mut self, cpu: u32, from: Option<usize>, ticks: Option<u64>) {
        let Some(me) = self.runs[cpu as usize] else { return };
        let from = from.filter(|&from| self.status(from).is_alive());
        if from.is_none() && self.listen(me) {
            return;
        }
        let id = from.map_or(EnvId::ANY, |from| self.table[from].id());
        let deadline = ticks.map(|ticks| self.time + ticks);
        let waits = self.sched.receive(&self.table[me], me as u64, id, deadline.unwrap_or(NEVER));
        assert_eq!(waits, self.status(me) != Status::Dying);
        if waits {
            self.model[me].status = if ticks.is_some() { Status::ReceivingUntil } else { Status::Receiving };
            self.model[me].deadline = deadline;
            self.model[me].awaits = from;
        }
        self.switch(cpu);
    }

    /// Whether the device of an environment has a message for it.
    fn listen(&mut self, holder: usize) -> bool {
        let disk = &self.disks[holder];
        let pending = disk.counted != disk.reported;
        assert_eq!(self.sched.listen(disk), pending);
        assert_eq!(disk.masked.get(), pending, "an interrupt for each wait, and none without");
        disk.reported.set(disk.counted.get());
        pending
    }

    fn interrupt(&mut self, holder: usize) {
        let disk = &self.disks[holder];
        if !disk.masked.get() {
            let told = self.sched.interrupt(disk, DEVICE, &self.table[holder]);
            assert!(disk.masked.get() && disk.counted != disk.reported);
            self.told(holder, told);
        }
    }

    /// After a device had a message: it ends the wait of its holder, if that waits for anyone.
    fn told(&mut self, holder: usize, told: bool) {
        let Model { awaits, .. } = self.model[holder];
        assert_eq!(told, self.model[holder].is_receiving() && awaits.is_none());
        if told {
            self.disks[holder].reported.set(self.disks[holder].counted.get());
            self.sched.wake(&self.table[holder]);
            self.wake(holder);
        }
    }

    /// The receivers that are late become runnable, in the order of their slots; all but one, which is claimed.
    fn expire(&mut self, ticks: u64, claimed: Option<usize>) {
        self.time += ticks;
        let is_late = |world: &World, env: usize| {
            let Model { status, deadline, .. } = world.model[env];
            status == Status::ReceivingUntil && deadline.is_some_and(|deadline| deadline <= world.time)
        };
        let late: Vec<_> = (0..SLOTS).filter(|&env| is_late(self, env) && claimed != Some(env)).collect();
        assert_eq!(self.sched.expire(self.time), !late.is_empty());
        late.into_iter().for_each(|env| self.wake(env));
        let has_deadlines = (0..SLOTS).any(|env| self.status(env) == Status::ReceivingUntil);
        assert!(self.sched.has_deadlines() || !has_deadlines, "a deadline is lost");
    }

    fn send_late(&mut self, from: usize, to: usize, ticks: u64, is_sent: bool) {
        let (sender, receiver) = (&self.table[from], &self.table[to]);
        if self.sched.claim(receiver, receiver.id(), sender.id()).is_none() {
            return;
        }
        self.expire(ticks, Some(to));
        let disk = &self.disks[to];
        if !disk.masked.get() {
            assert!(!self.sched.interrupt(disk, DEVICE, receiver), "another message is on its way");
        }
        assert!(self.model[to].is_receiving(), "it waits until the sender is done");
        if is_sent {
            assert!(self.sched.deliver(receiver));
            self.sched.wake(receiver);
            self.wake(to);
        } else {
            self.sched.disclaim(receiver);
            if self.disks[to].is_pending() {
                let told = self.sched.tell(&self.disks[to], DEVICE, receiver);
                self.told(to, told);
            }
            self.expire(0, None);
        }
    }

    fn send(&mut self, from: usize, to: usize) {
        let (sender, receiver) = (&self.table[from], &self.table[to]);
        let takes = self.model[to].is_receiving() && self.model[to].awaits.is_none_or(|awaited| awaited == from);
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
            self.sched.receive(sender, me as u64, from, NEVER);
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

    fn keep_off(&mut self, cpu: u32, env: usize) {
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
            // The processor that runs it notices, and no other one holds it before this one does.
            self.model[env].status = Status::Runnable;
            self.model[env].reserved = true;
            let other = holder.expect("it is held");
            self.switch(other);
            self.model[env].reserved = false;
            self.keep_off(cpu, env);
        }
    }

    fn destroy(&mut self, env: usize, takes_all: bool) {
        let alive = self.status(env).is_alive();
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

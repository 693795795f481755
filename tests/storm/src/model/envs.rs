//! The life cycle of environments: how they begin, wait, run and end.

use super::env::{At, Context, Env};
use super::{Model, page_map::PageMap};
use crate::place::{CODE, DESK};
use crate::puppet::{CALL, GO, PARKED, RESULTS};
use abi::{EnvId, Error, ExitStatus, Pte, Status, Vector, call::NO_PAGE};

impl Model {
    /// Creates a stopped child without memory.
    pub fn create(&mut self, parent: usize) -> Result<u32, Error> {
        let map = PageMap::new(&mut self.pages)?;
        let Some(slot) = self.take_slot() else {
            map.tear_down(&mut self.pages);
            return Err(Error::NoEnvs(self.envs.len() as u64));
        };
        let generation = EnvId(self.envs[slot].id).generation() % EnvId::MAX_GENERATION + 1;
        let id = EnvId::new(generation, slot).0;
        let parent_id = self.envs[parent].id;
        self.envs[slot] = Env { id, status: Status::Stopped, parent: parent_id, map: Some(map), ..Env::default() };
        self.envs[parent].children.insert(0, slot);
        Ok(id)
    }

    /// Takes the slot that has been free for longest; every sixteenth environment gets a slot that was never used.
    fn take_slot(&mut self) -> Option<usize> {
        self.created += 1;
        let is_fresh = self.fresh.start < self.fresh.end;
        if is_fresh && (self.slots.is_empty() || self.created.is_multiple_of(16)) {
            return self.fresh.next();
        }
        self.slots.pop_front()
    }

    fn enqueue(&mut self, slot: usize) {
        if !self.queue.contains(&slot) {
            self.queue.push_back(slot);
        }
    }

    /// Makes an environment runnable.
    pub fn wake(&mut self, slot: usize) {
        self.envs[slot].status = Status::Runnable;
        self.enqueue(slot);
    }

    /// Ends an environment. If it is not the running one, it is gone at once.
    pub fn end(&mut self, running: usize, slot: usize, exit: ExitStatus, takes_all: bool) {
        self.envs[slot].takes_all = takes_all;
        self.condemn(slot, exit);
        if slot != running {
            self.finish(slot);
        }
    }

    fn condemn(&mut self, slot: usize, exit: ExitStatus) {
        let env = &mut self.envs[slot];
        (env.status, env.exit, env.stack) = (Status::Dying, exit.0, 0..0);
        self.enqueue(slot);
    }

    fn finish(&mut self, slot: usize) {
        for child in core::mem::take(&mut self.envs[slot].children) {
            self.part(slot, child);
        }
        if let Some(map) = self.envs[slot].map.take() {
            map.tear_down(&mut self.pages);
        }
        let (id, parent) = (self.envs[slot].id, self.envs[slot].parent);
        for receiver in 0..self.envs.len() {
            let env = &mut self.envs[receiver];
            if env.status == Status::Receiving && env.awaits == id {
                env.results = Error::BadEnv(id.into()).encode();
                self.wake(receiver);
            }
        }
        self.envs[slot].status = Status::Zombie;
        if parent == 0 {
            return self.give_slot(slot);
        }
        let is_adopted = self.envs[slot].adopted;
        let parent = EnvId(parent).slot();
        let above = &mut self.envs[parent];
        above.children.retain(|&child| child != slot);
        above.children.insert(0, slot);
        if above.status == Status::Waiting && (above.awaits == 0 || above.awaits == id) {
            self.envs[parent].results = self.reap(slot);
            self.wake(parent);
        } else if is_adopted {
            self.reap(slot);
        }
    }

    /// Separates a child from its parent, which ends: the child is ended too, or its grandparent adopts it.
    fn part(&mut self, slot: usize, child: usize) {
        let status = self.envs[child].status;
        let is_ending = status == Status::Dying;
        self.envs[child].parent = 0;
        if status == Status::Zombie {
            return self.give_slot(child);
        }
        if self.envs[slot].takes_all {
            self.envs[child].takes_all = true;
            if !is_ending {
                self.condemn(child, ExitStatus::DESTROYED);
            }
            return;
        }
        let heir = match self.envs[slot].parent {
            0 => self.me,
            parent => EnvId(parent).slot(),
        };
        self.envs[child].parent = self.envs[heir].id;
        self.envs[child].adopted = true;
        self.envs[heir].children.insert(0, child);
        if status == Status::Stopped {
            self.condemn(child, ExitStatus::DESTROYED);
        }
    }

    /// Frees the slot of a zombie; returns the results of `wait`.
    pub fn reap(&mut self, slot: usize) -> (u64, u64) {
        let (id, parent, exit) = (self.envs[slot].id, self.envs[slot].parent, self.envs[slot].exit);
        self.envs[EnvId(parent).slot()].children.retain(|&child| child != slot);
        self.give_slot(slot);
        (id.into(), exit.into())
    }

    fn give_slot(&mut self, slot: usize) {
        self.envs[slot].status = Status::Free;
        self.slots.push_back(slot);
    }

    /// Runs all environments but the hostile program until none can run.
    pub fn run_queue(&mut self) {
        while let Some(slot) = self.queue.pop_front() {
            match self.envs[slot].status {
                Status::Dying => self.finish(slot),
                Status::Runnable => self.run(slot),
                _ => {}
            }
        }
    }

    fn run(&mut self, slot: usize) {
        self.envs[slot].status = Status::Running;
        while self.envs[slot].status == Status::Running {
            match self.envs[slot].context {
                Context::Puppet(corner, at) if self.has_strings(slot) => self.step(slot, corner, at),
                _ => self.end(slot, slot, ExitStatus::killed_by(Vector::PAGE_FAULT), false),
            }
        }
    }

    /// Whether the code and the desk of puppets are mapped.
    fn has_strings(&self, slot: usize) -> bool {
        let (Some(map), pages) = (self.envs[slot].map, &self.pages) else { return false };
        let code = map.page(pages, CODE);
        code.is_some_and(|code| !code.has(Pte::NO_EXEC)) && map.is_writable(pages, DESK)
    }

    /// Advances a puppet to the next position in its loop; see [`crate::puppet`].
    fn step(&mut self, slot: usize, corner: u64, at: At) {
        let at_corner = |offset| corner - DESK + offset;
        let (rax, rdx) = self.envs[slot].results;
        let desk = &mut self.pages.all[self.desk];
        match at {
            At::Parked => {
                desk.write(at_corner(PARKED), 0);
                if rdx == GO {
                    let words: [u64; 7] = core::array::from_fn(|n| desk.read(at_corner(CALL) + 8 * n as u64));
                    let [number, args @ ..] = words;
                    self.envs[slot].context = Context::Puppet(corner, At::InCall);
                    if let Some(results) = self.dispatch(slot, number, args) {
                        self.envs[slot].results = results;
                    }
                    return;
                }
            }
            At::InCall => {
                for (word, value) in [rax, rdx, 1].into_iter().enumerate() {
                    desk.write(at_corner(RESULTS) + 8 * word as u64, value);
                }
            }
            At::Start => {}
        }
        self.pages.all[self.desk].write(at_corner(PARKED), 1);
        let env = &mut self.envs[slot];
        env.context = Context::Puppet(corner, At::Parked);
        (env.status, env.awaits, env.receive_at) = (Status::Receiving, 0, NO_PAGE);
    }
}

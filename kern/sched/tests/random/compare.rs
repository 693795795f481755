//! The invariants between operations: the scheduler agrees with the model, and no environment is lost.

use crate::op::SLOTS;
use crate::world::{Model, World};
use abi::{EnvId, Error, Status};
use sched::Node;
use std::sync::atomic::Ordering::Relaxed;

impl World {
    /// Checks that an environment that is not dying descends from the root: so another one can end it, unless it is the
    /// root.
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
        // The rest of a family may be moving up, as far as there is an ancestor.
        let is_orphan = Some(at) != self.root;
        assert!(!is_orphan || is_ending || self.status(at) == Status::Dying, "nobody can end {slot}");
    }

    pub fn compare(&self) {
        for (slot, (env, model)) in self.table.iter().zip(&self.model).enumerate() {
            assert_eq!(env.status(), model.status, "status of {slot}");
            assert_eq!(env.holder(), model.holder, "holder of {slot}");
            let used = self.sched.child(env, EnvId::ANY);
            let children = || {
                (0..SLOTS)
                    .filter(|&child| self.model[child].parent == Some(slot) && self.model[child].status != Status::Free)
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
        // No environment is lost, and none runs twice.
        for (slot, model) in self.model.iter().enumerate() {
            let wants = matches!(model.status, Status::Runnable | Status::Dying);
            assert!(!wants || self.queue.contains(&slot) || model.holder.is_some(), "{slot} is lost");
            let on = self.runs.iter().filter(|runs| **runs == Some(slot)).count();
            assert!(on <= 1 && (model.status != Status::Running || on == 1), "{slot} runs on {on}");
        }
        // Only living environments are found, and a caller may act only on itself and its children.
        for (caller, env) in (0..SLOTS).flat_map(|caller| (0..SLOTS).map(move |env| (caller, env))) {
            let (me, id, model) = (&self.table[caller], self.table[env].id(), &self.model[env]);
            if id == EnvId::NONE || me.id() == EnvId::NONE {
                continue;
            }
            let living = model.status.is_alive();
            let found = sched::find(self.table, me, id).map(Node::slot);
            assert_eq!(found, if living { Ok(env) } else { Err(Error::BadEnv(id.0.into())) });
            let own = caller == env || model.parent == Some(caller);
            let found_own = sched::find_own(self.table, me, id).map(Node::slot);
            assert_eq!(found_own, if own { found } else { found.and(Err(Error::NotYours(id.0.into()))) });
        }
        // Idle processors have been woken for what they could take.
        let free = self.queue.iter().filter(|&&env| self.is_free(env)).count() as u32;
        let told = self.woken.load(Relaxed).count_ones();
        assert!(self.sched.resting() == 0 || free <= told, "{free} wait, {told} know");
    }
}

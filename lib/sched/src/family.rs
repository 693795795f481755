//! Slots, parents and children.

use crate::word::change;
use crate::{Cell, Node, Sched};
use abi::{EnvId, Error, ExitStatus, Status};
use core::sync::atomic::Ordering::Relaxed;

impl<N: Node> Sched<N> {
    /// A free slot becomes an environment with an id of its own, stopped. One without a parent is the kernel's.
    pub fn create(&mut self, parent: Option<&'static N>) -> Option<&'static N> {
        let env = self.free?;
        self.free = env.links().next_free.take();
        self.used += 1;
        self.reached = self.reached.max(env.slot() + 1);
        let info = env.info();
        let id = EnvId::new(info.id().generation() + 1, env.slot());
        info.id.store(id.0, Relaxed);
        info.parent.store(parent.map_or(EnvId::NONE, Node::id).0, Relaxed);
        info.exit.store(0, Relaxed);
        env.links().awaited.store(false, Relaxed);
        env.links().looked_at.set(0);
        _ = change(env, |state| Some(state.renewed(id)));
        if let Some(parent) = parent {
            self.adopt(parent, env);
        }
        Some(env)
    }

    /// A slot is free again; it goes first. One that has used all its generations is retired.
    fn give_slot(&mut self, env: &'static N) {
        self.set_status(env, Status::Free);
        self.used -= 1;
        if env.id().generation() < EnvId::MAX_GENERATION {
            env.links().next_free.set(self.free.replace(env));
        }
    }

    /// The child with this id; with [`EnvId::NONE`] any child, one that has ended if there is one.
    #[must_use]
    pub fn child(&self, parent: &'static N, id: EnvId) -> Option<&'static N> {
        if id == EnvId::NONE {
            return parent.links().first_ended.get().or(parent.links().first_child.get());
        }
        let is_it = |env: &&'static N| {
            let is_child = env.links().parent.get().is_some_and(|its| core::ptr::eq(its, parent));
            env.id() == id && is_child
        };
        self.table.get(id.slot()).filter(is_it)
    }

    /// The caller waits for the end of a child, or of any. `false` if it was ended meanwhile.
    pub fn wait(&mut self, me: &'static N, child: EnvId) -> bool {
        let waits = self.block(me, Status::Waiting);
        if waits {
            me.links().awaits.set(child);
        }
        waits
    }

    /// Free the slot of a zombie.
    pub fn reap(&mut self, zombie: &'static N) {
        self.disown(zombie);
        self.give_slot(zombie);
    }

    /// One child of a dying environment belongs to the kernel now. `false` if there is none any more.
    pub fn orphan(&mut self, env: &'static N) -> bool {
        let Some(child) = self.child(env, EnvId::NONE) else { return false };
        let status = child.status();
        self.disown(child);
        child.info().parent.store(EnvId::NONE.0, Relaxed);
        match status {
            Status::Zombie => self.give_slot(child),
            // Nobody is left who could start it.
            Status::Stopped => _ = self.condemn(child, ExitStatus::DESTROYED, child.id()),
            _ => {}
        }
        true
    }

    /// A dying environment has given back everything. Returns its parent if that waits for just this: the slot is
    /// free then, and the parent is to be told and [woken](Sched::wake).
    pub fn bury(&mut self, env: &'static N) -> Option<&'static N> {
        let Some(parent) = env.links().parent.get() else {
            self.give_slot(env);
            return None;
        };
        let awaits = parent.links().awaits.get();
        if parent.status() == Status::Waiting && (awaits == EnvId::NONE || awaits == env.id()) {
            self.reap(env);
            return Some(parent);
        }
        self.disown(env);
        self.set_status(env, Status::Zombie);
        self.adopt(parent, env);
        None
    }

    /// Put a child in front of its list.
    fn adopt(&mut self, parent: &'static N, child: &'static N) {
        let its = child.links();
        its.parent.set(Some(parent));
        let second = list(parent, child).replace(Some(child));
        its.previous_sibling.set(None);
        its.next_sibling.set(second);
        if let Some(second) = second {
            second.links().previous_sibling.set(Some(child));
        }
    }

    /// Take a child out of its list.
    fn disown(&mut self, child: &'static N) {
        let its = child.links();
        let Some(parent) = its.parent.take() else { return };
        let (before, after) = (its.previous_sibling.take(), its.next_sibling.take());
        match before {
            Some(before) => before.links().next_sibling.set(after),
            None => list(parent, child).set(after),
        }
        if let Some(after) = after {
            after.links().previous_sibling.set(before);
        }
    }
}

/// The living environment with this id, in a table of all; 0 is the caller.
///
/// # Errors
/// [`Error::BadEnv`].
#[inline]
pub fn find<N: Node>(table: &'static [N], caller: &'static N, id: EnvId) -> Result<&'static N, Error> {
    if id == EnvId::NONE {
        return Ok(caller);
    }
    let is_it = |env: &&N| {
        let living = !matches!(env.status(), Status::Free | Status::Dying | Status::Zombie);
        env.id() == id && living
    };
    table.get(id.slot()).filter(is_it).ok_or(Error::BadEnv(id.0.into()))
}

/// The same, if the caller may act on it: itself and its children.
///
/// # Errors
/// [`Error::BadEnv`], [`Error::NotYours`].
#[inline]
pub fn find_own<N: Node>(table: &'static [N], caller: &'static N, id: EnvId) -> Result<&'static N, Error> {
    let env = find(table, caller, id)?;
    let own = core::ptr::eq(env, caller) || env.info().parent() == caller.id();
    if own { Ok(env) } else { Err(Error::NotYours(id.0.into())) }
}

/// The list that a child is in: it changes lists when it becomes a zombie.
fn list<N: Node>(parent: &'static N, child: &N) -> &'static Cell<Option<&'static N>> {
    let links = parent.links();
    if child.status() == Status::Zombie { &links.first_ended } else { &links.first_child }
}

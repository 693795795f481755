//! Slots, parents and children.

use crate::node::{Family, Link, Node};
use crate::scheduler::Scheduler;
use crate::word::change;
use abi::{EnvId, Error, ExitStatus, Status};
use core::{ptr, sync::atomic::Ordering::Relaxed};

/// One new environment in this many gets a slot that was never used, although others are free.
const FRESH: u32 = 16;

impl<N: Node> Scheduler<N> {
    /// Makes a stopped environment with an id of its own in a free slot. The environment without a parent is the root
    /// of all others. A device (its index plus 1, or 0) is no member of the family: nobody waits for its end, and it
    /// does not go up.
    pub fn create(&mut self, parent: Option<&'static N>, device: u32) -> Option<&'static N> {
        let env = self.take_slot()?;
        self.used += 1;
        let info = env.info();
        let id = EnvId::new(info.id().generation() % EnvId::MAX_GENERATION + 1, env.slot());
        info.id.store(id.0, Relaxed);
        info.parent.store(parent.map_or(EnvId::NONE, Node::id).0, Relaxed);
        info.exit.store(0, Relaxed);
        info.device.store(device, Relaxed);
        let links = env.links();
        links.awaited.store(false, Relaxed);
        links.looked_at.set(0);
        links.adopted.set(false);
        links.family.set(Family::GoesUp);
        _ = change(env.word(), |state| Some(state.renewed(id)));
        match parent {
            _ if device != 0 => {}
            Some(parent) => self.adopt(parent, env),
            None => self.root = Some(env),
        }
        Some(env)
    }

    /// Takes the free slot that was given back first. Now and then takes one that was never used, so that in the end
    /// all slots take part: an id recurs when its slot has been used a million times, and that shall take long.
    fn take_slot(&mut self) -> Option<&'static N> {
        self.created = self.created.wrapping_add(1);
        let fresh = self.table.get(self.reached);
        if let Some(fresh) = fresh.filter(|_| self.free.is_none() || self.created.is_multiple_of(FRESH)) {
            self.reached += 1;
            return Some(fresh);
        }
        let env = self.free?;
        self.free = env.links().next_free.take();
        if self.free.is_none() {
            self.last_free = None;
        }
        Some(env)
    }

    /// Frees a slot, and puts it behind the other free ones.
    fn give_slot(&mut self, env: &'static N) {
        self.set_status(env, Status::Free);
        self.used -= 1;
        match self.last_free.replace(env) {
            Some(last) => last.links().next_free.set(Some(env)),
            None => self.free = Some(env),
        }
    }

    /// The environment that has no parent, and from which all others descend: the first one, or its successor.
    pub fn root(&self) -> Option<&'static N> {
        self.root
    }

    /// The child with this id; with [`EnvId::ANY`] any child, preferably one that has ended.
    pub fn child(&self, parent: &'static N, id: EnvId) -> Option<&'static N> {
        if id == EnvId::ANY {
            return parent.links().first_ended.get().or(parent.links().first_child.get());
        }
        let is_it = |env: &&N| env.id() == id && env.links().parent.get().is_some_and(|its| ptr::eq(its, parent));
        self.table.get(id.slot()).filter(is_it)
    }

    /// Makes the caller wait for the end of a child, or of any child. `false` if the caller was ended meanwhile.
    pub fn wait(&mut self, me: &'static N, child: EnvId) -> bool {
        me.links().awaits.set(child);
        self.block(me, Status::Waiting)
    }

    /// Frees the slot of a zombie.
    pub fn reap(&mut self, zombie: &'static N) {
        self.disown(zombie);
        self.give_slot(zombie);
    }

    /// Parts a dying environment from one of its children: the child is ended, or goes up to its grandparent. `false`
    /// if there was no child left.
    ///
    /// ```text
    ///      grandparent                      grandparent
    ///           |                           /        \
    ///     parent (dying)         ->      child       child
    ///       /       \
    ///    child      child
    /// ```
    ///
    /// A stopped child is ended in any case: the environment that knew what to do with it is gone. Every child of an
    /// environment that was ended [with its family](Family::Ends) is ended, too.
    pub fn part(&mut self, env: &'static N) -> bool {
        let Some(child) = self.child(env, EnvId::ANY) else { return false };
        let (status, by) = (child.status(), env.links().ended_by.get());
        self.disown(child);
        child.info().parent.store(EnvId::NONE.0, Relaxed);
        if status == Status::Zombie {
            self.give_slot(child);
        } else if env.links().family.get() == Family::Ends {
            // If the child is dying already, its own children are now ended as well.
            child.links().family.set(Family::Ends);
            _ = self.condemn(child, ExitStatus::DESTROYED, by, Family::Ends);
        } else {
            self.go_up(env, child);
            if status == Status::Stopped {
                _ = self.condemn(child, ExitStatus::DESTROYED, child.id(), Family::GoesUp);
            }
        }
        true
    }

    /// Moves a child of a dying environment to its grandparent, or to the root. If there is neither, the child becomes
    /// the root, provided that it is going to live.
    fn go_up(&mut self, dying: &'static N, child: &'static N) {
        let root = self.root.filter(|root| !ptr::eq(*root, dying));
        if let Some(heir) = dying.links().parent.get().or(root) {
            child.info().parent.store(heir.id().0, Relaxed);
            child.links().adopted.set(true);
            self.adopt(heir, child);
        } else if !matches!(child.status(), Status::Dying | Status::Stopped) {
            self.root = Some(child);
        }
    }

    /// Ends the life of a dying environment that has no children and has given back everything. Returns the parent if
    /// that waits for just this: then the slot is free, and the caller tells the parent and [wakes](Scheduler::wake)
    /// it.
    ///
    /// The environment stays as a zombie only for the parent that made it: no adoptive parent would ever ask for it.
    pub fn bury(&mut self, env: &'static N) -> Option<&'static N> {
        debug_assert!(self.child(env, EnvId::ANY).is_none(), "its children have not been seen to");
        let Some(parent) = env.links().parent.get() else {
            self.root = self.root.filter(|root| !ptr::eq(*root, env));
            self.give_slot(env);
            return None;
        };
        let awaits = parent.links().awaits.get();
        let waits = parent.status() == Status::Waiting && (awaits == EnvId::ANY || awaits == env.id());
        if waits || env.links().adopted.get() {
            self.reap(env);
            return waits.then_some(parent);
        }
        self.disown(env);
        self.set_status(env, Status::Zombie);
        self.adopt(parent, env);
        None
    }

    /// Puts a child at the front of its list.
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

    /// Takes a child out of its list.
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

/// The living environment with this id, in a table of all environments; [`EnvId::SELF`] is the caller.
///
/// # Errors
/// [`Error::BadEnv`].
#[inline]
pub fn find<N: Node>(table: &'static [N], caller: &'static N, id: EnvId) -> Result<&'static N, Error> {
    if id == EnvId::SELF {
        return Ok(caller);
    }
    let is_it = |env: &&N| env.id() == id && env.status().is_alive();
    table.get(id.slot()).filter(is_it).ok_or(Error::BadEnv(id.0.into()))
}

/// The living environment with this id, if the caller may act on it: the caller itself and its children.
///
/// # Errors
/// [`Error::BadEnv`], [`Error::NotYours`].
#[inline]
pub fn find_own<N: Node>(table: &'static [N], caller: &'static N, id: EnvId) -> Result<&'static N, Error> {
    let env = find(table, caller, id)?;
    let own = ptr::eq(env, caller) || env.info().parent() == caller.id();
    if own { Ok(env) } else { Err(Error::NotYours(id.0.into())) }
}

/// The list in which a child is. It changes lists when it becomes a zombie.
fn list<N: Node>(parent: &'static N, child: &N) -> &'static Link<N> {
    let links = parent.links();
    if child.status() == Status::Zombie { &links.first_ended } else { &links.first_child }
}

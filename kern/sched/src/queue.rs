//! The run queue: one for all processors, first come, first served.

use crate::node::Node;
use crate::scheduler::Scheduler;
use crate::word::{State, change};
use abi::Status;

/// How many slots are looked at in one entry, and how many environments are woken, at most: so no entry to the kernel
/// runs long.
const AT_ONCE: usize = 256;
const WOKEN_AT_ONCE: usize = 32;

/// Stops holding an environment, when no register and no translation of it is left on this processor. Returns whether
/// it has work to do already: then the caller [offers](crate::Scheduler::offer) it to idle processors.
#[must_use]
pub fn give_back<N: Node>(env: &N) -> bool {
    change(env.word(), |state| Some(state.given_back())).is_ok_and(has_work)
}

/// Whether an environment in this state is to be in the run queue.
fn has_work(state: State) -> bool {
    matches!(state.status(), Status::Runnable | Status::Dying)
}

impl<N: Node> Scheduler<N> {
    /// Puts an environment at the end of the run queue. If a processor holds it, that one will [give it
    /// back](give_back); otherwise it can be taken at once.
    pub(crate) fn enqueue(&mut self, env: &'static N) {
        if !env.links().queued.replace(true) {
            env.links().next.set(None);
            match self.last.replace(env) {
                Some(last) => last.links().next.set(Some(env)),
                None => self.first = Some(env),
            }
        }
        if env.holder().is_none() {
            self.wake_a_processor(env);
        }
    }

    /// Wakes an idle processor, if there is one, for this environment.
    fn wake_a_processor(&mut self, env: &N) {
        if self.idle != 0 {
            let processor = self.idle.trailing_zeros();
            self.idle &= self.idle - 1;
            env.interrupt(processor);
        }
    }

    /// Whether any environment waits for a processor. (Or waited for one, and has been stopped or ended since.)
    pub fn has_waiting(&self) -> bool {
        self.first.is_some()
    }

    /// Takes the first environment of the run queue that can be taken: this processor holds it now, and it runs from
    /// now on if it is runnable; otherwise it is dying. Environments that are neither any more are removed from the
    /// queue. Those that another processor is just giving up stay. If very many had to be removed, there [may be
    /// more](Scheduler::is_cut_short).
    #[must_use]
    pub fn dequeue(&mut self, processor: u32) -> Option<&'static N> {
        let (mut before, mut at): (Option<&'static N>, _) = (None, self.first);
        let mut left_out = 0;
        self.cut_short = false;
        while let Some(env) = at {
            at = env.links().next.get();
            let taken = change(env.word(), |state| {
                let then = match state.status() {
                    Status::Runnable if !state.is_reserved() => Status::Running,
                    Status::Dying => Status::Dying,
                    _ => return None,
                };
                env.is_free_for(state, processor).then(|| state.with(then).held_by(processor))
            });
            if taken.is_err_and(has_work) {
                before = Some(env);
                continue;
            }
            self.unlink(before, env);
            if taken.is_ok() {
                return Some(env);
            }
            left_out += 1;
            if left_out == AT_ONCE {
                self.cut_short = true;
                break;
            }
        }
        None
    }

    /// Removes an environment from the run queue, where it stands behind `before`, or first.
    fn unlink(&mut self, before: Option<&'static N>, env: &'static N) {
        let after = env.links().next.get();
        match before {
            Some(before) => before.links().next.set(after),
            None => self.first = after,
        }
        if after.is_none() {
            self.last = before;
        }
        env.links().queued.set(false);
    }

    /// Whether the last [`Scheduler::dequeue`] gave up before the end of the queue.
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Takes a runnable environment to run it here now, wherever it is in the run queue. `false` if it is not runnable,
    /// or another processor still holds it.
    #[must_use]
    pub fn hand_over(&mut self, env: &'static N, processor: u32) -> bool {
        let taken = change(env.word(), |state| {
            let wants = state.status() == Status::Runnable && !state.is_reserved();
            (wants && env.is_free_for(state, processor)).then(|| state.with(Status::Running).held_by(processor))
        });
        taken.is_ok()
    }

    /// Makes an environment that waited runnable, at the end of the run queue.
    pub fn wake(&mut self, env: &'static N) {
        if env.status() == Status::Reading {
            self.readers -= 1;
        }
        self.set_status(env, Status::Runnable);
        self.enqueue(env);
    }

    /// Wakes the environments that wait for console input, so that they make their call again. One call looks at some
    /// slots only, and the next one goes on from there.
    pub fn wake_readers(&mut self) {
        let (at, end) = (self.look_at, self.reached);
        let looked = self.wake_some((at..end).chain(0..at), |env| env.status() == Status::Reading);
        self.look_at = (at + looked) % end.max(1);
    }

    /// Wakes the environments in these slots for which `wakes` returns `true`, but neither looks at very many nor wakes
    /// many. Returns how many were looked at.
    pub(crate) fn wake_some(&mut self, slots: impl Iterator<Item = usize>, wakes: impl Fn(&N) -> bool) -> usize {
        let (mut looked, mut woken) = (0, 0);
        for env in slots.take(AT_ONCE).map(|slot| &self.table[slot]) {
            looked += 1;
            if wakes(env) {
                self.wake(env);
                woken += 1;
            }
            if woken == WOKEN_AT_ONCE {
                break;
            }
        }
        looked
    }

    /// Puts the environment that runs here at the end of the run queue. (Unless it was stopped or ended meanwhile.)
    pub fn requeue(&mut self, env: &'static N) {
        let ran = |state: State| state.status() == Status::Running;
        if change(env.word(), |state| ran(state).then(|| state.with(Status::Runnable))).is_ok() {
            self.enqueue(env);
        }
    }

    /// Makes the environment that runs here wait, with this status. `false` if it was ended meanwhile. An environment
    /// that is being stopped waits all the same: what its call did is done, and the environment that stops it finds
    /// out.
    pub fn block(&mut self, env: &'static N, status: Status) -> bool {
        let living = |state: State| state.status() != Status::Dying;
        let blocked = change(env.word(), |state| living(state).then(|| state.with(status))).is_ok();
        if blocked && status == Status::Reading {
            self.readers += 1;
        }
        blocked
    }

    /// Wakes an idle processor for an environment that was [given back](give_back).
    pub fn offer(&mut self, env: &'static N) {
        if env.links().queued.get() {
            self.wake_a_processor(env);
        }
    }

    /// Lets an environment go that was held without running here: it goes on where it can.
    pub fn let_go(&mut self, env: &'static N) {
        if give_back(env) {
            self.enqueue(env);
        }
    }

    /// Marks a processor as idle: it has found nothing to do.
    pub fn rest(&mut self, processor: u32) {
        self.idle |= 1 << processor;
    }

    /// Marks a processor as not idle: it looks for work again.
    pub fn look(&mut self, processor: u32) {
        self.idle &= !(1 << processor);
    }

    /// How many processors have nothing to do.
    pub fn resting(&self) -> u32 {
        self.idle.count_ones()
    }
}

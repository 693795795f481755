//! Who runs next: one queue for all processors, first come, first served.

use crate::message::{AT_ONCE, WOKEN_AT_ONCE};
use crate::word::{change, give_back};
use crate::{Node, Sched, State};
use abi::Status;

impl<N: Node> Sched<N> {
    /// To the end of the queue. Whoever holds it now will [give it back](give_back); otherwise it can be
    /// taken at once.
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

    /// There is something to do for one that is idle.
    fn wake_a_processor(&mut self, env: &N) {
        if self.idle != 0 {
            let processor = self.idle.trailing_zeros();
            self.idle &= self.idle - 1;
            env.interrupt(processor);
        }
    }

    /// Whether anybody wants a processor. (Or wanted one, and has lost interest since.)
    #[inline]
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.first.is_some()
    }

    /// The first in the queue that can be taken: this processor holds it now, and if it is runnable it runs
    /// from now on; otherwise it is dying. Those that lost interest since are left out. Those that another
    /// processor is just giving up stay. If very many have lost interest, there [may be more](Sched::is_cut_short).
    #[must_use]
    pub fn dequeue(&mut self, processor: u32) -> Option<&'static N> {
        let (mut before, mut at): (Option<&'static N>, _) = (None, self.first);
        let mut left_out = 0;
        self.cut_short = false;
        while let Some(env) = at {
            at = env.links().next.get();
            let taken = change(env, |state| {
                let then = match state.status() {
                    Status::Runnable if !state.is_reserved() => Status::Running,
                    Status::Dying => Status::Dying,
                    _ => return None,
                };
                env.is_free_for(state, processor).then(|| state.with(then).held_by(processor))
            });
            if taken.is_err_and(|state| matches!(state.status(), Status::Runnable | Status::Dying)) {
                before = Some(env);
                continue;
            }
            match before {
                Some(before) => before.links().next.set(at),
                None => self.first = at,
            }
            if at.is_none() {
                self.last = before;
            }
            env.links().queued.set(false);
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

    /// Whether the last [`Sched::dequeue`] gave up before the end of the queue.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Let a runnable one run here now, whatever is before it in the queue. `false` if it is not, or another
    /// processor still holds it.
    #[inline]
    #[must_use]
    pub fn hand_over(&mut self, env: &'static N, processor: u32) -> bool {
        let taken = change(env, |state| {
            let wants = state.status() == Status::Runnable && !state.is_reserved();
            (wants && env.is_free_for(state, processor))
                .then(|| state.with(Status::Running).held_by(processor))
        });
        taken.is_ok()
    }

    /// An environment that waited goes to the end of the queue.
    pub fn wake(&mut self, env: &'static N) {
        if env.status() == Status::Reading {
            self.readers -= 1;
        }
        self.set_status(env, Status::Runnable);
        self.enqueue(env);
    }

    /// There is input: let those who want it make their call again. If there are very many, it looks at some only, and
    /// goes on the next time.
    pub fn wake_readers(&mut self) {
        let mut woken = 0;
        for _ in 0..self.reached.min(AT_ONCE) {
            let env = &self.table[self.look_at % self.reached];
            self.look_at = (self.look_at + 1) % self.reached;
            if env.status() == Status::Reading {
                self.wake(env);
                woken += 1;
                if woken == WOKEN_AT_ONCE {
                    break;
                }
            }
        }
    }

    /// The environment that runs here lets others go first. (Unless it was stopped or ended meanwhile.)
    #[inline]
    pub fn requeue(&mut self, env: &'static N) {
        let ran = |state: State| state.status() == Status::Running;
        if change(env, |state| ran(state).then(|| state.with(Status::Runnable))).is_ok() {
            self.enqueue(env);
        }
    }

    /// The environment that runs here waits from now on. `false` if it was ended meanwhile. One that is being
    /// stopped waits all the same: what its call did is done, and whoever stops it finds out.
    #[inline]
    pub fn block(&mut self, env: &'static N, status: Status) -> bool {
        let living = |state: State| state.status() != Status::Dying;
        let blocked = change(env, |state| living(state).then(|| state.with(status))).is_ok();
        if blocked && status == Status::Reading {
            self.readers += 1;
        }
        blocked
    }

    /// Somebody should know of an environment that was [given back](give_back).
    pub fn offer(&mut self, env: &'static N) {
        if env.links().queued.get() {
            self.wake_a_processor(env);
        }
    }

    /// Give back one that did not run here: it goes on where it can.
    pub fn let_go(&mut self, env: &'static N) {
        if give_back(env) {
            self.enqueue(env);
        }
    }

    /// This processor has found nothing to do.
    pub fn rest(&mut self, processor: u32) {
        self.idle |= 1 << processor;
    }

    /// It looks again.
    pub fn look(&mut self, processor: u32) {
        self.idle &= !(1 << processor);
    }

    /// How many processors have nothing to do.
    #[must_use]
    pub fn resting(&self) -> u32 {
        self.idle.count_ones()
    }
}

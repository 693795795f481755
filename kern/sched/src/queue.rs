//! Who runs next: one queue for all processors, first come, first served.

use crate::message::{AT_ONCE, WOKEN_AT_ONCE};
use crate::node::Node;
use crate::scheduler::Sched;
use crate::word::{self, State, change};
use abi::Status;

/// The processor that held an environment has left it: no register and no translation of it is there any more.
/// Returns whether it wants to run already: then somebody should [be told](crate::Sched::offer).
#[inline]
#[must_use]
pub fn give_back<N: Node>(env: &N) -> bool {
    word::give_back(env.word())
}

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
            let taken = change(env.word(), |state| {
                let then = match state.status() {
                    Status::Runnable if !state.is_reserved() => Status::Running,
                    Status::Dying => Status::Dying,
                    _ => return None,
                };
                env.is_free_for(state, processor).then(|| state.with(then).held_by(processor))
            });
            let stays = |state: State| matches!(state.status(), Status::Runnable | Status::Dying);
            match taken {
                Err(state) if stays(state) => {
                    before = Some(env);
                    continue;
                }
                Ok(_) => {
                    self.unlink(before, env);
                    return Some(env);
                }
                Err(_) => self.unlink(before, env),
            }
            left_out += 1;
            if left_out == AT_ONCE {
                self.cut_short = true;
                break;
            }
        }
        None
    }

    /// Take an environment out of the queue, which stands behind another one there, or first.
    #[inline]
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
        let taken = change(env.word(), |state| {
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
        if change(env.word(), |state| ran(state).then(|| state.with(Status::Runnable))).is_ok() {
            self.enqueue(env);
        }
    }

    /// The environment that runs here waits from now on. `false` if it was ended meanwhile. One that is being
    /// stopped waits all the same: what its call did is done, and whoever stops it finds out.
    #[inline]
    pub fn block(&mut self, env: &'static N, status: Status) -> bool {
        let living = |state: State| state.status() != Status::Dying;
        let blocked = change(env.word(), |state| living(state).then(|| state.with(status))).is_ok();
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

//! Who runs next: one queue for all processors, first come, first served.

use crate::{Node, Sched};
use abi::Status;

impl<N: Node> Sched<N> {
    /// To the end of the queue. Whoever holds it now will [give it back](Sched::give_back); otherwise it can be
    /// taken at once.
    pub(crate) fn enqueue(&mut self, env: &'static N) {
        if !env.links().queued.replace(true) {
            env.links().next.set(None);
            match self.last.replace(env) {
                Some(last) => last.links().next.set(Some(env)),
                None => self.first = Some(env),
            }
        }
        if env.holder().is_nobody() {
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
    /// processor is just giving up stay.
    #[must_use]
    pub fn dequeue(&mut self, processor: u32) -> Option<&'static N> {
        let (mut before, mut at): (Option<&'static N>, _) = (None, self.first);
        while let Some(env) = at {
            at = env.links().next.get();
            let status = env.status();
            let wanted = matches!(status, Status::Runnable | Status::Dying);
            if wanted && !env.hold(processor) {
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
            if wanted {
                if status == Status::Runnable {
                    self.set_status(env, Status::Running);
                }
                return Some(env);
            }
        }
        None
    }

    /// Let a runnable one run here now, whatever is before it in the queue. `false` if it is not, or another
    /// processor still holds it.
    #[inline]
    #[must_use]
    pub fn hand_over(&mut self, env: &'static N, processor: u32) -> bool {
        let can = env.status() == Status::Runnable && env.hold(processor);
        if can {
            self.set_status(env, Status::Running);
        }
        can
    }

    /// An environment that waited goes to the end of the queue.
    pub fn wake(&mut self, env: &'static N) {
        if env.status() == Status::Reading {
            self.readers -= 1;
        }
        self.set_status(env, Status::Runnable);
        self.enqueue(env);
    }

    /// There is input: let those who want it make their call again.
    pub fn wake_readers(&mut self) {
        for env in self.table.iter().filter(|env| env.status() == Status::Reading) {
            self.wake(env);
        }
    }

    /// The environment that runs here lets others go first. (Unless it was stopped or ended meanwhile.)
    #[inline]
    pub fn requeue(&mut self, env: &'static N) {
        if env.status() == Status::Running {
            self.set_status(env, Status::Runnable);
            self.enqueue(env);
        }
    }

    /// The environment that runs here waits from now on. `false` if it was ended meanwhile. One that is being
    /// stopped waits all the same: what its call did is done, and whoever stops it finds out.
    #[inline]
    pub fn block(&mut self, env: &'static N, status: Status) -> bool {
        if env.status() == Status::Dying {
            return false;
        }
        if status == Status::Reading {
            self.readers += 1;
        }
        self.set_status(env, status);
        true
    }

    /// The processor that held an environment has left it: no register and no translation of it is there any
    /// more. If it wants to run already, somebody should know.
    pub fn give_back(&mut self, env: &'static N) {
        env.holder().give_back();
        if env.links().queued.get() {
            self.wake_a_processor(env);
        }
    }

    /// The same for one that did not run here: it goes on where it can.
    pub fn let_go(&mut self, env: &'static N) {
        env.holder().give_back();
        if matches!(env.status(), Status::Runnable | Status::Dying) {
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

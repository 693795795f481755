//! How an environment is started, stopped, kept off its processor, and ended.

use crate::node::{Family, Node};
use crate::scheduler::Scheduler;
use crate::word::{State, change};
use abi::{EnvId, ExitStatus, Status};
use core::sync::atomic::Ordering::Relaxed;

impl<N: Node> Scheduler<N> {
    /// Starts a stopped environment; nothing changes if it is runnable already.
    ///
    /// # Errors
    /// The status, if it is neither stopped nor runnable.
    pub fn start(&mut self, env: &'static N) -> Result<(), Status> {
        match env.status() {
            Status::Stopped => self.wake(env),
            Status::Runnable | Status::Running => {}
            other => return Err(other),
        }
        Ok(())
    }

    /// Stops an environment. Returns whether it ran: another processor that runs it gives it up soon, and until then it
    /// may have begun to wait, or to end.
    ///
    /// # Errors
    /// The status, if it is one in which an environment cannot be stopped.
    pub fn stop(&mut self, env: &'static N) -> Result<bool, Status> {
        let can = |status| matches!(status, Status::Stopped | Status::Runnable | Status::Running);
        let before = change(env.word(), |state| can(state.status()).then(|| state.with(Status::Stopped)));
        let ran = before.map_err(State::status)?.status() == Status::Running;
        if ran {
            self.interrupt_holder(env);
        }
        Ok(ran)
    }

    /// Keeps an environment off: makes this processor hold it, although another one may be running it, so that it runs
    /// nowhere until it is [let go](Scheduler::let_go). `false`: call again when the other processor has given it up.
    /// Until then no other processor can take it.
    ///
    /// This does not stop the environment: if it stops itself just now, it stays stopped.
    #[must_use]
    pub fn keep_off(&mut self, env: &'static N, processor: u32) -> bool {
        let before = change(env.word(), |state| {
            if env.is_free_for(state, processor) {
                return Some(state.unreserved().held_by(processor));
            }
            // Not into the run queue, where other processors would look at it in vain.
            matches!(state.status(), Status::Running | Status::Runnable).then(|| state.reserved())
        });
        let held = before.is_ok_and(|state| env.is_free_for(state, processor));
        if !held && before.is_ok() {
            self.interrupt_holder(env);
        }
        held
    }

    /// Makes this processor hold an environment, if no other does. Returns whether it holds it.
    pub fn hold(&mut self, env: &'static N, processor: u32) -> bool {
        change(env.word(), |state| env.is_free_for(state, processor).then(|| state.held_by(processor))).is_ok()
    }

    /// Condemns an environment: from now on processors only perform slices of its teardown. `false` if it is ending
    /// already, or has ended: then nothing changes.
    pub fn condemn(&mut self, env: &'static N, exit: ExitStatus, by: EnvId, family: Family) -> bool {
        let before = change(env.word(), |state| state.status().is_alive().then(|| state.with(Status::Dying)));
        let Ok(before) = before else { return false };
        if before.status() == Status::Reading {
            self.readers -= 1;
        }
        env.links().ended_by.set(by);
        env.links().family.set(family);
        env.info().exit.store(exit.0.into(), Relaxed);
        self.enqueue(env);
        self.interrupt_holder(env);
        true
    }

    /// The environment that ended this one.
    pub fn ended_by(&self, env: &N) -> EnvId {
        env.links().ended_by.get()
    }

    /// Interrupts the processor that holds an environment, so that it looks at the status.
    fn interrupt_holder(&mut self, env: &N) {
        if let Some(processor) = env.holder() {
            env.interrupt(processor);
        }
    }
}

//! How an environment is started, stopped, kept off its processor, and ended.

use crate::node::{Family, Node};
use crate::scheduler::Sched;
use crate::word::{State, change};
use abi::{EnvId, ExitStatus, Status};
use core::sync::atomic::Ordering::Relaxed;

impl<N: Node> Sched<N> {
    /// Let a stopped environment run.
    ///
    /// # Errors
    /// What it is doing, if that is neither.
    pub fn start(&mut self, env: &'static N) -> Result<(), Status> {
        match env.status() {
            Status::Stopped => self.wake(env),
            Status::Runnable | Status::Running => {}
            other => return Err(other),
        }
        Ok(())
    }

    /// Stop an environment. Returns whether it ran: if that was on another processor, it is to give it up first,
    /// and may have begun to wait, or to end, meanwhile.
    ///
    /// # Errors
    /// What it is doing, if it cannot be stopped.
    pub fn stop(&mut self, env: &'static N) -> Result<bool, Status> {
        let can = |status| matches!(status, Status::Stopped | Status::Runnable | Status::Running);
        let before = change(env.word(), |state| can(state.status()).then(|| state.with(Status::Stopped)));
        let ran = before.map_err(State::status)?.status() == Status::Running;
        if ran {
            self.interrupt_holder(env);
        }
        Ok(ran)
    }

    /// Let this processor hold an environment that another one may be running, so that it runs nowhere until it is
    /// [let go](Sched::let_go). `false`: ask again when it has been given up. Until then nobody else can take it.
    ///
    /// It is not stopped for that: if it stops itself just now, it stays stopped.
    #[must_use]
    pub fn keep_off(&mut self, env: &'static N, processor: u32) -> bool {
        let before = change(env.word(), |state| {
            if env.is_free_for(state, processor) {
                return Some(state.unreserved().held_by(processor));
            }
            // Not to the queue, where another processor would look at it in vain.
            matches!(state.status(), Status::Running | Status::Runnable).then(|| state.reserved())
        });
        let held = before.is_ok_and(|state| env.is_free_for(state, processor));
        if !held && before.is_ok() {
            self.interrupt_holder(env);
        }
        held
    }

    /// Let this processor hold it, if no other does.
    pub fn hold(&mut self, env: &'static N, processor: u32) -> bool {
        change(env.word(), |state| env.is_free_for(state, processor).then(|| state.held_by(processor)))
            .is_ok()
    }

    /// From now on the environment only gives back what it has, a slice at each turn. `false` if that is so
    /// already: then nothing changes.
    pub fn condemn(&mut self, env: &'static N, exit: ExitStatus, by: EnvId, family: Family) -> bool {
        let living = |status| !matches!(status, Status::Free | Status::Dying | Status::Zombie);
        let before = change(env.word(), |state| living(state.status()).then(|| state.with(Status::Dying)));
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

    /// Who ended it.
    #[must_use]
    pub fn ended_by(&self, env: &N) -> EnvId {
        env.links().ended_by.get()
    }

    /// Let the processor that holds an environment look at its status.
    fn interrupt_holder(&mut self, env: &N) {
        if let Some(processor) = env.holder() {
            env.interrupt(processor);
        }
    }
}

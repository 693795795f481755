//! How an environment is started, stopped, kept off its processor, and ended.

use crate::{Node, Sched};
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
        let now = env.status();
        match now {
            Status::Stopped => {}
            Status::Runnable | Status::Running => self.set_status(env, Status::Stopped),
            other => return Err(other),
        }
        if now == Status::Running {
            self.interrupt_holder(env);
        }
        Ok(now == Status::Running)
    }

    /// Let this processor hold an environment that another one may be running, so that it runs nowhere until it is
    /// [let go](Sched::let_go). `false`: ask again when it has been given up.
    ///
    /// It is not stopped for that: if it stops itself just now, it stays stopped.
    #[must_use]
    pub fn keep_off(&mut self, env: &'static N, processor: u32) -> bool {
        let held = env.hold(processor);
        if !held && env.status() == Status::Running {
            // Not to the queue, where another processor would take it.
            self.set_status(env, Status::Runnable);
            self.interrupt_holder(env);
        }
        held
    }

    /// From now on the environment only gives back what it has, a slice at each turn. `false` if that is so
    /// already.
    pub fn condemn(&mut self, env: &'static N, exit: ExitStatus, by: EnvId) -> bool {
        match env.status() {
            Status::Free | Status::Dying | Status::Zombie => return false,
            Status::Receiving => self.forget_awaited(env),
            Status::Reading => self.readers -= 1,
            _ => {}
        }
        env.links().ended_by.set(by);
        env.info().exit.store(exit.0.into(), Relaxed);
        self.set_status(env, Status::Dying);
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
        if let Some(processor) = env.holder().processor() {
            env.interrupt(processor);
        }
    }
}

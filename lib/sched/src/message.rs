//! Who receives from whom.

use crate::{Node, Sched};
use abi::{EnvId, Status};

impl<N: Node> Sched<N> {
    /// The caller waits for a message, from anyone or from one environment alone, which must be alive. `false` if
    /// the caller was ended meanwhile. `at` is where it wants a page.
    pub fn receive(&mut self, me: &'static N, at: u64, from: EnvId) -> bool {
        if !self.block(me, Status::Receiving) {
            return false;
        }
        me.links().receive_at.set(at);
        me.links().awaits.set(from);
        if from != EnvId::NONE {
            let awaited = &self.table[from.slot()].links().awaited;
            awaited.set(awaited.get() + 1);
        }
        true
    }

    /// If the environment with this id takes a message from that sender: where it wants a page. From here on nobody
    /// else sends to it, and it does not [go away](Sched::is_claimed), until the message [comes](Sched::deliver).
    #[inline]
    pub fn claim(&mut self, receiver: &'static N, id: EnvId, sender: EnvId) -> Option<u64> {
        let links = receiver.links();
        let listens = links.awaits.get() == EnvId::NONE || links.awaits.get() == sender;
        let receives = receiver.status() == Status::Receiving && receiver.id() == id;
        let can = receives && listens && !links.receiving.replace(true);
        can.then(|| links.receive_at.get())
    }

    /// The end of a [claim](Sched::claim) that came to nothing.
    #[inline]
    pub fn disclaim(&mut self, receiver: &'static N) {
        receiver.links().receiving.set(false);
    }

    /// The end of a claim: the receiver is runnable. The message is to be put into its registers before the lock is
    /// given up, and the receiver [run here](Sched::hand_over) or [put into the queue](Sched::wake). `false` if
    /// it was ended meanwhile.
    #[inline]
    #[must_use]
    pub fn deliver(&mut self, receiver: &'static N) -> bool {
        self.disclaim(receiver);
        let receives = receiver.status() == Status::Receiving;
        if receives {
            self.forget_awaited(receiver);
            self.set_status(receiver, Status::Runnable);
        }
        receives
    }

    /// Whether a sender is about to hand over a page: its page map has to stay.
    #[must_use]
    pub fn is_claimed(&self, receiver: &'static N) -> bool {
        receiver.links().receiving.get()
    }

    /// A receiver does not wait for a certain sender any longer.
    #[inline]
    pub(crate) fn forget_awaited(&mut self, receiver: &'static N) {
        let from = receiver.links().awaits.replace(EnvId::NONE);
        if from != EnvId::NONE {
            let awaited = &self.table[from.slot()].links().awaited;
            awaited.set(awaited.get() - 1);
        }
    }

    /// Receivers that wait for a message from this environment alone will not get one: tell them, and wake them.
    pub fn fail_receivers(&mut self, of: &'static N, tell: impl Fn(&'static N)) {
        if of.links().awaited.get() == 0 {
            return;
        }
        let waits = |env: &&N| env.status() == Status::Receiving && env.links().awaits.get() == of.id();
        for env in self.table.iter().filter(waits) {
            self.forget_awaited(env);
            tell(env);
            self.wake(env);
        }
    }
}

//! Messages: which receiver takes a message from which sender, and the end of the wait.

use crate::node::Node;
use crate::scheduler::{NEVER, Scheduler};
use crate::word::{State, change, load, replace};
use abi::{EnvId, Status, call::NO_PAGE};
use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

/// Takes the environment with this id, if it waits for a message from that sender and no other processor holds it: it
/// runs here from now on, and the caller puts the message into its registers. No lock is needed: only one word changes,
/// and it has everything that matters.
#[must_use]
pub fn take<N: Node>(receiver: &N, id: EnvId, sender: EnvId, processor: u32) -> bool {
    let now = load(receiver.word());
    now.taken(id, sender, processor).is_some_and(|then| replace(receiver.word(), now, then))
}

/// Parks the caller, after [`take`]: it waits for a message without a page, from the environment that was taken or from
/// anyone, and this processor no longer holds it. The processor has already left it. `false` if another processor has
/// changed the caller's state: then it has to [wait](Scheduler::receive) and be [given back](crate::give_back) under
/// the lock.
///
/// The environment that was taken cannot end before this, because it is held here. So when it ends it will find that it
/// is awaited.
#[must_use]
pub fn park<N: Node>(me: &N, taken: &N, from: EnvId, processor: u32) -> bool {
    debug_assert!(from == EnvId::ANY || from == taken.id(), "another one may have ended");
    me.links().receive_at.set(NO_PAGE);
    taken.links().awaited.store(true, Relaxed);
    replace(me.word(), State::running(me.id(), processor), State::waiting(me.id(), from))
}

impl<N: Node> Scheduler<N> {
    /// Makes the caller wait for a message, from anyone or from one environment alone, which must be alive; until a
    /// deadline, or [`NEVER`]. `false` if the caller was ended meanwhile. `at` is the address at which it wants a page.
    pub fn receive(&mut self, me: &'static N, at: u64, from: EnvId, deadline: u64) -> bool {
        me.links().receive_at.set(at);
        me.links().deadline.set(deadline);
        self.next_deadline = self.next_deadline.min(deadline);
        if from != EnvId::ANY {
            self.table[from.slot()].links().awaited.store(true, Relaxed);
        }
        let living = |state: State| state.status() != Status::Dying;
        change(me.word(), |state| living(state).then(|| state.receiving(from, deadline != NEVER))).is_ok()
    }

    /// Wakes the receivers whose deadline is not after `now`, unless a message is about to reach them. Returns whether
    /// there were any. One call looks at some slots only, and the next one goes on from there.
    pub fn expire(&mut self, now: u64) -> bool {
        if self.expire_at == 0 && now < self.next_deadline {
            return false;
        }
        if self.expire_at == 0 {
            self.next_deadline = NEVER;
        }
        let (at, end) = (self.expire_at, self.reached);
        let (next, found) = (Cell::new(self.next_deadline), Cell::new(false));
        let looked = self.wake_some(at..end, |env| {
            let state = load(env.word());
            let waits = state.status() == Status::ReceivingUntil;
            let deadline = if waits { env.links().deadline.get() } else { NEVER };
            let is_late = deadline <= now && !state.is_claimed();
            found.set(found.get() || is_late);
            next.set(if is_late { next.get() } else { next.get().min(deadline) });
            is_late
        });
        self.next_deadline = next.get();
        self.expire_at = if at + looked < end { at + looked } else { 0 };
        found.get()
    }

    /// Whether a deadline may come. (A receiver may have got its message since.)
    pub fn has_deadlines(&self) -> bool {
        self.expire_at != 0 || self.next_deadline != NEVER
    }

    /// Whether an environment waits for a message that this sender may send.
    pub fn awaits(&self, receiver: &'static N, sender: EnvId) -> bool {
        load(receiver.word()).takes(receiver.id(), sender)
    }

    /// Claims the environment with this id, if it takes a message from that sender. Returns the address at which it
    /// wants a page. From now on no other environment sends to it, and its page map [stays](Scheduler::is_claimed),
    /// until the message is [delivered](Scheduler::deliver).
    pub fn claim(&mut self, receiver: &'static N, id: EnvId, sender: EnvId) -> Option<u64> {
        let claimed = change(receiver.word(), |state| state.takes(id, sender).then(|| state.claimed(true)));
        claimed.is_ok().then(|| receiver.links().receive_at.get())
    }

    /// Ends a [claim](Scheduler::claim) without a message.
    pub fn disclaim(&mut self, receiver: &'static N) {
        _ = change(receiver.word(), |state| Some(state.claimed(false)));
    }

    /// Ends a claim with a message: the receiver is runnable. Before it gives up the lock, the caller puts the message
    /// into the receiver's registers, and [runs it here](Scheduler::hand_over) or [puts it into the run
    /// queue](Scheduler::wake). `false` if the receiver was ended meanwhile.
    #[must_use]
    pub fn deliver(&mut self, receiver: &'static N) -> bool {
        let before = change(receiver.word(), |state| {
            let state = state.claimed(false);
            Some(if state.is_receiving() { state.with(Status::Runnable) } else { state })
        });
        before.is_ok_and(State::is_receiving)
    }

    /// Whether a sender is about to hand over a page to this receiver, whose page map therefore has to stay.
    pub fn is_claimed(&self, receiver: &'static N) -> bool {
        load(receiver.word()).is_claimed()
    }

    /// Wakes the receivers that wait for a message from this environment alone, which is ending, after it called `tell`
    /// for each. Returns whether these were all: one call looks at some slots only, and the next one goes on from
    /// there.
    #[must_use]
    pub fn fail_receivers(&mut self, of: &'static N, tell: impl Fn(&N)) -> bool {
        let links = of.links();
        if !links.awaited.load(Relaxed) {
            return true;
        }
        let (at, end) = (links.looked_at.get(), self.reached);
        let waits = |env: &N| load(env.word()).awaits_only(of.id());
        let looked = self.wake_some(at..end, |env| waits(env).then(|| tell(env)).is_some());
        links.looked_at.set(at + looked);
        at + looked >= end
    }
}

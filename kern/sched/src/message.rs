//! Who receives from whom.

use crate::node::Node;
use crate::scheduler::Sched;
use crate::word::{State, change, load, replace};
use abi::call::NO_PAGE;
use abi::{EnvId, Status};
use core::sync::atomic::Ordering::Relaxed;

/// How many slots are looked at in one go, and how many environments are woken: so no entry to the kernel runs long.
pub(crate) const AT_ONCE: usize = 256;
pub(crate) const WOKEN_AT_ONCE: usize = 32;

/// Take the environment with this id, if it waits for a message from that sender and no other processor holds it:
/// it runs here from now on, and the message is to be put into its registers. No lock is needed: there is one word to
/// change, and it has all that matters.
#[inline]
#[must_use]
pub fn take<N: Node>(receiver: &N, id: EnvId, sender: EnvId, processor: u32) -> bool {
    let now = load(receiver.word());
    now.taken(id, sender, processor).is_some_and(|then| replace(receiver.word(), now, then))
}

/// The other half of [`take`]: the caller, which has been left already, waits for a message without a page, from who was
/// taken or from anyone, and is given back. `false` if somebody wants something of it: then it is to
/// [wait](Sched::receive) and to be [given back](crate::give_back) with the lock.
///
/// Who was taken cannot end before this, because it is held here. So it will find that it is awaited.
#[inline]
#[must_use]
pub fn park<N: Node>(me: &N, taken: &N, from: EnvId, processor: u32) -> bool {
    debug_assert!(from == EnvId::ANY || from == taken.id(), "another one may have ended");
    me.links().receive_at.set(NO_PAGE);
    taken.links().awaited.store(true, Relaxed);
    replace(me.word(), State::running(me.id(), processor), State::waiting(me.id(), from))
}

impl<N: Node> Sched<N> {
    /// The caller waits for a message, from anyone or from one environment alone, which must be alive. `false` if
    /// the caller was ended meanwhile. `at` is where it wants a page.
    pub fn receive(&mut self, me: &'static N, at: u64, from: EnvId) -> bool {
        me.links().receive_at.set(at);
        if from != EnvId::ANY {
            self.table[from.slot()].links().awaited.store(true, Relaxed);
        }
        let living = |state: State| state.status() != Status::Dying;
        change(me.word(), |state| living(state).then(|| state.receiving(from))).is_ok()
    }

    /// If the environment with this id takes a message from that sender: where it wants a page. From here on nobody
    /// else sends to it, and it does not [go away](Sched::is_claimed), until the message [comes](Sched::deliver).
    #[inline]
    pub fn claim(&mut self, receiver: &'static N, id: EnvId, sender: EnvId) -> Option<u64> {
        let claimed = change(receiver.word(), |state| state.takes(id, sender).then(|| state.claimed(true)));
        claimed.is_ok().then(|| receiver.links().receive_at.get())
    }

    /// The end of a [claim](Sched::claim) that came to nothing.
    #[inline]
    pub fn disclaim(&mut self, receiver: &'static N) {
        _ = change(receiver.word(), |state| Some(state.claimed(false)));
    }

    /// The end of a claim: the receiver is runnable. The message is to be put into its registers before the lock is
    /// given up, and the receiver [run here](Sched::hand_over) or [put into the queue](Sched::wake). `false` if
    /// it was ended meanwhile.
    #[inline]
    #[must_use]
    pub fn deliver(&mut self, receiver: &'static N) -> bool {
        let before = change(receiver.word(), |state| {
            let state = state.claimed(false);
            Some(if state.status() == Status::Receiving { state.with(Status::Runnable) } else { state })
        });
        before.is_ok_and(|state| state.status() == Status::Receiving)
    }

    /// Whether a sender is about to hand over a page: its page map has to stay.
    #[must_use]
    pub fn is_claimed(&self, receiver: &'static N) -> bool {
        load(receiver.word()).is_claimed()
    }

    /// Receivers that wait for a message from this environment alone, which is ending, will not get one: tell them, and
    /// wake them. Returns whether these were all: it looks at some only, and goes on the next time.
    #[must_use]
    pub fn fail_receivers(&mut self, of: &'static N, tell: impl Fn(&'static N)) -> bool {
        let links = of.links();
        let end = if links.awaited.load(Relaxed) { self.reached } else { 0 };
        let mut woken = 0;
        for slot in (links.looked_at.get()..end).take(AT_ONCE) {
            links.looked_at.set(slot + 1);
            let env = &self.table[slot];
            if load(env.word()).awaits_only(of.id()) {
                tell(env);
                self.wake(env);
                woken += 1;
                if woken == WOKEN_AT_ONCE {
                    break;
                }
            }
        }
        links.looked_at.get() >= end
    }
}

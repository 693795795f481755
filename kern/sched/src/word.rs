//! The state of an environment: what it does, and with whom. One word, so that all of it changes at once.

use crate::sync::AtomicU64;
use abi::{EnvId, Status, window::EnvInfo};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Everything that a sender has to know of a receiver, and a processor of an environment that it takes:
///
/// ```text
///  63      32 31        12 11    5      4      3    0
/// |  awaits  | generation | holder | claimed | status |
/// ```
///
/// *Awaits*: the only environment from which a receiver takes a message; 0: it takes messages from anyone. (For a
/// runnable environment: whether it is reserved for the processor that keeps it off.) *Generation*: that of the id, so
/// that the word of an environment is never mistaken for that of another one in its slot. *Holder*: the number of the
/// processor that holds it, plus one; 0: none. *Claimed*: a sender is about to hand over a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(u64);

const CLAIMED: u64 = 1 << 4;
const HOLDER_SHIFT: u32 = 5;
const HOLDER: u64 = 0x7f << HOLDER_SHIFT;
const GENERATION: u64 = (EnvId::MAX_GENERATION as u64) << EnvId::SLOT_BITS;
const AWAITS_SHIFT: u32 = 32;
const RESERVED: u64 = 1 << AWAITS_SHIFT;

impl State {
    /// The status: what the environment is doing.
    #[inline]
    pub fn status(self) -> Status {
        Status::from_number(self.0 & EnvInfo::STATUS).unwrap_or(Status::Free)
    }

    /// Whether the environment waits for a message.
    pub(crate) fn is_receiving(self) -> bool {
        matches!(self.status(), Status::Receiving | Status::ReceivingUntil)
    }

    #[inline]
    fn is(self, status: Status) -> bool {
        self.0 & EnvInfo::STATUS == status as u64
    }

    /// The processor that holds the environment.
    #[inline]
    pub fn holder(self) -> Option<u32> {
        ((self.0 & HOLDER) >> HOLDER_SHIFT).checked_sub(1).map(|number| number as u32)
    }

    /// Whether no other processor than this one holds the environment.
    #[inline]
    pub fn is_free_for(self, processor: u32) -> bool {
        let holder = self.0 & HOLDER;
        holder == 0 || holder == holder_bits(processor)
    }

    #[inline]
    pub(crate) fn is_claimed(self) -> bool {
        self.0 & CLAIMED != 0
    }

    /// Whether the environment has this id, and waits for a message that this sender may send.
    #[inline]
    pub(crate) fn takes(self, id: EnvId, sender: EnvId) -> bool {
        // The two statuses of a receiver.
        const UNTIL: u64 = Status::Receiving as u64 ^ Status::ReceivingUntil as u64;
        let state = self.given_back();
        (state.is_waiting(id) || State(state.0 ^ UNTIL).is_waiting(id)) && self.listens_to(sender)
    }

    /// The state after a message from that sender let the environment run on this processor; `None` unless it has this
    /// id, waits for just that, and no other processor holds it.
    #[inline]
    pub(crate) fn taken(self, id: EnvId, sender: EnvId, processor: u32) -> Option<State> {
        let holder = holder_bits(processor);
        let can = (self.is_waiting(id) || State(self.0 ^ holder).is_waiting(id)) && self.listens_to(sender);
        can.then(|| State::running(id, processor))
    }

    /// The state of an environment that runs, and that no other processor has reserved, stopped or claimed.
    #[inline]
    pub(crate) fn running(id: EnvId, processor: u32) -> State {
        State(u64::from(id.0) & GENERATION | holder_bits(processor) | Status::Running as u64)
    }

    /// The state of an environment that waits for a message. No processor holds it, and no sender has claimed it.
    #[inline]
    pub(crate) fn waiting(id: EnvId, from: EnvId) -> State {
        State(u64::from(from.0) << AWAITS_SHIFT | u64::from(id.0) & GENERATION | Status::Receiving as u64)
    }

    #[inline]
    fn is_waiting(self, id: EnvId) -> bool {
        self.0 as u32 == State::waiting(id, EnvId::ANY).0 as u32
    }

    #[inline]
    fn listens_to(self, sender: EnvId) -> bool {
        let awaits = EnvId((self.0 >> AWAITS_SHIFT) as u32);
        awaits == EnvId::ANY || awaits == sender
    }

    /// Whether the environment waits for a message from this one alone.
    #[inline]
    pub(crate) fn awaits_only(self, from: EnvId) -> bool {
        self.is_receiving() && self.0 >> AWAITS_SHIFT == u64::from(from.0)
    }

    /// Runnable, and only the processor that keeps it off may take it.
    #[inline]
    pub(crate) fn reserved(self) -> State {
        State(self.with(Status::Runnable).0 | RESERVED)
    }

    #[inline]
    pub(crate) fn is_reserved(self) -> bool {
        self.is(Status::Runnable) && self.0 & RESERVED != 0
    }

    pub(crate) fn unreserved(self) -> State {
        if self.is_reserved() { self.with(Status::Runnable) } else { self }
    }

    /// Another status; the environment awaits nobody.
    #[inline]
    pub(crate) fn with(self, status: Status) -> State {
        State(self.0 & (GENERATION | HOLDER | CLAIMED) | status as u64)
    }

    /// Waiting for a message, with a deadline or without.
    #[inline]
    pub(crate) fn receiving(self, from: EnvId, until: bool) -> State {
        let status = if until { Status::ReceivingUntil } else { Status::Receiving };
        State(self.with(status).0 | u64::from(from.0) << AWAITS_SHIFT)
    }

    #[inline]
    pub(crate) fn held_by(self, processor: u32) -> State {
        State(self.0 & !HOLDER | holder_bits(processor))
    }

    #[inline]
    pub(crate) fn given_back(self) -> State {
        State(self.0 & !HOLDER)
    }

    pub(crate) fn claimed(self, claimed: bool) -> State {
        State(if claimed { self.0 | CLAIMED } else { self.0 & !CLAIMED })
    }

    /// The first state of an environment in a slot that is used again. (A processor may still hold the slot, because it
    /// ended the previous environment.)
    pub(crate) fn renewed(self, id: EnvId) -> State {
        State(self.0 & HOLDER | u64::from(id.0) & GENERATION | Status::Stopped as u64)
    }
}

#[inline]
fn holder_bits(processor: u32) -> u64 {
    u64::from(processor + 1) << HOLDER_SHIFT
}

/// The current state. Another processor may change it at any moment.
#[inline]
pub(crate) fn load(word: &AtomicU64) -> State {
    State(word.load(Acquire))
}

/// Changes the state from `now` to `then`. `false` if it is not `now`.
#[inline]
pub(crate) fn replace(word: &AtomicU64, now: State, then: State) -> bool {
    word.compare_exchange(now.0, then.0, AcqRel, Relaxed).is_ok()
}

/// Changes the state to what `f` makes of it. Returns the previous state, as an error if `f` returned `None`.
#[inline]
pub(crate) fn change(word: &AtomicU64, f: impl Fn(State) -> Option<State>) -> Result<State, State> {
    let changed = word.fetch_update(AcqRel, Acquire, |word| f(State(word)).map(|state| state.0));
    changed.map(State).map_err(State)
}

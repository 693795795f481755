//! What an environment is doing, and with whom: one word, so that all of it changes at once.

use crate::sync::AtomicU64;
use abi::window::EnvInfo;
use abi::{EnvId, Status};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// All that a sender has to know of a receiver, and a processor of what it takes:
///
/// ```text
///  63      32 31        12 11    5      4      3    0
/// |  awaits  | generation | holder | claimed | status |
/// ```
///
/// *Awaits*: from whom alone a receiver takes a message; 0: from anyone. (Of one that is runnable: whether it is
/// reserved for the processor that keeps it off the others.) *Generation*: that of the id; so a word of
/// an environment is never taken for one of another that has its slot. *Holder*: the number of the processor that has
/// it, plus one; 0: none. *Claimed*: a sender is about to hand over a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(u64);

const CLAIMED: u64 = 1 << 4;
const HOLDER_SHIFT: u32 = 5;
const HOLDER: u64 = 0x7f << HOLDER_SHIFT;
const GENERATION: u64 = (EnvId::MAX_GENERATION as u64) << EnvId::SLOT_BITS;
const AWAITS_SHIFT: u32 = 32;
const RESERVED: u64 = 1 << AWAITS_SHIFT;

impl State {
    /// What it is doing.
    #[inline]
    #[must_use]
    pub fn status(self) -> Status {
        Status::from_number(self.0 & EnvInfo::STATUS).unwrap_or(Status::Free)
    }

    #[inline]
    fn is(self, status: Status) -> bool {
        self.0 & EnvInfo::STATUS == status as u64
    }

    /// The processor that has it.
    #[inline]
    #[must_use]
    pub fn holder(self) -> Option<u32> {
        ((self.0 & HOLDER) >> HOLDER_SHIFT).checked_sub(1).map(|number| number as u32)
    }

    /// Whether no processor has it, or this one.
    #[inline]
    #[must_use]
    pub fn is_free_for(self, processor: u32) -> bool {
        let holder = self.0 & HOLDER;
        holder == 0 || holder == holder_bits(processor)
    }

    #[inline]
    pub(crate) fn is_claimed(self) -> bool {
        self.0 & CLAIMED != 0
    }

    /// Whether it is the environment with this id, and waits for a message that this sender may send.
    #[inline]
    pub(crate) fn takes(self, id: EnvId, sender: EnvId) -> bool {
        self.given_back().is_waiting(id) && self.listens_to(sender)
    }

    /// What it is when it runs on this processor, because of a message from that sender: if it is the environment
    /// with this id, waits for just that, and no other processor has it.
    #[inline]
    pub(crate) fn taken(self, id: EnvId, sender: EnvId, processor: u32) -> Option<State> {
        let holder = holder_bits(processor);
        let can = (self.is_waiting(id) || State(self.0 ^ holder).is_waiting(id)) && self.listens_to(sender);
        can.then(|| State::running(id, processor))
    }

    /// An environment that runs, and of which nobody wants anything.
    #[inline]
    pub(crate) fn running(id: EnvId, processor: u32) -> State {
        State(u64::from(id.0) & GENERATION | holder_bits(processor) | Status::Running as u64)
    }

    /// One that waits for a message. Nobody has it, and nobody has claimed it.
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

    /// Whether it waits for a message from this environment alone.
    #[inline]
    pub(crate) fn awaits_only(self, from: EnvId) -> bool {
        let waits = u64::from(from.0) << AWAITS_SHIFT | Status::Receiving as u64;
        self.0 & (!0 << AWAITS_SHIFT | EnvInfo::STATUS) == waits
    }

    /// It is runnable, and only the processor that keeps it off the others may take it.
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

    /// It does something else now, and awaits nobody.
    #[inline]
    pub(crate) fn with(self, status: Status) -> State {
        State(self.0 & (GENERATION | HOLDER | CLAIMED) | status as u64)
    }

    /// It waits for a message.
    #[inline]
    pub(crate) fn receiving(self, from: EnvId) -> State {
        State(self.with(Status::Receiving).0 | u64::from(from.0) << AWAITS_SHIFT)
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

    /// A free slot is used again. (Who ended the last one may hold it yet.)
    pub(crate) fn renewed(self, id: EnvId) -> State {
        State(self.0 & HOLDER | u64::from(id.0) & GENERATION | Status::Stopped as u64)
    }
}

#[inline]
fn holder_bits(processor: u32) -> u64 {
    u64::from(processor + 1) << HOLDER_SHIFT
}

/// The state, for now.
#[inline]
pub(crate) fn load(word: &AtomicU64) -> State {
    State(word.load(Acquire))
}

/// Change the state from one to another. `false` if it is not the one.
#[inline]
pub(crate) fn replace(word: &AtomicU64, now: State, then: State) -> bool {
    word.compare_exchange(now.0, then.0, AcqRel, Relaxed).is_ok()
}

/// Change the state in whatever way fits what it is. Returns what it was: an error if there is nothing to change.
#[inline]
pub(crate) fn change(word: &AtomicU64, f: impl Fn(State) -> Option<State>) -> Result<State, State> {
    let changed = word.fetch_update(AcqRel, Acquire, |word| f(State(word)).map(|state| state.0));
    changed.map(State).map_err(State)
}

/// Nobody holds the environment any more. Returns whether it is to run, or to end.
#[inline]
pub(crate) fn give_back(word: &AtomicU64) -> bool {
    let before = State(word.fetch_and(!HOLDER, AcqRel));
    before.is(Status::Runnable) || before.is(Status::Dying)
}

//! Messages: a word, and perhaps a page.
//!
//! A message goes from the sender's registers to the receiver's; nothing is queued. A receiver that
//! is not ready is an error, and what to do about that is for libos to decide.

use crate::env::{self, Env};
use crate::pages::{share, unpinned};
use crate::sched::{self, Locked};
use crate::syscall::{Results, with_space};
use ::sched::Node;
use abi::call::{GOT_PAGE, NO_PAGE};
use abi::{EnvId, Error, Perms, Va};

/// `recv(va | NO_PAGE, from | 0)`
#[inline(never)]
pub fn receive(me: &'static Env, at: u64, from: EnvId) -> Results {
    check_receive(me, at, from)?;
    let mut sched = sched::lock();
    // It may have ended since: then nobody would wake the caller.
    env::find(me, from)?;
    sched.receive(me, at, from);
    sched::switch(sched)
}

/// `send_recv(env, value, va, perms, recv va, from)`
#[inline(always)]
pub fn send_receive(me: &'static Env, arguments: [u64; 6]) -> Results {
    let [to, word, page, _, at, from] = arguments;
    // Most messages: a word for a word, and who is to answer waits already.
    if page == NO_PAGE && at == NO_PAGE && (from == to || from == 0) && to <= u32::MAX.into() {
        let (to, from, my_id) = (EnvId(to as u32), EnvId(from as u32), me.id());
        let receiver = env::all().get(to.slot());
        if let Some(receiver) = receiver.filter(|env| ::sched::take(*env, to, my_id, sched::here())) {
            receiver.frame.set_results((my_id.0.into(), word));
            sched::exchange(me, receiver, from);
        }
    }
    send_receive_locked(me)
}

#[cold]
#[inline(never)]
fn send_receive_locked(me: &'static Env) -> Results {
    let [to, word, page, perms, at, from] = me.frame.saved().arguments();
    let (to, from) = (EnvId::from_register(to)?, EnvId::from_register(from)?);
    check_receive(me, at, from)?;
    let (receiver, mut sched) = deliver(me, to, word, page, Perms::from_bits_retain(perms), from)?;
    sched.receive(me, at, from);
    sched::hand_over(receiver, sched, abi::Call::SendRecv)
}

/// `send(env, value, va | NO_PAGE, perms)`: hand over a message, and make the receiver runnable.
#[inline(never)]
pub fn send(me: &'static Env, to: EnvId, value: u64, page: u64, perms: Perms) -> Results {
    let (receiver, mut sched) = deliver(me, to, value, page, perms, EnvId::ANY)?;
    sched.wake(receiver);
    Ok((0, 0))
}

/// Hand over a message, if there is still somebody to wait for afterwards. The receiver is to be put into the queue, or
/// run.
#[inline]
fn deliver(
    me: &'static Env,
    to: EnvId,
    value: u64,
    page: u64,
    perms: Perms,
    from: EnvId,
) -> Result<(&'static Env, Locked), Error> {
    let receiver = env::find(me, to)?;
    if page != NO_PAGE {
        Perms::checked(perms.bits())?;
        unpinned(me, Va(page).source_run(1)?, 1)?;
    }
    let mut sched = sched::lock();
    let at = sched.claim(receiver, to, me.id()).ok_or(Error::NotReceiving(to.0.into()))?;
    let mut flags = 0;
    if page != NO_PAGE && at != NO_PAGE {
        flags = GOT_PAGE;
        drop(sched);
        let shared = share(me, Va(page), receiver, Va(at), perms);
        sched = sched::lock();
        if shared.is_err() {
            sched.disclaim(receiver);
        }
        shared?;
    }
    // It may have ended since: then nobody would wake the caller. A page that is there by now cannot be taken back, so
    // the message goes with it, as if this had been noticed a moment later.
    let partner = env::find(me, from);
    if flags == 0 {
        partner.inspect_err(|_| sched.disclaim(receiver))?;
    }
    if !sched.deliver(receiver) {
        return Err(Error::BadEnv(to.0.into()));
    }
    receiver.frame.set_results((u64::from(me.id().0) | flags, value));
    partner.inspect_err(|_| sched.wake(receiver))?;
    Ok((receiver, sched))
}

fn check_receive(me: &'static Env, at: u64, from: EnvId) -> Result<(), Error> {
    if at != NO_PAGE {
        let at = Va(at).user_run(1)?;
        unpinned(me, at, 1)?;
        // Better now, and to the receiver, than later, and to the sender.
        with_space(me, |space| space.is_open(at))?;
    }
    env::find(me, from).map(drop)
}

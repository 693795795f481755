//! Messages: a word, and perhaps a page.
//!
//! A message goes from the sender's registers to the receiver's; nothing is queued. A receiver that
//! is not ready is an error, and what to do about that is for libos to decide.

use crate::env::{self, Env};
use crate::pages::{share, source_va, unpinned, user_va};
use crate::syscall::{Results, with_space};
use crate::{life, sched};
use abi::call::{GOT_PAGE, NO_PAGE};
use abi::{EnvId, Error, Perms, Status, Va};

/// `recv(va | NO_PAGE, from | 0)`
#[inline(never)]
pub fn receive(me: &'static Env, at: u64, from: EnvId) -> Results {
    check_receive(me, at, from)?;
    wait_for_message(me, at, from)?;
    sched::switch()
}

/// `send_recv(env, value, va, perms, recv va, from)`
#[inline(never)]
pub fn send_receive(
    me: &'static Env,
    to: EnvId,
    value: u64,
    page: u64,
    perms: Perms,
    at: u64,
    from: EnvId,
) -> Results {
    check_receive(me, at, from)?;
    let receiver = send(me, to, value, page, perms)?;
    wait_for_message(me, at, from)?;
    sched::run_or_switch(receiver, abi::Call::SendRecv)
}

/// `send(env, value, va | NO_PAGE, perms)`: hand over a message, and make the receiver runnable.
#[inline(never)]
pub fn send(me: &'static Env, to: EnvId, value: u64, page: u64, perms: Perms) -> Result<&'static Env, Error> {
    let receiver = env::find(me, to)?;
    if page != NO_PAGE {
        Perms::checked(perms.bits())?;
        unpinned(me, source_va(Va(page), 1)?, 1)?;
    }
    let at = claim(me, receiver, to)?;
    let with_page = page != NO_PAGE && at != NO_PAGE;
    let shared = if with_page { share(me, Va(page), receiver, Va(at), perms) } else { Ok(()) };
    let mut sched = sched::lock();
    receiver.links(&sched).receiving.set(false);
    shared?;
    if receiver.status() != Status::Receiving {
        return Err(Error::BadEnv(to.0.into()));
    }
    life::forget_awaited(receiver, &sched);
    let flags = if with_page { GOT_PAGE } else { 0 };
    receiver.frame.set_results((u64::from(me.id().0) | flags, value));
    sched.wake(receiver);
    Ok(receiver)
}

/// From here on nobody else sends to the receiver, and it does not go away. Returns where it wants a page.
fn claim(me: &'static Env, receiver: &'static Env, id: EnvId) -> Result<u64, Error> {
    let sched = sched::lock();
    let links = receiver.links(&sched);
    let listens = links.awaits.get() == EnvId::NONE || links.awaits.get() == me.id();
    let receives = receiver.status() == Status::Receiving && receiver.id() == id;
    if !receives || !listens || links.receiving.replace(true) {
        return Err(Error::NotReceiving(id.0.into()));
    }
    Ok(links.receive_at.get())
}

fn check_receive(me: &'static Env, at: u64, from: EnvId) -> Result<(), Error> {
    if at != NO_PAGE {
        let at = user_va(Va(at), 1)?;
        unpinned(me, at, 1)?;
        // Better now, and to the receiver, than later, and to the sender.
        with_space(me, |space| space.is_open(at))?;
    }
    if from != EnvId::NONE {
        env::find(me, from)?;
    }
    Ok(())
}

fn wait_for_message(me: &'static Env, at: u64, from: EnvId) -> Result<(), Error> {
    let mut sched = sched::lock();
    // It may have ended since: then nobody would wake this one.
    if from != EnvId::NONE {
        env::find(me, from)?;
    }
    if !sched.block(me, Status::Receiving) {
        return Ok(());
    }
    let links = me.links(&sched);
    links.receive_at.set(at);
    links.awaits.set(from);
    if from != EnvId::NONE {
        let awaited = &env::at(from.slot()).links(&sched).awaited;
        awaited.set(awaited.get() + 1);
    }
    Ok(())
}

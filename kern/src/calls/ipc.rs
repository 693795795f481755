//! Messages: a word, and perhaps a page.
//!
//! A message goes from the sender's registers to the receiver's; nothing is queued. If the receiver is not ready, the
//! sender gets an error, and libos decides what to do about it.

use crate::calls::pages::unpinned;
use crate::env::scheduler::{self, Locked};
use crate::env::table::{self, Env, Results, with_page_map, with_page_maps};
use crate::env::{bracket::Entry, devices, run_loop};
use crate::machine::{cpu::here, windows};
use abi::call::{GOT_PAGE, NO_PAGE};
use abi::{Arguments, Awaited, Call, EnvId, Error, Perms, Va, args};
use core::sync::atomic::Ordering::Relaxed;
use sched::{NEVER, Node};

/// `recv(va | NO_PAGE, from | 0)`: waits for a message.
#[inline(never)]
pub fn receive(entry: Entry, me: &'static Env, at: u64, from: Awaited) -> Results {
    check_receive(me, at, from.env)?;
    let mut locked = scheduler::lock();
    // The sender may have ended since: then nobody would wake the caller.
    table::find(me, from.env)?;
    if let Some(message) = devices::pending(&mut locked, me, from.env) {
        return Ok(message);
    }
    wait(&mut locked, me, at, from);
    run_loop::switch(entry, locked)
}

/// Makes the caller wait for a message. If none comes in time, its call returns an error.
fn wait(locked: &mut Locked, me: &'static Env, at: u64, Awaited { env, ticks }: Awaited) {
    let until = windows::machine().ticks.load(Relaxed) + u64::from(ticks);
    if ticks > 0 {
        me.frame.set_results(Error::TimedOut(ticks.into()).encode());
    }
    locked.receive(me, at, env, if ticks > 0 { until } else { NEVER });
}

/// `send_recv(env, value, va, perms, recv va, from)`: sends a message, and waits for one.
#[inline(always)]
pub fn send_receive(entry: Entry, me: &'static Env, arguments: [u64; 6]) -> Results {
    const PLACES: [usize; 5] = Call::SendRecv.places(["env", "value", "va", "recv_va", "from"]);
    let [to, word, page, at, from] = PLACES.map(|place| arguments[place]);
    // Fast path, for most messages: a word for a word, and the receiver waits already.
    let is_usual = from == to || from == 0 && !devices::has_any(me);
    if page == NO_PAGE && at == NO_PAGE && is_usual && to <= u32::MAX.into() {
        let (to, from, my_id) = (EnvId(to as u32), EnvId(from as u32), me.id());
        let receiver = table::all().get(to.slot());
        if let Some(receiver) = receiver.filter(|env| sched::take(*env, to, my_id, here())) {
            receiver.frame.set_results((my_id.0.into(), word));
            run_loop::exchange(entry, me, receiver, from);
        }
    }
    send_receive_locked(entry, me)
}

#[cold]
#[inline(never)]
fn send_receive_locked(entry: Entry, me: &'static Env) -> Results {
    let args::SendRecv { env, value, va, perms, recv_va, from } =
        Arguments::from_registers(me.frame.saved().arguments())?;
    check_receive(me, recv_va.0, from.env)?;
    let (receiver, mut locked) = deliver(me, args::Send { env, value, va, perms }, from.env)?;
    if let Some(message) = devices::pending(&mut locked, me, from.env) {
        locked.wake(receiver);
        return Ok(message);
    }
    wait(&mut locked, me, recv_va.0, from);
    run_loop::hand_over(entry, receiver, locked, Call::SendRecv)
}

/// `send(env, value, va | NO_PAGE, perms)`: delivers a message, and makes the receiver runnable.
#[inline(never)]
pub fn send(me: &'static Env, message: args::Send) -> Results {
    let (receiver, mut locked) = deliver(me, message, EnvId::ANY)?;
    locked.wake(receiver);
    Ok((0, 0))
}

/// Delivers a message, if `from` is still alive for the caller to wait for. The caller of this function puts the
/// receiver into the run queue, or runs it.
fn deliver(me: &'static Env, message: args::Send, from: EnvId) -> Result<(&'static Env, Locked), Error> {
    let args::Send { env: to, value, va, perms } = message;
    let receiver = table::find(me, to)?;
    if va.0 != NO_PAGE {
        Perms::checked(perms.bits())?;
        unpinned(me, va.source_run(1)?, 1)?;
    }
    let mut locked = scheduler::lock();
    let at = locked.claim(receiver, to, me.id()).ok_or(Error::NotReceiving(to.0.into()))?;
    let mut flags = 0;
    if va.0 != NO_PAGE && at != NO_PAGE {
        flags = GOT_PAGE;
        drop(locked);
        let shared = with_page_maps(me, receiver, |source, map| {
            unpinned(receiver, Va(at), 1)?;
            let frame = source.as_deref().unwrap_or(map).grant(va, perms)?;
            map.accept(Va(at), frame, perms)
        });
        locked = scheduler::lock();
        if shared.is_err() {
            disclaim(&mut locked, receiver);
        }
        shared?;
    }
    // `from` may have ended since: then nobody would wake the caller. A page that was shared already cannot be taken
    // back, so the message is delivered all the same, as if the end had been noticed a moment later.
    let partner = table::find(me, from);
    if flags == 0 {
        partner.inspect_err(|_| disclaim(&mut locked, receiver))?;
    }
    if !locked.deliver(receiver) {
        return Err(Error::BadEnv(to.0.into()));
    }
    receiver.frame.set_results((u64::from(me.id().0) | flags, value));
    partner.inspect_err(|_| locked.wake(receiver))?;
    Ok((receiver, locked))
}

/// Ends a claim without a message. An interrupt of the receiver's devices may have come meanwhile.
fn disclaim(locked: &mut Locked, receiver: &'static Env) {
    locked.disclaim(receiver);
    devices::tell_all(locked, receiver);
}

fn check_receive(me: &'static Env, at: u64, from: EnvId) -> Result<(), Error> {
    if at != NO_PAGE {
        let at = Va(at).user_run(1)?;
        unpinned(me, at, 1)?;
        // An error now, to the receiver, is better than one later, to the sender.
        with_page_map(me, |map| map.is_open(at))?;
    }
    table::find(me, from).map(drop)
}

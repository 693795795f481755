//! Messages between environments: a word, and perhaps a page.
//!
//! The kernel delivers a message only while the receiver waits for it; nothing is queued. The functions of this module
//! block: they yield to the receiver and try again.

pub use crate::sys::Message;
use crate::{EnvId, Perms, Va, door, sys};
use abi::error::Error;

/// Repeats `attempt` until `to` is receiving.
#[inline]
fn until_received<T>(to: EnvId, attempt: impl Fn() -> sys::Result<T>) -> sys::Result<T> {
    loop {
        match attempt() {
            Err(Error::NotReceiving(_)) => sys::yield_to(to)?,
            result => return result,
        }
    }
}

/// Send a word; waits until `to` receives it.
///
/// # Errors
/// `BadEnv` if there is no such environment, or it ends meanwhile.
pub fn send(to: EnvId, value: u64) -> sys::Result<()> {
    until_received(to, || sys::send(to, value, None))
}

/// Send a word and share the page at `va`, with these permissions.
///
/// # Errors
/// As [`send`]; as [`sys::map`] for the page. If the program itself may not read the page, or may not write it
/// although `perms` includes that, this is a fault like any other.
pub fn send_page(to: EnvId, value: u64, va: Va, perms: Perms) -> sys::Result<()> {
    // A lazy page must be mapped, and a copy-on-write page must be private, before it is shared.
    if perms.contains(Perms::WRITE) {
        door::touch_to_write(va.0);
    } else {
        door::touch_to_read(va.0);
    }
    until_received(to, || sys::send(to, value, Some((va, perms))))
}

/// Wait for a word from any environment. A page in the message is not accepted.
///
/// # Errors
/// None that a correct program sees.
pub fn recv() -> sys::Result<Message> {
    sys::recv(None, EnvId::ANY)
}

/// Wait for a word from this environment.
///
/// # Errors
/// `BadEnv` if there is no such environment.
pub fn recv_from(from: EnvId) -> sys::Result<Message> {
    sys::recv(None, from)
}

/// Wait for a word from this environment, or with [`EnvId::ANY`] from any, but not longer than this many ticks of the
/// timer (0: as long as it takes). The tick that is under way counts, so a wait of one tick may be shorter than a tick.
///
/// # Errors
/// `TimedOut`; `BadEnv` if there is no such environment.
pub fn recv_for(from: EnvId, ticks: u32) -> sys::Result<Message> {
    sys::recv(None, abi::Awaited { env: from, ticks })
}

/// Wait for a message from any environment; a page in the message is mapped at `va`.
///
/// # Errors
/// `BadAddress`, `Unaligned`, `Pinned` for `va`.
pub fn recv_page(va: Va) -> sys::Result<Message> {
    sys::recv(Some(va), EnvId::ANY)
}

/// Send a word to `to` and wait for its answer, in one call to the kernel.
///
/// # Errors
/// As [`send`].
#[inline]
pub fn call(to: EnvId, value: u64) -> sys::Result<Message> {
    until_received(to, || sys::send_recv(to, value, None, None, to))
}

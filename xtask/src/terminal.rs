//! The terminal, handed to the guest: no echo, no line editing, every key at once. Only Ctrl-C stays with the tool. The
//! old settings are restored, whatever happens in between.
//!
//! A terminal belongs to its foreground process group. The host's kernel stops any other process of the session that
//! reads from it or changes its settings. So a tool in the background behaves as if there were no terminal. The
//! foreground group may change while a machine runs, so it is queried each time.

use rustix::process::getpgrp;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use std::io::{IsTerminal, stdin, stdout};
use std::sync::{Mutex, Once, PoisonError};

static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A guard: while it lives, the terminal is the guest's.
pub struct Raw(());

/// Whether stdin is a terminal that this process may use.
#[must_use]
pub fn is_attended() -> bool {
    stdin().is_terminal() && !in_background()
}

/// Whether a user sits at the terminal who also sees the output.
#[must_use]
pub fn is_interactive() -> bool {
    is_attended() && stdout().is_terminal()
}

/// Whether stdin is a terminal whose foreground process group is another one.
///
/// A terminal that does not control this session has no such group, and stops no process.
#[must_use]
pub fn in_background() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|foreground| foreground != getpgrp())
}

impl Raw {
    /// Hands the terminal over to the guest, if there is one.
    #[must_use]
    pub fn enter() -> Option<Raw> {
        static HOOK: Once = Once::new();
        let before = is_interactive().then(|| tcgetattr(stdin()).ok()).flatten()?;
        let raw = raw(&before);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        HOOK.call_once(restore_on_panic);
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Raw(()))
    }
}

/// These settings, changed to raw mode for the guest.
fn raw(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    raw.input_modes -= InputModes::IXON;
    // Ctrl-Z and Ctrl-\ are keys for the guest.
    raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
    raw.special_codes[SpecialCodeIndex::VQUIT] = 0;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

/// Hands the terminal over again, if it was handed over before: a shell that stopped the tool, or sent it into the
/// background, has changed the settings.
pub fn resume() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = before.as_ref().filter(|_| !in_background()) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &raw(before));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal on a panic, which ends the process without dropping anything.
fn restore_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        previous(info);
    }));
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    // In the background the settings are already those of the shell.
    if let Some(before) = before.filter(|_| !in_background()) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

//! The terminal, handed to the guest: no echo, no lines, every key at once. Only Ctrl-C stays with
//! the tool. What was set before is set again, whatever happens in between.

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{IsTerminal, stdin, stdout};
use std::sync::{Mutex, Once, PoisonError};

static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// While this lives, the terminal is the guest's.
pub struct Raw(());

/// Whether somebody sits in front of it.
#[must_use]
pub fn is_interactive() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

impl Raw {
    /// Hands the terminal over, if there is one.
    #[must_use]
    pub fn enter() -> Option<Raw> {
        static HOOK: Once = Once::new();
        let before = is_interactive().then(|| tcgetattr(stdin()).ok()).flatten()?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        raw.input_modes -= InputModes::IXON;
        // Ctrl-Z and Ctrl-\ are keys for the guest.
        raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        raw.special_codes[SpecialCodeIndex::VQUIT] = 0;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        HOOK.call_once(restore_on_panic);
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// A panic ends the process at once, without dropping anything.
fn restore_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        previous(info);
    }));
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

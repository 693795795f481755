//! Ctrl-C, SIGTERM and SIGHUP end the tool, but not before it has put things in order.
//!
//! While a machine runs, a signal is only noted; whoever waits for the machine looks at the note,
//! ends the machine and returns, so that temporary files go and the terminal is as it was. `main`
//! then lets the signal do its work.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

static PENDING: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on, signals are noted.
pub fn arm() {
    PENDING.get_or_init(|| {
        let pending = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            // Refused only for signals that cannot be caught, and these can.
            let _ = flag::register_usize(signal, Arc::clone(&pending), signal as usize);
        }
        pending
    });
}

/// As if this signal had come.
pub fn raise(signal: i32) {
    arm();
    if let Some(pending) = PENDING.get() {
        pending.store(signal as usize, Relaxed);
    }
}

/// The signal that came, if one did.
#[must_use]
pub fn pending() -> Option<i32> {
    let signal = PENDING.get()?.load(Relaxed);
    (signal != 0).then_some(signal as i32)
}

/// Ends the process by the signal that came, if one did.
pub fn obey() {
    if let Some(signal) = pending() {
        let _ = low_level::emulate_default_handler(signal);
    }
}

/// Takes the note of this signal back: it was meant for somebody else.
pub fn forget(signal: i32) {
    if let Some(pending) = PENDING.get() {
        let _ = pending.compare_exchange(signal as usize, 0, Relaxed, Relaxed);
    }
}

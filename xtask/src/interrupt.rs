//! Ctrl-C, SIGTERM and SIGHUP end the tool, but only after it has cleaned up.
//!
//! While a machine runs, a signal is only recorded. The code that waits for the machine checks the record, ends the
//! machine and returns, so that temporary files are removed and the terminal is restored. `main` then lets the signal
//! take effect.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

static PENDING: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Starts to record signals instead of dying from them.
pub fn arm() {
    PENDING.get_or_init(|| {
        let pending = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            // Fails only for signals that cannot be caught, and these can.
            let _ = flag::register_usize(signal, Arc::clone(&pending), signal as usize);
        }
        pending
    });
}

/// Behaves as if this signal had arrived.
pub fn raise(signal: i32) {
    arm();
    if let Some(pending) = PENDING.get() {
        pending.store(signal as usize, Relaxed);
    }
}

/// The signal that arrived, if any.
#[must_use]
pub fn pending() -> Option<i32> {
    let signal = PENDING.get()?.load(Relaxed);
    (signal != 0).then_some(signal as i32)
}

/// Ends the process by the signal that arrived, if any.
pub fn obey() {
    if let Some(signal) = pending() {
        let _ = low_level::emulate_default_handler(signal);
    }
}

/// Discards the record of this signal: it was meant for another process.
pub fn forget(signal: i32) {
    if let Some(pending) = PENDING.get() {
        let _ = pending.compare_exchange(signal as usize, 0, Relaxed, Relaxed);
    }
}

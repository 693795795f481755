//! The command line: the words in it that are for the kernel.

use crate::env::run_loop;
use crate::machine::{apic, control, cpu, power, print, provoke, windows};
use core::sync::atomic::Ordering::Relaxed;
use firmware::BootInfo;

/// Reads the words for the kernel, and does what they ask.
pub fn read(boot: &'static BootInfo) {
    print::TRACE.store(boot.word("trace").is_some(), Relaxed);
    let tick = boot.word("tick=").and_then(|us| us.parse().ok());
    let tick_us = tick.unwrap_or(provoke::DEFAULT_TICK_US);
    windows::machine().tick_ns.store(tick_us * 1000, Relaxed);
    apic::init(tick_us);
    let nonce = boot.word("nonce=").unwrap_or("");
    power::report_ready(nonce);
    if boot.word("sign").is_some() {
        print::SIGNATURE.call_once(|| nonce);
    }
    if let Some(ticks) = boot.word("limit=").and_then(|ticks| ticks.parse().ok()) {
        run_loop::LIMIT.store(ticks, Relaxed);
    }
    provoke::TWICE.store(boot.word("hold-twice").is_some(), Relaxed);
    if boot.word("break-entries").is_some() {
        provoke::BREAKS.store(true, Relaxed);
        control::set(cpu::this());
    }
    provoke::LATE.store(boot.word("late=").and_then(|id| id.parse().ok()).unwrap_or(u32::MAX), Relaxed);
    // So that tests see what a panic looks like.
    assert!(boot.word("panic").is_none(), "the command line asked for it");
}

//! Times the user's half of an upcall on the processor of the host: registers are saved, the handler is found and
//! called, registers are restored, and the program is resumed. The emulator counts instructions; only a real processor
//! shows their time.
//!
//! The code is that of a real Faultline program. Its segments are loaded at their addresses, between those of this
//! process. A frame is written to its exception stack, as the kernel would do for a breakpoint, with a handler that
//! does nothing. Then this program jumps to the upcall entry, as the kernel would. The return leads behind the jump,
//! for the next round.
//!
//! ```text
//!   rounds (host)                       libos, as loaded from the program's file
//!   mov rsp, frame; jmp enter --------> enter: save, call handle --> handler (host): resume
//!   here: one round less     <--------- restore all registers, jmp [rip]
//! ```
//!
//! Started by `cargo xtask bench --native`.

#![warn(clippy::undocumented_unsafe_blocks)]

mod image;
mod upcall;

use anyhow::{Context, Result};
use image::Image;
use std::time::Instant;
use upcall::Upcall;

/// Rounds in one measurement.
const ROUNDS: u64 = 1_000_000;
/// The number of measurements. The fastest counts: the others were disturbed.
const TRIES: usize = 20;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).context("which program? (its file is the argument)")?;
    let image = Image::load(path.as_ref())?;
    let mut upcall = Upcall::new(&image)?;
    let (mut ns, mut ticks) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TRIES {
        let (start, start_tsc) = (Instant::now(), upcall::time_stamp());
        upcall.rounds(ROUNDS);
        let (spent, spent_tsc) = (start.elapsed(), upcall::time_stamp() - start_tsc);
        ns = ns.min(spent.as_nanos() as f64 / ROUNDS as f64);
        ticks = ticks.min(spent_tsc as f64 / ROUNDS as f64);
    }
    println!("upcall, user's half (save, dispatch, empty handler, restore, return): {ns:.1} ns, {ticks:.0} TSC ticks");
    Ok(())
}

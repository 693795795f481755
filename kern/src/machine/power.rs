//! The end of the machine, and the report about it.

use crate::machine::{hardware::MEMORY, print, windows};
use abi::boot::{EXIT_PORT, REPORT_PORT, exit_code};
use abi::{EnvId, ExitStatus};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use spin::Once;
use x86_64::instructions::{hlt, port::PortWriteOnly};

/// The processor that panics, plus one; 0: none.
pub static PANICKING: AtomicU32 = AtomicU32::new(0);
static STATUS: AtomicU8 = AtomicU8::new(0);
static FREE_AT_START: AtomicU64 = AtomicU64::new(0);
static NONCE: Once<&str> = Once::new();

/// Output to the emulator that no program can forge.
struct Report;

impl fmt::Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut port = PortWriteOnly::<u8>::new(REPORT_PORT);
        // SAFETY: the port does nothing, or takes a character.
        text.bytes().for_each(|byte| unsafe { port.write(byte) });
        Ok(())
    }
}

/// Reports that the console listens. The nonce distinguishes this run from every other.
pub fn report_ready(nonce: &'static str) {
    NONCE.call_once(|| nonce);
    let _ = writeln!(Report, "faultline-ready nonce={nonce}");
}

/// Records how many frames are free before there is any environment.
pub fn count_frames() {
    FREE_AT_START.store(MEMORY.free_frames(), Relaxed);
}

/// The first environment; [`EnvId::NONE`] once it has ended.
pub fn first_env() -> EnvId {
    EnvId(windows::machine().first_env.load(Relaxed))
}

/// Records the end of the first environment: the machine will end with its status. Another one may get its id later.
pub fn end_first(status: ExitStatus) {
    STATUS.store(status.0, Relaxed);
    windows::machine().first_env.store(EnvId::NONE.0, Relaxed);
}

/// Ends the machine with the status of the first environment, because the last one is gone.
pub fn off_with_status() -> ! {
    off(ExitStatus(STATUS.load(Relaxed)))
}

/// Ends the machine.
pub fn off(status: ExitStatus) -> ! {
    static OFF: AtomicBool = AtomicBool::new(false);
    if OFF.swap(true, Relaxed) {
        // Another processor is ending the machine.
        stand_still();
    }
    print::drain();
    let status = if PANICKING.load(Relaxed) != 0 { ExitStatus::KERNEL_PANIC } else { status };
    // There is nothing to report before the nonce is known: even the machine page may be missing.
    if let Some(nonce) = NONCE.get() {
        let (start, end) = (FREE_AT_START.load(Relaxed), MEMORY.free_frames());
        let (status, longest) = (status.0, windows::machine().longest_entry.load(Relaxed));
        let _ = write!(Report, "faultline nonce={nonce} status={status} ");
        let _ = writeln!(Report, "free_start={start} free_end={end} longest={longest}");
    }
    // SAFETY: ends the emulator; elsewhere nothing listens.
    unsafe { PortWriteOnly::new(EXIT_PORT).write(exit_code(status.0)) };
    stand_still()
}

/// Halts this processor for good.
pub fn stand_still() -> ! {
    loop {
        hlt();
    }
}

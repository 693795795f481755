//! The console: lines out, bytes in.
//!
//! One `write` comes out in one piece, and no line ever has text of two environments: an environment that writes while
//! the line of another one is unfinished begins a new line. Assembling lines before they are written is left to libos.

use crate::machine::{cpu, hardware::Lock};
use abi::{EnvId, window::LockKind};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use spin::Once;
use uart_16550::{Config, Uart16550, backend::PioBackend};

/// The first serial line.
pub const COM1: u16 = 0x3f8;

/// The serial port, and the environment whose line is unfinished.
struct Console {
    uart: Option<Uart16550<PioBackend>>,
    open: Option<EnvId>,
}

static CONSOLE: Lock<Console> = Lock::new(LockKind::Console, Console { uart: None, open: None });
/// The processor that has the console, plus one; 0: none.
static HOLDER: AtomicU32 = AtomicU32::new(0);
/// The prefix of the kernel's own lines, by which a reader of the console can tell them from those of programs.
pub static SIGNATURE: Once<&str> = Once::new();
/// Whether `trace!` prints.
pub static TRACE: AtomicBool = AtomicBool::new(false);

/// Sets up the serial port.
pub fn init() {
    // SAFETY: the standard port of the first serial line; nobody else uses it.
    let uart = unsafe { Uart16550::new_port(COM1) };
    with_console(|console| {
        console.uart = uart.ok().and_then(|mut uart| uart.init(Config::DEFAULT).ok().map(|()| uart))
    });
}

fn with_console<R>(f: impl FnOnce(&mut Console) -> R) -> R {
    let mut console = CONSOLE.lock();
    HOLDER.store(cpu::here() + 1, Relaxed);
    let result = f(&mut console);
    HOLDER.store(0, Relaxed);
    result
}

/// Lets others have the console, if this processor was interrupted while it had it. It must not go on there.
pub fn abandon() {
    if HOLDER.load(Relaxed) == cpu::here() + 1 {
        HOLDER.store(0, Relaxed);
        // SAFETY: the holder is this processor, which does not go on.
        unsafe { CONSOLE.inner().force_unlock() };
    }
}

impl Console {
    /// Writes text of an environment, or of the kernel (`None`). Ends an unfinished line of another one first.
    fn write(&mut self, who: Option<EnvId>, text: &[u8]) {
        if self.open.is_some() && self.open != who {
            self.send(b"\n");
        }
        self.send(text);
        self.open = if text.last() == Some(&b'\n') { None } else { who };
    }

    fn send(&mut self, text: &[u8]) {
        if let Some(uart) = &mut self.uart {
            uart.send_bytes_exact(text);
        }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(None, text.as_bytes());
        Ok(())
    }
}

/// Prints a line of the kernel.
pub fn print(text: fmt::Arguments) {
    let signature = SIGNATURE.get().unwrap_or(&"");
    let _ = with_console(|console| fmt::write(console, format_args!("{signature}{text}\n")));
}

/// Waits until the serial port has sent everything.
pub fn drain() {
    const TRIES: u32 = 10_000_000;
    let empty = uart_16550::spec::registers::LSR::TRANSMITTER_EMPTY;
    with_console(|console| {
        let _ = console.uart.as_mut().map(|uart| (0..TRIES).find(|_| uart.lsr().contains(empty)));
    });
}

/// Prints a line of the kernel on the console.
macro_rules! kprintln {
    ($($text:tt)*) => { $crate::machine::print::print(format_args!($($text)*)) };
}

/// Print a line about the life of an environment, if that was asked for.
macro_rules! trace {
    ($($text:tt)*) => {
        if $crate::machine::print::TRACE.load(core::sync::atomic::Ordering::Relaxed) {
            $crate::machine::print::kprintln!($($text)*);
        }
    };
}

pub(crate) use {kprintln, trace};

/// Prints text of an environment, in one piece.
pub fn print_for(env: EnvId, text: &[u8]) {
    with_console(|console| console.write(Some(env), text));
}

/// Takes received bytes, as many as there are and fit.
pub fn receive(buffer: &mut [u8]) -> &[u8] {
    let len = with_console(|console| console.uart.as_mut().map_or(0, |uart| uart.receive_bytes(buffer)));
    &buffer[..len]
}

/// Whether a received byte is waiting. `false` while another processor has the console: the caller has the scheduler
/// locked, must not wait for a line to be printed, and asks again later.
pub fn has_input() -> bool {
    let mut console = CONSOLE.try_lock();
    let uart = console.as_mut().and_then(|console| console.uart.as_mut());
    uart.is_some_and(|uart| uart.ready_to_receive().is_ok())
}

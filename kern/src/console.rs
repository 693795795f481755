//! The console: lines out, bytes in.
//!
//! One `write` comes out in one piece, and no line ever has text of two environments: whoever writes
//! while the line of another one is unfinished begins a new one. Putting lines together before they
//! are written is for libos.

use crate::env::Env;
use crate::memory::Lock;
use crate::sched;
use crate::syscall::Results;
use crate::user::UserSlice;
use ::sched::Node;
use abi::window::LockKind;
use abi::{EnvId, Error, Status, call::CONSOLE_MAX};
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicBool;
use spin::Once;
use uart_16550::{Config, Uart16550, backend::PioBackend};

/// The first serial line.
pub const COM1: u16 = 0x3f8;
const MAX: usize = CONSOLE_MAX as usize;

/// The serial port, and whose unfinished line is on the screen.
struct Console {
    uart: Option<Uart16550<PioBackend>>,
    open: Option<EnvId>,
}

static CONSOLE: Lock<Console> = Lock::new(LockKind::Console, Console { uart: None, open: None });
/// What the kernel's own lines begin with: who reads the console can tell them from a program's then.
pub static SIGNATURE: Once<&str> = Once::new();
/// Whether `trace!` prints.
pub static TRACE: AtomicBool = AtomicBool::new(false);

/// Set up the serial port.
pub fn init() {
    // SAFETY: the standard port of the first serial line; nobody else uses it.
    let uart = unsafe { Uart16550::new_port(COM1) };
    CONSOLE.lock().uart = uart.ok().and_then(|mut uart| uart.init(Config::DEFAULT).ok().map(|()| uart));
}

impl Console {
    /// Write for `who` (nobody: the kernel). Unfinished lines of others are ended first.
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

/// A line of the kernel's.
pub fn print(text: fmt::Arguments) {
    let signature = SIGNATURE.get().unwrap_or(&"");
    let _ = fmt::write(&mut *CONSOLE.lock(), format_args!("{signature}{text}\n"));
}

/// A line of a kernel that panics.
pub fn print_panic(text: fmt::Arguments) {
    const TRIES: u32 = 1_000_000;
    // Another processor comes to the end of its line. This one, interrupted in the middle of one, does not.
    if !(0..TRIES).any(|_| !CONSOLE.inner().is_locked()) {
        // SAFETY: the holder does not go on.
        unsafe { CONSOLE.inner().force_unlock() };
    }
    print(text);
}

/// Wait until everything has left the machine.
pub fn drain() {
    const TRIES: u32 = 10_000_000;
    let mut console = CONSOLE.lock();
    if let Some(uart) = &mut console.uart {
        let empty = uart_16550::spec::registers::LSR::TRANSMITTER_EMPTY;
        let _ = (0..TRIES).find(|_| uart.lsr().contains(empty));
    }
}

/// Print a line of the kernel's on the console.
macro_rules! kprintln {
    ($($text:tt)*) => { $crate::console::print(format_args!($($text)*)) };
}

/// Print a line about the life of an environment, if that was asked for.
macro_rules! trace {
    ($($text:tt)*) => {
        if $crate::console::TRACE.load(core::sync::atomic::Ordering::Relaxed) {
            $crate::console::kprintln!($($text)*);
        }
    };
}

pub(crate) use {kprintln, trace};

/// `write(buffer, bytes)`
#[inline(never)]
pub fn write(me: &'static Env, user: UserSlice) -> Results {
    let mut text = [const { MaybeUninit::uninit() }; MAX];
    let text = user.read(me, &mut text[..user.len.min(CONSOLE_MAX) as usize])?;
    if !text.is_empty() {
        CONSOLE.lock().write(Some(me.id()), text);
    }
    Ok((text.len() as u64, 0))
}

/// `read(buffer, bytes)`
#[inline(never)]
pub fn read(me: &'static Env, user: UserSlice) -> Results {
    if user.len == 0 {
        return Err(Error::BadCount(0));
    }
    let most = user.len.min(CONSOLE_MAX);
    let mut text = [0; MAX];
    // What has come is taken only when it can be delivered: otherwise it would be lost.
    let len = user.fill(me, most, || receive(&mut text[..most as usize]))?;
    if len == 0 {
        let mut sched = sched::lock();
        if sched.block(me, Status::Reading) {
            me.frame.rewind();
        }
        sched::switch(sched);
    }
    Ok((len, 0))
}

fn receive(buffer: &mut [u8]) -> &[u8] {
    let len = CONSOLE.lock().uart.as_mut().map_or(0, |uart| uart.receive_bytes(buffer));
    &buffer[..len]
}

/// Whether a byte is waiting. (While another processor has the console: ask again later. Who asks has the scheduler
/// locked, and a line takes its time.)
pub fn has_input() -> bool {
    let mut console = CONSOLE.try_lock();
    let uart = console.as_mut().and_then(|console| console.uart.as_mut());
    uart.is_some_and(|uart| uart.ready_to_receive().is_ok())
}

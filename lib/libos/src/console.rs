//! The console: `print!`, `println!`, and reading.
//!
//! Text is kept until its line is complete, so that a line goes to the kernel in one piece and lines
//! of different environments do not mix. A part of a line goes out when [`flush`] says so, before
//! input is read, before a fork, and at the end of the program.

use crate::resident::Local;
use crate::sys;
use abi::call::CONSOLE_MAX;
use alloc::string::String;
use core::fmt::{self, Write};

/// Print to the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*), "") };
}

/// Print to the console, and end the line.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!(""), "\n") };
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*), "\n") };
}

/// The byte that stands for the end of the input (Ctrl-D).
pub const END_OF_INPUT: u8 = 4;

/// The unfinished line. Resident, since fault handlers may print.
#[unsafe(link_section = ".resident")]
static LINE: [Local<u8>; MAX] = [const { Local::new(0) }; MAX];
/// How much of it there is.
#[unsafe(link_section = ".resident")]
static USED: Local<usize> = Local::new(0);

const MAX: usize = CONSOLE_MAX as usize;

/// Print formatted text and then `end`: what the macros expand to.
///
/// The text is formatted on the stack first: formatting may fault, and a handler that prints then
/// must not get into the middle of this line.
pub fn print(text: fmt::Arguments, end: &str) {
    let mut out = Buffer { bytes: [0; MAX], used: 0 };
    // An error can only come from somebody's own `Display`; there is nobody to tell.
    let _ = out.write_fmt(text).and_then(|()| out.write_str(end));
    out.keep();
}

/// Write bytes to the console as they are, at once.
pub fn write_all(bytes: &[u8]) {
    flush();
    let mut rest = bytes;
    while !rest.is_empty() {
        match sys::write(rest) {
            Ok(done) => rest = &rest[done..],
            Err(_) => return,
        }
    }
}

/// Show what was printed since the last end of a line.
pub fn flush() {
    let used = USED.get();
    if used > 0 {
        USED.set(0);
        let text: [u8; MAX] = core::array::from_fn(|n| LINE[n].get());
        let _ = sys::write(&text[..used]);
    }
}

/// Wait for a byte of input. Nothing is echoed, and Enter is CR or LF.
#[must_use]
pub fn read_byte() -> u8 {
    flush();
    let mut byte = [0];
    match sys::read(&mut byte) {
        Ok(1..) => byte[0],
        _ => END_OF_INPUT,
    }
}

/// Read a line without editing or echo. `None` at the end of the input.
#[must_use]
pub fn read_line() -> Option<String> {
    let mut line = String::new();
    loop {
        match read_byte() {
            b'\r' | b'\n' => return Some(line),
            END_OF_INPUT => return (!line.is_empty()).then_some(line),
            byte => line.push(byte as char),
        }
    }
}

struct Buffer {
    bytes: [u8; MAX],
    used: usize,
}

impl Buffer {
    /// Add what there is to the unfinished line. Lines that are finished by it go out.
    fn keep(&mut self) {
        for &byte in &self.bytes[..self.used] {
            let at = USED.get();
            LINE[at].set(byte);
            USED.set(at + 1);
            if byte == b'\n' || at + 1 == MAX {
                flush();
            }
        }
        self.used = 0;
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == MAX {
                self.keep();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

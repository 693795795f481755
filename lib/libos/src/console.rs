//! The console: `print!`, `println!`, and reading.
//!
//! What one `print!` formats goes to the kernel in pieces of up to 256 bytes, mostly in one. The
//! kernel puts the pieces of an environment together to lines before anybody sees them, so that
//! lines of different environments do not mix.

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

/// Print formatted text and then `end`: what the macros expand to.
///
/// There is no lock and no memory but the stack, so that fault handlers may print.
pub fn print(text: fmt::Arguments, end: &str) {
    let mut out = Buffer { bytes: [0; CONSOLE_MAX as usize], used: 0 };
    // An error can only come from somebody's own `Display`; there is nobody to tell.
    let _ = out.write_fmt(text).and_then(|()| out.write_str(end));
    write_all(&out.bytes[..out.used]);
}

/// Write bytes to the console as they are.
pub fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match sys::write(bytes) {
            Ok(done) => bytes = &bytes[done..],
            Err(_) => return,
        }
    }
}

/// Show what was printed since the last end of a line.
pub fn flush() {
    let _ = sys::write(&[]);
}

/// Wait for a byte of input. Nothing is echoed, and Enter is CR or LF.
#[must_use]
pub fn read_byte() -> u8 {
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
    bytes: [u8; CONSOLE_MAX as usize],
    used: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                write_all(&self.bytes);
                self.used = 0;
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

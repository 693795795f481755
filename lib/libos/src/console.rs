//! The console: `print!`, `println!`, and reading.
//!
//! Text is kept until its line is complete, so that a line goes to the kernel in one piece and lines
//! of different environments do not mix. A part of a line goes out when [`flush`] says so, before
//! input is read, before a fork, and at the end of the program.
//!
//! What is read are the bytes that were piped or typed, all of them, and then an end that stays an end
//! ([`abi::console`] says how they come here). Only the keys with which somebody at a terminal corrects a line or ends
//! the input are told apart from them. Nothing is read ahead: what follows a line is still there for a child.

use crate::resident::Local;
use crate::sys;
use abi::ExitStatus;
use abi::call::CONSOLE_MAX;
use abi::console::Decoder;
pub use abi::console::{Input, Key};
use alloc::vec::Vec;
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

/// Wait for what comes next. Nothing is echoed.
///
/// # Errors
/// As [`sys::read`], above all `NoMemory` for the page of the stack that the byte is to go to.
pub fn next_input() -> sys::Result<Input> {
    flush();
    let mut decoder = Decoder::new();
    loop {
        let mut byte = [0];
        sys::read(&mut byte)?;
        if let Some(input) = decoder.push(byte[0]) {
            return Ok(input);
        }
    }
}

/// Wait for a byte of input; keys that edit the line are bytes too. `None` at the end of the input, and for Ctrl-D at a
/// terminal.
///
/// # Errors
/// As [`next_input`].
pub fn read_byte() -> sys::Result<Option<u8>> {
    Ok(match next_input()? {
        Input::Byte(byte) => Some(byte),
        Input::Key(Key::End) | Input::End => None,
        Input::Key(key) => Some(key.byte()),
    })
}

/// Read a line: its bytes, whatever they are, without the LF that ends it. The last line need not have one. `None` at
/// the end of the input, as often as it is asked for. (A CR before the LF is a byte of the line.)
///
/// At a terminal Enter is LF, and the line can be corrected with Backspace and Ctrl-U. Ctrl-D is the end of the input
/// where a line would begin, and is ignored elsewhere.
///
/// # Errors
/// As [`next_input`].
pub fn read_line() -> sys::Result<Option<Vec<u8>>> {
    line(|_| ())
}

/// [`read_line`] that shows the line as it comes, for somebody at a terminal. (The terminal itself shows nothing.)
///
/// # Errors
/// As [`next_input`].
pub fn edit_line() -> sys::Result<Option<Vec<u8>>> {
    let read = line(write_all)?;
    println!();
    Ok(read)
}

/// Read a line; `show` is called with what is to appear of it.
fn line(show: impl Fn(&[u8])) -> sys::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let erase = |line: &mut Vec<u8>| {
        if take_character_back(line).is_some_and(is_visible) {
            show(b"\x08 \x08");
        }
    };
    loop {
        match next_input()? {
            Input::Byte(b'\n') => return Ok(Some(line)),
            Input::Byte(byte) => {
                line.push(byte);
                if is_visible(byte) {
                    show(&[byte]);
                }
            }
            Input::Key(Key::Erase) => erase(&mut line),
            Input::Key(Key::EraseLine) => {
                while !line.is_empty() {
                    erase(&mut line);
                }
            }
            Input::Key(Key::End) if line.is_empty() => return Ok(None),
            Input::Key(Key::End) => {}
            Input::End => return Ok((!line.is_empty()).then_some(line)),
        }
    }
}

/// Whether something appears on the screen for the first byte of a character.
fn is_visible(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f
}

/// Remove the last character, which UTF-8 may have written with several bytes. Returns its first byte.
fn take_character_back(line: &mut Vec<u8>) -> Option<u8> {
    let is_first = |byte: &u8| byte & 0xc0 != 0x80;
    let start = line.iter().rposition(is_first).unwrap_or(0);
    let first = line.get(start).copied();
    line.truncate(start);
    first
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

/// The end of a student's program that came to an exercise which is not done yet.
///
/// A panic says the same, but it takes code that comes by a page fault. This takes resident memory only, so it can
/// be used where faults are served. (In the solution nobody does.)
pub fn unfinished(exercise: &str) -> ! {
    flush();
    for part in ["not yet implemented: ", exercise, "\n"] {
        let _ = sys::write(part.as_bytes());
    }
    sys::exit(ExitStatus::PANIC.0)
}

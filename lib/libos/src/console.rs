//! The console: `print!`, `println!`, and reading.
//!
//! Text is buffered until its line is complete, so that a line goes to the kernel in one piece and lines of different
//! environments do not mix. [`flush`] writes an incomplete line; so do reading input, a fork, and the end of the
//! program.
//!
//! Input is the bytes that were piped or typed, all of them, and then an end that stays an end ([`abi::console`]
//! describes the encoding). Only the keys with which a person at a terminal corrects a line or ends the input are told
//! apart from them. Nothing is read ahead: the bytes after a line are still there for a child.

use crate::{resident::Local, sys};
pub use abi::console::{Input, Key};
use abi::{ExitStatus, call::CONSOLE_MAX, console::Decoder};
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
/// The number of bytes in [`LINE`].
#[unsafe(link_section = ".resident")]
static USED: Local<usize> = Local::new(0);

const MAX: usize = CONSOLE_MAX as usize;

/// Print formatted text and then `end`: the macros expand to a call of this function.
///
/// The text is formatted on the stack first: formatting may fault, and the output of a handler that prints then must
/// not end up in the middle of this line.
pub fn print(text: fmt::Arguments, end: &str) {
    let mut out = Buffer { bytes: [0; MAX], used: 0 };
    // Only a `Display` of the program can return an error; there is nobody to report it to.
    let _ = out.write_fmt(text).and_then(|()| out.write_str(end));
    out.keep();
}

/// Writes bytes to the console as they are, at once.
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

/// Writes the unfinished line to the console.
pub fn flush() {
    let used = USED.get();
    if used > 0 {
        USED.set(0);
        let text: [u8; MAX] = core::array::from_fn(|n| LINE[n].get());
        let _ = sys::write(&text[..used]);
    }
}

/// Wait for the next byte, key or end of input. Nothing is echoed.
///
/// # Errors
/// As [`sys::read`], above all `NoMemory` for the stack page that receives the byte.
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

/// Wait for a byte of input; keys that edit the line are bytes too. `None` at the end of the input, and for Ctrl-D at
/// a terminal.
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

/// Read a line: its bytes, whatever they are, without the LF that ends it. The last line need not have an LF. `None`
/// at the end of the input, no matter how often the program asks. (A CR before the LF is a byte of the line.)
///
/// At a terminal Enter is LF, and Backspace and Ctrl-U correct the line. Ctrl-D is the end of the input at the
/// beginning of a line, and is ignored elsewhere.
///
/// # Errors
/// As [`next_input`].
pub fn read_line() -> sys::Result<Option<Vec<u8>>> {
    line(|_| ())
}

/// Read a line as [`read_line`] does, and echo it. (The terminal itself shows nothing.)
///
/// # Errors
/// As [`next_input`].
pub fn edit_line() -> sys::Result<Option<Vec<u8>>> {
    let read = line(write_all)?;
    println!();
    Ok(read)
}

/// Read a line; `show` is called with the bytes to echo.
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

/// Whether a character that begins with this byte is visible on the screen.
fn is_visible(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f
}

/// Removes the last character, which may be several bytes of UTF-8. Returns its first byte.
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
    /// Appends the buffer to the unfinished line, and writes the lines that this completes.
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

/// Ends a student's program that reached an exercise which is not done yet.
///
/// A panic would print this text, but the code of a panic comes by page faults. This function uses resident memory
/// only, so the fault path can call it. (In the solution nothing does.)
pub fn unfinished(exercise: &str) -> ! {
    flush();
    for part in ["not yet implemented: ", exercise, "\n"] {
        let _ = sys::write(part.as_bytes());
    }
    sys::exit(ExitStatus::PANIC.0)
}

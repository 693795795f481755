//! What bytes on the console's input stand for.
//!
//! A serial line carries bytes and nothing else: it has no end, and it does not tell a byte of a file from a key that
//! somebody pressed. So `cargo xtask` writes its input down as follows, and libos reads it back. The kernel passes the
//! bytes on as they are.
//!
//! | on the line | meaning |
//! | --- | --- |
//! | any byte but [`ESCAPE`] | itself |
//! | [`ESCAPE`], `P` | the byte [`ESCAPE`] |
//! | [`ESCAPE`], `D` | a terminal's key for the end of the input, Ctrl-D |
//! | [`ESCAPE`], `H` | a terminal's key that erases a character, Backspace |
//! | [`ESCAPE`], `U` | a terminal's key that erases the line, Ctrl-U |
//! | [`ESCAPE`], [`ESCAPE`] | the end of the input |
//!
//! After the end of the input comes nothing but [`ESCAPE`], without end: whoever reads then, and as often as he does,
//! learns of the end. It does not matter where he begins, and how much others have read.

/// The byte that gives the next one another meaning: DLE, "data link escape" in ASCII.
pub const ESCAPE: u8 = 0x10;

/// One thing that comes from the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// A byte of what was piped or typed, whatever its value.
    Byte(u8),
    /// A key of a terminal that edits the line.
    Key(Key),
    /// Nothing more will come.
    End,
}

/// A key of a terminal that edits the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// Ctrl-D: here the input ends, for whoever reads it now.
    End,
    /// Backspace: take a character back.
    Erase,
    /// Ctrl-U: take the line back.
    EraseLine,
}

impl Key {
    /// The byte that terminals send.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Key::End => 0x04,
            Key::Erase => 0x7f,
            Key::EraseLine => 0x15,
        }
    }
}

impl Input {
    /// What it means that this byte came from a terminal.
    #[must_use]
    pub const fn typed(byte: u8) -> Input {
        match byte {
            0x04 => Input::Key(Key::End),
            0x08 | 0x7f => Input::Key(Key::Erase),
            0x15 => Input::Key(Key::EraseLine),
            byte => Input::Byte(byte),
        }
    }

    /// How it is written on the line: one byte, or two.
    pub fn encode(self) -> impl Iterator<Item = u8> {
        let (first, second) = match self {
            Input::Byte(ESCAPE) => (ESCAPE, Some(b'P')),
            Input::Byte(byte) => (byte, None),
            Input::Key(Key::End) => (ESCAPE, Some(b'D')),
            Input::Key(Key::Erase) => (ESCAPE, Some(b'H')),
            Input::Key(Key::EraseLine) => (ESCAPE, Some(b'U')),
            Input::End => (ESCAPE, Some(ESCAPE)),
        };
        core::iter::once(first).chain(second)
    }
}

/// Reads what stands on the line, byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    escaped: bool,
}

impl Decoder {
    /// At the beginning.
    #[must_use]
    pub const fn new() -> Decoder {
        Decoder { escaped: false }
    }

    /// Take the next byte. `None`: it takes one more to tell.
    pub const fn push(&mut self, byte: u8) -> Option<Input> {
        if !self.escaped && byte == ESCAPE {
            self.escaped = true;
            return None;
        }
        let input = match byte {
            _ if !self.escaped => Input::Byte(byte),
            ESCAPE => Input::End,
            b'P' => Input::Byte(ESCAPE),
            b'D' => Input::Key(Key::End),
            b'H' => Input::Key(Key::Erase),
            b'U' => Input::Key(Key::EraseLine),
            // Nobody writes this.
            byte => Input::Byte(byte),
        };
        self.escaped = false;
        Some(input)
    }
}

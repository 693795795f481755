//! The encoding of the console's input.
//!
//! A serial line carries bytes and nothing else: it has no end, and it does not tell a byte of a file from a key
//! press. So `cargo xtask` encodes its input as follows, and libos decodes it. The kernel passes the bytes on
//! unchanged.
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
//! After the end of the input [`ESCAPE`] follows, forever: every later reader learns of the end, as often as it reads,
//! and no matter where it begins or how much others have read.

/// The byte that changes the meaning of the next one: DLE, "data link escape" in ASCII.
pub const ESCAPE: u8 = 0x10;

/// One unit of console input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// A byte that was piped or typed, whatever its value.
    Byte(u8),
    /// A key of a terminal that edits the line.
    Key(Key),
    /// The end of the input.
    End,
}

/// A key of a terminal that edits the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// Ctrl-D: the end of the input for the current reader.
    End,
    /// Backspace: erase a character.
    Erase,
    /// Ctrl-U: erase the line.
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
    /// The input that this byte from a terminal stands for: an editing key, or the byte itself.
    #[must_use]
    pub const fn typed(byte: u8) -> Input {
        match byte {
            0x04 => Input::Key(Key::End),
            0x08 | 0x7f => Input::Key(Key::Erase),
            0x15 => Input::Key(Key::EraseLine),
            byte => Input::Byte(byte),
        }
    }

    /// The encoded form: one byte, or two.
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

/// Decodes the input byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    escaped: bool,
}

impl Decoder {
    /// A decoder at the beginning of the input.
    #[must_use]
    pub const fn new() -> Decoder {
        Decoder { escaped: false }
    }

    /// Takes the next byte. `None` if the unit is not complete yet.
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
            // No encoder writes this.
            byte => Input::Byte(byte),
        };
        self.escaped = false;
        Some(input)
    }
}

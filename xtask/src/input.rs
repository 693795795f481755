//! Input from stdin, read by a separate thread, so that a silent pipe blocks nobody.

use crate::terminal;
use abi::console::{ESCAPE, Input};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use std::{io::IsTerminal, thread};

/// The marker that a guest takes for the end of its input.
pub const END: [u8; 2] = [ESCAPE; 2];

/// The source of input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A file or a pipe, or a terminal that edits lines by itself: bytes, and nothing else.
    Pipe,
    /// A terminal that was handed to the guest: some bytes are keys that edit the line.
    Keys,
}

/// These bytes as they are sent over the serial line ([`abi::console`]).
#[must_use]
pub fn encode(bytes: &[u8], source: Source) -> Vec<u8> {
    let input = |&byte: &u8| match source {
        Source::Pipe => Input::Byte(byte),
        Source::Keys => Input::typed(byte),
    };
    bytes.iter().map(input).flat_map(Input::encode).collect()
}

/// A channel of input chunks; the sender hangs up at the end of the file.
pub type Chunks = Receiver<Vec<u8>>;

/// How long the reader of a terminal waits for a key, before it checks whether the terminal is still its own.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the reader thread. It ends with stdin, or with the process.
///
/// In the background nothing arrives from a terminal, so the input ends at once.
#[must_use]
pub fn stdin() -> Chunks {
    let (sender, chunks) = sync_channel(1);
    if terminal::in_background() {
        return chunks;
    }
    thread::spawn(move || {
        let is_terminal = std::io::stdin().is_terminal();
        let mut buffer = [0; 4096];
        loop {
            if is_terminal {
                wait_for_key();
            }
            // Unbuffered: bytes left in a buffer would not wake `wait_for_key`.
            match rustix::io::read(std::io::stdin(), &mut buffer) {
                Ok(count @ 1..) if sender.send(buffer[..count].to_vec()).is_ok() => {}
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    });
    chunks
}

/// Waits until the terminal has input that this process may read.
fn wait_for_key() {
    let mut away = false;
    loop {
        if terminal::in_background() {
            away = true;
            thread::sleep(LOOK);
            continue;
        }
        if std::mem::take(&mut away) {
            terminal::resume();
        }
        let stdin = std::io::stdin();
        let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
        let patience = Timespec::try_from(LOOK).ok();
        // Any error of the terminal shows when it is read.
        let ready = !matches!(poll(&mut keys, patience.as_ref()), Ok(0) | Err(rustix::io::Errno::INTR));
        if ready && !terminal::in_background() {
            return;
        }
    }
}

/// Waits for the first chunk: none if the file ends first, or if nothing comes within `patience`.
#[must_use]
pub fn first(chunks: &Chunks, patience: Duration) -> Option<Vec<u8>> {
    let deadline = Instant::now() + patience;
    loop {
        match chunks.recv_timeout(Duration::from_millis(50)) {
            Ok(chunk) => return Some(chunk),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                if Instant::now() >= deadline || crate::interrupt::pending().is_some() {
                    return None;
                }
            }
        }
    }
}

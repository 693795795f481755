//! What arrives on stdin, read by a thread of its own, so that nobody waits for a silent pipe.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a guest takes for the end of its input.
pub const END: u8 = 0x04;

/// The chunks that arrive; the sender hangs up at the end of the file.
pub type Chunks = Receiver<Vec<u8>>;

/// Starts to read. The thread ends with stdin, or with the process.
#[must_use]
pub fn stdin() -> Chunks {
    let (sender, chunks) = sync_channel(1);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    chunks
}

/// Waits for the first chunk: none if the file ends first, or if nothing comes for so long.
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

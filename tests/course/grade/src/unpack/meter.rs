//! Readers that end when they have read too much.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// The limit of data that all archives together may unpack to, including files that are not kept.
pub const UNPACKED_MOST: u64 = 2 << 30;
/// The limit of data before a file in a TAR archive: the library holds all of it in memory.
pub const HEADER_MOST: u64 = 1 << 20;
/// The error message of a reader that has ended.
const ENDED: &str = "more than the grader reads";

/// A reader that counts unpacked data, and ends when it is too much.
pub struct Metered<R> {
    inner: R,
    /// The data unpacked so far, from all archives.
    unpacked: Rc<Cell<u64>>,
    /// How much may still be unpacked before the next file begins.
    pub header: Rc<Cell<u64>>,
}

impl<R: Read> Metered<R> {
    /// A reader without a limit for headers.
    pub fn new(inner: R, unpacked: &Rc<Cell<u64>>) -> Metered<R> {
        Metered { inner, unpacked: Rc::clone(unpacked), header: Rc::new(Cell::new(u64::MAX)) }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.unpacked.set(self.unpacked.get() + read as u64);
        self.header.set(self.header.get().saturating_sub(read as u64));
        if self.unpacked.get() > UNPACKED_MOST || self.header.get() == 0 {
            return Err(io::Error::other(ENDED));
        }
        Ok(read)
    }
}

/// A reader that limits the search for the directory of a ZIP archive. A malicious archive has many ends, each with a
/// directory.
pub struct Budget<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read + Seek> Budget<R> {
    /// The limit is a multiple of the length: for a search from the end, another one for the directory, and the
    /// directory itself.
    pub fn new(mut inner: R, left: &Rc<Cell<u64>>) -> io::Result<Budget<R>> {
        let len = inner.seek(SeekFrom::End(0))?;
        inner.seek(SeekFrom::Start(0))?;
        left.set(4 * len + (1 << 20));
        Ok(Budget { inner, left: Rc::clone(left) })
    }
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        if self.left.get() == 0 {
            return Err(io::Error::other(ENDED));
        }
        Ok(read)
    }
}

impl<R: Seek> Seek for Budget<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

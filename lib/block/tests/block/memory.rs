//! The memory that a simulated device can access.
//!
//! Device addresses are addresses of the test. All of this memory is leaked, so late accesses do no harm.

use abi::Va;
use block::Segment;
use std::ops::Range;
use std::ptr;

/// Memory of the program, in whole pages.
#[derive(Clone, Copy)]
pub struct Buffer {
    at: *mut u8,
    bytes: usize,
}

#[derive(Clone)]
#[repr(align(4096))]
struct Page {
    _bytes: [u8; 4096],
}

impl Buffer {
    pub fn new(bytes: usize) -> Buffer {
        let pages = vec![Page { _bytes: [0; 4096] }; bytes.div_ceil(4096)].leak();
        let at = pages.as_mut_ptr().cast::<u8>();
        at.expose_provenance();
        Buffer { at, bytes }
    }

    /// The addresses.
    pub fn range(&self) -> Range<u64> {
        self.at.addr() as u64..self.at.addr() as u64 + self.bytes as u64
    }

    /// Some of the bytes, as a segment.
    pub fn part(&self, part: Range<usize>) -> Segment {
        assert!(part.end <= self.bytes);
        // SAFETY: the memory is leaked, and `get` and `set` are not called while a request is in flight with it.
        unsafe { Segment::new(Va(self.range().start + part.start as u64), part.len() as u32) }
    }

    /// All bytes, as a segment.
    pub fn all(&self) -> Segment {
        self.part(0..self.bytes)
    }

    pub fn get(&self) -> Vec<u8> {
        // SAFETY: the memory is leaked, and the bytes are initialized.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }.to_vec()
    }

    pub fn set(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes);
        // SAFETY: the memory is leaked, and has this number of bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len()) }
    }
}

/// The ranges of memory that a device can access, and what it has tried in vain.
#[derive(Default)]
pub struct Iommu {
    mapped: Vec<(Range<u64>, bool)>,
    /// The address of every access that was blocked.
    pub faults: Vec<Va>,
}

impl Iommu {
    pub fn map(&mut self, range: Range<u64>, writable: bool) {
        self.mapped.push((range, writable));
    }

    pub fn unmap(&mut self, range: &Range<u64>) {
        self.mapped.retain(|(mapped, _)| mapped != range);
    }

    fn allows(&mut self, at: u64, bytes: usize, write: bool) -> bool {
        let end = at + bytes as u64;
        let found =
            self.mapped.iter().any(|(range, writable)| range.start <= at && end <= range.end && (*writable || !write));
        if !found {
            self.faults.push(Va(at));
        }
        found
    }

    /// Reads for a device: zeros if the access is blocked.
    pub fn read(&mut self, at: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        if self.allows(at, bytes, false) {
            let from = ptr::with_exposed_provenance::<u8>(at as usize);
            // SAFETY: the range is mapped, so it is leaked memory.
            unsafe { ptr::copy_nonoverlapping(from, read.as_mut_ptr(), bytes) }
        }
        read
    }

    /// Writes for a device: nothing if the access is blocked.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        if self.allows(at, bytes.len(), true) {
            let to = ptr::with_exposed_provenance_mut::<u8>(at as usize);
            // SAFETY: the range is mapped, so it is leaked memory.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
        }
    }

    pub fn read_words<const N: usize>(&mut self, at: u64) -> [u16; N] {
        let bytes = self.read(at, 2 * N);
        std::array::from_fn(|index| u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]))
    }
}

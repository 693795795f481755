//! Lists of physical address ranges: the memory map from the boot loader.

use core::ops::Range;

/// A list of physical address ranges.
#[derive(Clone)]
pub struct Ranges {
    list: [Range<u64>; Ranges::MAX],
    len: usize,
}

impl Ranges {
    /// The greatest number of ranges in a list. More ranges are left out: their memory stays unused.
    pub const MAX: usize = 64;

    /// No ranges.
    pub const fn empty() -> Ranges {
        Ranges { list: [const { 0..0 }; Ranges::MAX], len: 0 }
    }

    /// Add a range, unless it is empty.
    pub fn push(&mut self, range: Range<u64>) {
        if range.start < range.end && self.len < Ranges::MAX {
            self.list[self.len] = range;
            self.len += 1;
        }
    }

    /// The ranges, in the order of insertion. Some may be empty.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Range<u64>> {
        self.list[..self.len].iter()
    }

    /// The ranges, mutable, so that the caller can cut parts off.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Range<u64>> {
        self.list[..self.len].iter_mut()
    }

    /// Removes `hole` from every range.
    pub fn subtract(&mut self, hole: &Range<u64>) {
        for index in 0..self.len {
            let range = self.list[index].clone();
            if range.start < hole.end && hole.start < range.end {
                self.list[index] = range.start..hole.start.max(range.start);
                self.push(hole.end.min(range.end)..range.end);
            }
        }
    }
}

//! A set of numbers, from which runs of consecutive numbers are taken.
//!
//! Free slots and free frames are such sets. One bit for each number takes little memory, finds neighbours, and needs no
//! memory to grow: what is freed has its place already.

use core::ops::Range;

/// Bits in a word.
const WORD: usize = u64::BITS as usize;

/// The number of runs that a search looks at before it takes the longest of them.
const PATIENCE: usize = 16;

/// A set of the numbers from 0 up to a limit.
#[derive(Debug)]
pub(crate) struct Bits<'a> {
    words: &'a mut [u64],
    members: usize,
    /// Where the next search begins: behind the run that was taken last.
    at: usize,
}

impl<'a> Bits<'a> {
    /// An empty set of numbers below 64 times the number of words.
    pub(crate) fn none(words: &'a mut [u64]) -> Bits<'a> {
        words.fill(0);
        Bits { words, members: 0, at: 0 }
    }

    /// The number of words for numbers below `limit`.
    pub(crate) const fn words(limit: usize) -> usize {
        limit.div_ceil(WORD)
    }

    /// The number of members.
    pub(crate) fn len(&self) -> usize {
        self.members
    }

    fn limit(&self) -> usize {
        self.words.len() * WORD
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.words.get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// Adds a number, which is below the limit. Returns whether it is new.
    pub(crate) fn add(&mut self, number: usize) -> bool {
        let is_new = !self.contains(number);
        self.words[number / WORD] |= 1 << (number % WORD);
        self.members += usize::from(is_new);
        is_new
    }

    pub(crate) fn remove(&mut self, number: usize) {
        if self.contains(number) {
            self.words[number / WORD] &= !(1 << (number % WORD));
            self.members -= 1;
        }
    }

    /// The first member at or above a number, or the limit.
    pub(crate) fn next_member(&self, from: usize) -> usize {
        self.search(from..self.limit(), 0)
    }

    /// The first number of a range that is a member, or with `flip` of all ones, that is none; or the end of the range.
    fn search(&self, range: Range<usize>, flip: u64) -> usize {
        let Range { start, end } = range;
        let mut outside = !(u64::MAX << (start % WORD));
        let mut index = start / WORD;
        while index * WORD < end {
            let found = (self.words[index] ^ flip) & !outside;
            if found != 0 {
                return end.min(index * WORD + found.trailing_zeros() as usize);
            }
            (outside, index) = (0, index + 1);
        }
        end
    }

    /// Takes consecutive numbers out of the set: as many as `most` if such a run is found soon, else fewer. `None` if the
    /// set is empty.
    pub(crate) fn take_run(&mut self, most: usize) -> Option<Range<usize>> {
        let mut longest = 0..0;
        let (mut from, mut looks) = (self.at, 0);
        // Twice around is enough, also for a run at which the search began in the middle.
        let mut around = 0;
        while around < 2 && looks < PATIENCE && longest.len() < most {
            let start = self.next_member(from);
            if start == self.limit() {
                (from, around) = (0, around + 1);
                continue;
            }
            let end = self.search(start..self.limit().min(start + most), u64::MAX);
            if end - start > longest.len() {
                longest = start..end;
            }
            (from, looks) = (end, looks + 1);
        }
        if longest.is_empty() {
            return None;
        }
        self.remove_run(longest.clone());
        self.at = longest.end;
        Some(longest)
    }

    /// Removes members that follow each other.
    fn remove_run(&mut self, run: Range<usize>) {
        self.members -= run.len();
        let mut at = run.start;
        while at < run.end {
            let count = (WORD - at % WORD).min(run.end - at);
            self.words[at / WORD] &= !(u64::MAX >> (WORD - count) << (at % WORD));
            at += count;
        }
    }
}

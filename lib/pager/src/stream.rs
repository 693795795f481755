//! Streams: pages that a program touches one after the other, upwards or downwards.
//!
//! A page fault that hits beside the page of the last one may continue a stream. If the program has touched four pages in
//! a row, as many are brought in, so their number doubles from fault to fault. A program that does not touch pages in
//! order gets no page that it has not touched.

use crate::pagers::AROUND;
use abi::{PAGE_SIZE, Va};
use core::cell::Cell;
use core::ops::Range;

/// Pages in a row that were brought in, and where the program will continue: the address of the next page, with the
/// number of pages and the direction in the bits of the offset. (Memory that the fault path writes is scarce.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row(u64);

impl Row {
    /// No page of a program comes next.
    const NONE: Row = Row(1 << 62);
    const DOWNWARDS: u64 = 1 << 11;

    /// At most as many pages as can be brought in at once count.
    fn new(next: Va, downwards: bool, pages: u64) -> Row {
        Row(next.0 | pages.min(AROUND) | if downwards { Row::DOWNWARDS } else { 0 })
    }

    fn next(self) -> Va {
        Va(self.0).page()
    }

    fn is_downwards(self) -> bool {
        self.0 & Row::DOWNWARDS != 0
    }

    fn pages(self) -> u64 {
        self.0 % Row::DOWNWARDS
    }

    /// As many pages again, from this one on in the direction of the row.
    pub(crate) fn again(self, page: Va) -> Range<Va> {
        let more = (self.pages() - 1) * PAGE_SIZE;
        let (before, behind) = if self.is_downwards() { (more, 0) } else { (0, more) };
        Va(page.0.saturating_sub(before))..Va(page.0 + behind + PAGE_SIZE)
    }
}

/// The pages that must have been touched in a row before more are brought in.
const FIRST: u64 = 4;

/// The page whose number has the other value in each of the lowest three bits. A neighbour is such a partner where a row of
/// four begins: 3 and 4, 11 and 12, ... So the fast path detects the streams of both directions by one comparison.
const fn partner(page: Va) -> Va {
    Va(page.0 ^ ((2 * FIRST - 1) * PAGE_SIZE))
}

/// The end of a stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The page that was brought in last, or the partner of the page that comes next in `row`.
    last: Cell<Va>,
    /// The pages at the end of the stream, if the page that comes next there is the partner of `last`.
    row: Cell<Row>,
}

impl Stream {
    /// No stream: no page continues it.
    #[must_use]
    pub const fn none() -> Stream {
        Stream::of(Row::NONE)
    }

    const fn of(row: Row) -> Stream {
        Stream { last: Cell::new(partner(Va(row.0 & !(PAGE_SIZE - 1)))), row: Cell::new(row) }
    }

    /// Whether a page may continue the stream, so that several should be brought in.
    #[inline(always)]
    #[must_use]
    pub fn may_continue_at(&self, page: Va) -> bool {
        partner(page) == self.last.get()
    }

    /// Notes that a page was brought in alone. (This does not change `row`, because every fault would pay for that.)
    #[inline(always)]
    pub fn set_last(&self, page: Va) {
        self.last.set(page);
    }

    /// The pages in a row before this page, if the stream continues here.
    pub(crate) fn before(&self, page: Va, is_present: impl Fn(Va) -> bool) -> Option<Row> {
        let (row, last) = (self.row.get(), self.last.get());
        if row.next() == partner(last) && row.pages() > 0 {
            return (row.next() == page).then_some(row);
        }
        let downwards = last == page.add_pages(1);
        let beside = |n: u64| Va(if downwards { page.0 + n * PAGE_SIZE } else { page.0.wrapping_sub(n * PAGE_SIZE) });
        let is_beside = downwards || last == beside(1);
        (is_beside && (1..=FIRST).all(|n| is_present(beside(n)))).then(|| Row::new(page, downwards, FIRST))
    }

    /// Notes that these pages were brought in because `page`, the first or the last of them, was touched.
    pub(crate) fn advance(&self, page: Va, before: Option<Row>, pages: &Range<Va>) {
        let Some(row) = before else { return self.last.set(page) };
        let next = if row.is_downwards() { Va(pages.start.0.wrapping_sub(PAGE_SIZE)) } else { pages.end };
        self.last.set(partner(next));
        self.row.set(Row::new(next, row.is_downwards(), row.pages() + crate::pages(pages)));
    }
}

/// The ends of the last streams in other regions, from new to old: a program that copies memory has two streams.
#[derive(Clone, Debug)]
pub struct Streams([Row; 4]);

impl Streams {
    /// No streams.
    #[must_use]
    pub const fn none() -> Streams {
        Streams([Row::NONE; _])
    }

    /// Keeps a stream, in place of the oldest one. Returns the newest one whose end is in a range.
    pub(crate) fn exchange(&mut self, stream: &Stream, range: Option<Range<Va>>) -> Option<Stream> {
        let (row, last) = (stream.row.get(), stream.last.get());
        let kept = if partner(row.next()) == last { row } else { Row(partner(last).0) };
        if kept != Row::NONE && kept != self.0[0] {
            self.0.rotate_right(1);
            self.0[0] = kept;
        }
        let range = range?;
        let is_in = |row: &&Row| range.contains(&partner(row.next()));
        self.0.iter().find(is_in).map(|row| Stream::of(*row))
    }
}

//! Read-ahead: how many pages to bring in when one is touched.
//!
//! A program that touches pages in ascending order gets twice as many from fault to fault, up to a whole batch. One that
//! does not gets only what it touches. Several streams are followed, because a program that copies memory has two.
//!
//! (The streams of `pager` are those of its fast path, which knows one region at a time and resolves no fault of a region
//! whose pager must be asked.)

use crate::disk::BATCH;
use crate::pool::NO_PAGE;
use pager::Order;
use replacement::Page;

/// Pages that were brought in one after the other.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// The page that comes next.
    next: Page,
    /// How many pages the program seemed to need last. (There may have been fewer to bring in at once.)
    window: usize,
}

/// The last streams, from new to old.
#[derive(Debug)]
pub(crate) struct Ahead([Stream; 4]);

impl Ahead {
    /// No streams. (A program does not begin in the middle of what it never touched: page 0 begins a stream as any other.)
    pub(crate) const fn new() -> Ahead {
        Ahead([Stream { next: NO_PAGE, window: 0 }; 4])
    }

    /// How many pages to bring in, from this one upwards.
    pub(crate) fn window(&mut self, page: Page, order: Order) -> usize {
        let continued = self.0.iter().position(|stream| stream.next == page);
        // The stream that is continued, or else the oldest one, becomes the newest.
        let index = continued.unwrap_or(self.0.len() - 1);
        self.0[..=index].rotate_right(1);
        match order {
            Order::Random => 1,
            Order::Sequential => BATCH,
            Order::Unknown if continued.is_some() => (2 * self.0[0].window).min(BATCH),
            Order::Unknown => 1,
        }
    }

    /// Notes how many pages were brought in after [`Ahead::window`] had said `window`.
    pub(crate) fn note(&mut self, page: Page, count: usize, window: usize) {
        self.0[0] = Stream { next: Page(page.0.wrapping_add(count as u32)), window };
    }
}

//! Common parts of the members of `soak`: the words of the board, and what they know of each other.

use crate::kit::{Draw, WORDS, fail, get, set};
use libos::{EnvId, Va, raw};

/// Words of the board: the end flag; lines printed; how often each act was done; the members.
pub const OVER: usize = 0;
pub const LINES: usize = 1;
pub const DONE: usize = 8;
pub const CAST: usize = 64;
/// The first word of the families. Each has its own words, so that leftovers of an ended one disturb no other.
pub const FAMILIES: usize = 128;
pub const FAMILY_WORDS: usize = 16;
pub const MOST_FAMILIES: usize = (WORDS - FAMILIES) / FAMILY_WORDS;

/// The number of members that only receive; they come first. All others are workers, each the head of a family.
pub const MAILBOXES: usize = 3;
pub const MOST: usize = 20;

/// A worker and its descendants.
pub struct Family {
    pub draw: Draw,
    /// Its words on the board.
    pub words: usize,
}

impl Family {
    pub fn word(&self, n: usize) -> usize {
        self.words + n
    }

    pub fn begin(&self) {
        (0..FAMILY_WORDS).for_each(|word| set(self.words + word, 0));
    }

    pub fn up_to(&self, most: u64) -> u64 {
        1 + self.draw.below(most)
    }
}

/// A random member.
pub fn anybody(draw: &Draw) -> EnvId {
    EnvId(get(CAST + draw.below(MOST as u64) as usize) as u32)
}

/// A random receiver.
pub fn mailbox(draw: &Draw) -> EnvId {
    EnvId(get(CAST + draw.below(MAILBOXES as u64) as usize) as u32)
}

/// Fills a page that will be sent.
pub fn fill_page(page: Va, value: u64) {
    (0..8).for_each(|word| raw::write_u64(page.0 + 504 * word, value));
}

pub fn check_page(page: Option<Va>, value: u64) {
    let Some(page) = page else { fail!("no page came with {value:#x}") };
    for word in 0..8 {
        let found = raw::read_u64(page.0 + 504 * word);
        if found != value {
            fail!("{page}, word {word}: {found:#x}, {value:#x} expected");
        }
    }
}

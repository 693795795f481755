//! A table that takes no memory until it is read: the page that is touched is computed.

#![no_std]
#![forbid(unsafe_code)]

use libos::{Cause, Pager, Region, Resolution, Sys, Touch, pages, println, sys};

/// Bytes of a number of the table.
pub const BYTES: u64 = 8;

/// Serves the faults of the table. The n-th number is the square of n.
pub struct Squares;

impl Pager<Sys> for Squares {
    fn name(&self) -> &'static str {
        "squares"
    }

    fn fault(&self, _: &mut Sys, touch: &Touch, region: &Region) -> sys::Result<Resolution> {
        let first = (touch.va.page().0 - region.start.0) / BYTES;
        pages::fill(touch.va, region.perms, |page| compute(page, first))?;
        println!("a fault at {}: computed the page", touch.va);
        Ok(Resolution::Resume(Cause::Custom))
    }
}

/// Writes the numbers of a page, which begins with number `first`.
pub fn compute(page: &mut [u8], first: u64) {
    for (number, n) in page.chunks_exact_mut(BYTES as usize).zip(first..) {
        number.copy_from_slice(&n.wrapping_mul(n).to_le_bytes());
    }
}

/// The number at this place of the table.
pub fn number(table: &[u8], n: usize) -> u64 {
    let start = n * BYTES as usize;
    let mut bytes = [0; BYTES as usize];
    bytes.copy_from_slice(&table[start..start + BYTES as usize]);
    u64::from_le_bytes(bytes)
}

/// On the host: what a page holds needs no page fault to be tested.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_squares_from_its_first_number_on() {
        let mut page = [0; 4096];
        compute(&mut page, 512);
        assert_eq!(number(&page, 0), 512 * 512);
        assert_eq!(number(&page, 511), 1023 * 1023);
    }
}

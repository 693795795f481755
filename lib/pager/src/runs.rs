//! Runs: adjacent pages or marks that are treated alike.

use abi::{Pte, Va};

/// The pages and marks of a range, in ascending order.
pub trait Entries: Iterator<Item = (Va, Pte)> {
    /// Passes over the entries that follow the last one directly, as far as they are alike: equal to `like`, except for
    /// the [`varying`] bits. Returns how many. (A smaller number is correct, too, and slower.)
    fn pass_alike(&mut self, _like: Pte) -> u64 {
        0
    }
}

/// The bits that may differ between this entry and others that are alike: the frame number of a page, and
/// [`Pte::ACCESSED`]. Marks differ in nothing.
#[inline]
#[must_use]
pub const fn varying(like: Pte) -> u64 {
    if like.is_present() { Pte::FRAME | Pte::ACCESSED } else { 0 }
}

/// Entries of which none is passed over.
#[derive(Clone, Debug)]
pub struct Singly<I>(pub I);

impl<I: Iterator<Item = (Va, Pte)>> Iterator for Singly<I> {
    type Item = (Va, Pte);

    fn next(&mut self) -> Option<(Va, Pte)> {
        self.0.next()
    }
}

impl<I: Iterator<Item = (Va, Pte)>> Entries for Singly<I> {}

/// The runs of adjacent entries for which `kind` returns the same kind: the first address, the number of entries, and the
/// kind. Entries of no kind are left out.
///
/// `kind` may not depend on the frame number or on [`Pte::ACCESSED`], unless the entries come [`Singly`].
///
/// The caller may change the entries of a run before it asks for the next one. The entry behind it has been read by then,
/// so the tables at the position of the search stay.
pub fn runs<E: Entries, T: PartialEq>(
    mut entries: E,
    mut kind: impl FnMut(Va, Pte) -> Option<T>,
) -> impl Iterator<Item = (Va, u32, T)> {
    let mut next = None;
    core::iter::from_fn(move || {
        let (first, mut like, found) = loop {
            let (va, entry) = next.take().or_else(|| entries.next())?;
            match kind(va, entry) {
                Some(kind) => break (va, entry, kind),
                None => _ = entries.pass_alike(entry),
            }
        };
        let mut count = 1;
        loop {
            count += entries.pass_alike(like);
            next = entries.next();
            let Some((va, entry)) = next else { break };
            let continues = va == first.add_pages(count) && count < u64::from(u32::MAX / 2);
            if !continues || kind(va, entry).as_ref() != Some(&found) {
                break;
            }
            (like, count) = (entry, count + 1);
        }
        Some((first, count as u32, found))
    })
}

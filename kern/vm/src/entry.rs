//! Entries of page tables: what is in them, and how they change.

use crate::{Machine, Table};
use abi::layout::WINDOWS;
use abi::{Frame, Perms, Pte};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An entry that points to a table which this space alone has. It allows everything: rights are decided in
/// the leaf. Without W the table may be shared, so rights are always the AND over the levels.
pub(crate) const TABLE: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::USER;

/// The entry of a page that was granted: it may become writable if it is now.
#[inline(always)]
pub(crate) fn granted(frame: Frame, perms: Perms) -> Pte {
    let may = if perms.contains(Perms::WRITE) { Pte::MAY } else { 0 };
    Pte(Pte::page(frame, perms).0 | may)
}

/// The entry of a copy, in place of that of the page that was copied.
#[inline(always)]
pub(crate) fn owned_copy(page: Pte, copy: Frame) -> Pte {
    Pte(owned(page.0 & !(Pte::FRAME | Pte::ACCESSED | Pte::DIRTY)) | copy.address())
}

/// The entry of a page that is its holder's alone.
#[inline(always)]
pub(crate) fn owned(page: u64) -> u64 {
    (page & !Perms::COW.bits()) | Pte::WRITABLE | Pte::MAY
}

/// Whether the holder of a page may have these permissions.
#[inline(always)]
pub(crate) fn may_have(page: Pte, perms: Perms) -> bool {
    !perms.contains(Perms::WRITE) || page.has(Pte::MAY)
}

/// The entry of a page, with other permissions.
#[inline(always)]
pub(crate) fn with_perms(page: u64, perms: Perms) -> u64 {
    const STAYS: u64 = Pte::FRAME | Pte::ACCESSED | Pte::DIRTY | Pte::MAY;
    // No bit is in both. (A sum, because compilers take an `or` apart and do a part of it for each page.)
    (page & STAYS) + Pte::page(Frame(0), perms).0
}

/// Change bits of a present entry, in which the processor may have set A or D since it was looked at.
#[inline(always)]
pub(crate) fn change(entry: &AtomicU64, old: Pte, f: impl Fn(u64) -> u64) {
    let mut old = old.0;
    while let Err(now) = entry.compare_exchange_weak(old, f(old), Relaxed, Relaxed) {
        old = now;
    }
}

/// A table has one entry more, or one less, that is not empty.
pub(crate) fn count<M: Machine>(table: Frame, change: i32) {
    let word = &M::info(table).word;
    word.store(word.load(Relaxed).wrapping_add_signed(change), Relaxed);
}

/// How many entries of a table belong to the user.
pub(crate) fn user_entries<M: Machine>(table: Frame, level: u32) -> &'static [AtomicU64] {
    let entries: &Table = M::table(table);
    if level == 4 { &entries[..WINDOWS.index(4)] } else { entries }
}

/// Entries in a cache line. Most tables are nearly empty: whoever goes through one looks at a line at a time.
pub(crate) const LINE: usize = 8;

pub(crate) fn is_line_empty(entries: &[AtomicU64]) -> bool {
    entries.len() >= LINE && entries[..LINE].iter().fold(0, |all, entry| all | entry.load(Relaxed)) == 0
}

//! Page table entries: their contents, and how they change.

use crate::{Machine, Table};
use abi::{Frame, Level, Perms, Pte, call::AGE, layout::WINDOWS, window::FrameInfo};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The flags of an entry that points to a table of this page map alone. It allows everything: the leaf decides the
/// rights. Without EDIT the table may be shared; without EDIT, or SEALED, it has no W. The rights of a page are always
/// the AND over the levels.
pub(crate) const TABLE: u64 = Pte::PRESENT | Pte::WRITABLE | Pte::USER | Pte::EDIT;

/// The flags that an entry gets when its table becomes private: EDIT, and W if it is not sealed.
#[inline(always)]
pub(crate) fn own_flags(table: Pte) -> u64 {
    const TO_W: u32 = Pte::SEALED.trailing_zeros() - Pte::WRITABLE.trailing_zeros();
    Pte::EDIT | (!table.0 & Pte::SEALED) >> TO_W
}

/// The entry of a page in a frame that nobody else has.
#[inline(always)]
pub(crate) fn fresh(frame: Frame, perms: Perms) -> Pte {
    Pte(Pte::page(frame, perms).0 | Pte::MAY)
}

/// The entry of a granted page: it may become writable later only if it is writable now.
#[inline(always)]
pub(crate) fn granted(frame: Frame, perms: Perms) -> Pte {
    let may = if perms.contains(Perms::WRITE) { Pte::MAY } else { 0 };
    Pte(Pte::page(frame, perms).0 | may)
}

/// The entry of a private copy, made from the entry of the page that was copied.
#[inline(always)]
pub(crate) fn owned_copy(page: Pte, copy: Frame) -> Pte {
    Pte(owned(page.0 & !(Pte::FRAME | Pte::ACCESSED | Pte::DIRTY)) | copy.address())
}

/// The entry of a page that becomes private and writable.
#[inline(always)]
pub(crate) fn owned(page: u64) -> u64 {
    (page & !Perms::COW.bits()) | Pte::WRITABLE | Pte::MAY
}

/// Whether a page may get these permissions.
#[inline(always)]
pub(crate) fn may_have(page: Pte, perms: Perms) -> bool {
    !perms.contains(Perms::WRITE) || page.has(Pte::MAY)
}

/// The entry of a page, with other permissions.
#[inline(always)]
pub(crate) fn with_perms(page: u64, perms: Perms) -> u64 {
    const STAYS: u64 = Pte::FRAME | Pte::ACCESSED | Pte::DIRTY | Pte::MAY;
    // No bit is in both operands. (A sum, because compilers split an `or` and do a part of it for each page.)
    (page & STAYS) + Pte::page(Frame(0), perms).0
}

/// Splits the argument of `protect` into permissions and the bits that are to be cleared: A, with
/// [`AGE`](abi::call::AGE).
#[inline(always)]
pub(crate) fn split(argument: Perms) -> (Perms, u64) {
    let age = argument.bits() & AGE;
    (Perms::from_bits_retain(argument.bits() ^ age), age >> (AGE.trailing_zeros() - Pte::ACCESSED.trailing_zeros()))
}

/// Changes bits of a present entry, in which the processor may have set A or D since `old` was read.
#[inline(always)]
pub(crate) fn change(entry: &AtomicU64, old: Pte, f: impl Fn(u64) -> u64) {
    let mut old = old.0;
    while let Err(now) = entry.compare_exchange_weak(old, f(old), Relaxed, Relaxed) {
        old = now;
    }
}

/// Notes that a page which a table of level 1 names may have other users. (Several page maps may do so at once, if they
/// share the table.)
#[inline(always)]
pub(crate) fn note_others<M: Machine>(table: Frame) {
    M::info(table).word.fetch_or(FrameInfo::OTHERS, Relaxed);
}

/// Changes the number of nonempty entries of a table.
pub(crate) fn count<M: Machine>(table: Frame, change: i32) {
    let word = &M::info(table).word;
    word.store(word.load(Relaxed).wrapping_add_signed(change), Relaxed);
}

/// The entries of a table that belong to the user.
pub(crate) fn user_entries<M: Machine>(table: Frame, level: Level) -> &'static [AtomicU64] {
    let entries: &Table = M::table(table);
    if level == Level::L4 { &entries[..WINDOWS.index(Level::L4)] } else { entries }
}

/// Entries in a cache line. Most tables are nearly empty: a search through a table checks one line at a time.
pub(crate) const LINE: usize = 8;

pub(crate) fn is_line_empty(entries: &[AtomicU64]) -> bool {
    entries.len() >= LINE && entries[..LINE].iter().fold(0, |all, entry| all | entry.load(Relaxed)) == 0
}

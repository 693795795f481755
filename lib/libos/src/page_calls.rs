//! The kernel as regions and pagers see it: system calls, and page tables read as memory.

use crate::resident::Guarded;
use crate::{Frame, Level, PageOp, Pte, Va, console, layout, stats, sys, uvpt, windows};
use abi::{Error, PAGE_SIZE};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use pager::fast::Known;
use pager::stream::Streams;
use pager::{PageCalls, Stream};

/// Access of this environment to the kernel, for [`Pager`](crate::Pager)s.
#[derive(Clone, Copy, Debug)]
pub struct Sys;

/// The result of the last look-up of a region, since the next fault is most likely close to the last one; and the streams
/// of touches in other regions.
#[unsafe(link_section = ".resident")]
static KNOWN: Guarded<(Known, Streams)> = Guarded::new((Known::nothing(), Streams::none()));

/// Calls `f` with the result of the last look-up.
#[inline(always)]
pub(crate) fn known<T>(f: impl FnOnce(&Known) -> T) -> T {
    KNOWN.look(|(known, _)| f(known))
}

/// Calls `f` to change the result of the last look-up.
#[inline]
pub(crate) fn edit_known<T>(f: impl FnOnce(&mut Known, &mut Streams) -> T) -> T {
    KNOWN.edit(|(known, streams)| f(known, streams))
}

impl PageCalls for Sys {
    type Entries = uvpt::Entries;

    #[inline(always)]
    fn pte(&self, va: Va) -> Pte {
        uvpt::entry(va, Level::L1).unwrap_or_else(|| {
            stats::count_table();
            Pte::default()
        })
    }

    #[inline(always)]
    fn present(&self, va: Va) -> Pte {
        uvpt::leaf(va)
    }

    #[inline]
    fn table(&self, va: Va, level: Level) -> Pte {
        uvpt::table(va, level)
    }

    #[inline]
    fn empty_entries(&self, va: Va, level: Level) -> u64 {
        uvpt::empty_entries(va, level)
    }

    #[inline]
    fn count_entries(&self, table: Frame) -> u32 {
        windows::frame(table).map_or(0, |info| info.entries())
    }

    #[inline]
    fn is_sole(page: Frame) -> bool {
        windows::frame(page).is_some_and(|info| info.refs.load(Relaxed) == 1)
    }

    #[inline]
    fn entries(&self, range: Range<Va>) -> uvpt::Entries {
        uvpt::entries(range)
    }

    #[inline]
    fn stream<T>(&self, f: impl FnOnce(&Stream) -> T) -> T {
        known(|known| f(known.stream()))
    }

    #[inline(always)]
    fn op(&mut self, op: PageOp) -> Result<(), Error> {
        sys::page_op(op)
    }

    #[inline(always)]
    fn op_fast(&mut self, op: PageOp) -> bool {
        sys::op_fast(op)
    }

    fn ops(&mut self, ops: &[PageOp]) -> Result<(), Error> {
        sys::page_ops(ops).map_err(|(_, error)| error)
    }

    fn copy(&mut self, from: Va, to: Va, bytes: u64) {
        // SAFETY: raw pointers, because these may be any addresses of the program: pages that the caller has just made
        // (nothing refers to them yet), and the boot archive. If one of them is not mapped, this program faults.
        unsafe { core::ptr::copy_nonoverlapping(from.0 as *const u8, to.0 as *mut u8, bytes as usize) };
    }

    /// Prints the message without touching memory that could fault.
    fn unfinished(&self, exercise: &str) -> ! {
        console::unfinished(exercise)
    }

    /// The page of zeros that ends the boot archive.
    #[inline]
    fn zeros(&self) -> Va {
        Va(layout::ARCHIVE.0 + windows::archive_bytes() - PAGE_SIZE)
    }
}

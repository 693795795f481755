//! The fast path: frequent faults that one or two page calls resolve.
//!
//! The code calls only the kernel and needs only a few registers. libos compiles it into one function that leaves the
//! vector registers alone, so that those of the interrupted program need not be saved. Rarer faults, and errors, are
//! left to [`crate::resolve`]: then the fast path has changed nothing.

use crate::region::Region;
pub use crate::touch::Fill;
use crate::{Cause, ME, PageCalls};
use abi::{PageOp, Perms, Pte, Va, fault::PageFaultCode, layout::USER_LIMIT};
use core::ops::Range;

/// The known facts about the addresses around the last look-up: their region and, in a form that takes few
/// instructions, the contents of its pages.
pub struct Known<K: 'static> {
    /// The range of these facts: the first address, and the number of bytes.
    start: Va,
    bytes: u64,
    region: Option<Region<K>>,
    /// Bits in the error code of a fault that the fields below do not resolve.
    except: u64,
    /// Whether the pager must be asked about such a fault; if not, no pager would resolve it.
    ask: bool,
    /// The end of the file's whole pages; the file is `bias` bytes above the region.
    file_end: Va,
    bias: u64,
    /// The start of the zeros. (Some faults that are resolved elsewhere have an error code of 0, which no `except`
    /// matches: in that case this is above every address.)
    zeros_start: Va,
    /// The cause under which a fresh page is counted, and its rights.
    fresh: Cause,
    perms: Perms,
    /// The rights of a page that others have too.
    shared: Perms,
}

/// Bits in the error code of a page fault.
const PROTECTION: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 16;

impl<K: 'static> Known<K> {
    /// No facts about any address.
    pub const NOTHING: Known<K> = Known {
        start: Va(0),
        bytes: 0,
        region: None,
        except: u64::MAX,
        ask: false,
        file_end: Va(0),
        bias: 0,
        zeros_start: Va(u64::MAX),
        fresh: Cause::ZeroFill,
        perms: Perms::READ,
        shared: Perms::READ,
    };

    /// Looks up an address among regions in ascending order.
    #[must_use]
    pub fn of(regions: &[Region<K>], va: Va) -> Known<K> {
        let (Range { start, end }, index) = crate::region::locate(regions, va);
        let known = Known { start, bytes: end.0 - start.0, ..Known::NOTHING };
        let Some(region) = index.map(|index| regions[index]) else { return known };
        let known = Known { region: Some(region), perms: region.perms, shared: region.copy_on_write(), ..known };
        let refused = |right, bit| if region.perms.contains(right) { 0 } else { bit };
        let except = PROTECTION | refused(Perms::WRITE, WRITE) | refused(Perms::EXEC, FETCH);
        match region.pager.fill() {
            Fill::Never => known,
            // Bringing in several pages is work for the slow path.
            Fill::Ask => Known { ask: true, ..known },
            _ if region.sequential => Known { ask: true, ..known },
            Fill::Zeros(fresh) => Known { except, fresh, zeros_start: Va(0), ..known },
            Fill::File => {
                let [bias, end] = region.data;
                Known { except, bias, file_end: Va(end).page(), zeros_start: Va(end).page_up(), ..known }
            }
        }
    }

    /// Drops the facts, because the table of regions is about to change.
    #[inline]
    pub fn forget(&mut self) {
        self.bytes = 0;
    }

    #[inline(always)]
    fn covers(&self, va: Va) -> bool {
        va.0.wrapping_sub(self.start.0) < self.bytes
    }

    /// The region at an address; `None` if the address is outside of the known range.
    #[inline]
    #[must_use]
    pub fn at(&self, va: Va) -> Option<Option<&Region<K>>> {
        self.covers(va).then_some(self.region.as_ref())
    }

    /// The answer for a fault that these facts do not resolve.
    #[inline(always)]
    fn give_up(&self, va: Va) -> FastResolution {
        if self.covers(va) && !self.ask { FastResolution::NotOurs } else { FastResolution::Unknown }
    }
}

/// The result of the fast path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FastResolution {
    /// The instruction can run again.
    Resume,
    /// No pager would resolve it.
    NotOurs,
    /// The slow path must decide.
    Unknown,
}

/// Resolves a page fault on the fast path, if possible; passes the cause to `count`.
#[inline(always)]
pub fn resolve_fast<K: PageCalls>(
    kernel: &mut K,
    known: &Known<K>,
    va: Va,
    code: PageFaultCode,
    count: impl Fn(Cause),
) -> FastResolution {
    let page = va.page();
    let done = |done: bool, cause| {
        if done {
            count(cause);
            FastResolution::Resume
        } else {
            FastResolution::Unknown
        }
    };
    if code.is_protection() && code.is_write() && va < USER_LIMIT {
        let entry = kernel.present(va);
        if entry.has(Pte::WRITABLE) {
            return FastResolution::Unknown; // a table above is shared
        }
        if entry.has(Perms::COW.bits()) {
            return done(kernel.op_fast(PageOp::own(page, 1)), Cause::Copy);
        }
    }
    if !known.covers(va) {
        return FastResolution::Unknown;
    }
    if code.0 & known.except != 0 || !kernel.pte(va).is_empty() {
        return known.give_up(va);
    }
    if va < known.file_end {
        let source = Va(page.0.wrapping_add(known.bias));
        let op = match code.is_write() {
            true => PageOp::copy(ME, source, ME, page, 1, known.perms),
            false => PageOp::map(ME, source, ME, page, 1, known.shared),
        };
        return done(kernel.op_fast(op), Cause::FilePage);
    }
    if va < known.zeros_start {
        return FastResolution::Unknown; // the file ends in this page, or no facts are known
    }
    if code.is_write() {
        return done(kernel.op_fast(PageOp::alloc(ME, page, 1, known.perms)), known.fresh);
    }
    let zeros = kernel.zeros();
    done(kernel.op_fast(PageOp::map(ME, zeros, ME, page, 1, known.shared)), Cause::ZeroMap)
}

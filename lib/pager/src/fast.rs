//! The fast path: frequent faults that one or two page calls resolve.
//!
//! The code calls only the kernel and needs only a few registers. libos compiles it into one function that leaves the
//! vector registers alone, so that those of the interrupted program need not be saved. Rarer faults, and errors, are
//! left to [`crate::resolve`]: then the fast path has changed nothing.

use crate::region::{Order, Region};
pub use crate::touch::Fill;
use crate::{Cause, ME, PageCalls, Stream, stream::Streams};
use abi::{PageOp, Perms, Pte, Va, fault::PageFaultCode, layout::USER_LIMIT};
use core::cell::Cell;

/// The known facts about the addresses around the last look-up: their region and, in a form that takes few
/// instructions, the contents of its pages.
pub struct Known {
    /// The range of these facts: the first address, and the number of bytes.
    start: Va,
    bytes: Cell<u64>,
    /// The position of the region in the table, if there is one.
    index: Option<usize>,
    /// The number of bytes in which the fields below resolve faults: all, or none.
    fast_bytes: Cell<u64>,
    /// Bits in the error code of a fault that the fields below do not resolve.
    except: u64,
    /// Whether the pager must be asked about such a fault; if not, no pager would resolve it.
    ask: bool,
    content: Content,
    /// The distance from the region up to the file; or the address of the page of zeros.
    source: u64,
    /// The cause under which a fresh page is counted, and its rights.
    fresh: Cause,
    perms: Perms,
    /// The rights of a page that others have too.
    shared: Perms,
    /// The end of the stream of touches in the region.
    stream: Stream,
}

/// The contents of missing pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Unknown,
    /// Whole pages of a file.
    File,
    Zeros,
}

/// Bits in the error code of a page fault.
const PROTECTION: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 16;

impl Known {
    /// No facts about any address.
    #[must_use]
    pub const fn nothing() -> Known {
        Known {
            start: Va(0),
            bytes: Cell::new(0),
            index: None,
            fast_bytes: Cell::new(0),
            except: 0,
            ask: false,
            content: Content::Unknown,
            source: 0,
            fresh: Cause::ZeroFill,
            perms: Perms::READ,
            shared: Perms::READ,
            stream: Stream::none(),
        }
    }

    /// Looks up an address among regions in ascending order. Goes on with the stream whose end is in its region, if
    /// `streams` knows one.
    pub fn look_up<K: PageCalls>(&mut self, kernel: &K, regions: &[Region<K>], va: Va, streams: &mut Streams) {
        let (mut range, index) = crate::region::locate(regions, va);
        let region = index.map(|index| &regions[index]);
        if let Some(stream) = streams.exchange(&self.stream, region.map(Region::range)) {
            self.stream = stream;
        }
        (self.index, self.ask, self.content) = (index, false, Content::Unknown);
        if let Some(region) = region {
            (self.perms, self.shared) = (region.perms, region.copy_on_write());
            let refused = |right, bit| if region.perms.contains(right) { 0 } else { bit };
            self.except = PROTECTION | refused(Perms::WRITE, WRITE) | refused(Perms::EXEC, FETCH);
            match region.pager.fill() {
                Fill::Never => {}
                // Bringing in several pages is work for the slow path.
                fill if fill == Fill::Ask || region.order == Order::Sequential => self.ask = true,
                Fill::Zeros(fresh) => (self.content, self.fresh) = (Content::Zeros, fresh),
                _ => {
                    // The facts are about one of three parts: whole pages, the page in which the file ends, zeros.
                    let [distance, end] = region.data;
                    let (whole, part) = (Va(end).page(), Va(end).page_up());
                    if va < whole {
                        (self.content, self.source, range.end) = (Content::File, distance, whole.min(range.end));
                    } else if va < part {
                        (self.ask, range) = (true, whole..part);
                    } else {
                        (self.content, range.start) = (Content::Zeros, part.max(range.start));
                        self.fresh = Cause::ZeroFill;
                    }
                }
            }
        }
        let bytes = range.end.0 - range.start.0;
        self.start = range.start;
        self.bytes.set(bytes);
        if self.content == Content::Zeros {
            self.source = kernel.zeros().0;
        }
        self.fast_bytes.set(if self.content == Content::Unknown { 0 } else { bytes });
    }

    /// Drops the facts, because the table of regions is about to change.
    #[inline]
    pub fn forget(&self) {
        self.bytes.set(0);
        self.fast_bytes.set(0);
    }

    #[inline(always)]
    fn covers(&self, va: Va) -> bool {
        va.0.wrapping_sub(self.start.0) < self.bytes.get()
    }

    /// The end of the stream of touches.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The region at an address, in the table of the last look-up; `None` if the address is outside of the known range.
    #[inline]
    #[must_use]
    pub fn at<'a, K>(&self, regions: &'a [Region<K>], va: Va) -> Option<Option<&'a Region<K>>> {
        self.covers(va).then(|| self.index.map(|index| &regions[index]))
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

/// The slow path must decide. The compiler keeps this out of the way of the faults that are resolved.
#[inline(always)]
fn unknown() -> FastResolution {
    core::hint::cold_path();
    FastResolution::Unknown
}

/// Resolves a page fault on the fast path, if possible; passes the cause to `count`.
#[inline(always)]
pub fn resolve_fast<K: PageCalls>(
    kernel: &mut K,
    known: &Known,
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
            unknown()
        }
    };
    if code.is_protection() && code.is_write() && va < USER_LIMIT {
        let entry = kernel.present(va);
        if entry.has(Pte::WRITABLE) {
            return unknown(); // a table above is shared or sealed
        }
        if entry.has(Perms::COW.bits()) {
            return done(kernel.op_fast(PageOp::own(page, 1)), Cause::Copy);
        }
    }
    if va.0.wrapping_sub(known.start.0) >= known.fast_bytes.get()
        || code.0 & known.except != 0
        || !kernel.pte(va).is_empty()
    {
        core::hint::cold_path();
        return known.give_up(va);
    }
    if known.stream.may_continue_at(page) {
        return unknown(); // several pages
    }
    known.stream.set_last(page);
    if known.content == Content::File {
        let source = Va(page.0.wrapping_add(known.source));
        let op = match code.is_write() {
            true => PageOp::copy(ME, source, ME, page, 1, known.perms),
            false => PageOp::map(ME, source, ME, page, 1, known.shared),
        };
        return done(kernel.op_fast(op), Cause::FilePage);
    }
    if code.is_write() {
        return done(kernel.op_fast(PageOp::alloc(ME, page, 1, known.perms)), known.fresh);
    }
    done(kernel.op_fast(PageOp::map(ME, Va(known.source), ME, page, 1, known.shared)), Cause::ZeroMap)
}

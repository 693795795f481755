//! The faults that come often, answered with a page call or two and nothing else.
//!
//! What is here calls nobody but the kernel and needs only a few registers. libos makes one function of it that
//! leaves the vector registers alone, so that those of the interrupted program need not be saved. Whatever is
//! rarer, or goes wrong, is for [`crate::resolve`]: nothing has changed then.

use crate::region::Region;
pub use crate::touch::Fill;
use crate::{Cause, Kernel, ME};
use abi::fault::PageFaultCode;
use abi::layout::USER_LIMIT;
use abi::{PageOp, Perms, Pte, Va};
use core::ops::Range;

/// What is known of the addresses around the one that was looked up last: their region, and in a form that
/// takes few instructions, what belongs into its pages.
pub struct Known<K: 'static> {
    /// How far this holds: the first address, and how many bytes.
    start: Va,
    bytes: u64,
    region: Option<Region<K>>,
    /// Bits in the error code of a fault that is not resolved by what follows.
    except: u64,
    /// Then the pager must be asked; otherwise nobody would resolve it.
    ask: bool,
    /// Below this address pages of a file come; they are `bias` bytes further up.
    file_end: Va,
    bias: u64,
    /// From this address on zeros come. (Of faults that are resolved elsewhere some have an error code of 0, which is
    /// in no `except`: no address is so high then.)
    zeros_start: Va,
    /// What a fresh page is counted as, and its rights.
    fresh: Cause,
    perms: Perms,
    /// The rights of a page that others have too.
    shared: Perms,
}

/// In the error code of a page fault.
const PROTECTION: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 16;

impl<K: 'static> Known<K> {
    /// Nothing is known of any address.
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

    /// Look an address up among regions in ascending order.
    #[must_use]
    pub fn of(regions: &[Region<K>], va: Va) -> Known<K> {
        let (Range { start, end }, index) = crate::region::locate(regions, va);
        let known = Known { start, bytes: end.0 - start.0, ..Known::NOTHING };
        let Some(region) = index.map(|index| regions[index]) else { return known };
        let known =
            Known { region: Some(region), perms: region.perms, shared: region.copy_on_write(), ..known };
        let refused = |right, bit| if region.perms.contains(right) { 0 } else { bit };
        let except = PROTECTION | refused(Perms::WRITE, WRITE) | refused(Perms::EXEC, FETCH);
        match region.pager.fill() {
            Fill::Never => known,
            // Several pages at once are not so quickly done.
            Fill::Ask => Known { ask: true, ..known },
            _ if region.sequential => Known { ask: true, ..known },
            Fill::Zeros(fresh) => Known { except, fresh, zeros_start: Va(0), ..known },
            Fill::File => {
                let [bias, end] = region.data;
                Known { except, bias, file_end: Va(end).page(), zeros_start: Va(end).page_up(), ..known }
            }
        }
    }

    /// Forget it: the table of regions is about to change.
    #[inline]
    pub fn forget(&mut self) {
        self.bytes = 0;
    }

    #[inline(always)]
    fn covers(&self, va: Va) -> bool {
        va.0.wrapping_sub(self.start.0) < self.bytes
    }

    /// The region at an address; `None` if that is not known.
    #[inline]
    #[must_use]
    pub fn at(&self, va: Va) -> Option<Option<&Region<K>>> {
        self.covers(va).then_some(self.region.as_ref())
    }

    /// A fault cannot be resolved with what is known here.
    #[inline(always)]
    fn give_up(&self, va: Va) -> Quick {
        if self.covers(va) && !self.ask { Quick::NotOurs } else { Quick::Unknown }
    }
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quick {
    /// The instruction can be run again.
    Resume,
    /// No pager would resolve it.
    NotOurs,
    /// That is not so quickly said.
    Unknown,
}

/// Resolve a page fault if that is quickly done; `count` is told what it was.
#[inline(always)]
pub fn resolve<K: Kernel>(
    kernel: &mut K,
    known: &Known<K>,
    va: Va,
    code: PageFaultCode,
    count: impl Fn(Cause),
) -> Quick {
    let page = va.page();
    let done = |done: bool, cause| {
        if done {
            count(cause);
            Quick::Resume
        } else {
            Quick::Unknown
        }
    };
    if code.is_protection() && code.is_write() && va < USER_LIMIT {
        let entry = kernel.present(va);
        if entry.has(Pte::WRITABLE) {
            return Quick::Unknown; // a table above is shared
        }
        if entry.has(Perms::COW.bits()) {
            return done(kernel.once(PageOp::own(page, 1)), Cause::Copy);
        }
    }
    if !known.covers(va) {
        return Quick::Unknown;
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
        return done(kernel.once(op), Cause::FilePage);
    }
    if va < known.zeros_start {
        return Quick::Unknown; // the file ends in this page, or nothing is known of any
    }
    if code.is_write() {
        return done(kernel.once(PageOp::alloc(ME, page, 1, known.perms)), known.fresh);
    }
    let zeros = kernel.zeros();
    done(kernel.once(PageOp::map(ME, zeros, ME, page, 1, known.shared)), Cause::ZeroMap)
}

//! A pager: what it knows, and how it is set up.

use crate::ahead::Ahead;
use crate::disk::{BATCH, Disk, Failure, PoolFrame, RequestId};
use crate::error::Error;
use crate::kernel::{self, Evict};
use crate::pool::{NO_PAGE, Pool, RESERVE, Recent, Record};
use crate::requests::{Request, Requests};
use crate::slots::Slots;
use abi::{Perms, Pte, Va, page::span};
use pager::Region;
use replacement::{Page, Policy};

/// The memory of a pager, for a pool of as many frames as there are records. All of it must be resident: the pager runs in
/// the fault handler.
#[derive(Debug)]
pub struct Memory<'a> {
    /// One for each frame; at least twice [`RESERVE`].
    pub records: &'a mut [Record],
    /// At least two for each frame.
    pub index: &'a mut [u32],
    /// Twice at least one bit for each frame.
    pub bits: [&'a mut [u64]; 2],
    /// At most 32 requests, and at least 2. Each can move [`BATCH`] pages.
    pub requests: &'a mut [Request],
}

/// The choices that are left to the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The regions of the pager are in the 16 TiB from here on.
    pub base: Va,
    /// The frames of the pool are mapped writable from here on.
    pub pool: Va,
    /// The number of pages that are evicted at once, from 1 to [`BATCH`]: a 256th of the pool is a good choice. Twice as
    /// many frames are kept free.
    pub batch: usize,
}

/// Counts of the events since a pager was set up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Pages that begin as zeros.
    pub fresh: u64,
    /// Pages that were read and mapped.
    pub page_ins: u64,
    /// Pages that were touched before their write had ended.
    pub rescued: u64,
    /// Pages whose write has begun.
    pub written: u64,
    /// Pages that were evicted without a write.
    pub dropped: u64,
    /// Requests to the disk.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
}

/// A pager for memory that is larger than its pool of frames.
#[derive(Debug)]
pub struct Swap<'a, D, P> {
    pub(crate) base: Va,
    /// The number of pages that are evicted at once.
    pub(crate) batch: usize,
    pub(crate) pool: Pool<'a>,
    pub(crate) slots: Slots<'a>,
    pub(crate) requests: Requests<'a>,
    pub(crate) disk: D,
    pub(crate) policy: P,
    pub(crate) ahead: Ahead,
    pub(crate) recent: Recent,
    /// For how many more faults those pages stay.
    pub(crate) stay: u8,
    /// The request to read that a fault waits for.
    pub(crate) awaited: Option<RequestId>,
    /// The number of batches so far.
    pub(crate) batches: u32,
    /// The pages that were brought in since the last scan.
    pub(crate) since_scan: usize,
    pub(crate) counts: Counts,
    pub(crate) last_failure: Option<Failure>,
}

impl<'a, D: Disk, P: Policy> Swap<'a, D, P> {
    /// A pager without pages. The device of the disk has the frames of the pool already.
    ///
    /// # Errors
    /// [`Error::TooLittle`], [`Error::BadPool`].
    pub fn new<K: Evict>(
        kernel: &K,
        settings: Settings,
        memory: Memory<'a>,
        slots: Slots<'a>,
        disk: D,
        policy: P,
    ) -> Result<Swap<'a, D, P>, Error> {
        for (what, there, needed) in
            [("frames in the pool", memory.records.len(), 2 * RESERVE), ("requests", memory.requests.len(), 2)]
        {
            if there < needed {
                return Err(Error::TooLittle(what, needed));
            }
        }
        let Settings { base, pool, batch } = settings;
        let pool = Pool::new(kernel, pool, memory.records, memory.index, memory.bits)?;
        let (requests, ahead, counts) = (Requests::new(memory.requests), Ahead::new(), Counts::default());
        Ok(Swap {
            base,
            batch: batch.clamp(1, BATCH.min(pool.len() / 8)),
            pool,
            slots,
            requests,
            disk,
            policy,
            ahead,
            recent: [NO_PAGE; _],
            stay: 0,
            awaited: None,
            batches: 0,
            since_scan: 0,
            counts,
            last_failure: None,
        })
    }

    /// The disk, for its owner to ask it for its own counts.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The counts of events since the pager was set up.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The slots, for a server that shares them.
    pub fn slots(&mut self) -> &mut Slots<'a> {
        &mut self.slots
    }

    /// The last failure of the disk, once.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.last_failure.take()
    }

    /// The number of frames that are free.
    pub fn free_frames(&self) -> usize {
        self.pool.free()
    }

    /// The number of free frames, and of those that will be free soon, that the pager tries to have.
    pub(crate) fn low(&self) -> usize {
        RESERVE + 2 * self.batch
    }

    pub(crate) fn va(&self, page: Page) -> Va {
        self.base.add_pages(page.0.into())
    }

    pub(crate) fn page(&self, va: Va) -> Result<Page, Error> {
        let number = va.0.checked_sub(self.base.0).map(|bytes| bytes / abi::PAGE_SIZE);
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number < NO_PAGE.0);
        number.map(Page).ok_or(Error::OutOfRange(va))
    }

    /// Tells the policy that a page was brought in.
    pub(crate) fn inserted(&mut self, page: Page) -> Result<(), Error> {
        self.since_scan += 1;
        Ok(self.policy.insert(page)?)
    }

    /// Maps consecutive frames of the pool at consecutive pages.
    pub(crate) fn map<K: Evict>(
        &self,
        kernel: &mut K,
        page: Page,
        frame: PoolFrame,
        count: u32,
        perms: Perms,
    ) -> Result<(), Error> {
        kernel::map(self.pool.va(frame), self.va(page), count, perms, |op| Ok(kernel.op(op)?))
    }

    /// How many pages from this one on, and at most `most`, are in the region, in one page table, and alike.
    pub(crate) fn neighbours<K: Evict>(
        &self,
        kernel: &K,
        page: Page,
        most: usize,
        region: &Region<K>,
        is_alike: impl Fn(usize, Pte) -> bool,
    ) -> usize {
        let va = self.va(page);
        let table = Va(va.0 | (span(abi::Level::L2) - 1)).add_pages(1).page();
        let end = region.end.min(table);
        let alike = |index: &usize| {
            let at = va.add_pages(*index as u64);
            at < end && is_alike(*index, kernel.pte(at))
        };
        1 + (1..most).take_while(alike).count()
    }
}

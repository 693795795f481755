//! Memory larger than the machine: a pager that keeps some pages in a pool of frames, and the others on a disk.
//!
//! ```ignore
//! swap::begin(Disk::open(0)?, 1_000)?;       // 1000 frames, and the whole disk
//! let mut table = swap::map(1 << 30)?;       // a gibibyte, of which 4 MB are in memory at any time
//! swap::serve(layout::HEAP)?;                // and from now on the heap, too
//! ```
//!
//! The logic is in the crate [`swap`](swap_crate); `docs/swapping.md` explains it. This module gives it the disk, the
//! kernel and its memory. A program has one swapping pager.

use crate::disk::{Disk, Pages, Request, Sector, Segment, Ticket};
use crate::mmap::{MmapMut, MmapOptions};
use crate::page_calls::Sys;
use crate::{Error, Frame, PAGE_SIZE, Perms, Va, regions, windows};
pub use ::swap::{self as swap_crate, CompressedCounts, Counts};
use ::swap::{BATCH, Cause, Completion, Direction, Evict, Failure, Full, PoolFrame, RequestId, Settings, Slot, Slots};
use ::swap::{Codec, Compressed, Memory, Record, Room, Swap, SwapPager};
use arrayvec::ArrayVec;
use replacement::{Lirs, lirs::Node};

/// The sectors of a page.
const SECTORS: u64 = PAGE_SIZE / block::SECTOR_SIZE as u64;

/// The pager of this program. In a section of its own, which only programs have that swap.
#[unsafe(link_section = ".resident.swap")]
static PAGER: SwapPager<'static, Layers, Lirs<'static>> = SwapPager::new();

/// The disk, and compressed memory above it.
type Layers = Compressed<'static, SwapDisk, PoolCodec>;

/// Memory for compressed pages, and the functions that compress. They are called by the fault handler: what they use must
/// be present, and not on the heap if that is swapped.
#[derive(Clone, Copy, Debug)]
pub struct Compression {
    /// How much memory, beside the frames.
    pub bytes: usize,
    /// Compresses a page. Returns the number of bytes, or `None` if there is too little room for them.
    pub compress: fn(&[u8; PAGE_SIZE as usize], &mut [u8]) -> Option<usize>,
    /// Restores a page from these bytes.
    pub restore: fn(&[u8], &mut [u8; PAGE_SIZE as usize]),
}

/// No compression.
const NONE: Compression = Compression { bytes: 0, compress: |_, _| None, restore: |_, _| () };

/// Why swapping did not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BeginError {
    /// The kernel refused a call.
    Kernel(abi::Error),
    /// The pager cannot work like this.
    Swap(swap_crate::Error),
    /// Swapping has begun already.
    Again,
}

impl From<abi::Error> for BeginError {
    fn from(error: abi::Error) -> BeginError {
        BeginError::Kernel(error)
    }
}

impl core::fmt::Display for BeginError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            BeginError::Kernel(error) => core::fmt::Display::fmt(error, f),
            BeginError::Swap(error) => core::fmt::Display::fmt(error, f),
            BeginError::Again => f.write_str("the program swaps already"),
        }
    }
}

impl core::error::Error for BeginError {}

/// Begins to swap to a disk, whose contents are lost. At most this many frames hold pages; they are allocated now.
///
/// # Errors
/// See [`BeginError`]: `NoMemory` if the frames are not there.
pub fn begin(disk: Disk, frames: usize) -> Result<(), BeginError> {
    begin_compressed(disk, frames, NONE)
}

/// Begins to swap, with compressed memory above the disk: pages that leave are compressed, and go to the disk only when
/// that memory is rather full.
///
/// # Errors
/// See [`BeginError`].
pub fn begin_compressed(disk: Disk, frames: usize, compression: Compression) -> Result<(), BeginError> {
    if PAGER.with(|_| ()).is_some() {
        return Err(BeginError::Again);
    }
    let spares = if compression.bytes > 0 { BATCH } else { 0 };
    let pool = Pages::new((frames + spares) as u64)?;
    let start = pool.range().start;
    disk.device().share(start, (frames + spares) as u64, Perms::WRITE)?;
    let batch = (frames / 256).clamp(1, BATCH.min(disk.limits().segments));
    let slots = u32::try_from(disk.limits().sectors / SECTORS).unwrap_or(u32::MAX);
    let memory = Memory {
        records: resident(frames, || Record::EMPTY)?,
        index: resident(2 * frames, || 0)?,
        bits: [resident(Slots::words(frames as u32), || 0)?, resident(Slots::words(frames as u32), || 0)?],
        requests: resident(block::REQUESTS, swap_crate::Request::unused)?,
    };
    let room = Room {
        log: resident(compression.bytes, || 0)?,
        places: resident(if spares > 0 { slots as usize } else { 0 }, || 0)?,
        spares: frames as u32..(frames + spares) as u32,
    };
    let slots = Slots::new(resident(Slots::words(slots), || 0)?, slots);
    let policy = Lirs::new(resident(Lirs::nodes(frames), || Node::EMPTY)?);
    let settings = Settings { base: Va(0), pool: start, batch };
    let disk = SwapDisk { disk, pool: start, requests: [RequestId(0); _], failed: ArrayVec::new() };
    let disk = Compressed::new(disk, PoolCodec { pool: start, compression }, room);
    let swap = Swap::new(&Sys, settings, memory, slots, disk, policy).map_err(BeginError::Swap)?;
    // The pool and the pager exist for as long as the program does.
    core::mem::forget(pool);
    PAGER.begin(swap);
    Ok(())
}

/// Elements in pages that are always present.
fn resident<T>(count: usize, value: impl FnMut() -> T) -> Result<&'static mut [T], BeginError> {
    let pages = (count * size_of::<T>()).div_ceil(PAGE_SIZE as usize);
    if pages == 0 {
        return Ok(&mut []);
    }
    Ok(&mut Pages::new(pages as u64)?.leak(value)[..count])
}

/// Maps memory that begins as zeros, and is swapped.
///
/// # Errors
/// As [`MmapOptions::map_anon`].
pub fn map(bytes: usize) -> Result<MmapMut, Error> {
    MmapOptions::new().len(bytes).map_with(&PAGER)
}

/// Makes the pager serve a region that has another one so far: the heap, or the stack. Pages that are there already stay
/// in memory.
///
/// # Errors
/// `Memory` if there is no region at this address.
pub fn serve(va: Va) -> Result<(), Error> {
    regions::replace_pager(va, &PAGER)
}

/// The counts of page-ins, writes and failures so far; `None` before the begin.
#[must_use]
pub fn counts() -> Option<Counts> {
    PAGER.with(|swap| swap.counts())
}

/// What became of pages that left, if they are compressed; `None` before the begin.
#[must_use]
pub fn compressed_counts() -> Option<CompressedCounts> {
    PAGER.with(|swap| swap.disk().counts())
}

/// The last error of a fault, once: why the pager did not bring a page in.
#[must_use]
pub fn take_error() -> Option<swap_crate::Error> {
    PAGER.take_error()
}

/// The last failure of the disk, once.
#[must_use]
pub fn take_failure() -> Option<Failure> {
    PAGER.take_failure()
}

/// The kernel, for a pager that evicts.
impl Evict for Sys {
    #[inline]
    fn references(page: Frame) -> u32 {
        windows::refs(page).unwrap_or(0)
    }
}

/// Compresses pages of the pool.
struct PoolCodec {
    /// The first page of the pool.
    pool: Va,
    compression: Compression,
}

impl PoolCodec {
    fn page(&self, frame: PoolFrame) -> *mut [u8; PAGE_SIZE as usize] {
        self.pool.add_pages(frame.0.into()).0 as *mut [u8; PAGE_SIZE as usize]
    }
}

impl Codec for PoolCodec {
    fn compress(&mut self, frame: PoolFrame, out: &mut [u8]) -> Option<usize> {
        // SAFETY: the pool is mapped for good. The page has left, so the program has no reference to it, and no request of
        // the disk has begun.
        (self.compression.compress)(unsafe { &*self.page(frame) }, out)
    }

    fn restore(&mut self, bytes: &[u8], frame: PoolFrame) {
        // SAFETY: as above; the frame has no page yet.
        (self.compression.restore)(bytes, unsafe { &mut *self.page(frame) });
    }
}

/// The disk, for the pager.
struct SwapDisk {
    disk: Disk,
    /// The first page of the pool.
    pool: Va,
    /// The request of the pager for each request in flight, by the index of its ticket.
    requests: [RequestId; block::REQUESTS],
    /// Requests that could not be submitted, since the disk does not start again.
    failed: ArrayVec<Completion, { block::REQUESTS }>,
}

impl SwapDisk {
    fn segment(&self, first: PoolFrame, pages: usize) -> Segment {
        // SAFETY: the pages of the pool are mapped for good. The pager uses a frame for nothing else while it is in a
        // request, and has no references to what is in it.
        unsafe { Segment::new(self.pool.add_pages(first.0.into()), (pages as u64 * PAGE_SIZE) as u32) }
    }

    fn completion(&self, (ticket, result): (Ticket, Result<(), block::Failed>)) -> Completion {
        let result = result.map_err(|failed| failure(failed.cause, failed.sector.map_or(0, |sector| sector.0)));
        Completion { request: self.requests[ticket.index()], result }
    }
}

#[cold]
fn failure(cause: block::Cause, sector: u64) -> Failure {
    let cause = match cause {
        block::Cause::Io => Cause::Medium,
        block::Cause::Unsupported => Cause::Refused,
        block::Cause::Blocked(_) => Cause::Memory,
        block::Cause::TimedOut => Cause::Deadline,
        block::Cause::Broken(_) | block::Cause::Stopped => Cause::Lost,
    };
    Failure { cause, sector }
}

impl swap_crate::Disk for SwapDisk {
    fn submit(
        &mut self,
        request: RequestId,
        direction: Direction,
        first: Slot,
        frames: &[PoolFrame],
    ) -> Result<(), Full> {
        // Frames that follow each other are one segment.
        let runs = frames.chunk_by(|one, next| next.0 == one.0 + 1);
        let mut segments = ArrayVec::<Segment, BATCH>::new();
        segments.extend(runs.map(|run| self.segment(run[0], run.len())));
        if self.disk.stopped().is_some() {
            // Requests in flight have failed, and are returned as such. If it does not start, this one is refused.
            let _ = self.disk.restart();
        }
        let sector = Sector(first.sector());
        let submitted = self.disk.submit(match direction {
            Direction::Read => Request::Read(sector, &segments),
            Direction::Write => Request::Write(sector, &segments),
        });
        match submitted {
            Ok(ticket) => {
                self.requests[ticket.index()] = request;
                self.disk.notify();
            }
            Err(block::Refused::Full) => return Err(Full),
            Err(refused) => {
                let cause =
                    if let block::Refused::Stopped(cause) = refused { cause } else { block::Cause::Unsupported };
                let result = Err(failure(cause, sector.0));
                self.failed.try_push(Completion { request, result }).map_err(|_| Full)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn poll(&mut self) -> Option<Completion> {
        self.failed.pop().or_else(|| self.disk.poll().map(|ended| self.completion(ended)))
    }

    fn wait(&mut self) -> Option<Completion> {
        self.failed.pop().or_else(|| self.disk.wait().map(|ended| self.completion(ended)))
    }
}

//! Mappings: anonymous memory and files, in the manner of the crate `memmap2`.
//!
//! ```ignore
//! let mut table = MmapOptions::new().len(1 << 30).map_anon()?; // a gibibyte that costs nothing yet
//! table[12_345] = 1;                                           // now it costs a page
//! let file = archive::find("hello")?;
//! let bytes = MmapOptions::new().map(&file)?;                  // the file's own pages
//! assert_eq!(&bytes[1..4], b"ELF");
//! ```
//!
//! Dropping the value removes the mapping. To give up a part of a mapping, [`split`](Mmap::split_at) it and drop that
//! part.

use crate::regions::{self, Advice, Region};
use crate::{
    Error, Perms, Sys, Va,
    archive::File,
    layout::{OF_DEVICES, SCRATCH},
};
use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::AtomicU64;
use pager::{Inherit, Pager, Shared, Zeros};

static ANONYMOUS: Zeros = Zeros::named("anonymous");
static SHARED: Shared = Shared;
static FILE: pager::File = pager::File { name: "file" };

/// Options of a mapping: contents, length and address.
#[derive(Clone, Copy, Debug, Default)]
pub struct MmapOptions {
    offset: u64,
    len: Option<usize>,
    at: Option<Va>,
    populate: bool,
}

impl MmapOptions {
    /// The default options: a whole file, at any address, with pages brought in on demand.
    #[must_use]
    pub fn new() -> MmapOptions {
        MmapOptions::default()
    }

    /// Begin at this offset into the file, a multiple of the page size.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> MmapOptions {
        self.offset = offset;
        self
    }

    /// Map this many bytes. Without this option, a file is mapped from the offset to its end; anonymous memory needs a
    /// length.
    #[must_use]
    pub fn len(mut self, bytes: usize) -> MmapOptions {
        self.len = Some(bytes);
        self
    }

    /// Map at this address: a multiple of the page size, not 0, free, below [`SCRATCH`], and outside
    /// [`OF_DEVICES`].
    #[must_use]
    pub fn at(mut self, va: Va) -> MmapOptions {
        self.at = Some(va);
        self
    }

    /// Bring all pages in at once.
    #[must_use]
    pub fn populate(mut self) -> MmapOptions {
        self.populate = true;
        self
    }

    /// Maps private memory that begins as zeros.
    ///
    /// # Errors
    /// `Memory`: no length, or no room for it; the address is not free. See [`pager::Error`].
    #[inline]
    pub fn map_anon(self) -> Result<MmapMut, Error> {
        let bytes = self.len.unwrap_or(0);
        self.map_region(bytes, &|range| Region::new(range, Perms::WRITE, &ANONYMOUS)).map(MmapMut)
    }

    /// Maps memory that begins as zeros and stays shared with forked children.
    ///
    /// # Errors
    /// As [`MmapOptions::map_anon`].
    pub fn map_shared_anon(self) -> Result<MmapShared, Error> {
        let (bytes, perms) = (self.len.unwrap_or(0), Perms::WRITE | Perms::KEEP);
        self.map_region(bytes, &|range| Region::new(range, perms, &SHARED)).map(MmapShared)
    }

    /// Maps memory that this pager serves, readable and writable. If the pager says [`Inherit::Shared`], the memory
    /// stays shared with forked children, and the program must expect that they write to it. The frames of a pager that
    /// says [`Inherit::Refused`] are its own: they are never copied either.
    ///
    /// # Errors
    /// As [`MmapOptions::map_anon`].
    pub fn map_with(self, pager: &'static dyn Pager<Sys>) -> Result<MmapMut, Error> {
        let keep = match pager.on_fork() {
            Inherit::Shared | Inherit::Refused => Perms::KEEP,
            Inherit::Private | Inherit::Not => Perms::READ,
        };
        let perms = Perms::WRITE | keep;
        self.map_region(self.len.unwrap_or(0), &|range| Region::new(range, perms, pager)).map(MmapMut)
    }

    /// Maps a file, readable.
    ///
    /// # Errors
    /// `Memory`: the part is empty or goes beyond the end of the file, the offset is not a multiple of the page size,
    /// the address is not free.
    pub fn map(self, file: &File) -> Result<Mmap, Error> {
        self.map_file(file, Perms::READ)
    }

    /// Maps a file, executable.
    ///
    /// # Errors
    /// As [`MmapOptions::map`].
    pub fn map_exec(self, file: &File) -> Result<Mmap, Error> {
        self.map_file(file, Perms::EXEC)
    }

    /// Maps a private copy of a file, readable and writable: writes do not reach the file.
    ///
    /// # Errors
    /// As [`MmapOptions::map`].
    pub fn map_copy(self, file: &File) -> Result<MmapMut, Error> {
        self.map_file(file, Perms::WRITE).map(MmapMut)
    }

    fn map_file(self, file: &File, perms: Perms) -> Result<Mmap, Error> {
        let size = file.data.len() as u64;
        if !Va(self.offset).is_page_aligned() {
            return Err(pager::Error::Unaligned(self.offset).into());
        }
        let rest = size.checked_sub(self.offset).ok_or(pager::Error::PastEnd(self.offset))?;
        let bytes = self.len.map_or(rest, |len| len as u64);
        if bytes > rest {
            return Err(pager::Error::PastEnd(self.offset.saturating_add(bytes)).into());
        }
        let source = Va(file.address().0 + self.offset);
        self.map_region(bytes as usize, &|range| FILE.region(range, perms, source, bytes))
    }

    fn map_region(self, bytes: usize, make: &dyn Fn(Range<Va>) -> Region) -> Result<Mmap, Error> {
        let range = match self.at {
            None => regions::add_anywhere(bytes as u64, 1, make)?,
            Some(start) => {
                let end = start.0.checked_add(bytes as u64).filter(|&end| end <= SCRATCH.0);
                // References must not be null; and libos uses the addresses of devices and from `SCRATCH` on itself.
                let is_free = |end| start.0 != 0 && (end <= OF_DEVICES.start.0 || start >= OF_DEVICES.end);
                let end = end.filter(|&end| is_free(end)).ok_or(pager::Error::OutsideUser(start))?;
                let range = start..Va(end).page_up();
                regions::add(make(range.clone()))?;
                range
            }
        };
        let mapping = Mmap { start: range.start, bytes };
        if self.populate {
            mapping.advise(Advice::WillNeed)?;
        }
        Ok(mapping)
    }
}

/// A read-only mapping.
#[derive(Debug)]
pub struct Mmap {
    start: Va,
    bytes: usize,
}

impl Mmap {
    /// The pages of the mapping.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.start..Va(self.start.0 + self.bytes as u64).page_up()
    }

    /// Gives advice about the future use of the pages.
    ///
    /// # Errors
    /// See [`regions::advise`]; [`NotSupported`](pager::Error::NotSupported) for [`Advice::DontNeed`]: that may change
    /// the bytes, and so needs [`discard`](Mmap::discard), which takes the value exclusively.
    pub fn advise(&self, advice: Advice) -> Result<(), Error> {
        self.advise_range(advice, 0..self.whole())
    }

    /// Gives advice about whole pages of the mapping; `part` is in bytes from the start.
    ///
    /// # Errors
    /// As [`Mmap::advise`]; [`PastEnd`](pager::Error::PastEnd) if the part reaches beyond the mapping.
    pub fn advise_range(&self, advice: Advice, part: Range<usize>) -> Result<(), Error> {
        match advice {
            Advice::DontNeed => Err(pager::Error::NotSupported(self.start).into()),
            advice => regions::advise(&self.part(part)?, advice),
        }
    }

    /// Give back whole pages of the mapping; `part` is in bytes from the start. The part then has its first contents
    /// again: zeros, or the file.
    ///
    /// # Errors
    /// See [`regions::advise`]; [`PastEnd`](pager::Error::PastEnd) if the part reaches beyond the mapping.
    pub fn discard(&mut self, part: Range<usize>) -> Result<(), Error> {
        regions::advise(&self.part(part)?, Advice::DontNeed)
    }

    /// The length in bytes, rounded up to pages.
    fn whole(&self) -> usize {
        let pages = self.range();
        (pages.end.0 - pages.start.0) as usize
    }

    fn part(&self, part: Range<usize>) -> Result<Range<Va>, Error> {
        if part.start > part.end || part.end > self.whole() {
            return Err(pager::Error::PastEnd(part.end as u64).into());
        }
        Ok(Va(self.start.0 + part.start as u64)..Va(self.start.0 + part.end as u64))
    }

    /// Splits the mapping in two: the bytes before `at`, a multiple of the page size, and those from `at` on.
    ///
    /// # Errors
    /// [`Unaligned`](pager::Error::Unaligned), [`PastEnd`](pager::Error::PastEnd); the mapping is then dropped.
    pub fn split_at(self, at: usize) -> Result<(Mmap, Mmap), Error> {
        if !Va(at as u64).is_page_aligned() {
            return Err(pager::Error::Unaligned(at as u64).into());
        }
        if at > self.bytes {
            return Err(pager::Error::PastEnd(at as u64).into());
        }
        let (start, bytes) = (self.start, self.bytes);
        core::mem::forget(self);
        let second = Va(start.0 + at as u64);
        Ok((Mmap { start, bytes: at }, Mmap { start: second, bytes: bytes - at }))
    }

    /// Make the mapping writable. Shared pages are copied when they are written.
    ///
    /// # Errors
    /// See [`regions::protect`].
    pub fn make_mut(self) -> Result<MmapMut, Error> {
        regions::protect(&self.range(), Perms::WRITE)?;
        Ok(MmapMut(self))
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range belongs to this value alone, and a region serves it as long as the value lives. Nothing
        // writes to it: that takes a `MmapMut`, which would have replaced this value.
        unsafe { core::slice::from_raw_parts(self.start.0 as *const u8, self.bytes) }
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // Fails if the table of regions has no free slot, or a shared table cannot be copied: then the memory is
            // lost, and its addresses with it.
            let _ = regions::unmap(&self.range());
        }
    }
}

/// A private, writable mapping.
#[derive(Debug)]
pub struct MmapMut(Mmap);

impl MmapMut {
    /// The pages of the mapping.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.0.range()
    }

    /// Gives advice about the future use of the pages.
    ///
    /// # Errors
    /// As [`Mmap::advise`].
    pub fn advise(&self, advice: Advice) -> Result<(), Error> {
        self.0.advise(advice)
    }

    /// Give back whole pages of the mapping, as [`Mmap::discard`] does.
    ///
    /// # Errors
    /// As [`Mmap::discard`].
    pub fn discard(&mut self, part: Range<usize>) -> Result<(), Error> {
        self.0.discard(part)
    }

    /// Splits the mapping in two, as [`Mmap::split_at`] does.
    ///
    /// # Errors
    /// As [`Mmap::split_at`].
    pub fn split_at(self, at: usize) -> Result<(MmapMut, MmapMut), Error> {
        self.0.split_at(at).map(|(first, second)| (MmapMut(first), MmapMut(second)))
    }

    /// Make the mapping read-only.
    ///
    /// # Errors
    /// See [`regions::protect`].
    pub fn make_read_only(self) -> Result<Mmap, Error> {
        regions::protect(&self.0.range(), Perms::READ)?;
        Ok(self.0)
    }

    /// Make the mapping executable and not writable.
    ///
    /// # Errors
    /// See [`regions::protect`].
    pub fn make_exec(self) -> Result<Mmap, Error> {
        regions::protect(&self.0.range(), Perms::EXEC)?;
        Ok(self.0)
    }
}

impl Deref for MmapMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for MmapMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: see `Mmap`; and the reference is borrowed exclusively from the only value that knows the range.
        unsafe { core::slice::from_raw_parts_mut(self.0.start.0 as *mut u8, self.0.bytes) }
    }
}

/// A mapping that other environments may write: its words are atomic.
#[derive(Debug)]
pub struct MmapShared(Mmap);

impl MmapShared {
    /// The pages of the mapping.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.0.range()
    }
}

impl Deref for MmapShared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: see `Mmap`, except that others may write: hence atomics. The start is a page boundary.
        unsafe { core::slice::from_raw_parts(self.0.start.0 as *const AtomicU64, self.0.bytes / 8) }
    }
}

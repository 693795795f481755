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
//! A mapping goes away when its value is dropped. To give up a part of one, [`split`](Mmap::split_at)
//! it and drop that part.

use crate::archive::File;
use crate::layout::SCRATCH;
use crate::space::{self, Advice, Region};
use crate::{Error, Perms, Sys, Va};
use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::AtomicU64;
use pager::{Inherit, Pager, Shared, Zeros};

static ANONYMOUS: Zeros = Zeros::named("anonymous");
static SHARED: Shared = Shared;
static FILE: pager::File = pager::File { name: "file" };

/// What to map, and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct MmapOptions {
    offset: u64,
    len: Option<usize>,
    at: Option<Va>,
    populate: bool,
}

impl MmapOptions {
    /// A whole file, at any address, its pages brought in when they are touched.
    #[must_use]
    pub fn new() -> MmapOptions {
        MmapOptions::default()
    }

    /// Begin so many bytes into the file: a multiple of the page size.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> MmapOptions {
        self.offset = offset;
        self
    }

    /// Map so many bytes. Without this, a file is mapped from the offset to its end; anonymous
    /// memory needs a length.
    #[must_use]
    pub fn len(mut self, bytes: usize) -> MmapOptions {
        self.len = Some(bytes);
        self
    }

    /// Map at this address, a multiple of the page size and not 0, where nothing is; below
    /// [`SCRATCH`].
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

    /// Private memory that begins as zeros.
    ///
    /// # Errors
    /// `Memory`: no length, or no room for it; the address is not free. See [`pager::Error`].
    #[inline]
    pub fn map_anon(self) -> Result<MmapMut, Error> {
        let bytes = self.len.unwrap_or(0);
        self.map_region(bytes, &|range| Region::new(range, Perms::WRITE, &ANONYMOUS)).map(MmapMut)
    }

    /// Memory that begins as zeros and stays shared with children that are forked.
    ///
    /// # Errors
    /// As [`MmapOptions::map_anon`].
    pub fn map_shared_anon(self) -> Result<MmapShared, Error> {
        let (bytes, perms) = (self.len.unwrap_or(0), Perms::WRITE | Perms::KEEP);
        self.map_region(bytes, &|range| Region::new(range, perms, &SHARED)).map(MmapShared)
    }

    /// Memory that this pager serves, to be read and written. If the pager says [`Inherit::Shared`], it stays shared
    /// with children that are forked, and who uses it must expect that they write to it.
    ///
    /// # Errors
    /// As [`MmapOptions::map_anon`].
    pub fn map_with(self, pager: &'static dyn Pager<Sys>) -> Result<MmapMut, Error> {
        let keep = if pager.on_fork() == Inherit::Shared { Perms::KEEP } else { Perms::READ };
        let perms = Perms::WRITE | keep;
        self.map_region(self.len.unwrap_or(0), &|range| Region::new(range, perms, pager)).map(MmapMut)
    }

    /// A file, to be read.
    ///
    /// # Errors
    /// `Memory`: the part is empty or goes beyond the end of the file, the offset is not a multiple
    /// of the page size, the address is not free.
    pub fn map(self, file: &File) -> Result<Mmap, Error> {
        self.map_file(file, Perms::READ)
    }

    /// A file, to be executed.
    ///
    /// # Errors
    /// As [`MmapOptions::map`].
    pub fn map_exec(self, file: &File) -> Result<Mmap, Error> {
        self.map_file(file, Perms::EXEC)
    }

    /// A file, to be read and written; what is written is seen here only.
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
            None => space::add_anywhere(bytes as u64, 1, make)?,
            Some(start) => {
                let end = start.0.checked_add(bytes as u64).filter(|&end| end <= SCRATCH.0);
                // No reference is null; and above is what libos uses for itself.
                let end = end.filter(|_| start.0 != 0).ok_or(pager::Error::OutsideUser(start))?;
                let range = start..Va(end).page_up();
                space::add(make(range.clone()))?;
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

/// A mapping that can be read.
#[derive(Debug)]
pub struct Mmap {
    start: Va,
    bytes: usize,
}

impl Mmap {
    /// The pages.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.start..Va(self.start.0 + self.bytes as u64).page_up()
    }

    /// Say what is going to happen to the pages.
    ///
    /// # Errors
    /// See [`space::advise`]; [`NotSupported`](pager::Error::NotSupported) for [`Advice::DontNeed`]: it may change what
    /// the bytes are, and so needs [`discard`](Mmap::discard), which takes the value exclusively.
    pub fn advise(&self, advice: Advice) -> Result<(), Error> {
        self.advise_range(advice, 0..self.whole())
    }

    /// The same for a part, in bytes from the start; whole pages.
    ///
    /// # Errors
    /// As [`Mmap::advise`]; [`PastEnd`](pager::Error::PastEnd) if the part reaches beyond the mapping.
    pub fn advise_range(&self, advice: Advice, part: Range<usize>) -> Result<(), Error> {
        match advice {
            Advice::DontNeed => Err(pager::Error::NotSupported(self.start).into()),
            advice => space::advise(&self.part(part)?, advice),
        }
    }

    /// Give the pages of a part back, in bytes from the start; whole pages. It is then as it was at the
    /// beginning: zeros, or the file.
    ///
    /// # Errors
    /// See [`space::advise`]; [`PastEnd`](pager::Error::PastEnd) if the part reaches beyond the mapping.
    pub fn discard(&mut self, part: Range<usize>) -> Result<(), Error> {
        space::advise(&self.part(part)?, Advice::DontNeed)
    }

    /// Bytes, with all of the last page.
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

    /// Two mappings of one: the bytes before `at`, a multiple of the page size, and those from it on.
    ///
    /// # Errors
    /// [`Unaligned`](pager::Error::Unaligned), [`PastEnd`](pager::Error::PastEnd); the mapping is gone then.
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

    /// Let it be written. Pages that are shared are copied first.
    ///
    /// # Errors
    /// See [`space::protect`].
    pub fn make_mut(self) -> Result<MmapMut, Error> {
        space::protect(&self.range(), Perms::WRITE)?;
        Ok(MmapMut(self))
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is this value's alone, and a region serves it as long as the value
        // lives. Nobody writes to it: that takes a `MmapMut`, which took the place of this value.
        unsafe { core::slice::from_raw_parts(self.start.0 as *const u8, self.bytes) }
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // Fails if the table of regions is full to the last, or a table that is shared cannot be copied:
            // then the memory is lost, and its addresses with it.
            let _ = space::unmap(&self.range());
        }
    }
}

/// A private mapping that can be written.
#[derive(Debug)]
pub struct MmapMut(Mmap);

impl MmapMut {
    /// The pages.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.0.range()
    }

    /// As [`Mmap::advise`].
    ///
    /// # Errors
    /// As there.
    pub fn advise(&self, advice: Advice) -> Result<(), Error> {
        self.0.advise(advice)
    }

    /// As [`Mmap::discard`].
    ///
    /// # Errors
    /// As there.
    pub fn discard(&mut self, part: Range<usize>) -> Result<(), Error> {
        self.0.discard(part)
    }

    /// As [`Mmap::split_at`].
    ///
    /// # Errors
    /// As there.
    pub fn split_at(self, at: usize) -> Result<(MmapMut, MmapMut), Error> {
        self.0.split_at(at).map(|(first, second)| (MmapMut(first), MmapMut(second)))
    }

    /// Let it only be read from now on.
    ///
    /// # Errors
    /// See [`space::protect`].
    pub fn make_read_only(self) -> Result<Mmap, Error> {
        space::protect(&self.0.range(), Perms::READ)?;
        Ok(self.0)
    }

    /// Let it be executed from now on, and not be written.
    ///
    /// # Errors
    /// See [`space::protect`].
    pub fn make_exec(self) -> Result<Mmap, Error> {
        space::protect(&self.0.range(), Perms::EXEC)?;
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
        // SAFETY: as for `Mmap`; and the reference is borrowed exclusively from the only value
        // that knows the range.
        unsafe { core::slice::from_raw_parts_mut(self.0.start.0 as *mut u8, self.0.bytes) }
    }
}

/// Memory that other environments may be writing: its words are atomic.
#[derive(Debug)]
pub struct MmapShared(Mmap);

impl MmapShared {
    /// The pages.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.0.range()
    }
}

impl Deref for MmapShared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: as for `Mmap`, but that others may write: hence atomics. The start is a page
        // boundary.
        unsafe { core::slice::from_raw_parts(self.0.start.0 as *const AtomicU64, self.0.bytes / 8) }
    }
}

//! Ranges of addresses, and who serves them.
//!
//! The table is a sorted array of fixed nodes: a fault looks its region up by halving, neither
//! allocates nor locks, and the whole table is a piece of memory that can be copied for a child.
//! Insertion moves what lies above; programs have tens of regions, not millions.

use crate::Error;
use crate::touch::{Fill, Resolution, Touch};
use abi::layout::USER_LIMIT;
use abi::{PAGE_SIZE, Perms, Va};
use core::cell::Cell;
use core::fmt;
use core::ops::Range;

/// Serves the page faults of regions.
///
/// A pager runs in the fault handler of the program, on its exception stack, whenever the program
/// touches a page of the region that is not there or does not allow the access. It may make any
/// call, print, allocate, fault itself, and wait for another environment: the program waits with it.
/// It may not fork. What it keeps between faults should be in the page table (as marks) or in atomics:
/// a lock that the interrupted program holds would never be released.
pub trait Pager<K>: Sync {
    /// What `pagemap` calls the region.
    fn name(&self) -> &'static str;

    /// See to it that the access is possible, or say [`Resolution::Unhandled`].
    ///
    /// The region allows the access. `touch.entry` is what the page table holds: nothing (the page
    /// was never touched), a mark that this pager made, or a page that allows less than the region.
    ///
    /// # Errors
    /// Those of the kernel. `NoMemory` goes to the policy that the program has installed.
    fn fault(&self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, abi::Error>;

    /// What [`Pager::fault`] would put where nothing is yet, if that can be said beforehand: then it need not be
    /// asked.
    fn fill(&self) -> Fill {
        Fill::Ask
    }

    /// What a child gets.
    fn on_fork(&self) -> Inherit {
        Inherit::Private
    }

    /// Whether the program may give pages back and have them brought in anew.
    fn can_discard(&self) -> bool {
        true
    }

    /// The pages and marks of this range are about to go: whatever the marks stand for is not needed
    /// any more.
    fn discard(&self, _kernel: &mut K, _range: &Range<Va>) {}
}

/// What fork does with a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inherit {
    /// The child has the same contents; whoever writes gets a copy.
    Private,
    /// Both have the same pages, and see what the other writes. The perms of the region must have
    /// [`Perms::KEEP`]. Fork first has the pager bring in all pages that are not there.
    Shared,
    /// The child has no such region.
    Not,
}

/// A range of addresses that one pager serves.
pub struct Region<K: 'static> {
    /// The first address, a page boundary.
    pub start: Va,
    /// One past the last, a page boundary.
    pub end: Va,
    /// What pages may be used for once they are there. Of the bits for libos, [`Perms::KEEP`] and
    /// [`Perms::SOFT`] go into the entry of every page; [`Perms::COW`] never stands here.
    pub perms: Perms,
    /// Pages are expected to be touched upwards: bring in several at once.
    pub sequential: bool,
    /// Who knows what belongs into the pages.
    pub pager: &'static dyn Pager<K>,
    /// For the pager. It stays as it is when the region is split, so it should not depend on where
    /// the region starts.
    pub data: [u64; 2],
}

// Not derived: that would ask the same of `K`.
impl<K> Clone for Region<K> {
    fn clone(&self) -> Region<K> {
        *self
    }
}

impl<K> Copy for Region<K> {}

impl<K> fmt::Debug for Region<K> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}..{} {} {:?}", self.start, self.end, self.pager.name(), self.perms)
    }
}

impl<K> Region<K> {
    /// A region of a pager that needs no data.
    #[must_use]
    pub const fn new(range: Range<Va>, perms: Perms, pager: &'static dyn Pager<K>) -> Region<K> {
        Region { start: range.start, end: range.end, perms, sequential: false, pager, data: [0; 2] }
    }

    /// The addresses.
    #[inline]
    #[must_use]
    pub const fn range(&self) -> Range<Va> {
        self.start..self.end
    }

    /// Whether a page of the region may be written.
    #[inline]
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.perms.contains(Perms::WRITE)
    }

    /// The rights of a page that is to be copied before it is written, if it may be written at all.
    #[inline]
    #[must_use]
    pub fn copy_on_write(&self) -> Perms {
        if self.is_writable() { (self.perms - Perms::WRITE) | Perms::COW } else { self.perms }
    }

    /// Whether the other region could be one with this one, which ends where it starts.
    fn continues_in(&self, next: &Region<K>) -> bool {
        // Two pagers are the same if they are the same object of the same type.
        let same_pager = core::ptr::addr_eq(self.pager, next.pager) && self.pager.name() == next.pager.name();
        let same = self.perms == next.perms && self.sequential == next.sequential && self.data == next.data;
        self.end == next.start && same && same_pager
    }
}

/// A region, and the part of it that something is about.
pub type Piece<K> = (Region<K>, Range<Va>);

/// Who served a range that is in no region any more.
pub type Taken<K> = (&'static dyn Pager<K>, Range<Va>);

/// How much of a table is in use, and where somebody looked last.
#[derive(Clone, Debug)]
pub struct Filled {
    len: usize,
    /// What [`Regions::first_behind`] answered: where a mapping was made the next one is made, or it goes away.
    near: Cell<usize>,
}

impl Filled {
    /// The first `len` slots.
    #[must_use]
    pub const fn new(len: usize) -> Filled {
        Filled { len, near: Cell::new(0) }
    }

    /// How many slots.
    #[inline]
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.len
    }
}

/// A table of regions: a view on memory that belongs to somebody else.
pub struct Regions<'a, K: 'static> {
    slots: &'a mut [Region<K>],
    filled: &'a mut Filled,
}

/// The region that holds an address, among regions in ascending order.
#[inline]
#[must_use]
pub fn find<K>(regions: &[Region<K>], va: Va) -> Option<&Region<K>> {
    let index = regions.partition_point(|region| region.end <= va);
    regions.get(index).filter(|region| region.start <= va)
}

/// The index of the region that holds an address, if one does, and how far around the address it is
/// the same one, or none.
#[must_use]
pub fn locate<K>(regions: &[Region<K>], va: Va) -> (Range<Va>, Option<usize>) {
    let index = regions.partition_point(|region| region.end <= va);
    match regions.get(index) {
        Some(region) if region.start <= va => (region.range(), Some(index)),
        next => {
            let below = index.checked_sub(1).map_or(Va(0), |before| regions[before].end);
            (below..next.map_or(USER_LIMIT, |next| next.start), None)
        }
    }
}

/// Check that a range is one that a region can have.
///
/// # Errors
/// [`Error::Unaligned`], [`Error::Empty`], [`Error::OutsideUser`].
#[inline]
pub fn check(range: &Range<Va>) -> Result<(), Error> {
    for edge in [range.start, range.end] {
        if !edge.is_page_aligned() {
            return Err(Error::Unaligned(edge.0));
        }
    }
    if range.start == range.end {
        return Err(Error::Empty(range.start));
    }
    let inside = range.start < range.end && range.end <= USER_LIMIT;
    if inside { Ok(()) } else { Err(Error::OutsideUser(range.start)) }
}

impl<'a, K> Regions<'a, K> {
    /// The table in these slots, of which the first are in use.
    #[must_use]
    pub fn new(slots: &'a mut [Region<K>], filled: &'a mut Filled) -> Regions<'a, K> {
        Regions { slots, filled }
    }

    /// The regions, upwards.
    #[must_use]
    pub fn all(&self) -> &[Region<K>] {
        &self.slots[..self.filled.len]
    }

    /// The index of the first region that ends behind `va`.
    fn first_behind(&self, va: Va) -> usize {
        let (all, near) = (self.all(), self.filled.near.get());
        let is_behind = |index: usize| all.get(index).is_none_or(|region| va < region.end);
        if near <= all.len() && is_behind(near) && (near == 0 || !is_behind(near - 1)) {
            return near;
        }
        let found = all.partition_point(|region| region.end <= va);
        self.filled.near.set(found);
        found
    }

    /// Add a region.
    ///
    /// # Errors
    /// [`check`]'s, [`Error::Overlap`], [`Error::TooManyRegions`].
    pub fn add(&mut self, region: Region<K>) -> Result<(), Error> {
        check(&region.range())?;
        let index = self.first_behind(region.start);
        if let Some(next) = self.all().get(index).filter(|next| next.start < region.end) {
            return Err(Error::Overlap(next.start.max(region.start)));
        }
        self.insert(index, region)
    }

    fn insert(&mut self, index: usize, region: Region<K>) -> Result<(), Error> {
        self.require_room(1)?;
        let moved = &mut self.slots[index..=self.filled.len];
        for at in (1..moved.len()).rev() {
            moved[at] = moved[at - 1];
        }
        moved[0] = region;
        self.filled.len += 1;
        Ok(())
    }

    fn delete(&mut self, indices: Range<usize>) {
        if indices.end < self.filled.len {
            self.slots.copy_within(indices.end..self.filled.len, indices.start);
        }
        self.filled.len -= indices.len();
    }

    /// Check that there is room for so many more.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`].
    fn require_room(&self, more: usize) -> Result<(), Error> {
        let most = self.slots.len();
        if self.filled.len + more <= most { Ok(()) } else { Err(Error::TooManyRegions(most)) }
    }

    /// Add a region where so many bytes fit between the others, lowest first, at a multiple of `align`. Returns
    /// where. `make` gives it the range that it is called with.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NoSpace`], [`Error::TooManyRegions`].
    pub fn add_in_gap(
        &mut self,
        within: &Range<Va>,
        bytes: u64,
        align: u64,
        make: impl FnOnce(Range<Va>) -> Region<K>,
    ) -> Result<Range<Va>, Error> {
        let none = Error::NoSpace(bytes);
        let size = bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(none)?;
        if size == 0 {
            return Err(Error::Empty(within.start));
        }
        let (index, start) = self.gap(within, size, align.max(PAGE_SIZE)).ok_or(none)?;
        let range = start..Va(start.0 + size);
        self.insert(index, make(range.clone())).map(|()| range)
    }

    /// The lowest gap of so many bytes: which region comes behind it, and where it is.
    #[inline(always)]
    fn gap(&self, within: &Range<Va>, size: u64, align: u64) -> Option<(usize, Va)> {
        let mut index = self.first_behind(within.start);
        let mut from = within.start.0.checked_next_multiple_of(align)?;
        for region in &self.all()[index..] {
            if region.start.0 >= from && region.start.0 - from >= size {
                break;
            }
            from = from.max(region.end.0.checked_next_multiple_of(align)?);
            index += 1;
        }
        let fits = from <= within.end.0 && size <= within.end.0 - from;
        fits.then_some((index, Va(from)))
    }

    /// Take out of a range what the lowest region in it has there. Returns the pager of that region, and
    /// the part of the range that is now in no region; `None` if there is nothing left to take.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`] (a hole makes two of one).
    pub fn take(&mut self, range: &Range<Va>) -> Result<Option<Taken<K>>, Error> {
        let index = self.first_behind(range.start);
        let Some(region) = self.all().get(index).filter(|region| region.start < range.end) else {
            return Ok(None);
        };
        let pager = region.pager;
        let taken = region.start.max(range.start)..region.end.min(range.end);
        match (taken.start == region.start, taken.end == region.end) {
            (true, true) => self.delete(index..index + 1),
            (true, false) => self.slots[index].start = taken.end,
            (false, true) => self.slots[index].end = taken.start,
            (false, false) => {
                self.insert(index + 1, Region { start: taken.end, ..self.slots[index] })?;
                self.slots[index].end = taken.start;
            }
        }
        Ok(Some((pager, taken)))
    }

    /// Take a range out of all regions that reach into it.
    ///
    /// # Errors
    /// [`check`]'s, [`Error::TooManyRegions`] (a hole makes two of one).
    pub fn remove(&mut self, range: &Range<Va>) -> Result<(), Error> {
        check(range)?;
        while self.take(range)?.is_some() {}
        Ok(())
    }

    /// Change all regions in a range, and only there. The whole range must be in regions.
    ///
    /// # Errors
    /// [`check`]'s, [`Error::NoRegion`], [`Error::TooManyRegions`].
    pub fn change(&mut self, range: &Range<Va>, mut f: impl FnMut(&mut Region<K>)) -> Result<(), Error> {
        check(range)?;
        self.require_covered(range)?;
        let inside = self.isolate(range)?;
        self.slots[inside.clone()].iter_mut().for_each(&mut f);
        self.join(inside);
        Ok(())
    }

    /// Check that there is a region at every address of a range.
    ///
    /// # Errors
    /// [`Error::NoRegion`] with the first address that is in none.
    pub fn require_covered(&self, range: &Range<Va>) -> Result<(), Error> {
        let mut at = range.start;
        for region in &self.all()[self.first_behind(at)..] {
            if region.start > at || at >= range.end {
                break;
            }
            at = region.end;
        }
        if at >= range.end { Ok(()) } else { Err(Error::NoRegion(at)) }
    }

    /// Cut regions at both ends of a range, so that each lies inside or outside. Returns the
    /// indices of those inside.
    ///
    /// # Errors
    /// [`check`]'s, [`Error::TooManyRegions`].
    pub(crate) fn isolate(&mut self, range: &Range<Va>) -> Result<Range<usize>, Error> {
        check(range)?;
        let cuts = |at: Va| find(self.all(), at).is_some_and(|region| region.start < at);
        self.require_room(usize::from(cuts(range.start)) + usize::from(cuts(range.end)))?;
        self.cut(range.start)?;
        self.cut(range.end)?;
        Ok(self.first_behind(range.start)..self.all().partition_point(|region| region.start < range.end))
    }

    /// Make two of a region that holds `at` and does not start there.
    fn cut(&mut self, at: Va) -> Result<(), Error> {
        let index = self.first_behind(at);
        let Some(region) = self.all().get(index).copied().filter(|region| region.start < at) else {
            return Ok(());
        };
        self.insert(index + 1, Region { start: at, ..region })?;
        self.slots[index].end = at;
        Ok(())
    }

    /// Make one of neighbours that do not differ, among these, the one before and the one behind.
    fn join(&mut self, indices: Range<usize>) {
        let mut index = indices.start.max(1);
        let mut last = (indices.end + 1).min(self.filled.len);
        while index < last {
            if self.slots[index - 1].continues_in(&self.slots[index]) {
                self.slots[index - 1].end = self.slots[index].end;
                self.delete(index..index + 1);
                last -= 1;
            } else {
                index += 1;
            }
        }
    }

    /// Move the ends of a region, which may be any that does not meet another region.
    ///
    /// # Errors
    /// [`Error::NoRegion`], [`check`]'s, [`Error::Overlap`].
    pub fn resize(&mut self, old: &Range<Va>, new: &Range<Va>) -> Result<(), Error> {
        check(new)?;
        let index = self.first_behind(old.start);
        if self.all().get(index).map(Region::range).as_ref() != Some(old) {
            return Err(Error::NoRegion(old.start));
        }
        let below = index.checked_sub(1).map_or(Va(0), |before| self.slots[before].end);
        let above = self.all().get(index + 1).map_or(USER_LIMIT, |next| next.start);
        if new.start < below || new.end > above {
            return Err(Error::Overlap(if new.start < below { new.start } else { above }));
        }
        (self.slots[index].start, self.slots[index].end) = (new.start, new.end);
        Ok(())
    }
}

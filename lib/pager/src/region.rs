//! Regions: ranges of addresses, and the pagers that serve them.
//!
//! The table is a sorted array of fixed nodes: a fault finds its region by binary search, which neither allocates nor
//! locks, and the whole table is one piece of memory that can be copied for a child. Insertion moves the regions
//! above; programs have tens of regions, not millions.

use crate::Error;
use crate::touch::{Fill, Resolution, Touch};
use abi::{PAGE_SIZE, Perms, Va, layout::USER_LIMIT};
use core::{cell::Cell, fmt, ops::Range};

/// Serves the page faults of regions.
///
/// A pager runs in the fault handler of the program, on its exception stack, whenever the program touches a page of
/// the region that is missing or does not allow the access. It may make any call, print, allocate, fault itself, and
/// wait for another environment: the program waits with it. It may not fork. The state that it keeps between faults
/// should be in the page table (as marks) or in atomics: a lock that the interrupted program holds would never be
/// released.
pub trait Pager<K>: Sync {
    /// The name of the region in `pagemap`.
    fn name(&self) -> &'static str;

    /// Makes the access possible, or returns [`Resolution::Unhandled`].
    ///
    /// The region allows the access. `touch.entry` is the page table entry: nothing (the page was never touched), a
    /// mark that this pager made, or a page that allows less than the region.
    ///
    /// # Errors
    /// Those of the kernel. `NoMemory` goes to the policy that the program has installed.
    fn fault(&self, kernel: &mut K, touch: &Touch, region: &Region<K>) -> Result<Resolution, abi::Error>;

    /// The page that [`Pager::fault`] would put into an empty entry, if that is known in advance: then the pager need
    /// not be asked.
    fn fill(&self) -> Fill {
        Fill::Ask
    }

    /// The treatment of the region in a fork.
    fn on_fork(&self) -> Inherit {
        Inherit::Private
    }

    /// Whether the program may give pages back and have them brought in anew.
    fn can_discard(&self) -> bool {
        true
    }

    /// Whether the pages of the region may get other addresses: the pager knows nothing by address.
    fn can_move(&self) -> bool {
        true
    }

    /// Says why the last fault was not resolved, if the pager knows more than its result tells. A program ends with this
    /// message.
    fn explain(&self, _say: &mut dyn FnMut(&dyn fmt::Display)) {}

    /// Called before the pages and marks of this range are removed: the pager may free the data that the marks stand
    /// for.
    fn discard(&self, _kernel: &mut K, _range: &Range<Va>) {}
}

/// The order in which a program touches the pages of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The program has not said: the faults tell (see [`stream`](crate::stream)).
    Unknown,
    /// Upwards: a fault brings in up to [`AROUND`](crate::pagers::AROUND) pages.
    Sequential,
    /// None: a fault brings in one page.
    Random,
}

/// The treatment of a region in a fork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inherit {
    /// The child has equal contents; a writer gets a copy.
    Private,
    /// Both have these pages, and see each other's writes. The permissions of the region must have [`Perms::KEEP`].
    /// Fork first lets the pager bring in all missing pages.
    Shared,
    /// The child does not get the region.
    Not,
    /// The child does not get the region, and a fork fails while the region has a page or mark: the child would miss it.
    Refused,
}

impl Inherit {
    /// Whether a child gets the region.
    #[must_use]
    pub const fn has_region(self) -> bool {
        matches!(self, Inherit::Private | Inherit::Shared)
    }
}

/// A range of addresses that one pager serves.
pub struct Region<K: 'static> {
    /// The first address, a page boundary.
    pub start: Va,
    /// One past the last, a page boundary.
    pub end: Va,
    /// The permissions of pages once they are present. Of the bits for libos, [`Perms::KEEP`] and [`Perms::SOFT`] go
    /// into the entry of every page; [`Perms::COW`] is never part of this field.
    pub perms: Perms,
    /// The expected order of touches: it decides how many pages are brought in at once.
    pub order: Order,
    /// The pager, which knows the contents of the pages.
    pub pager: &'static dyn Pager<K>,
    /// Data for the pager. A split copies it unchanged, so it should not depend on the start of the region.
    pub data: [u64; 2],
}

// Not derived: a derive would require `K: Clone`.
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
        Region { start: range.start, end: range.end, perms, order: Order::Unknown, pager, data: [0; 2] }
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

    /// The rights of a page that must be copied before it is written, if it may be written at all.
    #[inline]
    #[must_use]
    pub fn copy_on_write(&self) -> Perms {
        if self.is_writable() { (self.perms - Perms::WRITE) | Perms::COW } else { self.perms }
    }

    /// Whether `next` can be joined to this region, which ends where `next` starts.
    fn continues_in(&self, next: &Region<K>) -> bool {
        // Two pagers are the same if they are one object of one type.
        let same_pager = core::ptr::addr_eq(self.pager, next.pager) && self.pager.name() == next.pager.name();
        let same = self.perms == next.perms && self.order == next.order && self.data == next.data;
        self.end == next.start && same && same_pager
    }
}

/// A region, and the affected part of it.
pub type Piece<K> = (Region<K>, Range<Va>);

/// The former pager of a range that is in no region any more.
pub type Taken<K> = (&'static dyn Pager<K>, Range<Va>);

/// The number of slots in use, and the position of the last look-up.
#[derive(Clone, Debug)]
pub struct Filled {
    len: usize,
    /// The last result of [`Regions::first_behind`]: the next mapping is most often made, or removed, at the same
    /// place.
    near: Cell<usize>,
}

impl Filled {
    /// The first `len` slots are in use.
    #[must_use]
    pub const fn new(len: usize) -> Filled {
        Filled { len, near: Cell::new(0) }
    }

    /// The number of slots in use.
    #[inline]
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.len
    }
}

/// A table of regions: a view of borrowed memory.
pub struct Regions<'a, K: 'static> {
    slots: &'a mut [Region<K>],
    filled: &'a mut Filled,
}

/// The region that contains an address, among regions in ascending order.
#[inline]
#[must_use]
pub fn find<K>(regions: &[Region<K>], va: Va) -> Option<&Region<K>> {
    let index = regions.partition_point(|region| region.end <= va);
    regions.get(index).filter(|region| region.start <= va)
}

/// The index of the region that contains an address, if one does, and the range around the address with the same
/// answer.
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

/// Checks that a range is valid for a region.
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

    /// The regions, in ascending order.
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

    /// Checks that there is room for this many more regions.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`].
    fn require_room(&self, more: usize) -> Result<(), Error> {
        let most = self.slots.len();
        if self.filled.len + more <= most { Ok(()) } else { Err(Error::TooManyRegions(most)) }
    }

    /// Adds a region in the lowest gap of this many bytes, at a multiple of `align`. Returns its range; `make` is
    /// called with the range and makes the region.
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

    /// The lowest gap of `size` bytes: the index of the region behind it, and its address.
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

    /// Removes the part of a range that is in its lowest region. Returns the pager of that region, and the part, which
    /// is now in no region; `None` if no region is left in the range.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`] (a hole splits a region in two).
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

    /// Removes a range from all regions that reach into it.
    ///
    /// # Errors
    /// [`check`]'s, [`Error::TooManyRegions`] (a hole splits a region in two).
    pub fn remove(&mut self, range: &Range<Va>) -> Result<(), Error> {
        check(range)?;
        while self.take(range)?.is_some() {}
        Ok(())
    }

    /// Changes all regions in a range, and only there. The whole range must be in regions.
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

    /// Checks that there is a region at every address of a range.
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

    /// Cuts regions at both ends of a range, so that each lies inside or outside. Returns the indices of those inside.
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

    /// Splits a region that contains `at` and does not start there.
    fn cut(&mut self, at: Va) -> Result<(), Error> {
        let index = self.first_behind(at);
        let Some(region) = self.all().get(index).copied().filter(|region| region.start < at) else {
            return Ok(());
        };
        self.insert(index + 1, Region { start: at, ..region })?;
        self.slots[index].end = at;
        Ok(())
    }

    /// Joins neighbours that do not differ, among these regions, the one before and the one behind.
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

    /// Moves the ends of a region; its new range must not overlap another region.
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

//! Page frames: their reference counts, and the lists of free frames.

use crate::{Guard, Lock, Machine, Ranges};
use abi::window::{CpuInfo, FrameInfo, LockKind};
use abi::{Error, Frame};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Frame 0 is never handed out: it marks the end of a list.
const END: u32 = 0;

/// Number of frames that move at a time between a processor and the pool or another processor.
const BATCH: u32 = 32;
/// The number of free frames at which a processor gives a batch to the pool.
const AT_HAND: u32 = 2 * BATCH;
/// Number of [emptied](Emptied) frames of each kind that a processor keeps: a program that forks needs a few tables,
/// and when the child ends they return, emptied entry by entry.
const EMPTIED: u32 = BATCH;

/// The cost of zeroing or copying a frame, in instructions, roughly.
pub const FILL: u32 = 560;
/// The cost of freeing a frame, including a share of the cost of moving batches to the pool.
pub const FREE: u32 = 50;
/// The cost of a search for free frames at all processors, when the pool has none: fixed, and for each processor.
const SEARCH: u32 = 300;
const SEARCH_EACH: u32 = 32;

/// The cost of one search on a machine with this many processors.
pub(crate) const fn search_cost(processors: u32) -> u32 {
    SEARCH + SEARCH_EACH * processors
}

/// All page frames.
///
/// Each processor keeps some free frames at hand, so that processors do not contend for one lock for every page.
/// Surplus frames go to a pool. A processor that runs out takes frames from the pool, and when that is empty from the
/// other processors: memory is exhausted only when no list has a free frame.
///
/// The lists of free frames are linked through the frame table, last freed first: recently used frames are in the
/// cache, and the order is deterministic.
pub struct Memory<M> {
    at_hand: [AtHand<M>; CpuInfo::MAX],
    pool: Lock<List<M>, M>,
}

/// The free frames of one processor: a cache line, and a lock that others take only when they have no frame.
#[repr(align(64))]
struct AtHand<M>(Lock<Hand<M>, M>);

/// Free frames with arbitrary contents, and some that were emptied before they were freed.
struct Hand<M> {
    any: List<M>,
    emptied: [List<M>; 2],
}

/// The contents of a free frame that can be used again without being filled.
#[derive(Clone, Copy)]
pub(crate) enum Emptied {
    /// Zeros: a table with no entry.
    Table,
    /// The kernel's half, and the self map: the top-level table of a page map with no pages.
    Root,
}

/// The free frames of this processor, of which several are taken. They are counted when this is dropped.
pub(crate) struct Taking<'a, M: Machine> {
    hand: Guard<'a, Hand<M>, M>,
    /// The frames of the hand, meanwhile.
    some: List<M>,
    pool: &'a Lock<List<M>, M>,
    /// The number of frames at the beginning, and of those from the pool.
    before: u32,
}

impl<M: Machine> Taking<'_, M> {
    /// The number of frames that can be taken now. If none is at hand, some come from the pool.
    #[inline(always)]
    pub(crate) fn ready(&mut self) -> usize {
        if self.some.len == 0 {
            self.some = refill(self.pool);
            self.before += self.some.len;
        }
        self.some.len as usize
    }

    /// Calls `f` with each of these places, not more than [`ready`](Self::ready), and a frame for it, which has old
    /// contents and is in use from now on, with one reference. Returns the number of places.
    #[inline(always)]
    pub(crate) fn give<T>(&mut self, places: impl Iterator<Item = T>, mut f: impl FnMut(T, Frame)) -> usize {
        let (mut next, mut taken) = (self.some.first, 0);
        for place in places {
            let (frame, info) = (Frame(next), M::info(Frame(next)));
            next = info.word.load(Relaxed);
            info.word.store(0, Relaxed);
            info.refs.store(1, Relaxed);
            taken += 1;
            f(place, frame);
        }
        self.some.first = next;
        self.some.len -= taken;
        taken as usize
    }
}

#[cold]
#[inline(never)]
fn refill<M: Machine>(pool: &Lock<List<M>, M>) -> List<M> {
    pool.lock().cut(BATCH)
}

impl<M: Machine> Drop for Taking<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        count::<M>(i64::from(self.some.len) - i64::from(self.before));
        self.hand.any = core::mem::replace(&mut self.some, List::EMPTY);
    }
}

/// A list of free frames.
struct List<M> {
    first: u32,
    len: u32,
    machine: PhantomData<M>,
}

impl<M: Machine> Memory<M> {
    /// A memory without frames.
    pub const fn empty() -> Self {
        Memory {
            at_hand: [const { AtHand(Lock::new(LockKind::Frames, Hand::EMPTY)) }; CpuInfo::MAX],
            pool: Lock::new(LockKind::Frames, List::EMPTY),
        }
    }

    /// Adds the frames of `usable`: those of `free` are free, and the others belong to the kernel, with one reference.
    pub fn init(&self, usable: &Ranges, free: &Ranges) {
        let frames = |range: &Range<u64>| Frame::containing(range.start).0..Frame::containing(range.end).0;
        for frame in usable.iter().flat_map(frames) {
            M::info(Frame(frame)).refs.store(1, Relaxed);
        }
        // Backwards, so that low frames are handed out first.
        for frame in free.iter().rev().flat_map(|range| frames(range).rev()) {
            self.release(Frame(frame));
        }
    }

    /// Allocates a frame of zeros with one reference.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub fn alloc(&self) -> Result<Frame, Error> {
        self.alloc_zeros(&mut 0)
    }

    /// Allocates a frame as [`Memory::alloc`] does, and adds the cost to `work`.
    #[inline]
    pub(crate) fn alloc_zeros(&self, work: &mut u32) -> Result<Frame, Error> {
        let frame = self.alloc_dirty(work)?;
        M::zero(frame);
        add(work, FILL);
        Ok(frame)
    }

    /// Allocates a frame of zeros for a table: preferably a recently freed table, which is empty already.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn alloc_table(&self, work: &mut u32) -> Result<Frame, Error> {
        self.take_emptied(Emptied::Table).map_or_else(|| self.alloc_zeros(work), Ok)
    }

    /// Takes a frame of this kind, if one is at hand.
    pub(crate) fn take_emptied(&self, kind: Emptied) -> Option<Frame> {
        self.mine().lock().emptied[kind as usize].take()
    }

    /// Allocates a frame with one reference and the contents of another frame, and adds the cost to `work`.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub fn alloc_copy(&self, of: Frame, work: &mut u32) -> Result<Frame, Error> {
        let frame = self.alloc_dirty(work)?;
        M::copy(of, frame);
        add(work, FILL);
        Ok(frame)
    }

    /// Allocates a frame with old contents, possibly secrets: the caller overwrites all of them.
    #[inline]
    pub(crate) fn alloc_dirty(&self, work: &mut u32) -> Result<Frame, Error> {
        self.take().map_or_else(|| self.refill(work), Ok)
    }

    /// Takes a frame with old contents, if this processor has one at hand and its lock is free.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Frame> {
        self.mine().try_lock()?.any.take()
    }

    /// The free frames of this processor.
    #[inline]
    fn mine(&self) -> &Lock<Hand<M>, M> {
        &self.at_hand[M::cpu() % CpuInfo::MAX].0
    }

    /// Gets frames from the pool or from another processor, when none is at hand.
    ///
    /// Frames move between lists only while both are locked. So a search always finds them.
    #[cold]
    #[inline(never)]
    fn refill(&self, work: &mut u32) -> Result<Frame, Error> {
        let mut mine = self.mine().lock();
        let mut some = self.pool.lock().cut(BATCH);
        let Some(one) = some.take() else {
            drop(mine);
            return self.search(work);
        };
        mine.any.prepend(some);
        Ok(one)
    }

    /// Searches the free frames of every processor, this one first. All lists are locked at once: if all of them are
    /// empty, there was a moment in which no frame was free.
    #[cold]
    #[inline(never)]
    fn search(&self, work: &mut u32) -> Result<Frame, Error> {
        let (here, all) = (M::cpu(), M::cpus().len().min(CpuInfo::MAX));
        add(work, search_cost(all as u32));
        // The array has room for the greatest number of processors, and there is no time to drop each element.
        let mut hands = ManuallyDrop::new([const { None }; CpuInfo::MAX]);
        let hands = &mut hands[..all];
        // Lock in this order, and the pool last, as all code does that takes two of these locks.
        hands.iter_mut().zip(&self.at_hand).for_each(|(hand, at_hand)| *hand = Some(at_hand.0.lock()));
        let (before, from_here) = hands.split_at_mut(here);
        let mut in_order = from_here.iter_mut().chain(before).flatten();
        let some = in_order.find(|hand| !hand.is_empty()).map(|hand| hand.cut(BATCH));
        let mut some = some.unwrap_or_else(|| self.pool.lock().cut(BATCH));
        let one = some.take();
        if let Some(Some(mine)) = hands.get_mut(here) {
            mine.any.prepend(some);
        }
        hands.iter_mut().for_each(|hand| *hand = None);
        one.ok_or(Error::NoMemory(0))
    }

    /// Adds a reference to a frame.
    ///
    /// # Errors
    /// [`Error::TooManyRefs`] with the physical address.
    #[inline]
    pub fn add_reference(&self, frame: Frame) -> Result<(), Error> {
        if !smp::add_reference(&M::info(frame).refs) {
            return Err(Error::TooManyRefs(frame.address()));
        }
        Ok(())
    }

    /// Drops a reference to a frame; dropping the last one frees it.
    #[inline]
    pub fn release(&self, frame: Frame) {
        self.release_with(frame, &mut 0);
    }

    /// Drops a reference to a frame, and adds the cost of freeing the frame to `work`.
    #[inline]
    pub(crate) fn release_with(&self, frame: Frame, work: &mut u32) {
        if smp::release(&M::info(frame).refs) {
            add(work, FREE);
            self.push_free(frame);
        }
    }

    /// Drops a reference to a frame like [`Memory::release`], but keeps the frame in the list of its kind: it is an
    /// empty table that can be used again as it is.
    #[inline]
    pub(crate) fn release_emptied(&self, frame: Frame, kind: Emptied) {
        if !smp::release(&M::info(frame).refs) {
            return;
        }
        let mut hand = self.mine().lock();
        let list = &mut hand.emptied[kind as usize];
        if list.len < EMPTIED {
            list.push(frame);
            count::<M>(1);
        } else {
            drop(hand);
            self.push_free(frame);
        }
    }

    /// Drops a reference to a frame, unless it is the last one. Returns whether it was dropped.
    pub(crate) fn release_shared(&self, frame: Frame) -> bool {
        M::info(frame).refs.fetch_update(AcqRel, Acquire, |refs| (refs > 1).then(|| refs - 1)).is_ok()
    }

    /// Whether a frame has exactly one reference.
    #[inline]
    pub fn is_sole(&self, frame: Frame) -> bool {
        smp::is_sole(&M::info(frame).refs)
    }

    /// Puts a frame without references on the free list of this processor.
    #[inline(never)]
    fn push_free(&self, frame: Frame) {
        M::poison(core::iter::once(frame));
        let mut hand = self.mine().lock();
        let any = &mut hand.any;
        any.push(frame);
        count::<M>(1);
        if any.len >= AT_HAND {
            let some = any.cut(BATCH);
            self.pool.lock().prepend(some);
        }
    }

    /// The free frames of this processor, of which several are about to be taken.
    pub(crate) fn at_hand(&self) -> Taking<'_, M> {
        let mut hand = self.mine().lock();
        let some = core::mem::replace(&mut hand.any, List::EMPTY);
        Taking { before: some.len, hand, some, pool: &self.pool }
    }

    /// Frees frames that have no reference any more, and that no processor can reach: `len` of them, linked from the
    /// `first` to the `last` one.
    pub(crate) fn free_all(&self, first: &FrameInfo, last: &FrameInfo, len: u32) {
        if len == 0 {
            return;
        }
        let some = List { first: first.word.load(Relaxed), len, machine: PhantomData };
        last.word.store(END, Relaxed);
        M::poison(some.frames());
        let mut hand = self.mine().lock();
        count::<M>(len.into());
        if hand.any.len + len < AT_HAND {
            hand.any.prepend_up_to(some, last);
        } else {
            self.pool.lock().prepend_up_to(some, last);
        }
    }

    /// The number of free frames.
    pub fn free_frames(&self) -> u64 {
        CpuInfo::free_frames(M::cpus())
    }
}

impl<M: Machine> Hand<M> {
    const EMPTY: Self = Hand { any: List::EMPTY, emptied: [List::EMPTY; 2] };

    /// Whether no frame is at hand.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.emptied.iter().fold(self.any.len, |all, list| all | list.len) == 0
    }

    /// Removes up to `len` free frames of one kind from the hand; emptied frames come last.
    fn cut(&mut self, len: u32) -> List<M> {
        let lists = core::iter::once(&mut self.any).chain(&mut self.emptied);
        lists.map(|list| list.cut(len)).find(|some| some.len > 0).unwrap_or(List::EMPTY)
    }
}

impl<M: Machine> List<M> {
    const EMPTY: Self = List { first: END, len: 0, machine: PhantomData };

    /// Takes the first frame: it is in use from now on, with one reference.
    #[inline]
    fn take(&mut self) -> Option<Frame> {
        let frame = (self.first != END).then_some(Frame(self.first))?;
        let info = M::info(frame);
        self.first = info.word.load(Relaxed);
        info.word.store(0, Relaxed);
        self.len -= 1;
        info.refs.store(1, Relaxed);
        count::<M>(-1);
        Some(frame)
    }

    fn push(&mut self, frame: Frame) {
        M::info(frame).word.store(self.first, Relaxed);
        self.first = frame.0;
        self.len += 1;
    }

    /// Splits off the first `len` frames, or all, as a list of their own.
    fn cut(&mut self, len: u32) -> Self {
        if self.len <= len {
            return core::mem::replace(self, List::EMPTY);
        }
        let mut last = Frame(self.first);
        for _ in 1..len {
            last = Frame(M::info(last).word.load(Relaxed));
        }
        let first = core::mem::replace(&mut self.first, M::info(last).word.swap(END, Relaxed));
        self.len -= len;
        List { first, len, machine: PhantomData }
    }

    /// Prepends another list, which is short: its end must be searched.
    fn prepend(&mut self, other: Self) {
        if let Some(last) = other.frames().last() {
            self.prepend_up_to(other, M::info(last));
        }
    }

    /// Prepends another list, whose last frame has this metadata.
    fn prepend_up_to(&mut self, other: Self, last: &FrameInfo) {
        last.word.store(self.first, Relaxed);
        self.first = other.first;
        self.len += other.len;
    }

    /// The frames, from the first to the last.
    fn frames(&self) -> impl Iterator<Item = Frame> {
        let frame = |at: u32| (at != END).then_some(Frame(at));
        core::iter::successors(frame(self.first), move |last| frame(M::info(*last).word.load(Relaxed)))
    }
}

/// Adds to the count of work. (A count that nothing reads may wrap around.)
#[inline(always)]
pub(crate) fn add(work: &mut u32, instructions: u32) {
    *work = work.wrapping_add(instructions);
}

/// Changes this processor's counter of free frames.
#[inline]
fn count<M: Machine>(change: i64) {
    let free = &M::counts().free_frames;
    free.store(free.load(Relaxed).wrapping_add_signed(change), Relaxed);
}

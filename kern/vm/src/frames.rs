//! Page frames: who uses how many of them, and which are free.

use crate::{Lock, Machine, Ranges};
use abi::window::{CpuInfo, LockKind};
use abi::{Error, Frame};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Frame 0 is never handed out: in a list it stands for the end.
const END: u32 = 0;

/// Frames go between a processor and the others so many at a time.
const BATCH: u32 = 32;
/// A processor keeps so many at hand.
const AT_HAND: u32 = 2 * BATCH;
/// And so many that can be tables as they are, of each [kind](Emptied): a program that forks needs a few, and when the child
/// ends they come back, emptied entry by entry.
const EMPTIED: u32 = BATCH;

/// What zeroing or copying a frame costs, in instructions, roughly.
pub const FILL: u32 = 560;
/// What freeing a frame costs; a part of it is for those that go on to the pool from time to time.
pub const FREE: u32 = 50;
/// What looking for free frames at all processors costs, when the pool has none, and at each of them.
const SEARCH: u32 = 300;
const SEARCH_EACH: u32 = 32;

/// The price of one search on a machine with so many processors.
pub(crate) const fn search_cost(processors: u32) -> u32 {
    SEARCH + SEARCH_EACH * processors
}

/// All page frames.
///
/// Each processor has some free frames at hand, so that two of them do not meet at one lock for
/// every page. What is too much goes to a pool and comes from there, and when that is empty from the
/// other processors: memory is exhausted when nobody has a frame left, and not before.
///
/// Free frames are listed through the frame table itself, last freed first: what was used a
/// moment ago is warm, and the order is the same in every run.
pub struct Memory<M> {
    at_hand: [AtHand<M>; CpuInfo::MAX],
    pool: Lock<List<M>, M>,
}

/// What one processor has at hand: a cache line, and a lock that others take only when they have nothing.
#[repr(align(64))]
struct AtHand<M>(Lock<Hand<M>, M>);

/// Free frames with whatever is in them, and some that were emptied before they were freed.
struct Hand<M> {
    any: List<M>,
    emptied: [List<M>; 2],
}

/// What is in a frame that need not be filled to be used again.
#[derive(Clone, Copy)]
pub(crate) enum Emptied {
    /// Nothing but zeros: a table with no entry.
    Table,
    /// The kernel's half, and itself: the top-level table of a space with no pages.
    Root,
}

/// A list of free frames.
struct List<M> {
    first: u32,
    len: u32,
    machine: PhantomData<M>,
}

impl<M: Machine> Memory<M> {
    /// No frames yet.
    #[must_use]
    pub const fn new() -> Self {
        Memory {
            at_hand: [const { AtHand(Lock::new(LockKind::Frames, Hand::EMPTY)) }; CpuInfo::MAX],
            pool: Lock::new(LockKind::Frames, List::EMPTY),
        }
    }

    /// From now on the frames of `usable` are in the books: those of `free` are free, and the others the kernel's, with
    /// a reference.
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

    /// A frame of zeros with one reference.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub fn alloc(&self) -> Result<Frame, Error> {
        self.alloc_zeros(&mut 0)
    }

    /// A frame as [`Memory::alloc`] gives it. What it took is added to the `work`.
    #[inline]
    pub(crate) fn alloc_zeros(&self, work: &mut u32) -> Result<Frame, Error> {
        let frame = self.alloc_dirty(work)?;
        M::zero(frame);
        add(work, FILL);
        Ok(frame)
    }

    /// A frame of zeros for a table: those that were freed last are empty already.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn alloc_table(&self, work: &mut u32) -> Result<Frame, Error> {
        self.take_emptied(Emptied::Table).map_or_else(|| self.alloc_zeros(work), Ok)
    }

    /// A frame of this kind, if one is at hand.
    pub(crate) fn take_emptied(&self, kind: Emptied) -> Option<Frame> {
        let frame = self.mine().lock().emptied[kind as usize].pop();
        (frame.0 != END).then(|| taken::<M>(frame))
    }

    /// A frame with one reference and the contents of another one. What it took is added to the `work`.
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

    /// The contents are somebody's old secrets: the caller overwrites all of them.
    #[inline]
    pub(crate) fn alloc_dirty(&self, work: &mut u32) -> Result<Frame, Error> {
        self.take().map_or_else(|| self.fetch(work), Ok)
    }

    /// The same, if this processor has a frame at hand.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Frame> {
        let frame = self.mine().try_lock()?.any.pop();
        (frame.0 != END).then(|| taken::<M>(frame))
    }

    /// What this processor has at hand.
    #[inline]
    fn mine(&self) -> &Lock<Hand<M>, M> {
        &self.at_hand[M::cpu() % CpuInfo::MAX].0
    }

    /// Nothing is at hand: get some from the pool, or from another processor.
    ///
    /// Frames go from list to list only while both are locked. So they are always found.
    #[cold]
    #[inline(never)]
    fn fetch(&self, work: &mut u32) -> Result<Frame, Error> {
        let mut mine = self.mine().lock();
        let mut some = self.pool.lock().cut(BATCH);
        if some.len == 0 {
            drop(mine);
            return self.search(work);
        }
        let one = some.pop();
        mine.any.prepend(some);
        Ok(taken::<M>(one))
    }

    /// Look at what every processor has at hand, this one first. All lists are locked at once: if there is nothing in any
    /// of them, there was a moment in which no frame was free.
    #[cold]
    #[inline(never)]
    fn search(&self, work: &mut u32) -> Result<Frame, Error> {
        let (here, all) = (M::cpu(), M::cpus().len().min(CpuInfo::MAX));
        add(work, search_cost(all as u32));
        // There is room for as many processors as there can be, and no time to look at each of them.
        let mut hands = ManuallyDrop::new([const { None }; CpuInfo::MAX]);
        let hands = &mut hands[..all];
        // In this order, and the pool last, like everybody who locks two lists.
        hands.iter_mut().zip(&self.at_hand).for_each(|(hand, at_hand)| *hand = Some(at_hand.0.lock()));
        let (before, from_here) = hands.split_at_mut(here);
        let mut in_order = from_here.iter_mut().chain(before).flatten();
        let some = in_order.find(|hand| !hand.is_empty()).map(|hand| hand.cut(BATCH));
        let mut some = some.unwrap_or_else(|| self.pool.lock().cut(BATCH));
        let one = some.pop();
        if let Some(Some(mine)) = hands.get_mut(here) {
            mine.any.prepend(some);
        }
        hands.iter_mut().for_each(|hand| *hand = None);
        if one.0 == END { Err(Error::NoMemory(0)) } else { Ok(taken::<M>(one)) }
    }

    /// Add a reference.
    ///
    /// # Errors
    /// [`Error::TooManyRefs`] with the physical address.
    #[inline]
    pub fn share(&self, frame: Frame) -> Result<(), Error> {
        if !smp::share(&M::info(frame).refs) {
            return Err(Error::TooManyRefs(frame.address()));
        }
        Ok(())
    }

    /// Drop a reference; with the last one the frame is free.
    #[inline]
    pub fn release(&self, frame: Frame) {
        self.release_with(frame, &mut 0);
    }

    /// Drop a reference. What it takes to free the frame is added to the `work`.
    #[inline]
    pub(crate) fn release_with(&self, frame: Frame, work: &mut u32) {
        if smp::release(&M::info(frame).refs) {
            add(work, FREE);
            self.put(frame);
        }
    }

    /// The same, for a frame in which there is nothing that must be overwritten before it is used again as what it was.
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
            self.put(frame);
        }
    }

    /// Drop a reference, unless it is the last one. Returns whether it was dropped.
    pub(crate) fn release_shared(&self, frame: Frame) -> bool {
        M::info(frame).refs.fetch_update(AcqRel, Acquire, |refs| (refs > 1).then(|| refs - 1)).is_ok()
    }

    /// Whether there is exactly one reference.
    #[inline]
    #[must_use]
    pub fn is_sole(&self, frame: Frame) -> bool {
        smp::is_sole(&M::info(frame).refs)
    }

    /// A frame without references is free.
    #[inline(never)]
    fn put(&self, frame: Frame) {
        M::poison(frame);
        let mut hand = self.mine().lock();
        let any = &mut hand.any;
        any.push(frame);
        count::<M>(1);
        if any.len >= AT_HAND {
            let some = any.cut(BATCH);
            self.pool.lock().prepend(some);
        }
    }

    /// How many frames are free.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        CpuInfo::free_frames(M::cpus())
    }
}

impl<M: Machine> Default for Memory<M> {
    fn default() -> Self {
        Memory::new()
    }
}

impl<M> Hand<M> {
    const EMPTY: Self = Hand { any: List::EMPTY, emptied: [List::EMPTY; 2] };
}

impl<M: Machine> Hand<M> {
    /// Whether no frame is at hand.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.emptied.iter().fold(self.any.len, |all, list| all | list.len) == 0
    }

    /// Some free frames, or all there are; those that were emptied come last.
    fn cut(&mut self, len: u32) -> List<M> {
        let lists = core::iter::once(&mut self.any).chain(&mut self.emptied);
        lists.map(|list| list.cut(len)).find(|some| some.len > 0).unwrap_or(List::EMPTY)
    }
}

impl<M> List<M> {
    const EMPTY: Self = List { first: END, len: 0, machine: PhantomData };
}

impl<M: Machine> List<M> {
    /// The first frame, or [`END`].
    #[inline]
    fn pop(&mut self) -> Frame {
        let frame = Frame(self.first);
        if frame.0 != END {
            self.first = M::info(frame).word.load(Relaxed);
            self.len -= 1;
        }
        frame
    }

    fn push(&mut self, frame: Frame) {
        M::info(frame).word.store(self.first, Relaxed);
        self.first = frame.0;
        self.len += 1;
    }

    /// The first so many frames, or all there are, as a list of their own.
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

    /// Put another list before this one. It is short: its end is looked for.
    fn prepend(&mut self, other: Self) {
        let mut at = other.first;
        while at != END {
            let info = M::info(Frame(at));
            at = info.word.load(Relaxed);
            if at == END {
                info.word.store(self.first, Relaxed);
                self.first = other.first;
                self.len += other.len;
            }
        }
    }
}

/// A frame is in use from now on, with one reference.
#[inline(always)]
fn taken<M: Machine>(frame: Frame) -> Frame {
    count::<M>(-1);
    let info = M::info(frame);
    info.word.store(0, Relaxed);
    info.refs.store(1, Relaxed);
    frame
}

/// Add to what was done. (What nobody asks for may come to any number.)
#[inline(always)]
pub(crate) fn add(work: &mut u32, instructions: u32) {
    *work = work.wrapping_add(instructions);
}

/// This processor took or freed a frame.
#[inline]
fn count<M: Machine>(change: i64) {
    let free = &M::counts().free_frames;
    free.store(free.load(Relaxed).wrapping_add_signed(change), Relaxed);
}

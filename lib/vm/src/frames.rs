//! Page frames: who uses how many of them, and which are free.

use crate::{Machine, Relax};
use abi::{Error, Frame};
use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;
use spin::mutex::Mutex;

/// Frame 0 is never handed out: on the free list it stands for the end.
const END: u32 = 0;

/// All page frames.
///
/// Free frames form a list through the frame table itself, last freed first: what was used a
/// moment ago is warm, and the order is the same in every run.
pub struct Memory<M> {
    free: Mutex<u32, Relax<M>>,
    machine: PhantomData<M>,
}

impl<M: Machine> Memory<M> {
    /// No frames yet.
    #[must_use]
    pub const fn new() -> Self {
        Memory { free: Mutex::new(END), machine: PhantomData }
    }

    /// A frame of zeros with one reference.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub fn alloc(&self) -> Result<Frame, Error> {
        let frame = self.alloc_dirty()?;
        M::zero(frame);
        Ok(frame)
    }

    /// A frame with one reference and the contents of another one.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline]
    pub fn alloc_copy(&self, of: Frame) -> Result<Frame, Error> {
        let frame = self.alloc_dirty()?;
        M::copy(of, frame);
        Ok(frame)
    }

    /// The contents are somebody's old secrets: the caller overwrites all of them.
    fn alloc_dirty(&self) -> Result<Frame, Error> {
        let mut free = self.free.lock();
        if *free == END {
            return Err(Error::NoMemory(0));
        }
        let frame = Frame(*free);
        let info = M::info(frame);
        *free = info.word.load(Relaxed);
        count::<M>(-1);
        drop(free);
        info.word.store(0, Relaxed);
        info.refs.store(1, Relaxed);
        Ok(frame)
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
        if smp::release(&M::info(frame).refs) {
            self.put(frame);
        }
    }

    /// Whether there is exactly one reference.
    #[inline]
    #[must_use]
    pub fn is_sole(&self, frame: Frame) -> bool {
        smp::is_sole(&M::info(frame).refs)
    }

    /// Put a frame without references on the free list.
    #[inline(never)]
    pub fn put(&self, frame: Frame) {
        M::poison(frame);
        let mut free = self.free.lock();
        M::info(frame).word.store(*free, Relaxed);
        *free = frame.0;
        count::<M>(1);
    }
}

impl<M: Machine> Default for Memory<M> {
    fn default() -> Self {
        Memory::new()
    }
}

/// Change the number of free frames; called under the lock of the list.
fn count<M: Machine>(change: i64) {
    let free = &M::machine().free_frames;
    free.store(free.load(Relaxed).wrapping_add_signed(change), Relaxed);
}

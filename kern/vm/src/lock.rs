//! The kernel's lock.

use crate::Machine;
use abi::window::LockKind;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;
use spin::RelaxStrategy;
use spin::mutex::{Mutex, MutexGuard};

/// A spin lock. A processor that finds it taken counts that, and [serves](Machine::relax) requests of others while it
/// waits.
pub struct Lock<T, M> {
    mutex: Mutex<T, Relax<M>>,
    kind: LockKind,
}

/// Access to the content of a locked [`Lock`]; dropping it releases the lock.
pub type Guard<'a, T, M> = MutexGuard<'a, T, Relax<M>>;

/// The relax strategy of a waiting processor: [`Machine::relax`].
pub struct Relax<M>(PhantomData<M>);

impl<M: Machine> RelaxStrategy for Relax<M> {
    fn relax() {
        M::relax();
    }
}

impl<T, M: Machine> Lock<T, M> {
    /// A lock that is not taken.
    pub const fn new(kind: LockKind, content: T) -> Self {
        Lock { mutex: Mutex::new(content), kind }
    }

    /// The lock itself, for code that has to break it open.
    pub fn inner(&self) -> &Mutex<T, Relax<M>> {
        &self.mutex
    }

    /// Takes the lock; waits while another processor has it.
    pub fn lock(&self) -> Guard<'_, T, M> {
        self.mutex.try_lock().unwrap_or_else(|| self.wait())
    }

    /// Takes the lock, if no other processor has it.
    #[inline(always)]
    pub fn try_lock(&self) -> Option<Guard<'_, T, M>> {
        self.mutex.try_lock()
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) -> Guard<'_, T, M> {
        let contended = &M::counts().contended[self.kind as usize];
        contended.store(contended.load(Relaxed) + 1, Relaxed);
        self.mutex.lock()
    }
}

//! The environment table.

use crate::memory::{ENV_TABLE, Kernel, Lock, Space, env_info};
use crate::sched::Sched;
use crate::trap::TrapFrame;
use abi::window::{EnvInfo, LockKind};
use abi::{EnvId, Error, Status};
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use smp::Holder;

/// The private part of an environment. (The public part is [`EnvInfo`], in the window.)
///
/// Aligned to its size, so that the slot follows from the address by a shift.
#[repr(C, align(1024))]
pub struct Env {
    /// Registers. First, because the entry stubs take one pointer for the other.
    pub frame: TrapFrame,
    /// Floating-point and vector registers, while they are not in the processor.
    pub fp: FpState,
    /// Who handles exceptions.
    pub upcall: Upcall,
    /// The processor that has the environment. See `sched`.
    pub held_by: Holder,
    /// The processor whose registers may still hold the floating-point state; `u32::MAX`: none.
    pub fp_cpu: AtomicU32,
    /// The page map; `None` while the slot is free.
    pub space: Lock<Option<Space>>,
    links: Links,
}

// SAFETY: what is not behind a lock of its own belongs to the processor that holds the environment,
// or, while none does, to the holder of the scheduler's lock.
unsafe impl Sync for Env {}

/// Who handles the exceptions of an environment, and on which stack.
///
/// The pages of the stack are pinned: whoever registered them cannot take them away, so delivery
/// walks no page table and writes where it may. It is changed by whoever owns the frame, with the page
/// map locked, so that pages are not taken away while they are being pinned.
#[derive(Default)]
#[repr(C)]
pub struct Upcall {
    /// 0: nobody.
    pub entry: Cell<u64>,
    /// Lowest address of the exception stack.
    pub low: Cell<u64>,
    /// One past its highest address.
    pub top: Cell<u64>,
}

impl Upcall {
    /// Nobody handles anything, and no page is pinned.
    pub fn clear(&self) {
        self.entry.set(0);
        self.low.set(0);
        self.top.set(0);
    }
}

/// The image that `fxsave64` writes.
#[derive(Default)]
#[repr(C)]
pub struct FpState(pub UnsafeCell<[u128; 32]>);

/// What ties environments to each other. Guarded by the scheduler's lock; see [`Env::links`].
#[derive(Default)]
pub struct Links {
    /// The next free slot.
    pub next_free: Cell<Option<&'static Env>>,
    /// The next one that wants a processor.
    pub next: Cell<Option<&'static Env>>,
    /// In that queue, whatever the status is now.
    pub queued: Cell<bool>,
    /// Children that have ended, and the others: `wait` looks at the first one only.
    pub first_ended: Cell<Option<&'static Env>>,
    pub first_child: Cell<Option<&'static Env>>,
    pub next_sibling: Cell<Option<&'static Env>>,
    pub previous_sibling: Cell<Option<&'static Env>>,
    /// Whom a waiting environment waits for (0: anyone): a child's end, or a message.
    pub awaits: Cell<EnvId>,
    /// Where a receiver wants a page.
    pub receive_at: Cell<u64>,
    /// A sender is about to hand over a page.
    pub receiving: Cell<bool>,
    /// How many receivers wait for a message from this very environment.
    pub awaited: Cell<u32>,
    /// Who ended it: for the trace.
    pub ended_by: Cell<EnvId>,
}

/// How many slots a machine with this many frames gets.
pub fn slots_for(frames: u64) -> usize {
    (frames / 32).clamp(64, EnvId::MAX_SLOTS as u64) as usize
}

/// Make the table, every slot free.
pub fn init() {
    for slot in 0..slots() {
        // SAFETY: `tables::init` mapped that many entries, and nobody has seen them yet.
        unsafe { (ENV_TABLE.0 as *mut Env).add(slot).write(Env::unused()) };
    }
}

/// How many slots there are.
#[inline]
pub fn slots() -> usize {
    Kernel::machine().env_slots.load(Relaxed) as usize
}

/// The environment in a slot, which must exist.
#[inline]
pub fn at(slot: usize) -> &'static Env {
    debug_assert!(slot < slots());
    // SAFETY: `init` wrote the entry, and nothing ever removes it.
    unsafe { &*(ENV_TABLE.0 as *const Env).add(slot) }
}

/// All slots.
pub fn all() -> impl Iterator<Item = &'static Env> {
    (0..slots()).map(at)
}

/// The living environment with this id; 0 is the caller.
#[inline]
pub fn find(caller: &'static Env, id: EnvId) -> Result<&'static Env, Error> {
    if id == EnvId::NONE {
        return Ok(caller);
    }
    if id.slot() >= slots() {
        return Err(Error::BadEnv(id.0.into()));
    }
    let env = at(id.slot());
    let living = !matches!(env.status(), Status::Free | Status::Dying | Status::Zombie);
    if env.id() == id && living { Ok(env) } else { Err(Error::BadEnv(id.0.into())) }
}

/// The same, if the caller may act on it: itself and its children.
#[inline]
pub fn find_own(caller: &'static Env, id: EnvId) -> Result<&'static Env, Error> {
    let env = find(caller, id)?;
    let own = core::ptr::eq(env, caller) || env.info().parent() == caller.id();
    if own { Ok(env) } else { Err(Error::NotYours(id.0.into())) }
}

impl Env {
    /// A slot that was never used.
    fn unused() -> Env {
        Env {
            frame: TrapFrame::default(),
            fp: FpState::default(),
            upcall: Upcall::default(),
            held_by: Holder::nobody(),
            fp_cpu: AtomicU32::default(),
            space: Lock::new(LockKind::PageMap, None),
            links: Links::default(),
        }
    }

    #[inline]
    pub fn slot(&self) -> usize {
        (self as *const Env as usize - ENV_TABLE.0 as usize) / size_of::<Env>()
    }

    #[inline]
    pub fn info(&self) -> &'static EnvInfo {
        env_info(self.slot())
    }

    #[inline]
    pub fn id(&self) -> EnvId {
        self.info().id()
    }

    #[inline]
    pub fn status(&self) -> Status {
        self.info().status()
    }

    /// Change the status. Takes the scheduler's lock as proof.
    #[inline]
    pub fn set_status(&self, status: Status, _: &mut Sched) {
        self.info().status.store(status as u32, Relaxed);
    }

    /// The links, for the holder of the scheduler's lock.
    #[inline]
    pub fn links(&self, _: &Sched) -> &Links {
        &self.links
    }

    /// The parent, unless that is the kernel.
    pub fn parent(&self) -> Option<&'static Env> {
        let id = self.info().parent();
        (id != EnvId::NONE).then(|| at(id.slot()))
    }

    /// Put a child in front of its list.
    pub fn adopt(&'static self, child: &'static Env, sched: &mut Sched) {
        let its = child.links(sched);
        let second = self.list(child, sched).replace(Some(child));
        its.previous_sibling.set(None);
        its.next_sibling.set(second);
        if let Some(second) = second {
            second.links(sched).previous_sibling.set(Some(child));
        }
    }

    /// Take a child out of its list.
    pub fn disown(&self, child: &'static Env, sched: &mut Sched) {
        let its = child.links(sched);
        let (before, after) = (its.previous_sibling.take(), its.next_sibling.take());
        match before {
            Some(before) => before.links(sched).next_sibling.set(after),
            None => self.list(child, sched).set(after),
        }
        if let Some(after) = after {
            after.links(sched).previous_sibling.set(before);
        }
    }

    /// The list that a child is in: it changes lists when it becomes a zombie.
    fn list(&self, child: &Env, sched: &Sched) -> &Cell<Option<&'static Env>> {
        let links = self.links(sched);
        if child.status() == Status::Zombie { &links.first_ended } else { &links.first_child }
    }

    /// Some child, one that has ended if there is one.
    pub fn any_child(&self, sched: &Sched) -> Option<&'static Env> {
        let links = self.links(sched);
        links.first_ended.get().or(links.first_child.get())
    }
}

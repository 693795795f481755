//! The environment table.

use crate::machine::cpu::{self, Cpu};
use crate::machine::hardware::{Editable, Lock, PageMap};
use crate::machine::provoke;
use crate::machine::registers::{FpState, TrapFrame};
use crate::machine::windows::{self, ENV_TABLE};
use abi::window::{EnvInfo, LockKind};
use abi::{EnvId, Error, Frame, Status};
use core::arch::asm;
use core::cell::Cell;
use core::cmp::Ordering::{Equal, Greater, Less};
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sched::{Link, Links, Node, State};

/// The private part of an environment. (The public part is [`EnvInfo`], in the window.)
///
/// Aligned to its size, so that the slot follows from the address by a shift.
#[repr(C, align(1024))]
pub struct Env {
    /// The saved registers. The first field, because the entry stubs use one pointer for the environment and its frame.
    pub frame: TrapFrame,
    /// Floating-point and vector registers, while they are not loaded in a processor.
    pub fp: FpState,
    /// The exception handler and its stack.
    pub upcall: Upcall,
    /// The public part.
    info: &'static EnvInfo,
    /// The page map; `None` once it is torn down: the environment is a zombie, or the slot is free.
    pub page_map: Lock<Option<PageMap>>,
    /// Root frame of the page map. Constant while the environment exists, so it can be loaded without the lock of the
    /// map.
    pub root: Cell<Frame>,
    links: Links<Link<Env>>,
}

const _: () = assert!(offset_of!(Env, frame) == 0, "a processor and the entry stubs take one for the other");

// SAFETY: a field without a lock of its own belongs to the processor that holds the environment, or, while none does,
// to the holder of the scheduler's lock.
unsafe impl Sync for Env {}

/// The exception handler of an environment, and its exception stack.
///
/// The pages of the stack are pinned: no call may change their mappings. So delivery of an upcall walks no page table,
/// and its stores cannot fail. Only the processor that holds the environment changes these fields, with the page map
/// locked, so that no page is unmapped while it is being pinned.
#[derive(Default)]
#[repr(C)]
pub struct Upcall {
    /// Address of the handler; 0 if there is none.
    pub entry: Cell<u64>,
    /// Lowest address of the exception stack.
    pub low: Cell<u64>,
    /// One past the highest address of the exception stack; 0 if there is no handler.
    pub top: Cell<u64>,
}

impl Upcall {
    /// The addresses of the pinned pages.
    pub fn stack(&self) -> Range<u64> {
        self.low.get()..self.top.get()
    }

    /// Sets the handler and its stack, of which there is none without a handler.
    pub fn set(&self, entry: u64, stack: Range<u64>) {
        self.entry.set(entry);
        self.low.set(stack.start);
        self.top.set(stack.end);
    }
}

/// How many slots a machine with this many frames gets.
pub fn slots_for(frames: u64) -> usize {
    (frames / 32).clamp(64, EnvId::MAX_SLOTS as u64) as usize
}

/// Makes the table, with every slot free.
pub fn init() {
    for slot in 0..slots() {
        // SAFETY: `kernel_map::init` mapped that many entries, and nobody has seen them yet.
        unsafe { (ENV_TABLE.0 as *mut Env).add(slot).write(Env::unused(slot)) };
    }
}

/// How many slots there are.
pub fn slots() -> usize {
    windows::machine().env_slots.load(Relaxed) as usize
}

/// All slots.
pub fn all() -> &'static [Env] {
    // SAFETY: `init` wrote that many entries, and nothing ever removes them.
    unsafe { core::slice::from_raw_parts(ENV_TABLE.0 as *const Env, slots()) }
}

/// The living environment with this id; 0 is the caller.
pub fn find(caller: &'static Env, id: EnvId) -> Result<&'static Env, Error> {
    sched::find(all(), caller, id)
}

/// The living environment with this id, if the caller may act on it: the caller itself and its children.
pub fn find_own(caller: &'static Env, id: EnvId) -> Result<&'static Env, Error> {
    sched::find_own(all(), caller, id)
}

/// Checks that the caller may still act on an environment that [`find_own`] returned, under the lock under which it
/// acts. An environment that the caller has adopted may have ended since, and another one may have its slot.
///
/// # Errors
/// [`Error::BadEnv`] with the id in the slot.
#[inline(always)]
pub fn still_own(env: &'static Env) -> Result<(), Error> {
    // With one processor, nothing has happened in between.
    if cpu::count() == 1 { Ok(()) } else { look_again(env) }
}

#[inline(never)]
fn look_again(env: &'static Env) -> Result<(), Error> {
    let caller = current();
    let own = core::ptr::eq(env, caller) || env.info().parent() == caller.id();
    if own { Ok(()) } else { Err(Error::BadEnv(env.id().0.into())) }
}

/// The environment that runs on this processor.
pub fn current() -> &'static Env {
    // SAFETY: set before the first entry from user mode; environments are never unmapped.
    unsafe { &*current_pointer() }
}

/// Whether this is the environment that runs on this processor.
pub fn is_running(env: &Env) -> bool {
    core::ptr::eq(env, current_pointer())
}

fn current_pointer() -> *const Env {
    let env: *const Env;
    // SAFETY: GS points at a `Cpu` whenever Rust code of the kernel runs; only a field of it is read.
    unsafe {
        asm!("mov {}, gs:[{field}]", out(reg) env, field = const offset_of!(Cpu, env),
            options(pure, readonly, nostack, preserves_flags));
    }
    env
}

/// The environment whose page map and floating-point state are loaded on a processor.
pub fn loaded(cpu: &Cpu) -> Option<&'static Env> {
    // SAFETY: the pointer is null or points at an environment; environments are never unmapped.
    unsafe { cpu.env.get().cast::<Env>().as_ref() }
}

/// Whether the page map and floating-point state of this environment are loaded on a processor.
pub fn is_loaded(cpu: &Cpu, env: &Env) -> bool {
    core::ptr::eq(cpu.env.get().cast(), env)
}

/// The results of a call, for `rax` and `rdx`.
pub type Results = Result<(u64, u64), Error>;

/// Calls `f` with the page map of a living environment, locked and in an edit.
#[inline(always)]
pub fn with_page_map<T>(env: &'static Env, f: impl FnOnce(&mut Editable) -> Result<T, Error>) -> Result<T, Error> {
    let mut map = env.page_map.lock();
    let ended = || Error::BadEnv(env.id().0.into());
    let map = map.as_mut().ok_or_else(ended)?;
    let mut edit = match is_running(env) {
        true => map.edit_here(),
        false if env.status() == Status::Dying => return Err(ended()),
        false => map.edit(),
    };
    f(&mut edit)
}

/// Calls `f` with the page maps of two living environments, locked and in edits: that of `source` (`None` if `source`
/// is `env`), and that of `env`. Locks are taken in the order of the slots.
pub fn with_page_maps<T>(
    source: &'static Env,
    env: &'static Env,
    f: impl FnOnce(Option<&mut Editable>, &mut Editable) -> Result<T, Error>,
) -> Result<T, Error> {
    match source.slot().cmp(&env.slot()) {
        Less => with_page_map(source, |from| with_page_map(env, |map| f(Some(from), map))),
        Equal => with_page_map(env, |map| f(None, map)),
        Greater => with_page_map(env, |map| with_page_map(source, |from| f(Some(from), map))),
    }
}

impl Env {
    /// A slot that was never used.
    fn unused(slot: usize) -> Env {
        Env {
            frame: TrapFrame::default(),
            fp: FpState::default(),
            upcall: Upcall::default(),
            info: windows::env(slot),
            page_map: Lock::new(LockKind::PageMap, None),
            root: Cell::new(Frame(0)),
            links: Links::default(),
        }
    }
}

impl Node for Env {
    fn links(&self) -> &Links<Link<Env>> {
        &self.links
    }

    fn slot(&self) -> usize {
        (self as *const Env as usize - ENV_TABLE.0 as usize) / size_of::<Env>()
    }

    fn info(&self) -> &EnvInfo {
        self.info
    }

    fn word(&self) -> &AtomicU64 {
        &self.info().state
    }

    fn is_free_for(&self, state: State, processor: u32) -> bool {
        state.is_free_for(processor) || provoke::holds_twice()
    }

    fn interrupt(&self, processor: u32) {
        cpu::other(processor).into_iter().for_each(cpu::Cpu::interrupt);
    }
}

//! Exceptions of user programs: back to the program that caused them.

use crate::console::kprintln;
use crate::env::Env;
use crate::trap::Saved;
use crate::{life, sched};
use abi::{ExitStatus, Vector};
use core::cell::Cell;

/// Who handles the exceptions of an environment, and on which stack.
///
/// The pages of the stack are pinned: whoever registered them cannot take them away, so delivery
/// walks no page table and writes where it may. Belongs to whoever owns the frame.
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

/// A program raised an exception, and no upcall could be made (`entry.s`): end it, and say why.
pub fn kill(env: &'static Env, saved: &Saved) -> ! {
    if matches!(saved.vector, 2 | 8 | 18) {
        // Not its fault: the machine's.
        crate::panic::exception(saved);
    }
    let (id, vector) = (env.id(), Vector(saved.vector as u8));
    let fault = saved.as_fault();
    if vector == Vector::PAGE_FAULT {
        kprintln!("[{id}] user fault va {:016x} ip {:016x}", fault.address, fault.rip);
    } else {
        kprintln!("[{id}] user exception {} ip {:016x}", vector.0, fault.rip);
    }
    kprintln!("{fault}");
    let nobody = env.upcall.entry.get() == 0;
    let why = if nobody { "nobody handles it" } else { "the exception stack is full" };
    kprintln!("[{id}] destroyed: {vector}, and {why}");
    life::end(env, ExitStatus::killed_by(vector), id);
    sched::switch()
}

//! Exceptions of user programs: back to the program that caused them.

use crate::console::kprintln;
use crate::env::Env;
use crate::trap::Saved;
use crate::{life, sched};
use abi::{ExitStatus, Vector};
use core::cell::Cell;
use core::fmt;
use x86_64::registers::control::Cr2;

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
    if vector == Vector::PAGE_FAULT {
        kprintln!("[{id}] user fault va {:016x} ip {:016x}", Cr2::read_raw(), saved.rip);
    } else {
        kprintln!("[{id}] user exception {} ip {:016x}", vector.0, saved.rip);
    }
    kprintln!("{}", Dump(saved));
    let nobody = env.upcall.entry.get() == 0;
    let why = if nobody { "nobody handles it" } else { "the exception stack is full" };
    kprintln!("[{id}] destroyed: {vector}, and {why}");
    life::end(env, ExitStatus::killed_by(vector), id);
    sched::switch()
}

/// The registers of a trap, as the reports show them.
pub struct Dump<'a>(pub &'a Saved);

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const NAMES: [&str; 15] = [
            "r15", "r14", "r13", "r12", "r11", "r10", "r9 ", "r8 ", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx",
            "rax",
        ];
        for (index, (name, value)) in NAMES.iter().zip(self.0.general).enumerate() {
            let end = if index % 3 == 2 { "\n" } else { "" };
            write!(f, "  {name}  0x{value:016x}{end}")?;
        }
        let vector = Vector(self.0.vector as u8);
        writeln!(f, "  trap 0x{:08x} {vector}", self.0.vector)?;
        write!(f, "  err  0x{:08x}", self.0.error)?;
        if vector == Vector::PAGE_FAULT {
            write!(f, " {}", abi::fault::PageFaultCode(self.0.error))?;
        }
        writeln!(f, "\n  rip  0x{:016x}  cs  0x{:04x}", self.0.rip, self.0.cs)?;
        writeln!(f, "  flag 0x{:016x}", self.0.rflags)?;
        write!(f, "  rsp  0x{:016x}  ss  0x{:04x}", self.0.rsp, self.0.ss)
    }
}

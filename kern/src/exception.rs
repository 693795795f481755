//! Exceptions of user programs: back to the program that caused them.

use crate::console::kprintln;
use crate::env::Env;
use crate::memory::env_info;
use crate::trap::{self, Saved};
use crate::{life, sched};
use abi::{ExitStatus, Fault, Vector};
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;
use x86_64::registers::control::Cr2;

/// Who handles the exceptions of an environment, and on which stack.
///
/// The pages of the stack are pinned: whoever registered them cannot take them away, so delivery
/// walks no page table and writes where it may. Belongs to whoever owns the frame.
#[derive(Default)]
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

    /// Where the next frame goes: below the red zone of an interrupted handler, or at the top.
    #[inline]
    fn place(&self, rsp: u64) -> Option<u64> {
        let (low, top) = (self.low.get(), self.top.get());
        if !(low..top).contains(&rsp) {
            return Some(top - Fault::SIZE);
        }
        let fits = rsp >= low + Fault::RED_ZONE + Fault::SIZE;
        fits.then(|| ((rsp - Fault::RED_ZONE) & !15) - Fault::SIZE)
    }
}

/// The environment raised an exception: make the upcall, or end it.
pub fn from_user(env: &'static Env, saved: &Saved) {
    let vector = Vector(saved.vector as u8);
    if matches!(saved.vector, 2 | 8 | 18) {
        crate::panic::exception(saved);
    }
    let address = if vector == Vector::PAGE_FAULT { Cr2::read_raw() } else { 0 };
    if env.upcall.entry.get() == 0 {
        kill(env, saved, address, "nobody handles it");
    }
    let Some(at) = env.upcall.place(saved.rsp) else {
        kill(env, saved, address, "the exception stack is full");
    };
    let [r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax] = saved.general;
    #[rustfmt::skip]
    let fault = Fault {
        vector_number: saved.vector, error: saved.error, address,
        r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax,
        rsp: saved.rsp, reserved: 0, rflags: saved.rflags, rip: saved.rip,
    };
    // SAFETY: `at` is on the exception stack, whose pages are pinned.
    unsafe { trap::write_user(at, fault) };
    let upcalls = &env_info(env.slot()).upcalls;
    upcalls.store(upcalls.load(Relaxed) + 1, Relaxed);
    sched::leave_kernel(0x100 + saved.vector);
    trap::enter_upcall(env.upcall.entry.get(), at)
}

/// End an environment because of an exception, and say why.
fn kill(env: &'static Env, saved: &Saved, address: u64, why: &str) -> ! {
    let (id, vector) = (env.id(), Vector(saved.vector as u8));
    if vector == Vector::PAGE_FAULT {
        kprintln!("[{id}] user fault va {address:016x} ip {:016x}", saved.rip);
    } else {
        kprintln!("[{id}] user exception {} ip {:016x}", vector.0, saved.rip);
    }
    kprintln!("{}", Dump(saved));
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

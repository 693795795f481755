//! Try something that may raise an exception, and learn which.

use crate::resident::{self, Local};
use crate::upcall::{self, Outcome};
use crate::{Fault, abi};
use core::arch::naked_asm;

/// Where `rsp` was when the attempt began; 0 when none is under way.
#[unsafe(link_section = ".resident")]
static START: Local<u64> = Local::new(0);
/// What ended the attempt.
#[unsafe(link_section = ".resident")]
static CAUGHT: Local<Option<Fault>> = Local::new(None);
static DEFAULT_MXCSR: u32 = 0x1f80;

unsafe extern "C" {
    static libos_attempt_end: u8;
}

/// Call `f(argument)`. The first exception that libos does not resolve ends the call, and is
/// returned; `None` if `f` came back by itself.
///
/// Meanwhile the program's own fault handler is not asked; afterwards it is the one that it was. What `f` was doing
/// is abandoned as it stands: nothing that it holds is dropped. `f` may make attempts of its own, which end first.
#[must_use]
pub fn attempt(f: fn(u64), argument: u64) -> Option<Fault> {
    let outer = START.get();
    let handler = upcall::replace_handler(Some(abandon));
    let depth = resident::depth();
    // SAFETY: preserves what a C function must preserve, by whichever way it ends.
    unsafe { attempt_asm(f, argument, &START) };
    START.set(outer);
    // Handlers that were interrupted are abandoned, too.
    resident::set_depth(depth);
    upcall::replace_handler(handler);
    let caught = CAUGHT.get();
    CAUGHT.set(None);
    caught
}

fn abandon(fault: &mut Fault) -> Outcome {
    if START.get() == 0 {
        return Outcome::Unhandled;
    }
    CAUGHT.set(Some(*fault));
    fault.rip = &raw const libos_attempt_end as u64;
    fault.rsp = START.get();
    fault.rflags = abi::env::FIXED_RFLAGS;
    START.set(0);
    Outcome::Resume
}

extern "C" fn begin(f: &fn(u64), argument: u64) {
    f(argument);
}

#[unsafe(naked)]
#[allow(improper_ctypes_definitions)] // both ends of this call are Rust
unsafe extern "C" fn attempt_asm(f: fn(u64), argument: u64, start: &Local<u64>) {
    naked_asm!(
        ".irp r, rbp, rbx, r12, r13, r14, r15",
        "push \\r",
        ".endr",
        "push rdi", // rsp is a multiple of 16 again
        "mov [rdx], rsp",
        "mov rdi, rsp",
        "call {begin}",
        ".globl libos_attempt_end",
        "libos_attempt_end:",
        // Whatever was tried with floating-point numbers is over.
        "fninit",
        "ldmxcsr [rip + {DEFAULT_MXCSR}]",
        "pop rdi",
        ".irp r, r15, r14, r13, r12, rbx, rbp",
        "pop \\r",
        ".endr",
        "ret",
        begin = sym begin,
        DEFAULT_MXCSR = sym DEFAULT_MXCSR,
    )
}

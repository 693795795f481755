//! Runs a function that may raise an exception, and reports which.

use crate::resident::{self, Local};
use crate::upcall::{self, Outcome};
use crate::{Fault, abi};
use core::arch::naked_asm;

/// The value of `rsp` when the current attempt began; 0 outside of an attempt.
#[unsafe(link_section = ".resident")]
static START: Local<u64> = Local::new(0);
/// The exception that ended the attempt.
#[unsafe(link_section = ".resident")]
static CAUGHT: Local<Option<Fault>> = Local::new(None);
static DEFAULT_MXCSR: u32 = 0x1f80;

unsafe extern "C" {
    static libos_attempt_end: u8;
}

/// Call `f(argument)`. The first exception that libos does not resolve ends the call and is returned; `None` if `f`
/// returned by itself.
///
/// During the attempt the program's own fault handler is not asked; afterwards it is installed again. An exception
/// abandons `f` without unwinding: nothing that it owns is dropped. `f` may make attempts of its own, which end first.
#[must_use]
pub fn attempt(f: fn(u64), argument: u64) -> Option<Fault> {
    let outer = START.get();
    let handler = upcall::replace_handler(Some(abandon));
    let depth = resident::depth();
    // SAFETY: preserves the callee-saved registers, whichever way the attempt ends.
    unsafe { attempt_asm(f, argument, &START) };
    START.set(outer);
    // Interrupted handlers are abandoned, too.
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
        // The attempt may have left any floating-point state behind.
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

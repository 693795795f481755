//! Entries to the kernel and returns to user mode.
//!
//! On every entry from user mode the registers are saved directly into the environment that runs: TSS.rsp0 points at
//! the end of its `TrapFrame`, so the processor itself stores the topmost five words there, and the stub pushes the
//! rest. Then the kernel starts on an empty stack. So while the kernel runs, the frame of the environment is complete,
//! a context switch loads another frame, and code that never returns (`-> !`) leaves nothing behind.
//!
//! ```text
//!            +0                     +120   +128  +136 +144 +152   +160 +168  +176 = TSS.rsp0
//! TrapFrame  | r15 .. rbx rax (15)  | vector| error| rip | cs | rflags| rsp | ss |
//!             <------- stub ------>  <-- stub ---> <------- processor ------->
//! ```
//!
//! There are two kinds of system calls. *Non-blocking* ones (`id` and the page calls) always return at once. Their
//! stub leaves the frame alone, and saves on the kernel's stack only what a C function may change; the other registers
//! survive in place. The stub of the others saves the whole frame, because another environment may run next.
//!
//! The kernel returns with `sysretq` from a system call (at once, or after others have run) and into an upcall; with
//! `iretq` everywhere else.

use crate::calls::dispatch;
use crate::env::table::{self, Env, Upcall};
use crate::env::{bracket::Entry, devices, life, run_loop, scheduler};
use crate::machine::apic::{self, KICK, TIMER};
use crate::machine::cpu::{self, Cpu};
use crate::machine::registers::{Saved, USER_CODE, USER_DATA};
use crate::machine::{iommu::VECTOR, panic, provoke};
use abi::{Call, Fault, Vector, env::FIXED_RFLAGS, window::MachineInfo};
use core::arch::global_asm;
use core::mem::offset_of;

/// Vectors for which the processor pushes an error code.
const ERROR_CODES: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
/// Vectors whose handlers start on a stack of their own.
const OWN_STACK: u32 = {
    let [a, b, c, d] = cpu::IST_VECTORS;
    1 << a | 1 << b | 1 << c | 1 << d
};

global_asm!(
    include_str!("entry.s"),
    error_codes = const ERROR_CODES,
    own_stack = const OWN_STACK,
    page_fault = const Vector::PAGE_FAULT.0,
    stack_top = const offset_of!(Cpu, stack_top),
    env = const offset_of!(Cpu, env),
    scratch = const offset_of!(Cpu, scratch),
    frame_end = const size_of::<Saved>(),
    vector = const offset_of!(Saved, vector),
    rip = const offset_of!(Saved, rip),
    rflags = const offset_of!(Saved, rflags),
    rsp = const offset_of!(Saved, rsp),
    upcall_entry = const offset_of!(Env, upcall) + offset_of!(Upcall, entry),
    upcall_low = const offset_of!(Env, upcall) + offset_of!(Upcall, low),
    upcall_top = const offset_of!(Env, upcall) + offset_of!(Upcall, top),
    upcall_rflags = const FIXED_RFLAGS,
    fault_bytes = const Fault::SIZE,
    fault_vector = const offset_of!(Fault, vector_number), fault_error = const offset_of!(Fault, error), fault_address = const offset_of!(Fault, address),
    fault_r15 = const offset_of!(Fault, r15),
    fault_rsp = const offset_of!(Fault, rsp), fault_rflags = const offset_of!(Fault, rflags), fault_rip = const offset_of!(Fault, rip),
    red_zone = const Fault::RED_ZONE,
    user_trap = sym user_trap,
    kernel_trap = sym kernel_trap,
    first_blocking = const Call::FIRST_BLOCKING,
    calls = const Call::ALL.len(),
    user_code = const USER_CODE,
    user_data = const USER_DATA,
    invalid_opcode = const Vector::INVALID_OPCODE.0,
    handlers = sym dispatch::HANDLERS,
    dispatch = sym dispatch::dispatch,
);

const _: () = assert!(offset_of!(Fault, rax) == offset_of!(Fault, r15) + 14 * 8, "the stubs store one after the other");

/// Handles interrupts from user mode, and exceptions for which no upcall could be made. Returns to resume the
/// interrupted environment.
extern "C" fn user_trap() {
    let entry = Entry::begin();
    let env = table::current();
    let saved = *env.frame.saved();
    match saved.vector {
        0..32 => {
            life::kill(env, &saved);
            run_loop::switch(entry, scheduler::lock());
        }
        TIMER => run_loop::tick(entry, env),
        KICK => run_loop::kicked(entry, env),
        VECTOR.. => devices::interrupt(saved.vector - VECTOR),
        _ => apic::end_of_interrupt(),
    }
    entry.end(MachineInfo::VECTOR + saved.vector);
}

/// Handles exceptions and interrupts that came while the kernel ran.
extern "C" fn kernel_trap(saved: &mut Saved) {
    run_loop::count_idle();
    match saved.vector {
        TIMER => run_loop::count_tick(),
        KICK => run_loop::kick(),
        VECTOR.. => devices::interrupt(saved.vector - VECTOR),
        // A debug exception that was pending when the program entered the kernel: not a kernel bug.
        1 => provoke::stopped(saved),
        0..32 => panic::exception(saved),
        _ => apic::end_of_interrupt(),
    }
}

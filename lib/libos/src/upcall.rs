//! The way of a fault: from the kernel into user space, to a handler, and back to the interrupted
//! instruction without entering the kernel again.
//!
//! On an exception the kernel writes a [`Fault`] on the exception stack and jumps to [`enter`]. What
//! the interrupted code must find unchanged afterwards: every general register, the flags, the
//! vector registers, `mxcsr`, and the 128 bytes below its stack pointer (its red zone). The
//! handler is compiled code and changes any of them but the last.
//!
//! Faults nest. The handler may itself fault; then the kernel puts another frame below, 128 bytes
//! under the handler's stack pointer, and all this happens once more.

use crate::layout::{EXCEPTION_STACK_TOP, STACK_TOP};
pub use crate::pager::Outcome;
use crate::resident::Local;
use crate::{EnvId, Fault, PAGE_SIZE, Perms, Va, Vector, pager, raw, stats, sys};
use core::arch::naked_asm;
use core::mem::offset_of;

/// Pages of the exception stack.
pub const STACK_PAGES: u64 = 4;
/// The lowest address of the exception stack.
pub const STACK_LOW: Va = Va(EXCEPTION_STACK_TOP.0 - STACK_PAGES * PAGE_SIZE);

/// Looks at a fault that libos did not resolve, and may change the interrupted registers.
pub type Handler = fn(&mut Fault) -> Outcome;

#[unsafe(link_section = ".resident")]
static HANDLER: Local<Option<Handler>> = Local::new(None);

/// How many handlers are under way, one interrupting the other.
#[unsafe(link_section = ".resident")]
static DEPTH: Local<u32> = Local::new(0);

/// Ask this handler about every exception that libos does not resolve itself (see [`pager`]).
///
/// It runs on the exception stack, of which there are 16 KiB. It may allocate, print, make calls
/// and fault; it may not [`fork`](crate::fork). If it returns [`Outcome::Unhandled`], the program
/// is ended as if there were no handler.
pub fn set_handler(handler: Handler) {
    HANDLER.set(Some(handler));
}

/// Ask no handler of the program any more.
pub fn clear_handler() {
    HANDLER.set(None);
}

/// Whether a fault is being handled now.
#[inline]
#[must_use]
pub fn in_handler() -> bool {
    DEPTH.get() != 0
}

/// Give the caller an exception stack and the upcall of libos; done once, at the start.
pub(crate) fn init() -> sys::Result<()> {
    install(EnvId::NONE)
}

/// Give an environment (the caller, or a child) a fresh exception stack and the upcall of libos.
///
/// # Errors
/// As [`sys::alloc`] and [`sys::set_upcall`].
pub fn install(env: EnvId) -> sys::Result<()> {
    sys::alloc(env, STACK_LOW, STACK_PAGES, Perms::WRITE)?;
    register(env)
}

/// Register the upcall of libos on the exception stack that is there.
///
/// # Errors
/// As [`sys::set_upcall`].
pub fn register(env: EnvId) -> sys::Result<()> {
    sys::set_upcall(env, enter as *const () as u64, STACK_LOW, STACK_PAGES)
}

/// Have no upcall at all: from now on every fault ends the program, even one that libos would
/// resolve. The exception stack stays mapped.
///
/// # Errors
/// As [`sys::set_upcall`].
pub fn remove() -> sys::Result<()> {
    sys::set_upcall(EnvId::NONE, 0, Va(0), 0)
}

const RIP: usize = offset_of!(Fault, rip);
const RFLAGS: usize = offset_of!(Fault, rflags);
const RSP: usize = offset_of!(Fault, rsp);
/// Bytes below the frame for xmm0 to xmm15 and mxcsr, a multiple of 16.
const VECTORS: usize = 16 * 16 + 16;
/// What mxcsr holds in a fresh program, and while a handler runs.
static DEFAULT_MXCSR: u32 = 0x1f80;

/// Where the kernel goes on an exception. `rsp` points at the [`Fault`], a multiple of 16.
///
/// Coming back has to load sixteen registers, the flags and the instruction pointer, and the last
/// instruction can no longer use any register for it.
///
/// * `jmp` through memory or a register: the register is lost, and memory would have to be found
///   without one. No.
/// * `ret` from the exception stack: the return address would have to lie where `rsp` points, but
///   `rsp` must become the interrupted one, in the same instruction. No.
/// * So the return address goes to the *interrupted* stack, into free room below the red zone, with
///   the flags below it:
///
/// ```text
///           interrupted stack                    exception stack
///
///   rsp ->  +----------------+                  | rip            |
///           | red zone, 128  |                  | rflags         |
///           | bytes          |                  | reserved       |
///           +----------------+                  | rsp = slot     | <- 2. pop rsp
///           | rip            | <- 4. ret 128    | rax            |
///   slot -> | rflags         | <- 3. popfq      | ...            | <- 1. pop, fifteen times
///           +----------------+                  | r15            |
/// ```
///
/// `ret 128` takes the return address and then steps over the red zone: `rsp` is as it was.
///
/// Can the two stores to the slot fault? Yes: that page may be copy-on-write, or not there yet. Then
/// another upcall is made, its frame goes below ours, since `rsp` is still below everything
/// that counts, and it comes back by the same way. For this the stores come before the first pop.
///
/// If the interrupted code was a handler, the interrupted stack *is* the exception stack. The kernel
/// put our frame 128 bytes below the interrupted `rsp`, rounded down to 16: the slot then covers
/// the two topmost words of our own frame (rflags and rip, if `rsp` was a multiple of 16, and
/// otherwise up to 15 bytes above them), nothing else. That is why those two words are
/// there, and why both are loaded before either is stored.
///
/// * When the interrupted `rsp` is not known to be a stack (a coroutine's, or nonsense), or when TF is
///   set (it would trap after `popfq`, in here, rather than after the interrupted instruction):
///   `iretq` loads all at once, from a frame built below ours. It is the slower way.
#[unsafe(naked)]
unsafe extern "C" fn enter() {
    naked_asm!(
        "sub rsp, {VECTORS}",
        "stmxcsr [rsp + 256]",
        "ldmxcsr [rip + {DEFAULT_MXCSR}]",
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps [rsp + 16 * \\i], xmm\\i",
        ".endr",
        "lea rdi, [rsp + {VECTORS}]",
        "xor ebp, ebp",
        "call {handle}", // rax = slot, or 0
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps xmm\\i, [rsp + 16 * \\i]",
        ".endr",
        "ldmxcsr [rsp + 256]",
        "add rsp, {VECTORS}",
        "test rax, rax",
        "jz 2f",
        //
        // By `ret`.
        "mov rcx, [rsp + {RFLAGS}]",
        "mov rdx, [rsp + {RIP}]",
        "mov [rax], rcx", // may fault
        "mov [rax + 8], rdx",
        "mov [rsp + {RSP}], rax",
        "add rsp, {R15}",
        ".irp r, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax",
        "pop \\r",
        ".endr",
        "pop rsp",
        "popfq",
        "ret 128",
        //
        // By `iretq`: rip, cs, rflags, rsp, ss.
        "2:",
        "push {USER_SS}",
        "push [rsp + 8 + {RSP}]",
        "push [rsp + 16 + {RFLAGS}]",
        "push {USER_CS}",
        "push [rsp + 32 + {RIP}]",
        "mov r15, [rsp + 40 + {R15}]",
        "mov r14, [rsp + 48 + {R15}]",
        "mov r13, [rsp + 56 + {R15}]",
        "mov r12, [rsp + 64 + {R15}]",
        "mov r11, [rsp + 72 + {R15}]",
        "mov r10, [rsp + 80 + {R15}]",
        "mov r9,  [rsp + 88 + {R15}]",
        "mov r8,  [rsp + 96 + {R15}]",
        "mov rbp, [rsp + 104 + {R15}]",
        "mov rdi, [rsp + 112 + {R15}]",
        "mov rsi, [rsp + 120 + {R15}]",
        "mov rdx, [rsp + 128 + {R15}]",
        "mov rcx, [rsp + 136 + {R15}]",
        "mov rbx, [rsp + 144 + {R15}]",
        "mov rax, [rsp + 152 + {R15}]",
        "iretq",
        VECTORS = const VECTORS,
        DEFAULT_MXCSR = sym DEFAULT_MXCSR,
        handle = sym handle,
        RFLAGS = const RFLAGS,
        RIP = const RIP,
        RSP = const RSP,
        R15 = const offset_of!(Fault, r15),
        USER_SS = const 0x1b,
        USER_CS = const 0x23,
    )
}

// The pops rely on the order of the registers.
const _: () = assert!(offset_of!(Fault, rax) == offset_of!(Fault, r15) + 14 * 8);
const _: () = assert!(RSP == offset_of!(Fault, rax) + 8 && RIP == RFLAGS + 8);

/// Have the fault handled; returns the slot for the way back, or 0 for `iretq`.
extern "C" fn handle(fault: &mut Fault) -> u64 {
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    stats::count(|stats| stats.upcalls += 1);
    if pager::resolve(fault) == Outcome::Unhandled && ask_program(fault) == Outcome::Unhandled {
        give_up(fault);
        return 0;
    }
    DEPTH.set(depth);
    slot(fault)
}

fn ask_program(fault: &mut Fault) -> Outcome {
    let outcome = HANDLER.get().map_or(Outcome::Unhandled, |handler| handler(fault));
    if outcome == Outcome::Resume {
        stats::count(|stats| stats.by_program += 1);
    }
    outcome
}

/// The room below the interrupted red zone, if it is known to be part of a stack.
#[inline]
fn slot(fault: &Fault) -> u64 {
    const TF: u64 = 1 << 8;
    const MARGIN: u64 = Fault::RED_ZONE + 16;
    let within = |low: Va, top: Va| fault.rsp >= low.0 + MARGIN && fault.rsp <= top.0;
    let known = within(pager::stack_low(), STACK_TOP) || within(STACK_LOW, EXCEPTION_STACK_TOP);
    if known && fault.rflags & TF == 0 { fault.rsp - MARGIN } else { 0 }
}

/// Nobody resolved the fault. Without an upcall the same instruction faults again, and the kernel
/// reports that fault and ends the program with the right status.
///
/// A breakpoint lies behind the instruction that made it, and so would not come again: step back.
fn give_up(fault: &mut Fault) {
    if fault.vector() == Vector::BREAKPOINT {
        let long = raw::read_u8(fault.rip - 1) != 0xcc; // cc, or cd 03
        fault.rip -= if long { 2 } else { 1 };
    }
    if remove().is_err() {
        sys::exit(1);
    }
}

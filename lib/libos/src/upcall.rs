//! The way of a fault: from the kernel into user space, to a handler, and back to the interrupted
//! instruction without entering the kernel again.
//!
//! On an exception the kernel writes a [`Fault`] on the exception stack and jumps to `enter`. What
//! the interrupted code must find unchanged afterwards: every general register, the flags, the
//! vector registers, `mxcsr`, and the 128 bytes below its stack pointer (its red zone). The
//! handler is compiled code and changes any of them but the last.
//!
//! Faults nest. The handler may itself fault; then the kernel puts another frame below, 128 bytes
//! under the handler's stack pointer, and all this happens once more.

pub use crate::faults::Outcome;
use crate::resident::{DEPTH, Local};
pub use crate::resident::{STACK_LOW, STACK_PAGES, in_handler};
use crate::{EnvId, Fault, Perms, Registers, Va, Vector};
use crate::{backtrace, console, door, faults, stack, stats, sys};
use core::arch::naked_asm;
use core::mem::offset_of;
use pager::quick::Quick;

/// Looks at a fault that libos did not resolve, and may change the interrupted registers.
pub type Handler = fn(&mut Fault) -> Outcome;

#[unsafe(link_section = ".resident")]
static HANDLER: Local<Option<Handler>> = Local::new(None);

/// Who looks at a fault first, with the vector registers as the interrupted program left them.
#[unsafe(link_section = ".resident")]
static QUICK: Local<Look> = Local::new(quick);

/// The fault that ends the program, while it is being said where that was; otherwise null.
#[unsafe(link_section = ".resident")]
static REPORTING: Local<*const Fault> = Local::new(core::ptr::null());

/// Ask this handler about every exception that libos does not resolve itself (see [`space`](crate::space)).
///
/// It runs on the exception stack, of which there are 16 KiB. It may allocate, print, make calls
/// and fault; it may not [`fork`](crate::fork()). If it returns [`Outcome::Unhandled`], the program
/// is ended as if there were no handler.
pub fn set_handler(handler: Handler) {
    HANDLER.set(Some(handler));
}

/// Ask no handler of the program any more.
pub fn clear_handler() {
    HANDLER.set(None);
}

/// Ask this handler, or none, and return the one that was asked before.
pub(crate) fn replace_handler(handler: Option<Handler>) -> Option<Handler> {
    let before = HANDLER.get();
    HANDLER.set(handler);
    before
}

/// A handler that touches no vector register, which [`quick_handler!`](crate::quick_handler) makes.
#[derive(Clone, Copy)]
pub struct QuickHandler(Look);

/// Ask this handler about every exception, before libos and before the handler of [`set_handler`]. What it answers
/// with [`Outcome::Unhandled`] goes its usual way.
///
/// For those handlers whose answer is a call or two: sixteen vector registers less to save are half the cost of a fault.
pub fn set_quick_handler(handler: QuickHandler) {
    QUICK.set(handler.0);
}

/// Ask no quick handler of the program any more.
pub fn clear_quick_handler() {
    QUICK.set(quick);
}

/// Make a [`QuickHandler`](crate::upcall::QuickHandler), a constant: its code may change the interrupted registers
/// and make system calls.
///
/// It may call no function that the compiler does not inline (but it may panic), and it may use no vector register:
/// the interrupted program has its own values in them. `cargo xtask` decodes what the compiler made of it, and builds
/// no archive with a handler that does either.
///
/// ```no_run
/// use libos::upcall::{self, Outcome};
/// use libos::{Fault, quick_handler};
///
/// quick_handler! {
///     /// Steps over `ud2`.
///     fn SKIP(fault: &mut Fault) -> Outcome {
///         if fault.vector() != libos::Vector::INVALID_OPCODE {
///             return Outcome::Unhandled;
///         }
///         fault.rip += 2;
///         Outcome::Resume
///     }
/// }
///
/// upcall::set_quick_handler(SKIP);
/// ```
#[macro_export]
macro_rules! quick_handler {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($fault:ident: $argument:ty) -> $outcome:ty $body:block) => {
        $(#[$meta])*
        $vis const $name: $crate::upcall::QuickHandler = {
            #[inline(always)]
            fn body($fault: $argument) -> $outcome $body
            // By this name it is found, and decoded.
            #[unsafe(export_name = concat!("libos_quick_", stringify!($name)))]
            extern "C" fn look(fault: &mut $crate::Fault) -> $crate::upcall::Next {
                let outcome = body(fault);
                $crate::upcall::after_quick_handler(fault, outcome)
            }
            // SAFETY: nothing goes into an archive before it was decoded.
            unsafe { $crate::upcall::QuickHandler::new(look) }
        };
    };
}

impl QuickHandler {
    /// What the macro makes of a function.
    ///
    /// # Safety
    /// The function leaves the vector registers alone.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(look: Look) -> QuickHandler {
        QuickHandler(look)
    }
}

/// The program's quick handler had a look: count it, or let libos have one.
#[doc(hidden)]
#[inline(always)]
pub fn after_quick_handler(fault: &mut Fault, outcome: Outcome) -> Next {
    match outcome {
        Outcome::Resume => {
            stats::count_quick_program();
            Next::Resume
        }
        Outcome::Unhandled => quick(fault),
    }
}

/// Give the caller an exception stack and the upcall of libos; done once, at the start.
// exercise 1 of upcalls: an exception stack, and the upcall
pub(crate) fn init() -> sys::Result<()> {
    sys::alloc(EnvId::SELF, STACK_LOW, STACK_PAGES, Perms::WRITE)?;
    register(EnvId::SELF)
}

/// Register the upcall of libos on the exception stack that is there.
///
/// # Errors
/// As [`sys::set_upcall`]. (A child that was forked has all of its exception stack from its first fault on.)
// exercise 1 of upcalls: where the kernel is to go, and on which stack
pub fn register(env: EnvId) -> sys::Result<()> {
    sys::set_upcall(env, enter as *const () as u64, STACK_LOW, STACK_PAGES)
}

/// Have no upcall at all: from now on every fault ends the program, even one that libos would
/// resolve. The exception stack stays mapped.
///
/// # Errors
/// As [`sys::set_upcall`].
pub fn remove() -> sys::Result<()> {
    sys::set_upcall(EnvId::SELF, 0, Va(0), 0)
}

const RIP: usize = offset_of!(Fault, rip);
const RFLAGS: usize = offset_of!(Fault, rflags);
const RSP: usize = offset_of!(Fault, rsp);
const R15: usize = offset_of!(Fault, r15);
/// Bytes below the frame for xmm0 to xmm15 and mxcsr, a multiple of 16.
const VECTORS: usize = 16 * 16 + 16;
/// What mxcsr holds in a fresh program, and while a handler runs.
static DEFAULT_MXCSR: u32 = 0x1f80;

/// Where to go on: the interrupted rip and rsp, for the last two instructions of [`enter`].
#[unsafe(link_section = ".resident")]
static RESUME: Local<[u64; 2]> = Local::new([0; 2]);

/// Where the kernel goes on an exception. `rsp` points at the [`Fault`], a multiple of 16.
///
/// First [`quick`] has a look, or the program's [quick handler](set_quick_handler), which leave the vector registers
/// alone. Most faults are resolved then; the others by [`handle`], with the vector registers saved.
///
/// The way back has to load sixteen registers, the flags and the instruction pointer; and the
/// instruction that loads the last of them can use none of the others.
///
/// * `ret`, with the return address on the exception stack: it lies where `rsp` points, and `rsp`
///   must be the interrupted one afterwards. No.
/// * `ret`, with the return address pushed on the *interrupted* stack: what 32-bit JOS does. Here
///   128 bytes below `rsp` belong to the interrupted code; `ret 128` could step over them. But
///   the stores may fault (that page may be copy-on-write or not there yet), the stack pointer
///   may be no stack at all, and it was measured to be no faster than what is done here.
/// * `iretq` loads everything at once and works for users too, but is five to eight times slower,
///   and the emulator (QEMU before 9.1) lets it read the stack with the kernel's rights, which
///   fails where the kernel uses SMAP. No.
///
/// `jmp` through memory needs no register if the address of that memory is fixed. So `rip` and `rsp`
/// go to [`RESUME`], and are the last things to be loaded:
///
/// ```text
///        exception stack                  what is loaded
///
///        | rip            | +168 ------> RESUME[0] -------> 5. jmp
///        | rflags         | +160 ---------------------> 3. popfq
///        | reserved       | +152
///        | rsp            | +144 ------> RESUME[1] -------> 4. mov rsp
///        | rax            | +136
///        | ...            |        -------------------> 2. pop, fifteen times
///        | r15            |  +24
///        | address        |  +16
///        | error          |   +8
/// rsp -> | vector         |   +0
///        +----------------+
///        | mxcsr          |        -------------------> 1. before that, if they were saved
///        | xmm15 .. xmm0  |
///        +----------------+
/// ```
///
/// One such place is enough, although faults nest: from the store to [`RESUME`] to the jump nothing
/// is touched that can fault (the exception stack is pinned, `.resident` is resident), so no
/// other upcall can come between. And no exception is lost when `rsp` leaves the frame: the frame
/// is not needed any more.
///
/// One case is left. If TF is set, the trap must come after the interrupted instruction, not after
/// `popfq`. Then the kernel is asked to load the registers.
#[unsafe(naked)]
// exercise 2 of upcalls: to the handler, and back to the interrupted instruction
pub(crate) unsafe extern "C" fn enter() {
    naked_asm!(
        "mov rdi, rsp",
        "xor ebp, ebp", // a backtrace of the handler ends here
        "call [rip + {QUICK}]",
        "test eax, eax",
        "jnz 3f",
        "2:",
        "bt dword ptr [rsp + {RFLAGS}], 8", // TF
        "jc 4f",
        "add rsp, {R15}",
        ".irp r, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax",
        "pop \\r",
        ".endr",
        "pop [rip + {RESUME} + 8]", // rsp
        "lea rsp, [rsp + {RFLAGS} - {RSP} - 8]",
        "popfq",
        "pop [rip + {RESUME}]", // rip
        "mov rsp, [rip + {RESUME} + 8]",
        "jmp [rip + {RESUME}]",
        // Not so quick: with the vector registers saved.
        "3:",
        "sub rsp, {VECTORS}",
        "stmxcsr [rsp + 256]",
        "ldmxcsr [rip + {DEFAULT_MXCSR}]",
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps [rsp + 16 * \\i], xmm\\i",
        ".endr",
        "lea rdi, [rsp + {VECTORS}]",
        "mov esi, eax",
        "call {handle}",
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps xmm\\i, [rsp + 16 * \\i]",
        ".endr",
        "ldmxcsr [rsp + 256]",
        "add rsp, {VECTORS}",
        "jmp 2b",
        // Close the gap between rsp and rflags: what begins at r15 is then a `Registers`.
        "4:",
        "mov rax, [rsp + {RFLAGS}]",
        "mov [rsp + {RFLAGS} - 8], rax",
        "mov rax, [rsp + {RIP}]",
        "mov [rsp + {RIP} - 8], rax",
        "xor edi, edi",
        "lea rsi, [rsp + {R15}]",
        "mov eax, {SET_REGS}",
        "syscall",
        "ud2", // the handler left registers that nobody can have
        QUICK = sym QUICK,
        VECTORS = const VECTORS,
        DEFAULT_MXCSR = sym DEFAULT_MXCSR,
        handle = sym handle,
        RESUME = sym RESUME,
        RFLAGS = const RFLAGS,
        RIP = const RIP,
        RSP = const RSP,
        R15 = const R15,
        SET_REGS = const abi::Call::SetRegs as u64,
    )
}

// What the assembly relies on: the order of the registers, and how far `Fault` and `Registers` agree.
const _: () = assert!(RSP == R15 + 15 * 8 && RFLAGS == RSP + 16 && RIP == RFLAGS + 8);
const _: () = assert!(offset_of!(Registers, rsp) == RSP - R15);
const _: () = assert!(offset_of!(Registers, rflags) == RFLAGS - 8 - R15);
const _: () = assert!(offset_of!(Registers, rip) == RIP - 8 - R15);

/// A function that has a first look at a fault.
#[doc(hidden)]
pub type Look = extern "C" fn(&mut Fault) -> Next;

/// What is to be done about a fault, after the first look.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Next {
    /// Nothing: run the instruction again.
    Resume = 0,
    /// Ask the program's handler: no pager would resolve it.
    AskProgram,
    /// Find out who resolves it.
    Resolve,
}

/// Resolve the fault if that is soon done. The vector registers still hold what the interrupted program had in
/// them, so nothing here may touch them: `cargo xtask` looks at the code.
#[unsafe(export_name = "libos_quick_fault")]
extern "C" fn quick(fault: &mut Fault) -> Next {
    if fault.vector() != Vector::PAGE_FAULT {
        return Next::AskProgram;
    }
    match faults::resolve_quickly(fault) {
        Quick::Resume => Next::Resume,
        Quick::NotOurs => Next::AskProgram,
        Quick::Unknown => Next::Resolve,
    }
}

/// Have the fault handled; afterwards the registers in the frame are loaded.
// exercise 3 of upcalls: who is asked about a fault, and in which order
extern "C" fn handle(fault: &mut Fault, next: Next) {
    DEPTH.update(|depth| *depth += 1);
    stats::count_upcall();
    let resolved = next == Next::Resolve && faults::resolve(fault) == Outcome::Resume;
    if !resolved && ask_program(fault) == Outcome::Unhandled {
        give_up(fault);
    }
    DEPTH.update(|depth| *depth -= 1);
}

#[inline]
// exercise 3 of upcalls: the handler of the program
fn ask_program(fault: &mut Fault) -> Outcome {
    if DEPTH.get() > 1 && stack::is_exception_guard(fault) {
        // The frames of handlers have been overwritten; the program's handler would do it again.
        return Outcome::Unhandled;
    }
    let outcome = HANDLER.get().map_or(Outcome::Unhandled, |handler| handler(fault));
    if outcome == Outcome::Resume {
        stats::count_program();
    }
    outcome
}

/// Nobody resolved the fault. Without an upcall the same instruction faults again, and the kernel
/// reports that fault and ends the program with the right status.
///
/// A breakpoint lies behind the instruction that made it, and so would not come again: step back.
#[cold]
#[inline(never)]
// exercise 4 of upcalls: the kernel is to report the fault as it was
fn give_up(fault: &mut Fault) {
    if fault.vector() == Vector::BREAKPOINT {
        let long = door::read_u8(fault.rip - 1) != 0xcc; // cc, or cd 03
        fault.rip -= if long { 2 } else { 1 };
    }
    report(fault);
    console::flush();
    if remove().is_err() {
        sys::exit(1);
    }
}

/// Say where the fault came that ends the program, and what it means.
fn report(fault: &mut Fault) {
    // SAFETY: null, or the argument of a call of this function that was interrupted, and so still lies on the stack.
    match unsafe { REPORTING.get().as_ref() } {
        // It cannot be said, for want of memory most likely.
        Some(first) => *fault = *first,
        None => {
            REPORTING.set(fault);
            if fault.vector() == Vector::PAGE_FAULT {
                stack::explain(fault);
            }
            backtrace::print_fault(fault);
        }
    }
}

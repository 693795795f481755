//! Exception delivery: from the kernel into user space, to a handler, and back to the interrupted instruction without
//! entering the kernel again.
//!
//! `docs/tour.md` follows a fault through the code, from the kernel to `enter` and back. The interrupted code must find
//! unchanged afterwards: every general register, the flags, the vector registers, `mxcsr`, and the 128 bytes below its
//! stack pointer (its red zone). The handler is compiled code, changes any of them but the red zone, and may fault.

pub use crate::faults::Outcome;
use crate::resident::{DEPTH, Local};
pub use crate::resident::{STACK_LOW, STACK_PAGES, in_handler};
use crate::{EnvId, Fault, Perms, Registers, Va, Vector};
use crate::{backtrace, console, door, faults, stack, stats, sys};
use core::arch::naked_asm;
use core::mem::offset_of;
use pager::fast::FastResolution;

/// A handler for faults that libos did not resolve. It may change the interrupted registers.
pub type Handler = fn(&mut Fault) -> Outcome;

#[unsafe(link_section = ".resident")]
static HANDLER: Local<Option<Handler>> = Local::new(None);

/// The first function to handle a fault, with the vector registers as the interrupted program left them.
#[unsafe(link_section = ".resident")]
static FAST: Local<Look> = Local::new(handle_fast);

/// The fault that ends the program, while its report is printed; otherwise null.
#[unsafe(link_section = ".resident")]
static REPORTING: Local<*const Fault> = Local::new(core::ptr::null());

/// Ask this handler about every exception that libos does not resolve itself (see [`regions`](crate::regions)).
///
/// The handler runs on the exception stack, which has 16 KiB. It may allocate, print, make calls and fault; it may not
/// [`fork`](crate::fork()). If it returns [`Outcome::Unhandled`], the program ends as if there were no handler.
pub fn set_handler(handler: Handler) {
    HANDLER.set(Some(handler));
}

/// Removes the program's handler.
pub fn clear_handler() {
    HANDLER.set(None);
}

/// Installs this handler, or none, and returns the previous one.
pub(crate) fn replace_handler(handler: Option<Handler>) -> Option<Handler> {
    let before = HANDLER.get();
    HANDLER.set(handler);
    before
}

/// A handler that touches no vector register, made by [`fast_handler!`](crate::fast_handler).
#[derive(Clone, Copy)]
pub struct FastHandler(Look);

/// Ask this handler about every exception, before libos and before the handler of [`set_handler`]. An exception that
/// it answers with [`Outcome::Unhandled`] is handled as usual.
///
/// Meant for handlers whose work is a system call or two: saving the sixteen vector registers is half the cost of a
/// fault.
pub fn set_fast_handler(handler: FastHandler) {
    FAST.set(handler.0);
}

/// Removes the program's fast handler.
pub fn clear_fast_handler() {
    FAST.set(handle_fast);
}

/// Make a [`FastHandler`](crate::upcall::FastHandler), a constant: its code may change the interrupted registers
/// and make system calls.
///
/// The code may call no function that the compiler does not inline (but it may panic), and it may use no vector
/// register: these hold values of the interrupted program. `cargo xtask` decodes the compiled code, and builds no
/// archive with a handler that breaks one of these rules.
///
/// ```no_run
/// use libos::upcall::{self, Outcome};
/// use libos::{Fault, fast_handler};
///
/// fast_handler! {
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
/// upcall::set_fast_handler(SKIP);
/// ```
#[macro_export]
macro_rules! fast_handler {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($fault:ident: $argument:ty) -> $outcome:ty $body:block) => {
        $(#[$meta])*
        $vis const $name: $crate::upcall::FastHandler = {
            #[inline(always)]
            fn body($fault: $argument) -> $outcome $body
            // `cargo xtask` finds and decodes the function by this name.
            #[unsafe(export_name = concat!("libos_fast_", stringify!($name)))]
            extern "C" fn look(fault: &mut $crate::Fault) -> $crate::upcall::Next {
                let outcome = body(fault);
                $crate::upcall::after_fast_handler(fault, outcome)
            }
            // SAFETY: no program goes into an archive before `cargo xtask` has decoded this function.
            unsafe { $crate::upcall::FastHandler::new(look) }
        };
    };
}

impl FastHandler {
    /// Wraps a function; called by the macro.
    ///
    /// # Safety
    /// The function does not change the vector registers.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(look: Look) -> FastHandler {
        FastHandler(look)
    }
}

/// Continues after the program's fast handler: counts its success, or calls the fast handler of libos.
#[doc(hidden)]
#[inline(always)]
pub fn after_fast_handler(fault: &mut Fault, outcome: Outcome) -> Next {
    match outcome {
        Outcome::Resume => {
            stats::count_fast_program();
            Next::Resume
        }
        Outcome::Unhandled => handle_fast(fault),
    }
}

/// Give the caller an exception stack and the upcall of libos; called once, at the start.
// exercise 1 of upcalls: an exception stack, and the upcall
pub(crate) fn init() -> sys::Result<()> {
    sys::alloc(EnvId::SELF, STACK_LOW, STACK_PAGES, Perms::WRITE)?;
    register(EnvId::SELF)
}

/// Register the upcall of libos on the exception stack, which must be mapped.
///
/// # Errors
/// As [`sys::set_upcall`]. (A forked child has its whole exception stack only from its first fault on.)
// exercise 1 of upcalls: where the kernel is to go, and on which stack
pub fn register(env: EnvId) -> sys::Result<()> {
    sys::set_upcall(env, enter as *const () as u64, STACK_LOW, STACK_PAGES)
}

/// Remove the upcall: after that every fault ends the program, even one that libos would resolve. The exception stack
/// stays mapped.
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
/// The value of mxcsr in a fresh program, and while a handler runs.
static DEFAULT_MXCSR: u32 = 0x1f80;

/// The interrupted rip and rsp, for the last two instructions of [`enter`].
#[unsafe(link_section = ".resident")]
static RESUME: Local<[u64; 2]> = Local::new([0; 2]);

/// The entry point of the upcall: the kernel jumps to it on an exception. `rsp` points at the [`Fault`], a multiple of
/// 16.
///
/// First [`handle_fast`] runs, or the program's [fast handler](set_fast_handler); both leave the vector registers
/// alone. They resolve most faults; [`handle`] resolves the others, with the vector registers saved.
///
/// The way back has to load sixteen registers, the flags and the instruction pointer; and the instruction that loads
/// the last of them can use none of the others. Alternatives:
///
/// * `ret`, with the return address on the exception stack: the address lies where `rsp` points, and `rsp` must be the
///   interrupted one afterwards. Impossible.
/// * `ret`, with the return address pushed on the *interrupted* stack: what 32-bit JOS does. On x86-64 the 128 bytes
///   below `rsp` belong to the interrupted code; `ret 128` could step over them. But the stores may fault (that page
///   may be copy-on-write or missing), the stack pointer may point at no stack at all, and this way was measured to be
///   no faster than the code below.
/// * `iretq` loads everything at once and works in user mode too, but is five to eight times slower, and the emulator
///   (QEMU before 9.1) lets it read the stack with the kernel's rights, which fails where the kernel uses SMAP.
///
/// `jmp` through memory needs no register if the address of that memory is fixed. So `rip` and `rsp` go to [`RESUME`],
/// and are loaded last:
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
/// One such place is enough, although faults nest: between the store to [`RESUME`] and the jump nothing is touched
/// that can fault (the exception stack is pinned, `.resident` is resident), so no other upcall can come between. And
/// no exception is lost when `rsp` leaves the frame: the frame is not needed any more.
///
/// One case remains. If TF is set, the trap must come after the interrupted instruction, not after `popfq`. Then the
/// kernel is asked to load the registers.
#[unsafe(naked)]
// exercise 2 of upcalls: to the handler, and back to the interrupted instruction
pub(crate) unsafe extern "C" fn enter() {
    naked_asm!(
        "mov rdi, rsp",
        "xor ebp, ebp", // a backtrace of the handler ends here
        "call [rip + {FAST}]",
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
        // The slow path: save the vector registers.
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
        // Close the gap between rsp and rflags, so that the memory from r15 on is a `Registers`.
        "4:",
        "mov rax, [rsp + {RFLAGS}]",
        "mov [rsp + {RFLAGS} - 8], rax",
        "mov rax, [rsp + {RIP}]",
        "mov [rsp + {RIP} - 8], rax",
        "xor edi, edi",
        "lea rsi, [rsp + {R15}]",
        "mov eax, {SET_REGS}",
        "syscall",
        "ud2", // the handler left registers that the kernel refuses
        FAST = sym FAST,
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

// The assembly relies on the order of the registers, and on the common part of `Fault` and `Registers`.
const _: () = assert!(RSP == R15 + 15 * 8 && RFLAGS == RSP + 16 && RIP == RFLAGS + 8);
const _: () = assert!(offset_of!(Registers, rsp) == RSP - R15);
const _: () = assert!(offset_of!(Registers, rflags) == RFLAGS - 8 - R15);
const _: () = assert!(offset_of!(Registers, rip) == RIP - 8 - R15);

/// A function that handles a fault first, on the fast path.
#[doc(hidden)]
pub type Look = extern "C" fn(&mut Fault) -> Next;

/// The next step for a fault, after the fast path.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Next {
    /// Resume: run the instruction again.
    Resume = 0,
    /// Ask the program's handler: no pager would resolve it.
    AskProgram,
    /// Take the slow path, which finds the pager.
    Resolve,
}

/// The fast path: resolves the fault if that takes little work. The vector registers still hold the interrupted
/// program's values, so nothing in this function may touch them: `cargo xtask` checks the compiled code.
#[unsafe(export_name = "libos_fast_fault")]
extern "C" fn handle_fast(fault: &mut Fault) -> Next {
    if fault.vector() != Vector::PAGE_FAULT {
        return Next::AskProgram;
    }
    match faults::resolve_fast(fault) {
        FastResolution::Resume => Next::Resume,
        FastResolution::NotOurs => Next::AskProgram,
        FastResolution::Unknown => Next::Resolve,
    }
}

/// The slow path: resolves the fault, or ends the program. After it returns, [`enter`] loads the registers in the
/// frame.
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
        // The overflow has overwritten frames of handlers; the program's handler would overflow again.
        return Outcome::Unhandled;
    }
    let outcome = HANDLER.get().map_or(Outcome::Unhandled, |handler| handler(fault));
    if outcome == Outcome::Resume {
        stats::count_program();
    }
    outcome
}

/// Handles a fault that nothing resolved: removes the upcall, so that the instruction faults again and the kernel
/// reports that fault and ends the program with the right status.
///
/// For a breakpoint `rip` points behind the instruction, which would not run again: step back.
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

/// Prints the backtrace of the fault that ends the program, and the meaning of its address.
fn report(fault: &mut Fault) {
    // SAFETY: null, or the argument of an interrupted call of this function, which therefore still lies on the stack.
    match unsafe { REPORTING.get().as_ref() } {
        // The report itself faulted, most likely for lack of memory. Report the first fault.
        Some(first) => *fault = *first,
        None => {
            REPORTING.set(fault);
            if fault.vector() == Vector::PAGE_FAULT {
                stack::explain(fault);
                faults::explain(Va(fault.address));
            }
            backtrace::print_fault(fault);
        }
    }
}

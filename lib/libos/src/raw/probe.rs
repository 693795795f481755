//! Checks that every register survives a fault: a routine loads all of them, faults, and stores them again.

use crate::{Fault, Va, abi};
use core::arch::naked_asm;
use core::mem::offset_of;

/// The page that [`probe`] writes to, which causes the fault.
pub const PROBE_PAGE: Va = Va(0x4000_0000);

/// All processor state of a program, and its red zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
#[allow(missing_docs)] // the names say it
pub struct State {
    pub xmm: [u128; 16],
    /// The 128 bytes below `rsp`.
    pub red_zone: [u64; 16],
    /// r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax: the order of [`Fault`].
    pub general: [u64; 15],
    pub rsp: u64,
    pub rflags: u64,
    pub mxcsr: u32,
}

impl State {
    /// The names of [`State::general`].
    pub const NAMES: [&str; 15] =
        ["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx", "rax"];

    /// A different value in each register. `flags` sets or clears all flags that a user may set, except TF; `mxcsr`
    /// rounds towards zero and has every exception flag set.
    #[must_use]
    pub fn pattern(flags: bool) -> State {
        const TF: u64 = 1 << 8;
        let word = |n: usize| 0x0101_0101_0101_0101 * (n as u64 + 1);
        State {
            xmm: core::array::from_fn(|n| (word(n + 64) as u128) << 64 | word(n + 32) as u128),
            red_zone: core::array::from_fn(|n| word(n + 96)),
            general: core::array::from_fn(word),
            rsp: 0,
            rflags: abi::env::FIXED_RFLAGS | if flags { abi::env::USER_RFLAGS & !TF } else { 0 },
            mxcsr: 0x1f80 | 0x6000 | 0x3f,
        }
    }
}

const SIZE: usize = size_of::<State>();
const FLAGS: usize = offset_of!(State, rflags);
static DEFAULT_MXCSR: u32 = 0x1f80;

unsafe extern "C" {
    static libos_probe_fault: u8;
}

/// The address of the instruction in [`probe`] that faults.
#[must_use]
pub fn fault_address() -> u64 {
    &raw const libos_probe_fault as u64
}

/// Loads all registers from `before`, writes to [`PROBE_PAGE`], and returns the registers after that.
///
/// If `stack` is given, `rsp` is a little below that address meanwhile; there must be memory. `before.rsp` is ignored.
#[must_use]
pub fn probe(before: &State, stack: Option<u64>) -> State {
    let mut after = *before;
    // SAFETY: preserves the callee-saved registers, and uses the given stack if there is one; see the text of
    // [`raw`](super) for the effect of a wrong stack.
    unsafe { probe_asm(before, &mut after, stack.unwrap_or(0)) };
    after
}

#[unsafe(naked)]
unsafe extern "C" fn probe_asm(before: &State, after: &mut State, stack: u64) {
    naked_asm!(
        ".irp r, rbp, rbx, r12, r13, r14, r15",
        "push \\r",
        ".endr",
        "mov rax, rsp",
        "test rdx, rdx",
        "cmovnz rsp, rdx",
        "sub rsp, {SIZE} + 16",
        "mov [rsp + {SIZE}], rax",
        "mov [rsp + {SIZE} + 8], rsi",
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movups xmm\\i, [rdi + 16 * \\i]",
        ".endr",
        "ldmxcsr [rdi + {MXCSR}]",
        "push [rdi + {FLAGS}]",
        "popfq",
        // Below, only instructions that do not change the flags.
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "mov rax, [rdi + {RED} + 8 * \\i]",
        "mov [rsp - 128 + 8 * \\i], rax",
        ".endr",
        "mov r15, [rdi + {GENERAL}]",
        "mov r14, [rdi + {GENERAL} + 8]",
        "mov r13, [rdi + {GENERAL} + 16]",
        "mov r12, [rdi + {GENERAL} + 24]",
        "mov r11, [rdi + {GENERAL} + 32]",
        "mov r10, [rdi + {GENERAL} + 40]",
        "mov r9,  [rdi + {GENERAL} + 48]",
        "mov r8,  [rdi + {GENERAL} + 56]",
        "mov rbp, [rdi + {GENERAL} + 64]",
        "mov rsi, [rdi + {GENERAL} + 80]",
        "mov rdx, [rdi + {GENERAL} + 88]",
        "mov rcx, [rdi + {GENERAL} + 96]",
        "mov rbx, [rdi + {GENERAL} + 104]",
        "mov rax, [rdi + {GENERAL} + 112]",
        "mov rdi, [rdi + {GENERAL} + 72]",
        ".globl libos_probe_fault",
        "libos_probe_fault:",
        "mov byte ptr [{PAGE}], 1",
        "mov [rsp + {GENERAL}], r15",
        "mov [rsp + {GENERAL} + 8], r14",
        "mov [rsp + {GENERAL} + 16], r13",
        "mov [rsp + {GENERAL} + 24], r12",
        "mov [rsp + {GENERAL} + 32], r11",
        "mov [rsp + {GENERAL} + 40], r10",
        "mov [rsp + {GENERAL} + 48], r9",
        "mov [rsp + {GENERAL} + 56], r8",
        "mov [rsp + {GENERAL} + 64], rbp",
        "mov [rsp + {GENERAL} + 72], rdi",
        "mov [rsp + {GENERAL} + 80], rsi",
        "mov [rsp + {GENERAL} + 88], rdx",
        "mov [rsp + {GENERAL} + 96], rcx",
        "mov [rsp + {GENERAL} + 104], rbx",
        "mov [rsp + {GENERAL} + 112], rax",
        "mov [rsp + {RSP}], rsp",
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "mov rax, [rsp - 128 + 8 * \\i]",
        "mov [rsp + {RED} + 8 * \\i], rax",
        "movups [rsp + 16 * \\i], xmm\\i",
        ".endr",
        "stmxcsr [rsp + {MXCSR}]",
        "pushfq",
        "pop [rsp + {FLAGS}]",
        "push 0x202",
        "popfq",
        "ldmxcsr [rip + {DEFAULT_MXCSR}]",
        "mov rdi, [rsp + {SIZE} + 8]",
        "mov rsi, rsp",
        "mov ecx, {SIZE} / 8",
        "rep movsq",
        "mov rsp, [rsp + {SIZE}]",
        ".irp r, r15, r14, r13, r12, rbx, rbp",
        "pop \\r",
        ".endr",
        "ret",
        SIZE = const SIZE,
        MXCSR = const offset_of!(State, mxcsr),
        FLAGS = const FLAGS,
        RED = const offset_of!(State, red_zone),
        GENERAL = const offset_of!(State, general),
        RSP = const offset_of!(State, rsp),
        PAGE = const PROBE_PAGE.0,
        DEFAULT_MXCSR = sym DEFAULT_MXCSR,
    )
}

/// The general registers of a fault, in the order of [`State::general`].
impl From<&Fault> for State {
    fn from(fault: &Fault) -> State {
        let general = [
            fault.r15, fault.r14, fault.r13, fault.r12, fault.r11, fault.r10, fault.r9, fault.r8, fault.rbp, fault.rdi,
            fault.rsi, fault.rdx, fault.rcx, fault.rbx, fault.rax,
        ];
        let (rsp, rflags) = (fault.rsp, fault.rflags);
        State { general, rsp, rflags, ..State::pattern(false) }
    }
}

/// Overwrites all caller-saved registers, the vector registers and `mxcsr` included.
#[unsafe(naked)]
pub extern "C" fn scramble() {
    naked_asm!(
        ".irp r, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11",
        "mov \\r, -1",
        ".endr",
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "pcmpeqd xmm\\i, xmm\\i",
        ".endr",
        // The whole red zone of this function, too.
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "mov [rsp - 128 + 8 * \\i], rax",
        ".endr",
        "ret",
    )
}

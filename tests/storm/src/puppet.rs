//! Children that make calls on command, so that there are several hostile environments at once: children of children,
//! receivers of messages, owners of pages that others map.
//!
//! A puppet waits in `recv`. On the message [`GO`] it takes the registers of a call from its corner of the desk, a page
//! that it shares with the hostile program, makes the call, writes down the results, and waits again. Its code is a
//! shared page, too.

use crate::place::{CODE, DESK};
use abi::{Call, EnvId, PageOp, Registers, Va};

/// The message that makes a puppet read its corner.
pub const GO: u64 = 0x5354_4f52_4d00_4c47;

/// The size of a corner, in bytes.
pub const CORNER: u64 = 128;
/// In a corner: number and six arguments of the call.
pub const CALL: u64 = 0;
/// In a corner: 1 while the puppet waits.
pub const PARKED: u64 = 64;
/// In a corner: the results, and whether they are valid.
pub const RESULTS: u64 = 72;
/// On the desk, behind the corners: registers for `set_regs`.
pub const REGISTERS: u64 = 1024;
/// On the desk: operations for `page_ops`.
pub const OPERATIONS: u64 = 2048;

/// The corner of the puppet with this name.
#[must_use]
pub const fn corner(name: u8) -> u64 {
    DESK + name as u64 * CORNER
}

/// The initial registers of a puppet.
#[must_use]
pub fn registers(name: u8) -> Registers {
    Registers { rip: CODE, r15: corner(name), r14: GO, ..Registers::default() }
}

/// An operation for `page_ops`, from its words in memory.
#[must_use]
pub fn page_op(words: [u64; 5]) -> PageOp {
    let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
    PageOp {
        call: low(words[0]),
        count: high(words[0]),
        source_env: EnvId(low(words[1])),
        env: EnvId(high(words[1])),
        source: Va(words[2]),
        va: Va(words[3]),
        arg: words[4],
    }
}

/// The code, as words; `r15` is the corner, `r14` is [`GO`].
///
/// ```text
/// park:   mov qword ptr [r15 + 64], 1
///         mov eax, RECV                   # recv(NO_PAGE, 0)
///         mov rdi, -1
///         xor esi, esi
///         syscall
///         mov qword ptr [r15 + 64], 0
///         cmp rdx, r14
///         jne park
///         mov rax, [r15]                  # the call
///         mov rdi, [r15 + 8]
///         mov rsi, [r15 + 16]
///         mov rdx, [r15 + 24]
///         mov r10, [r15 + 32]
///         mov r8, [r15 + 40]
///         mov r9, [r15 + 48]
///         syscall
///         mov [r15 + 72], rax
///         mov [r15 + 80], rdx
///         mov qword ptr [r15 + 88], 1
///         jmp park
/// ```
#[must_use]
pub fn code() -> [u64; 11] {
    const RECV: u8 = Call::Recv as u8;
    const BYTES: [u8; 88] = [
        0x49, 0xc7, 0x47, 0x40, 0x01, 0x00, 0x00, 0x00, 0xb8, RECV, 0x00, 0x00, 0x00, 0x48, 0xc7, 0xc7, 0xff, 0xff,
        0xff, 0xff, 0x31, 0xf6, 0x0f, 0x05, 0x49, 0xc7, 0x47, 0x40, 0x00, 0x00, 0x00, 0x00, 0x4c, 0x39, 0xf2, 0x75,
        0xdb, 0x49, 0x8b, 0x07, 0x49, 0x8b, 0x7f, 0x08, 0x49, 0x8b, 0x77, 0x10, 0x49, 0x8b, 0x57, 0x18, 0x4d, 0x8b,
        0x57, 0x20, 0x4d, 0x8b, 0x47, 0x28, 0x4d, 0x8b, 0x4f, 0x30, 0x0f, 0x05, 0x49, 0x89, 0x47, 0x48, 0x49, 0x89,
        0x57, 0x50, 0x49, 0xc7, 0x47, 0x58, 0x01, 0x00, 0x00, 0x00, 0xeb, 0xac, 0x0f, 0x0b, 0x0f, 0x0b,
    ];
    core::array::from_fn(|word| u64::from_le_bytes(core::array::from_fn(|byte| BYTES[word * 8 + byte])))
}

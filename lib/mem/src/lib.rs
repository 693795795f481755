//! The five functions that compiled code calls to move memory, and two that it only names. The kernel and libos link
//! them in by depending on this crate.
//!
//! In assembly, so that the compiler does not recognise the loops and turn them into calls of these functions. A page
//! fault in the middle is harmless: string instructions continue where they were interrupted.
//!
//! On the host the crate is empty: the C library has these functions.

#![cfg(bare_metal)]
#![no_std]

use core::arch::naked_asm;

/// # Safety
/// As in C: `n` bytes readable at `source`, writable at `to`, not overlapping.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut u8, source: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep movsb",
        "ret",
    )
}

/// # Safety
/// As in C: `n` bytes readable at `source`, writable at `to`; they may overlap.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memmove(to: *mut u8, source: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        // Backwards only if the target starts within the source: 0 <= to - source < n.
        "mov rax, rdi",
        "sub rax, rsi",
        "cmp rax, rdx",
        "jae {memcpy}",
        "mov rax, rdi",
        "mov rcx, rdx",
        "lea rdi, [rdi + rdx - 1]",
        "lea rsi, [rsi + rdx - 1]",
        "std",
        "rep movsb",
        "cld",
        "ret",
        memcpy = sym memcpy,
    )
}

/// # Safety
/// As in C: `n` bytes writable at `to`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "movzx esi, sil",
        "movabs rax, 0x0101010101010101",
        "imul rax, rsi",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep stosb",
        "mov rax, r8",
        "ret",
    )
}

/// # Safety
/// As in C: `n` bytes readable at both.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    naked_asm!(
        "xor ecx, ecx",
        "2:",
        "cmp rcx, rdx",
        "jae 3f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r8d",
        "jz 2b",
        "ret",
        "3:",
        "xor eax, eax",
        "ret",
    )
}

/// # Safety
/// As [`memcmp`].
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// Unused, since nothing unwinds; the precompiled libraries refer to this symbol.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn rust_eh_personality() {
    naked_asm!("ud2")
}

/// Unused, since nothing unwinds; the precompiled libraries refer to this symbol.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _Unwind_Resume() -> ! {
    naked_asm!("ud2")
}

//! The only door to the kernel: the instruction `syscall`, and the two touches that bring a page
//! of a buffer in.
//!
//! The functions here are safe to call in this sense: whatever the arguments, the kernel lets them
//! hurt nobody but the caller. A program can still pull its own memory from under its feet with
//! them; that is what owning one's page map means.

use abi::PAGE_SIZE;
use core::arch::asm;

/// Make the call with this number; returns `rax` and `rdx`.
#[inline(always)]
pub fn syscall<const N: usize>(number: u64, args: [u64; N]) -> (u64, u64) {
    let arg = |n: usize| if n < N { args[n] } else { 0 };
    let (rax, rdx);
    if N <= 3 {
        // SAFETY: the kernel preserves every register that is not named here, and the stack. What
        // a call does to memory is the caller's own doing (see the module's text); the compiler is
        // told that any memory may have changed.
        unsafe {
            asm!("syscall", inlateout("rax") number => rax, in("rdi") arg(0), in("rsi") arg(1),
                inlateout("rdx") arg(2) => rdx, lateout("rcx") _, lateout("r11") _,
                options(nostack));
        }
    } else if N == 4 {
        // SAFETY: as above.
        unsafe {
            asm!("syscall", inlateout("rax") number => rax, in("rdi") arg(0), in("rsi") arg(1),
                inlateout("rdx") arg(2) => rdx, in("r10") arg(3), lateout("rcx") _, lateout("r11") _,
                options(nostack));
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("syscall", inlateout("rax") number => rax, in("rdi") arg(0), in("rsi") arg(1),
                inlateout("rdx") arg(2) => rdx, in("r10") arg(3), in("r8") arg(4),
                in("r9") arg(5), lateout("rcx") _, lateout("r11") _, options(nostack));
        }
    }
    (rax, rdx)
}

/// Read one byte at `address` and forget it: if the page is not there, the fault brings it in.
pub fn touch_to_read(address: u64) {
    // SAFETY: reads one byte and changes nothing but the flags; a fault is resolved or ends the
    // program.
    unsafe { asm!("test byte ptr [{}], 0", in(reg) address, options(nostack, readonly)) }
}

/// Where the stack is now.
pub fn stack_pointer() -> u64 {
    let rsp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// The frame of the function that this is called in.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// Write to three pages of the stack, beginning `BELOW` bytes below what anybody uses.
#[inline(always)]
pub fn touch_stack<const BELOW: u64>() {
    // SAFETY: what lies more than 128 bytes below the stack pointer holds nothing.
    unsafe {
        asm!(
            "mov byte ptr [rsp - {FIRST}], 0",
            "mov byte ptr [rsp - {FIRST} - {PAGE}], 0",
            "mov byte ptr [rsp - {FIRST} - 2 * {PAGE}], 0",
            FIRST = const 256 + BELOW,
            PAGE = const PAGE_SIZE,
            options(nostack, preserves_flags)
        );
    }
}

/// Write to the byte at `address` without changing it, in one indivisible step.
///
/// In assembly because a compiler may turn an atomic "or" with zero into a plain load.
pub fn touch_to_write(address: u64) {
    // SAFETY: the byte keeps its value, whoever else may be writing it.
    unsafe { asm!("lock or byte ptr [{}], 0", in(reg) address, options(nostack)) }
}

/// Read the byte at any address. If there is none, that is a fault.
#[must_use]
pub fn read_u8(address: u64) -> u8 {
    // SAFETY: whatever is there, a read changes nothing.
    unsafe { (address as *const u8).read_volatile() }
}

/// Read the eight bytes at any address. If there are none, that is a fault.
#[must_use]
pub fn read_u64(address: u64) -> u64 {
    let value: u64;
    // SAFETY: whatever is there, a read changes nothing; x86 does not mind the alignment.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly)) }
    value
}

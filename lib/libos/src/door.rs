//! The only way into the kernel: the instruction `syscall`, and the two touches that bring in a page of a buffer.
//!
//! The functions are safe to call in this sense: whatever the arguments, the kernel lets them harm only the caller. A
//! program can still unmap memory that it uses; that is what owning one's page map means.

use abi::PAGE_SIZE;
use core::arch::asm;

/// Makes the system call with this number; returns `rax` and `rdx`. Loads only the registers of the first `used`
/// arguments: the function is inlined where `used` is constant.
#[inline(always)]
pub fn syscall(number: u64, [a, b, c, d, e, f]: [u64; 6], used: usize) -> (u64, u64) {
    let (rax, rdx);
    if used <= 3 {
        // SAFETY: the kernel preserves the stack and every register that is not named here. What a call does to memory
        // is up to the caller (see the module's text); the compiler is told that any memory may have changed.
        unsafe {
            asm!("syscall", inlateout("rax") number => rax, in("rdi") a, in("rsi") b,
                inlateout("rdx") c => rdx, lateout("rcx") _, lateout("r11") _,
                options(nostack));
        }
    } else if used == 4 {
        // SAFETY: see the first block.
        unsafe {
            asm!("syscall", inlateout("rax") number => rax, in("rdi") a, in("rsi") b,
                inlateout("rdx") c => rdx, in("r10") d, lateout("rcx") _, lateout("r11") _,
                options(nostack));
        }
    } else {
        // SAFETY: see the first block.
        unsafe {
            asm!("syscall", inlateout("rax") number => rax, in("rdi") a, in("rsi") b,
                inlateout("rdx") c => rdx, in("r10") d, in("r8") e,
                in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
        }
    }
    (rax, rdx)
}

/// Reads one byte at `address` and discards it: if the page is missing, the fault brings it in.
pub fn touch_to_read(address: u64) {
    // SAFETY: reads one byte and changes only the flags; a fault is resolved or ends the program.
    unsafe { asm!("test byte ptr [{}], 0", in(reg) address, options(nostack, readonly)) }
}

/// The stack pointer.
pub fn stack_pointer() -> u64 {
    let rsp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// Write to three pages of the stack, starting `BELOW` bytes below its used part.
#[inline(always)]
pub fn touch_stack<const BELOW: u64>() {
    // SAFETY: memory more than 128 bytes below the stack pointer is unused.
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

/// Writes the byte at `address` without changing it, atomically.
///
/// In assembly, because a compiler may turn an atomic "or" with zero into a plain load.
pub fn touch_to_write(address: u64) {
    // SAFETY: the byte keeps its value, even if others write it at the same time.
    unsafe { asm!("lock or byte ptr [{}], 0", in(reg) address, options(nostack)) }
}

/// Reads the byte at any address. Faults if nothing is mapped there.
#[must_use]
pub fn read_u8(address: u64) -> u8 {
    // SAFETY: a read changes nothing, whatever is there.
    unsafe { (address as *const u8).read_volatile() }
}

/// Reads the eight bytes at any address. Faults if nothing is mapped there.
#[must_use]
pub fn read_u64(address: u64) -> u64 {
    let value: u64;
    // SAFETY: a read changes nothing, whatever is there; x86 allows any alignment.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly)) }
    value
}

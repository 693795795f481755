//! Deliberate misbehaviour, for tests: wild reads and writes, forbidden instructions, system calls
//! with any arguments.
//!
//! The functions are safe to call so that programs under `user/` need no `unsafe`. They can ruin the program that
//! calls them, and nothing else: that is what the tests check. Do not use them for anything else.

mod attempt;
mod probe;
mod processor;

pub use attempt::attempt;
pub use probe::{PROBE_PAGE, State, fault_address, probe, scramble};
pub use processor::{
    ENTER_SEGMENT, LOAD_SEGMENT, Segment, Way, interrupt_return_on, read_by_segments, store_local_table,
    store_processor, x87_load, x87_pointers, x87_reset,
};

pub use crate::door::{read_u8, read_u64};
use core::arch::asm;
use core::fmt::{self, Write};

/// Makes a system call with any number and any arguments; returns `rax` and `rdx`.
pub fn syscall(number: u64, args: [u64; 6]) -> (u64, u64) {
    crate::door::syscall(number, args, 6)
}

/// The bytes at any address, mapped or not.
#[must_use]
pub fn bytes_at(address: u64, len: usize) -> &'static [u8] {
    // SAFETY: see the module's text. The caller makes sure that the bytes do not change.
    unsafe { core::slice::from_raw_parts(address as *const u8, len) }
}

/// Write a byte to any address.
pub fn write_u8(address: u64, value: u8) {
    // SAFETY: see the module's text.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg_byte) value, options(nostack)) }
}

/// Write eight bytes to any address.
pub fn write_u64(address: u64, value: u64) {
    // SAFETY: see the module's text.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack)) }
}

/// Call any address as a function without arguments.
pub fn call(address: u64) {
    // SAFETY: see the module's text.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) }
}

/// Divide by zero.
pub fn divide_by_zero() {
    // SAFETY: raises an exception; a handler may step over the instruction.
    unsafe { asm!("xor edx, edx", "div edx", out("rax") _, out("rdx") _, options(nostack)) }
}

/// Execute `int3`.
pub fn breakpoint() {
    // SAFETY: raises an exception; a handler that resumes goes on after the instruction.
    unsafe { asm!("int3", options(nostack)) }
}

/// Execute `int 14`, which imitates a page fault.
pub fn software_interrupt_14() {
    // SAFETY: raises an exception.
    unsafe { asm!("int 14", options(nostack)) }
}

/// Execute an undefined instruction.
pub fn undefined() {
    // SAFETY: raises an exception.
    unsafe { asm!("ud2", options(nostack)) }
}

/// Execute `cli`, which only the kernel may.
pub fn disable_interrupts() {
    // SAFETY: raises an exception; if it did not, that would be a kernel bug.
    unsafe { asm!("cli", options(nostack)) }
}

/// The selector in `ds`.
#[must_use]
pub fn segment() -> u16 {
    let selector: u16;
    // SAFETY: only reads a register.
    unsafe { asm!("mov {0:x}, ds", out(reg) selector, options(nostack, nomem)) };
    selector
}

/// Load a selector into `ds`.
pub fn load_segment(selector: u16) {
    // SAFETY: 64-bit mode does not use `ds`; a selector that users may not load raises an exception.
    unsafe { asm!("mov ds, {0:x}", in(reg) selector, options(nostack)) }
}

/// The time stamp counter.
#[inline]
#[must_use]
pub fn rdtsc() -> u64 {
    crate::time::ticks()
}

/// The text at any address, up to a zero byte. Read while it is printed.
#[derive(Clone, Copy, Debug)]
pub struct TextAt(pub u64);

impl fmt::Display for TextAt {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let bytes = (self.0..).map(read_u8).take_while(|&byte| byte != 0);
        bytes.into_iter().try_for_each(|byte| f.write_char(byte.into()))
    }
}

/// Formats text to any address and appends a zero byte.
pub fn write_text(address: u64, text: fmt::Arguments) {
    struct At(u64);
    impl Write for At {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for &byte in text.as_bytes() {
                write_u8(self.0, byte);
                self.0 += 1;
            }
            Ok(())
        }
    }
    let mut at = At(address);
    let _ = at.write_fmt(text);
    write_u8(at.0, 0);
}

/// A segment for a request to a disk, at any address, shared with the device or not.
#[must_use]
pub fn memory_of_disk(address: u64, bytes: u32) -> block::Segment {
    // SAFETY: see the module's text. The driver does not touch the bytes.
    unsafe { block::Segment::new(crate::Va(address), bytes) }
}

//! The routines of `entry.s`, for Rust code, and the interrupt table.

use crate::machine::cpu::IST_VECTORS;
use crate::machine::registers::{self, TrapFrame};
use core::arch::asm;
use spin::Once;
use x86_64::structures::idt::{Entry, HandlerFunc};
use x86_64::{PrivilegeLevel, VirtAddr, structures::DescriptorTablePointer};

// SAFETY: `entry.s` has these symbols, and a frame has only registers that user mode may have.
unsafe extern "C" {
    static trap_stubs: u8;
    /// Where system calls enter the kernel.
    pub fn syscall_entry();
    /// Where system calls from 32-bit code would enter the kernel; there is no such code.
    pub fn syscall_compat();
    safe fn resume() -> !;
    /// Resumes the environment that runs on this processor after the system call that it made: the frame is as
    /// `syscall_entry` saved it, but for results.
    pub safe fn resume_call(frame: &TrapFrame) -> !;
}

/// Waits for an interrupt.
pub fn wait_for_interrupt() {
    // SAFETY: the handlers only count ticks and flush the TLB. They push below the stack pointer: this crate has no red
    // zone, and code of `core`, which may have one, is never interrupted.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Takes the interrupts that are pending because the kernel worked for long without running a program.
pub fn take_interrupts() {
    // SAFETY: as above. (`nop` is not interrupted yet: it is the one instruction after `sti`.)
    unsafe { asm!("sti", "nop", "cli") };
}

/// Resumes the environment that runs on this processor, with all its registers.
pub fn resume_env(frame: &TrapFrame) -> ! {
    if frame.saved().vector == registers::CALL {
        resume_call(frame);
    }
    resume()
}

static IDT: Once<[Entry<HandlerFunc>; 256]> = Once::new();

fn make_idt() -> [Entry<HandlerFunc>; 256] {
    core::array::from_fn(|vector| {
        let mut entry = Entry::missing();
        let stub = VirtAddr::from_ptr(&raw const trap_stubs) + 16 * vector as u64;
        // SAFETY: the stub saves what an interrupt handler must save.
        let options = unsafe { entry.set_handler_addr(stub) };
        // Programs may execute `int3` and `into`; any other `int n` is a protection fault.
        if vector == 3 || vector == 4 {
            options.set_privilege_level(PrivilegeLevel::Ring3);
        }
        if let Some(index) = IST_VECTORS.iter().position(|ist| *ist == vector) {
            // SAFETY: `load_segments` has set up that stack.
            unsafe { options.set_stack_index(index as u16) };
        }
        entry
    })
}

/// Loads the interrupt table.
pub fn load_interrupt_table() {
    let idt = IDT.call_once(make_idt);
    let pointer = DescriptorTablePointer { limit: size_of_val(idt) as u16 - 1, base: VirtAddr::from_ptr(idt) };
    // SAFETY: the table is complete and lives forever.
    unsafe { x86_64::instructions::tables::lidt(&pointer) };
}

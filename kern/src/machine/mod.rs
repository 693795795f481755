//! The hardware: processors, their registers and interrupts, page frames, the serial line, the power switch.
//!
//! Does not use any other module of the kernel.

pub mod apic;
pub mod control;
pub mod cpu;

pub mod flush;
pub mod hardware;
pub mod iommu;
pub mod panic;
pub mod power;
pub mod print;
pub mod provoke;
pub mod registers;
pub mod vectors;
pub mod windows;

/// Sets up this processor: segments, stacks, interrupt table, and all other registers.
pub fn init() {
    let cpu = cpu::this();
    cpu::load_segments(cpu);
    vectors::load_interrupt_table();
    control::set(cpu);
}

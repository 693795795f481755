//! Kernel panics: the kernel found a bug of its own.

use crate::machine::cpu::{self, Stacks};
use crate::machine::power::{self, PANICKING};
use crate::machine::print::{self, kprintln};
use crate::machine::registers::{Saved, reg};
use abi::ExitStatus;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering::Relaxed;
use x86_64::registers::control::Cr2;

#[cfg_attr(bare_metal, panic_handler)]
#[cfg_attr(not(bare_metal), allow(dead_code))]
fn panic(info: &PanicInfo) -> ! {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    die(format_args!("kernel panic: {info}"), None, frame)
}

/// Panics because of an exception in the kernel.
pub fn exception(saved: &Saved) -> ! {
    let address = Cr2::read_raw();
    let text = format_args!("kernel panic: exception in the kernel, cr2 {address:#018x}");
    die(text, Some(saved), saved.general[reg::RBP])
}

fn die(text: core::fmt::Arguments, saved: Option<&Saved>, frame: u64) -> ! {
    // This processor may have panicked in the middle of a line. Others finish theirs before the report.
    print::abandon();
    let me = cpu::here() + 1;
    match PANICKING.compare_exchange(0, me, Relaxed, Relaxed) {
        Ok(_) => {}
        // The report itself panicked.
        Err(panicking) if panicking == me => power::off(ExitStatus::KERNEL_PANIC),
        // Only the first panic is reported.
        Err(_) => power::stand_still(),
    }
    print::print(text);
    if let Some(saved) = saved {
        kprintln!("{}", saved.as_fault());
        kprintln!("  backtrace {:#018x}", saved.rip);
    }
    backtrace(frame);
    power::off(ExitStatus::KERNEL_PANIC)
}

/// Prints a backtrace, along the frame pointers: each points at the caller's, with the return address above it.
fn backtrace(mut frame: u64) {
    const DEPTH: usize = 32;
    let top = cpu::this().stack_top.get();
    let inside = top - Stacks::MAIN_TOP as u64..top - 15;
    for _ in 0..DEPTH {
        if !inside.contains(&frame) || !frame.is_multiple_of(8) {
            return;
        }
        // SAFETY: two words of a stack; at worst a guard page, and then the panic ends here.
        let [next, back] = unsafe { *(frame as *const [u64; 2]) };
        kprintln!("  backtrace {back:#018x}");
        frame = next;
    }
}

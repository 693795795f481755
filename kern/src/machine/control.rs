//! The control registers of every processor: their contents do not depend on the software that ran before.
//!
//! Each register is written as a whole, by [`set`], on the boot processor and on the application processors; no earlier
//! value is kept. `docs/processor.md` lists all of them, with the reasons. A checking kernel compares (`compare`).
//! The local APIC has a similar list in `apic`.

use crate::machine::registers::{KERNEL_CODE, USER_DATA};
use crate::machine::{apic, cpu::Cpu, power, print, provoke, vectors};
use abi::ExitStatus;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max, CpuidResult};
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::rflags::RFlags;

/// The whole of CR0: no task switched, nothing emulated, caches on.
pub const CR0: u32 = Cr0Flags::PROTECTED_MODE_ENABLE
    .union(Cr0Flags::MONITOR_COPROCESSOR)
    .union(Cr0Flags::EXTENSION_TYPE)
    .union(Cr0Flags::NUMERIC_ERROR)
    .union(Cr0Flags::WRITE_PROTECT)
    .union(Cr0Flags::PAGING)
    .bits() as u32;
const EFER: EferFlags = EferFlags::SYSTEM_CALL_EXTENSIONS
    .union(EferFlags::LONG_MODE_ENABLE)
    .union(EferFlags::LONG_MODE_ACTIVE)
    .union(EferFlags::NO_EXECUTE_ENABLE);
/// The value of DR7 when no breakpoint is set.
const NO_BREAKPOINTS: u64 = 0x400;
/// The memory types after a reset: bits 3 and 4 of an entry mean what they meant before this register existed.
const MEMORY_TYPES: u64 = 0x0007_0406_0007_0406;

/// Features that the kernel and its programs use and `boot.s` has not checked: bits of edx of leaves 1 and 0x8000_0001.
const WANTED: [(u32, &str); 8] =
    [(0, "FPU"), (4, "TSC"), (8, "CX8"), (9, "APIC"), (15, "CMOV"), (24, "FXSR"), (26, "SSE2"), (32 + 11, "SYSCALL")];

/// Registers that can be read and written, and how.
macro_rules! registers {
    ($($name:ident $text:literal),*) => {
        #[derive(Clone, Copy, Debug)]
        enum Register {
            $($name,)*
            Ldtr,
            Msr(u32),
        }

        impl Register {
            /// # Safety
            /// The kernel works with that value.
            unsafe fn write(self, value: u64) {
                // SAFETY: the caller promises it.
                unsafe {
                    match self {
                        $(Register::$name => asm!(concat!("mov ", $text, ", {}"), in(reg) value, options(nostack)),)*
                        Register::Ldtr => asm!("lldt {0:x}", in(reg) value, options(nostack)),
                        Register::Msr(number) => Msr::new(number).write(value),
                    }
                }
            }

            fn read(self) -> u64 {
                let value: u64;
                // SAFETY: nothing changes but the result.
                unsafe {
                    match self {
                        $(Register::$name => asm!(concat!("mov {}, ", $text), out(reg) value, options(nostack)),)*
                        Register::Ldtr => asm!("sldt {0:r}", out(reg) value, options(nostack)),
                        Register::Msr(number) => value = Msr::new(number).read(),
                    }
                }
                value
            }
        }
    };
}

registers!(Cr0 "cr0", Cr4 "cr4", Dr0 "dr0", Dr1 "dr1", Dr2 "dr2", Dr3 "dr3", Dr7  "dr7");

/// The required contents of the registers of this processor; `None` for those that it does not have.
fn registers(cpu: &Cpu) -> [(Register, Option<u64>); 23] {
    let (features, more, extended) = (__cpuid(1).edx, leaf7(), __cpuid(0x8000_0001).edx);
    let has_sysenter = features & 1 << 11 != 0;
    let has_number = extended & 1 << 27 != 0 || more.ecx & 1 << 22 != 0;
    let breakpoint = provoke::breakpoint();
    let msr = |number, value| (Register::Msr(number), Some(value));
    let msr_if = |is_there: bool, number, value| (Register::Msr(number), is_there.then_some(value));
    [
        msr(0x1b, apic::BASE | Register::Msr(0x1b).read() & apic::BOOTS),
        msr_if(has_sysenter, 0x174, 0), // cs
        msr_if(has_sysenter, 0x175, 0), // rsp
        msr_if(has_sysenter, 0x176, 0), // rip
        msr(0x1d9, 0),                  // DEBUGCTL
        msr_if(features & 1 << 16 != 0, 0x277, MEMORY_TYPES),
        msr(0xc000_0080, EFER.bits()),
        // STAR: the kernel's and the user's selectors, as the table has them.
        msr(0xc000_0081, u64::from(USER_DATA - 8) << 48 | u64::from(KERNEL_CODE) << 32),
        msr(0xc000_0082, vectors::syscall_entry as *const () as u64), // LSTAR
        msr(0xc000_0083, vectors::syscall_compat as *const () as u64), // CSTAR
        msr(0xc000_0084, RFlags::all().bits()),                       // FMASK: every flag is clear in the kernel
        msr(0xc000_0100, 0),                                          // FS
        msr(0xc000_0101, cpu as *const Cpu as u64),                   // GS
        msr(0xc000_0102, 0),                                          // the user's GS
        msr_if(has_number, 0xc000_0103, 0),                           // TSC_AUX
        (Register::Cr4, Some(cr4(features, more).bits())),
        (Register::Cr0, Some(CR0.into())),
        (Register::Dr7, Some(NO_BREAKPOINTS | u64::from(breakpoint != 0))),
        (Register::Dr0, Some(breakpoint)),
        (Register::Dr1, Some(0)),
        (Register::Dr2, Some(0)),
        (Register::Dr3, Some(0)),
        (Register::Ldtr, Some(0)),
    ]
}

/// The value of CR4. Every protection is on. Features that programs could use without the kernel, and whose state it
/// would have to save for them, are off: OSXSAVE, FSGSBASE, PKE, PCE, CET, UINTR and all others.
fn cr4(features: u32, more: CpuidResult) -> Cr4Flags {
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    cr4.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, features & 1 << 7 != 0);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, more.ecx & 1 << 2 != 0);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, more.ebx & 1 << 7 != 0);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, has_smap());
    cr4
}

/// Leaf 7 of `cpuid`, or zeros if there is none: beyond the last leaf `cpuid` returns other data.
fn leaf7() -> CpuidResult {
    let none = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    if __get_cpuid_max(0).0 < 7 { none } else { __cpuid_count(7, 0) }
}

/// Whether `stac` and `clac` exist. If not, `boot::patch` removes them.
pub fn has_smap() -> bool {
    leaf7().ebx & 1 << 20 != 0
}

/// Sets all registers of this processor, or ends the machine if the processor cannot be used.
pub fn set(cpu: &Cpu) {
    let features = u64::from(__cpuid(0x8000_0001).edx) << 32 | u64::from(__cpuid(1).edx);
    if let Some((_, name)) = WANTED.iter().find(|(bit, _)| features & 1 << bit == 0) {
        print::kprintln!("this processor lacks {name}");
        power::off(ExitStatus::UNFIT_PROCESSOR);
    }
    apic::leave_x2_mode();
    for (register, value) in registers(cpu) {
        // SAFETY: these are the values that the kernel is made for.
        value.into_iter().for_each(|value| unsafe { register.write(value) });
    }
}

/// Checks that the registers still have their required contents, in a checking kernel.
#[cfg(feature = "check")]
pub fn compare(cpu: &Cpu) {
    for (register, expected) in registers(cpu) {
        if let Some(expected) = expected {
            let (found, number) = (register.read(), cpu.number.get());
            assert!(found == expected, "{register:x?} of processor {number}: {found:#x}, expected {expected:#x}");
        }
    }
}

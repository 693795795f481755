//! Processor features that the kernel gives to no program: other segments, gates, and system registers.

use core::arch::asm;

/// A name, and a function that tries something with a selector.
pub type Way = (&'static str, fn(u64));

macro_rules! segment_loads {
    ($($name:ident, $register:literal;)*) => {
        $(fn $name(selector: u64) {
            // SAFETY: 64-bit mode ignores data segments, and `ss` accepts only the selector that it already holds.
            unsafe { asm!(concat!("mov ", $register, ", {0:x}"), in(reg) selector, options(nostack)) }
        })*

        /// Functions that load a selector, one for each segment register.
        pub const LOAD_SEGMENT: [Way; 5] = [$(($register, $name)),*];
    };
}

segment_loads! {
    load_ds, "ds";
    load_es, "es";
    load_fs, "fs";
    load_gs, "gs";
    load_ss, "ss";
}

/// The ways to jump to another code segment. A jump that succeeds meets an undefined instruction.
pub const ENTER_SEGMENT: [Way; 4] =
    [("far jmp", far_jump), ("far call", far_call), ("far ret", far_return), ("iret", interrupt_return)];

macro_rules! far {
    ($name:ident, $instruction:literal) => {
        fn $name(selector: u64) {
            // SAFETY: see the text of [`raw`](super). Control does not return.
            unsafe {
                asm!("push {}", "lea rax, [rip + 2f]", "sub rsp, 4", "mov [rsp], eax",
                    concat!($instruction, " fword ptr [rsp]"), "2: ud2", in(reg) selector, out("rax") _);
            }
        }
    };
}

far!(far_jump, "jmp");
far!(far_call, "call");

fn far_return(selector: u64) {
    // SAFETY: see `far!`.
    unsafe {
        asm!("push {}", "lea rax, [rip + 2f]", "push rax", "retfq", "2: ud2", in(reg) selector, out("rax") _);
    }
}

fn interrupt_return(selector: u64) {
    // SAFETY: see `far!`.
    unsafe {
        asm!("mov rax, rsp", "push 0x1b", "push rax", "push 0x202", "push {}", "lea rax, [rip + 2f]", "push rax",
            "iretq", "2: ud2", in(reg) selector, out("rax") _);
    }
}

/// Executes `iretq` with this selector for `ss` and the caller's own code segment.
pub fn interrupt_return_on(stack: u64) {
    // SAFETY: see `far!`.
    unsafe {
        asm!("mov rax, rsp", "push {}", "push rax", "push 0x202", "push 0x23", "lea rax, [rip + 2f]", "push rax",
            "iretq", "2: ud2", in(reg) stack, out("rax") _);
    }
}

/// The processor's answers about a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Result of `lar`: type, privilege and mode; 0 if the selector is refused.
    pub rights: u32,
    /// Result of `lsl`: the limit; 0 if the selector is refused.
    pub limit: u32,
    /// Result of `verr`: whether the segment can be read.
    pub readable: bool,
    /// Result of `verw`: whether the segment can be written.
    pub writable: bool,
}

impl Segment {
    /// The answers for a selector that names nothing a user may know of.
    pub const NONE: Segment = Segment { rights: 0, limit: 0, readable: false, writable: false };

    /// Asks the processor about `selector`.
    #[must_use]
    pub fn of(selector: u16) -> Segment {
        let (mut rights, mut limit, mut readable, mut writable) = (0u32, 0u32, 0u8, 0u8);
        let selector = u32::from(selector);
        // SAFETY: these instructions change nothing but the named registers.
        unsafe {
            asm!("lar {0:e}, {1:e}", inout(reg) rights, in(reg) selector, options(nostack, nomem));
            asm!("lsl {0:e}, {1:e}", inout(reg) limit, in(reg) selector, options(nostack, nomem));
            asm!("verr {1:x}", "setz {0}", out(reg_byte) readable, in(reg) selector, options(nostack, nomem));
            asm!("verw {1:x}", "setz {0}", out(reg_byte) writable, in(reg) selector, options(nostack, nomem));
        }
        Segment { rights, limit, readable: readable != 0, writable: writable != 0 }
    }
}

/// Store the selector of the local descriptor table at an address (`sldt`).
pub fn store_local_table(address: u64) {
    // SAFETY: see the text of [`raw`](super).
    unsafe { asm!("sldt word ptr [{}]", in(reg) address, options(nostack)) }
}

/// Store the processor number that `rdtscp` returns at an address.
pub fn store_processor(address: u64) {
    // SAFETY: see the text of [`raw`](super).
    unsafe {
        asm!("rdtscp", "mov [{}], rcx", in(reg) address, out("rax") _, out("rdx") _, out("rcx") _, options(nostack))
    }
}

/// The eight bytes at an address, read through `fs` and through `gs`.
#[must_use]
pub fn read_by_segments(address: u64) -> [u64; 2] {
    let (by_fs, by_gs);
    // SAFETY: see the text of [`raw`](super). A read changes nothing.
    unsafe {
        asm!("mov {0}, fs:[{2}]", "mov {1}, gs:[{2}]", out(reg) by_fs, out(reg) by_gs, in(reg) address,
            options(nostack, readonly));
    }
    [by_fs, by_gs]
}

/// The x87 instruction pointer, operand pointer and opcode of the last relevant instruction: the low halves.
#[must_use]
pub fn x87_pointers() -> [u32; 3] {
    let mut image = [0u32; 7];
    // SAFETY: stores 28 bytes, and loads them again.
    unsafe { asm!("fnstenv [{0}]", "fldenv [{0}]", in(reg) &raw mut image, options(nostack, preserves_flags)) };
    let [_, _, _, instruction, selector_and_opcode, operand, _] = image;
    [instruction, operand, selector_and_opcode >> 16]
}

/// Loads a number from an address with x87, so that the x87 pointers name this address.
pub fn x87_load(address: u64) {
    // SAFETY: see the text of [`raw`](super). The register stack is empty again afterwards.
    unsafe { asm!("fninit", "fild dword ptr [{}]", "ffree st(0)", "fincstp", in(reg) address, options(nostack)) }
}

/// Resets all x87 state, the pointers included.
pub fn x87_reset() {
    // SAFETY: Rust code keeps nothing in x87 registers.
    unsafe { asm!("fninit", options(nostack)) }
}

//! What else a program can ask of the processor: other segments, gates, and registers that nobody gave it.

use core::arch::asm;

/// Something to try with a selector, and its name.
pub type Way = (&'static str, fn(u64));

macro_rules! segment_loads {
    ($($name:ident, $register:literal;)*) => {
        $(fn $name(selector: u64) {
            // SAFETY: 64-bit mode does not look at data segments, and `ss` takes only what is in it already.
            unsafe { asm!(concat!("mov ", $register, ", {0:x}"), in(reg) selector, options(nostack)) }
        })*

        /// Load a selector, into each register by its name.
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

/// Go to another code segment, in each way that there is. What gets there meets an undefined instruction.
pub const ENTER_SEGMENT: [Way; 4] =
    [("far jmp", far_jump), ("far call", far_call), ("far ret", far_return), ("iret", interrupt_return)];

macro_rules! far {
    ($name:ident, $instruction:literal) => {
        fn $name(selector: u64) {
            // SAFETY: see the module's text. No way leads back.
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
    // SAFETY: as above.
    unsafe {
        asm!("push {}", "lea rax, [rip + 2f]", "push rax", "retfq", "2: ud2", in(reg) selector, out("rax") _);
    }
}

fn interrupt_return(selector: u64) {
    // SAFETY: as above.
    unsafe {
        asm!("mov rax, rsp", "push 0x1b", "push rax", "push 0x202", "push {}", "lea rax, [rip + 2f]", "push rax",
            "iretq", "2: ud2", in(reg) selector, out("rax") _);
    }
}

/// Return from an interrupt to this selector in `ss`, and to the caller's code segment.
pub fn interrupt_return_on(stack: u64) {
    // SAFETY: as above.
    unsafe {
        asm!("mov rax, rsp", "push {}", "push rax", "push 0x202", "push 0x23", "lea rax, [rip + 2f]", "push rax",
            "iretq", "2: ud2", in(reg) stack, out("rax") _);
    }
}

/// What the processor tells a program about a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// `lar`: type, privilege and mode; 0 if nothing.
    pub rights: u32,
    /// `lsl`: the limit; 0 if nothing.
    pub limit: u32,
    /// `verr`: it can be read.
    pub readable: bool,
    /// `verw`: it can be written.
    pub writable: bool,
}

impl Segment {
    /// It names nothing that the program may know of.
    pub const NONE: Segment = Segment { rights: 0, limit: 0, readable: false, writable: false };

    /// Ask.
    #[must_use]
    pub fn of(selector: u16) -> Segment {
        let (mut rights, mut limit, mut readable, mut writable) = (0u32, 0u32, 0u8, 0u8);
        let selector = u32::from(selector);
        // SAFETY: these change nothing but the registers that are named.
        unsafe {
            asm!("lar {0:e}, {1:e}", inout(reg) rights, in(reg) selector, options(nostack, nomem));
            asm!("lsl {0:e}, {1:e}", inout(reg) limit, in(reg) selector, options(nostack, nomem));
            asm!("verr {1:x}", "setz {0}", out(reg_byte) readable, in(reg) selector, options(nostack, nomem));
            asm!("verw {1:x}", "setz {0}", out(reg_byte) writable, in(reg) selector, options(nostack, nomem));
        }
        Segment { rights, limit, readable: readable != 0, writable: writable != 0 }
    }
}

/// Store the selector of the local descriptor table at an address.
pub fn store_local_table(address: u64) {
    // SAFETY: see the module's text.
    unsafe { asm!("sldt word ptr [{}]", in(reg) address, options(nostack)) }
}

/// Store at an address what `rdtscp` says about the processor.
pub fn store_processor(address: u64) {
    // SAFETY: see the module's text.
    unsafe {
        asm!("rdtscp", "mov [{}], rcx", in(reg) address, out("rax") _, out("rdx") _, out("rcx") _, options(nostack))
    }
}

/// The eight bytes at an address, by way of `fs` and of `gs`.
#[must_use]
pub fn read_by_segments(address: u64) -> [u64; 2] {
    let (by_fs, by_gs);
    // SAFETY: see the module's text. A read changes nothing.
    unsafe {
        asm!("mov {0}, fs:[{2}]", "mov {1}, gs:[{2}]", out(reg) by_fs, out(reg) by_gs, in(reg) address,
            options(nostack, readonly));
    }
    [by_fs, by_gs]
}

/// Where the last x87 instruction that matters was, where its operand was, and which it was: the low halves.
#[must_use]
pub fn x87_pointers() -> [u32; 3] {
    let mut image = [0u32; 7];
    // SAFETY: stores 28 bytes, and loads them again.
    unsafe {
        asm!("fnstenv [{0}]", "fldenv [{0}]", in(reg) &raw mut image, options(nostack, preserves_flags))
    };
    let [_, _, _, instruction, selector_and_opcode, operand, _] = image;
    [instruction, operand, selector_and_opcode >> 16]
}

/// Leave in the x87 pointers that a number was loaded from an address.
pub fn x87_load(address: u64) {
    // SAFETY: see the module's text. The register stack is as empty afterwards as it was.
    unsafe {
        asm!("fninit", "fild dword ptr [{}]", "ffree st(0)", "fincstp", in(reg) address, options(nostack))
    }
}

/// All x87 state as after a reset, pointers included.
pub fn x87_reset() {
    // SAFETY: Rust code keeps nothing there.
    unsafe { asm!("fninit", options(nostack)) }
}

//! Exceptions, and the frame that the kernel writes on the exception stack for an upcall.

use core::fmt;

/// An exception vector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Vector(pub u8);

#[allow(missing_docs)] // the names say it
impl Vector {
    pub const DIVIDE_ERROR: Vector = Vector(0);
    pub const DEBUG: Vector = Vector(1);
    pub const BREAKPOINT: Vector = Vector(3);
    pub const OVERFLOW: Vector = Vector(4);
    pub const INVALID_OPCODE: Vector = Vector(6);
    pub const STACK_FAULT: Vector = Vector(12);
    pub const GENERAL_PROTECTION: Vector = Vector(13);
    pub const PAGE_FAULT: Vector = Vector(14);
    pub const X87: Vector = Vector(16);
    pub const ALIGNMENT_CHECK: Vector = Vector(17);
    pub const SIMD: Vector = Vector(19);

    /// The name of the exception in manuals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        const NAMES: [&str; 22] = [
            "Divide Error",
            "Debug",
            "Non-Maskable Interrupt",
            "Breakpoint",
            "Overflow",
            "BOUND Range Exceeded",
            "Invalid Opcode",
            "Device Not Available",
            "Double Fault",
            "Coprocessor Segment Overrun",
            "Invalid TSS",
            "Segment Not Present",
            "Stack Fault",
            "General Protection",
            "Page Fault",
            "Reserved",
            "x87 Floating-Point Error",
            "Alignment Check",
            "Machine Check",
            "SIMD Floating-Point Error",
            "Virtualization",
            "Control Protection",
        ];
        if (self.0 as usize) < NAMES.len() { NAMES[self.0 as usize] } else { "Interrupt" }
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

/// The error code of a page fault.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageFaultCode(pub u64);

impl PageFaultCode {
    /// Whether the page was present, and did not allow the access.
    #[must_use]
    pub const fn is_protection(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the access was a write.
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the access came from user mode.
    #[must_use]
    pub const fn is_user(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether the access was an instruction fetch.
    #[must_use]
    pub const fn is_fetch(self) -> bool {
        self.0 & 16 != 0
    }
}

/// The bits in words, for example `[user, read, not-present]`.
impl fmt::Display for PageFaultCode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let who = if self.is_user() { "user" } else { "kernel" };
        let what = match (self.is_fetch(), self.is_write()) {
            (true, _) => "fetch",
            (_, true) => "write",
            _ => "read",
        };
        let why = if self.is_protection() { "protection" } else { "not-present" };
        write!(f, "[{who}, {what}, {why}]")
    }
}

/// The frame that the kernel writes on the exception stack, lowest address first.
///
/// `rsp` points at this frame, and is 16-byte aligned, when the upcall entry starts; `rflags` is 0x202 and the other
/// registers have no meaning. `rip` and `rflags` are the topmost words:
///
/// ```text
///        interrupted rsp ->  +------------------+
///                            | 128 bytes of red |     if the interrupted rsp was
///                            | zone, left alone |     on the exception stack
///                            +------------------+
///                            | rip              | +168
///                            | rflags           | +160
///                            | reserved         | +152
///                            | rsp              | +144
///                            | rax .. r15       | +24
///                            | address          | +16
///                            | error code       | +8
///  rsp at the upcall entry ->| vector           | +0
///                            +------------------+
/// ```
///
/// A handler changes the interrupted program by changing this frame before it resumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
#[allow(missing_docs)] // the names say it
pub struct Fault {
    /// The exception; see [`Fault::vector`].
    pub vector_number: u64,
    /// The processor's error code, or 0.
    pub error: u64,
    /// Page faults: the address that could not be accessed. Otherwise 0.
    pub address: u64,
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub rsp: u64,
    /// Free for the use of the upcall handler.
    pub reserved: u64,
    pub rflags: u64,
    pub rip: u64,
}

impl Fault {
    /// The size of a frame on the exception stack in bytes.
    pub const SIZE: u64 = 176;
    /// Bytes below an interrupted stack pointer that belong to the interrupted code.
    pub const RED_ZONE: u64 = 128;

    /// The exception.
    #[inline]
    #[must_use]
    pub const fn vector(&self) -> Vector {
        Vector(self.vector_number as u8)
    }

    /// The error code, as that of a page fault.
    #[inline]
    #[must_use]
    pub const fn page_fault(&self) -> PageFaultCode {
        PageFaultCode(self.error)
    }
}

/// All registers, several lines.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        #[rustfmt::skip]
        let registers = [
            ("r15", self.r15), ("r14", self.r14), ("r13", self.r13), ("r12", self.r12),
            ("r11", self.r11), ("r10", self.r10), ("r9 ", self.r9), ("r8 ", self.r8),
            ("rbp", self.rbp), ("rdi", self.rdi), ("rsi", self.rsi), ("rdx", self.rdx),
            ("rcx", self.rcx), ("rbx", self.rbx), ("rax", self.rax),
        ];
        for (index, (name, value)) in registers.iter().enumerate() {
            let end = if index % 3 == 2 { "\n" } else { "" };
            write!(f, "  {name}  0x{value:016x}{end}")?;
        }
        writeln!(f, "  trap 0x{:08x} {}", self.vector_number, self.vector())?;
        write!(f, "  err  0x{:08x}", self.error)?;
        if self.vector() == Vector::PAGE_FAULT {
            write!(f, " {}", self.page_fault())?;
        }
        writeln!(f, "\n  rip  0x{:016x}  flag 0x{:016x}", self.rip, self.rflags)?;
        write!(f, "  rsp  0x{:016x}  addr 0x{:016x}", self.rsp, self.address)
    }
}

const _: () = assert!(size_of::<Fault>() as u64 == Fault::SIZE && Fault::SIZE.is_multiple_of(16));

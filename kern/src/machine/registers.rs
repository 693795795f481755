//! The registers of an environment while it does not run.

use abi::env::{FIXED_RFLAGS, USER_RFLAGS};
use abi::{Error, Fault, Registers, Vector, layout::USER_LIMIT};
use core::arch::asm;
use core::cell::UnsafeCell;
use x86_64::registers::control::Cr2;

/// The segment selectors. `sysret` requires user data right before user code.
pub const KERNEL_CODE: u16 = 0x08;
pub const USER_DATA: u16 = 0x18 | 3;
pub const USER_CODE: u16 = 0x20 | 3;

/// The registers of an environment, as the stubs save them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Saved {
    pub general: [u64; 15],
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Saved {
    /// The arguments of the system call at which the registers were saved.
    pub fn arguments(&self) -> [u64; 6] {
        let [_, _, _, _, _, r10, r9, r8, _, rdi, rsi, rdx, ..] = self.general;
        [rdi, rsi, rdx, r10, r8, r9]
    }

    /// The registers as the [`Fault`] that a program gets.
    pub fn as_fault(&self) -> Fault {
        let [r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax] = self.general;
        let is_page_fault = self.vector == u64::from(Vector::PAGE_FAULT.0);
        let address = if is_page_fault { Cr2::read_raw() } else { 0 };
        #[rustfmt::skip]
        let fault = Fault {
            vector_number: self.vector, error: self.error, address,
            r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax,
            rsp: self.rsp, reserved: 0, rflags: self.rflags, rip: self.rip,
        };
        fault
    }
}

/// Indices into [`Saved::general`], which has the order of [`Registers`].
pub mod reg {
    pub const RBP: usize = 8;
    pub const RDX: usize = 11;
    pub const RAX: usize = 14;
}

/// In place of a vector: the frame was saved at a system call, and has not been replaced since.
pub const CALL: u64 = u64::MAX;

/// The saved registers of an environment.
///
/// Belongs to the processor that holds the environment; while none does, or while the environment waits, to the holder
/// of the scheduler's lock.
#[derive(Default)]
#[repr(C, align(16))]
pub struct TrapFrame(UnsafeCell<Saved>);

impl TrapFrame {
    /// One past the last byte, where entries from user mode begin to push.
    pub fn top(&self) -> u64 {
        self.0.get() as u64 + size_of::<Saved>() as u64
    }

    /// The registers, as they were saved.
    #[allow(clippy::mut_from_ref)] // see the type: nobody else touches the frame now
    pub fn saved(&self) -> &mut Saved {
        // SAFETY: the frame belongs to the caller: see the type.
        unsafe { &mut *self.0.get() }
    }

    /// Sets the results of the call in which the environment waits.
    pub fn set_results(&self, (rax, rdx): (u64, u64)) {
        let saved = self.saved();
        saved.general[reg::RAX] = rax;
        saved.general[reg::RDX] = rdx;
        saved.vector = CALL;
    }

    /// Makes the environment repeat its call when it runs again.
    pub fn rewind(&self) {
        const SYSCALL_BYTES: u64 = 2;
        self.saved().rip -= SYSCALL_BYTES;
    }

    /// Sets registers that a program chose, as far as that is safe.
    ///
    /// # Errors
    /// [`Error::BadAddress`] if `rip` is not in user space.
    pub fn set_registers(&self, registers: &Registers) -> Result<(), Error> {
        if registers.rip >= USER_LIMIT.0 {
            return Err(Error::BadAddress(registers.rip));
        }
        let r = registers;
        *self.saved() = Saved {
            general: [
                r.r15, r.r14, r.r13, r.r12, r.r11, r.r10, r.r9, r.r8, r.rbp, r.rdi, r.rsi, r.rdx, r.rcx, r.rbx, r.rax,
            ],
            rip: r.rip,
            rflags: (r.rflags & USER_RFLAGS) | FIXED_RFLAGS,
            rsp: r.rsp,
            cs: USER_CODE.into(),
            ss: USER_DATA.into(),
            ..Saved::default()
        };
        Ok(())
    }
}

/// The image that `fxsave64` writes.
#[derive(Default)]
#[repr(C)]
pub struct FpState(UnsafeCell<[u128; 32]>);

impl FpState {
    /// Stores the registers of this processor.
    pub fn save(&self) {
        // SAFETY: 512 bytes, aligned; they belong to the environment that ran.
        unsafe { asm!("fxsave64 [{}]", in(reg) self.0.get(), options(nostack, preserves_flags)) };
    }

    /// Loads the stored registers. On processors where that leaves the x87 pointers of another environment in place,
    /// they are reset first; `boot::patch` removes this instruction where it is not needed.
    #[inline(always)]
    pub fn load(&self) {
        // SAFETY: the image was stored by `save` or made by `reset`.
        unsafe {
            asm!("77: fninit", ".pushsection .x87_sites, \"a\"; .quad 77b; .popsection", "fxrstor64 [{}]",
                in(reg) self.0.get(), options(nostack, preserves_flags));
        }
    }

    /// Whether the image has the whole state. Older AMD processors, and emulators, leave out the addresses of the last
    /// x87 instruction and its operand unless an exception is pending.
    pub fn is_whole() -> bool {
        let (image, number) = (FpState::default(), 0u32);
        let mut found = [0u32; 7];
        // SAFETY: nobody's state is in the registers yet.
        unsafe {
            asm!("fninit", "fild dword ptr [{1}]", "fxsave64 [{0}]", "fninit", "fxrstor64 [{0}]", "fnstenv [{2}]", "fninit",
                in(reg) image.0.get(), in(reg) &raw const number, in(reg) &raw mut found, options(nostack));
        }
        found[3] != 0
    }

    /// The state of a new environment: all exceptions masked, everything empty.
    pub fn reset(&self) {
        // SAFETY: the environment does not exist yet.
        let image = unsafe { &mut *self.0.get() };
        *image = [0; 32];
        image[0] = 0x037f; // x87 control word
        image[1] = 0x1f80 << 64; // mxcsr
    }
}

//! Entries to the kernel and the ways back.
//!
//! On every entry from user mode the registers are saved right into the environment that runs:
//! TSS.rsp0 points at the end of its [`TrapFrame`], so the processor itself stores the topmost five
//! words there, and the stub pushes the rest. Then the kernel starts on an empty stack. So while
//! the kernel runs, the frame of the environment is complete, switching to another one is loading
//! another frame, and code that never returns (`-> !`) leaves nothing behind.
//!
//! ```text
//!            +0                     +120   +128  +136 +144 +152   +160 +168  +176 = TSS.rsp0
//! TrapFrame  | r15 .. rbx rax (15)  | vector| error| rip | cs | rflags| rsp | ss |
//!             <------- stub ------>  <-- stub ---> <------- processor ------->
//! ```
//!
//! A system call is one of two kinds. *Quick* ones always come back, and at once: page calls. They leave the frame
//! alone, and save on the kernel's stack what a C function may change; the other registers survive in place. The
//! others save the whole frame, because somebody else may run in the end.
//!
//! Ways back: `sysretq` from one's own call, at once or when somebody else has run meanwhile, and into an upcall;
//! `iretq` everywhere else.

use crate::cpu::{self, Cpu, USER_CODE, USER_DATA};
use crate::env::{Env, FpState, Upcall};
use crate::{life, panic, sched, selftest, state, syscall};
use abi::env::{FIXED_RFLAGS, USER_RFLAGS};
use abi::layout::USER_LIMIT;
use abi::window::MachineInfo;
use abi::{Call, Error, Fault, Registers, Vector};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ops::Range;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

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
    /// The arguments of the call that the registers were saved at.
    #[inline]
    pub fn arguments(&self) -> [u64; 6] {
        let [_, _, _, _, _, r10, r9, r8, _, rdi, rsi, rdx, ..] = self.general;
        [rdi, rsi, rdx, r10, r8, r9]
    }

    /// The same in the form in which programs get it.
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

/// In place of a vector: the frame was saved at a system call, and nobody has replaced it.
const CALL: u64 = u64::MAX;

/// Where the registers of an environment are saved.
///
/// Belongs to the processor that holds the environment; while none does, or while the environment waits,
/// to whoever holds the scheduler's lock.
#[derive(Default)]
#[repr(C, align(16))]
pub struct TrapFrame(UnsafeCell<Saved>);

impl TrapFrame {
    /// One past the last byte: where entries from user mode begin to push.
    pub fn top(&self) -> u64 {
        self.0.get() as u64 + size_of::<Saved>() as u64
    }

    /// The registers, as they were saved.
    #[inline]
    #[allow(clippy::mut_from_ref)] // see the type: nobody else touches the frame now
    pub fn saved(&self) -> &mut Saved {
        // SAFETY: see the type.
        unsafe { &mut *self.0.get() }
    }

    /// Results of the call in which the environment waits.
    #[inline]
    pub fn set_results(&self, (rax, rdx): (u64, u64)) {
        let saved = self.saved();
        saved.general[reg::RAX] = rax;
        saved.general[reg::RDX] = rdx;
        saved.vector = CALL;
    }

    /// Let the environment make its call once more, when it runs again.
    pub fn rewind(&self) {
        const SYSCALL_BYTES: u64 = 2;
        self.saved().rip -= SYSCALL_BYTES;
    }

    /// Registers that a user chose: take what is safe.
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
                r.r15, r.r14, r.r13, r.r12, r.r11, r.r10, r.r9, r.r8, r.rbp, r.rdi, r.rsi, r.rdx, r.rcx,
                r.rbx, r.rax,
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

/// Vectors for which the processor pushes an error code.
const ERROR_CODES: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
/// Vectors that come on a stack of their own.
const OWN_STACK: u32 = {
    let [a, b, c, d] = cpu::IST_VECTORS;
    1 << a | 1 << b | 1 << c | 1 << d
};

global_asm!(
    include_str!("entry.s"),
    error_codes = const ERROR_CODES,
    own_stack = const OWN_STACK,
    page_fault = const Vector::PAGE_FAULT.0,
    stack_top = const offset_of!(Cpu, stack_top),
    env = const offset_of!(Cpu, env),
    scratch = const offset_of!(Cpu, scratch),
    frame_end = const size_of::<Saved>(),
    vector = const offset_of!(Saved, vector),
    rip = const offset_of!(Saved, rip),
    rflags = const offset_of!(Saved, rflags),
    rsp = const offset_of!(Saved, rsp),
    upcall_entry = const offset_of!(Env, upcall) + offset_of!(Upcall, entry),
    upcall_low = const offset_of!(Env, upcall) + offset_of!(Upcall, low),
    upcall_top = const offset_of!(Env, upcall) + offset_of!(Upcall, top),
    upcall_rflags = const FIXED_RFLAGS,
    fault_bytes = const Fault::SIZE,
    red_zone = const Fault::RED_ZONE,
    user_trap = sym user_trap,
    kernel_trap = sym kernel_trap,
    quick = const Call::QUICK,
    calls = const Call::ALL.len(),
    user_code = const USER_CODE,
    user_data = const USER_DATA,
    invalid_opcode = const Vector::INVALID_OPCODE.0,
    handlers = sym syscall::HANDLERS,
    dispatch = sym syscall::dispatch,
);

const _: () = assert!(offset_of!(Env, frame) == 0, "the stubs take one for the other");

unsafe extern "C" {
    static trap_stubs: u8;
    static __smap_sites: [u64; 0];
    static __smap_sites_end: [u64; 0];
    static __x87_sites: [u64; 0];
    static __x87_sites_end: [u64; 0];
    fn syscall_entry();
    fn syscall_compat();
    fn resume() -> !;
    fn resume_call(frame: &TrapFrame) -> !;
    fn idle();
    fn pause();
}

/// The entry stub of a vector.
pub fn stub(vector: usize) -> VirtAddr {
    VirtAddr::from_ptr(&raw const trap_stubs) + 16 * vector as u64
}

/// The entry of system calls.
pub fn syscall_address() -> VirtAddr {
    VirtAddr::from_ptr(syscall_entry as *const u8)
}

/// The entry of system calls from 32-bit code, of which there is none.
pub fn syscall_compat_address() -> VirtAddr {
    VirtAddr::from_ptr(syscall_compat as *const u8)
}

/// Remove instructions that this processor does not have, or does not need.
///
/// # Safety
/// Kernel text can still be written: called on the boot tables.
pub unsafe fn patch() {
    // SAFETY: the tables are made where the instructions are; a no-op of the same length fits.
    unsafe {
        if !state::has_smap() {
            remove(&raw const __smap_sites..&raw const __smap_sites_end, [0x0f, 0x1f, 0x00]);
        }
        if FpState::is_whole() {
            remove(&raw const __x87_sites..&raw const __x87_sites_end, [0x66, 0x90]);
        }
    }
}

/// # Safety
/// The table holds addresses of instructions that are as long, and kernel text can be written.
unsafe fn remove<const N: usize>(table: Range<*const [u64; 0]>, no_op: [u8; N]) {
    let mut site = table.start.cast::<u64>();
    while site != table.end.cast() {
        // SAFETY: the caller promises it.
        unsafe {
            (*site as *mut [u8; N]).write(no_op);
            site = site.add(1);
        }
    }
}

/// Go on with the environment that runs on this processor, with all its registers.
pub fn resume_env() -> ! {
    let frame = &cpu::env().frame;
    if frame.saved().vector == CALL {
        resume_from_call(frame);
    }
    // SAFETY: `set_env` made it current and its frame holds sane user registers.
    unsafe { resume() }
}

/// Go on behind the call that this environment, which runs on this processor, has made.
#[inline]
pub fn resume_from_call(frame: &TrapFrame) -> ! {
    // SAFETY: the frame is as `syscall_entry` saved it, but for results: so `rip` and `rflags` are what a call
    // may return to.
    unsafe { resume_call(frame) }
}

/// Wait for an interrupt.
pub fn wait_for_interrupt() {
    // SAFETY: the only interrupt that can come is the timer's, and its handler just counts.
    unsafe { idle() }
}

/// Take the interrupts that came while the kernel did one thing after another without a program between.
pub fn take_interrupts() {
    // SAFETY: as in `wait_for_interrupt`.
    unsafe { pause() }
}

/// Interrupts from user mode, and exceptions for which no upcall could be made. Returns to resume what was
/// interrupted.
extern "C" fn user_trap() {
    sched::enter_kernel();
    let env = cpu::env();
    let saved = *env.frame.saved();
    match saved.vector {
        0..32 => life::kill(env, &saved),
        sched::TIMER => sched::tick(env),
        sched::KICK => sched::kicked(env),
        _ => crate::apic::end_of_interrupt(),
    }
    sched::leave_kernel(MachineInfo::VECTOR + saved.vector);
}

/// Exceptions and interrupts while the kernel ran.
extern "C" fn kernel_trap(saved: &mut Saved) {
    match saved.vector {
        sched::TIMER => sched::count_tick(),
        sched::KICK => sched::kick(),
        // A debug exception that was pending when the program entered the kernel: not ours.
        1 => selftest::stopped(saved),
        0..32 => panic::exception(saved),
        _ => crate::apic::end_of_interrupt(),
    }
}

//! One upcall after the other, without a kernel.

use crate::image::{self, Image};
use abi::{Fault, PAGE_SIZE, Vector, layout};
use anyhow::Result;
use core::arch::naked_asm;
use core::mem::offset_of;

/// The exception stack, of four pages.
const STACK_BYTES: u64 = 4 * PAGE_SIZE;

/// The entry of an upcall, and the frame that the kernel would have left.
pub struct Upcall {
    enter: u64,
    frame: *mut Fault,
}

impl Upcall {
    /// An upcall of this program.
    ///
    /// # Errors
    /// The program does not contain libos, or the addresses of its exception stack are taken.
    pub fn new(image: &Image) -> Result<Upcall> {
        let top = layout::EXCEPTION_STACK_TOP.0;
        image::map(top - STACK_BYTES, STACK_BYTES)?;
        let handler = image.symbol("5libos6upcall7HANDLER")? as *mut u64;
        // SAFETY: the variable holds the address of a handler, and nobody runs.
        unsafe { handler.write(resume as *const () as u64) };
        let frame = ((top - size_of::<Fault>() as u64) & !15) as *mut Fault;
        // SAFETY: just mapped; a frame of zeros is one, but for what is set here.
        unsafe {
            (*frame).vector_number = Vector::BREAKPOINT.0.into();
            (*frame).rflags = 0x202;
        }
        Ok(Upcall { enter: image.symbol("5libos6upcall5enter")?, frame })
    }

    /// Runs this many upcalls, one after the other.
    pub fn rounds(&mut self, count: u64) {
        // SAFETY: the frame is what the kernel would have left, `enter` is where it would go; and all registers come
        // back as they were.
        unsafe { rounds(self.frame, self.enter, count) };
    }
}

/// A handler that does nothing: `Outcome::Resume`.
extern "C" fn resume(_: &mut Fault) -> u8 {
    0
}

/// Goes to `enter`, which returns to `rip` in the frame with the registers in the frame, `count` times.
#[unsafe(naked)]
unsafe extern "C" fn rounds(frame: *mut Fault, enter: u64, count: u64) {
    naked_asm!(
        ".irp r, rbp, rbx, r12, r13, r14, r15",
        "push \\r",
        ".endr",
        "push rdx", // the remaining rounds
        "mov [rdi + {RSP}], rsp",
        "mov [rdi + {R12}], rdi",
        "mov [rdi + {R13}], rsi",
        "lea rax, [rip + 2f]",
        "mov [rdi + {RIP}], rax",
        "mov r12, rdi",
        "mov r13, rsi",
        "2:",
        "sub qword ptr [rsp], 1",
        "jc 3f",
        "mov rsp, r12",
        "jmp r13",
        "3:",
        "pop rdx",
        ".irp r, r15, r14, r13, r12, rbx, rbp",
        "pop \\r",
        ".endr",
        "ret",
        RSP = const offset_of!(Fault, rsp),
        RIP = const offset_of!(Fault, rip),
        R12 = const offset_of!(Fault, r12),
        R13 = const offset_of!(Fault, r13),
    )
}

/// The processor's time stamp counter.
pub fn time_stamp() -> u64 {
    // SAFETY: it only reads.
    unsafe { core::arch::x86_64::_rdtsc() }
}

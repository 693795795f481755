//! One call that returns twice: a child that begins at the same instruction as its parent.
//!
//! This module makes the call `exofork`, and lets a [`Filler`] give the child its memory: [`fork`](crate::fork())
//! shares memory copy-on-write, a simple program may just copy it. `docs/fork.md` follows a fork through the code.

use crate::layout::EXCEPTION_STACK_TOP;
use crate::resident::{self, STACK_LOW, STACK_PAGES};
use crate::{Child, EnvId, Error, PAGE_SIZE, Perms, Status, Va, console, regions, stats, sys, upcall};
use core::arch::naked_asm;

/// The result of a fork: the caller is the parent or the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fork {
    /// The caller is the parent of this child.
    Parent(Child),
    /// The caller is the new child.
    Child,
}

/// Makes a child, lets `fill` give it memory, and starts it at the point of this call.
///
/// # Errors
/// `InHandler`, the errors of `exofork`, and those of `fill`: the child then ends.
pub fn fork_with(fill: Filler) -> Result<Fork, Error> {
    if resident::in_handler() {
        return Err(Error::InHandler);
    }
    console::flush(); // otherwise both would print the rest of the line
    let mut made = Err(Error::InHandler);
    // SAFETY: both returns of this function find the registers and the stack as a call leaves them; the child does not
    // look at `made`.
    if unsafe { exofork(fill, &mut made) } {
        return made.map(Fork::Parent);
    }
    stats::reset();
    regions::forget_what_is_not_inherited();
    Ok(Fork::Child)
}

/// A function that gives a new child its memory. The second argument is the child's stack pointer: the child needs
/// nothing of the stack below it.
pub type Filler = fn(EnvId, Va) -> Result<(), Error>;

/// Makes a child and calls [`parent`]; returns `true` in the parent, and `false` in the child.
///
/// The child begins with the registers of this moment, but with the memory of a later one: each page as it is when it
/// is shared. If compiled code made the call, the parent could meanwhile use its stack slots for something else, and
/// the child would find that. So this function pushes everything that the child needs, and the parent continues
/// *below* it, leaving it alone.
#[unsafe(naked)]
#[allow(improper_ctypes_definitions)] // both ends of these calls are Rust
unsafe extern "C" fn exofork(fill: Filler, made: &mut Result<Child, Error>) -> bool {
    naked_asm!(
        ".irp r, rbp, rbx, r12, r13, r14, r15",
        "push \\r",
        ".endr",
        "push rax", // rsp is a multiple of 16 again
        "mov eax, {EXOFORK}",
        "syscall", // returns in the parent, and, once it is started, in the child
        "test rax, rax",
        "jz 2f",
        "mov rcx, rsi",
        "mov r9, rdi",
        "mov rdi, rax",
        "mov rsi, rdx",
        "mov rdx, r9",
        "mov r8, rsp",
        "call {parent}", // (rax, rdx, fill, made, rsp)
        "mov eax, 1",
        "2:",
        "pop rcx",
        ".irp r, r15, r14, r13, r12, rbx, rbp",
        "pop \\r",
        ".endr",
        "ret",
        EXOFORK = const abi::Call::Exofork as u64,
        parent = sym parent,
    )
}

#[allow(improper_ctypes_definitions)]
extern "C" fn parent(rax: u64, rdx: u64, fill: Filler, made: &mut Result<Child, Error>, rsp: Va) {
    *made = abi::Error::decode(rax, rdx).map_err(Error::from).and_then(|(child, _)| {
        let child = EnvId(child as u32);
        start(child, fill, rsp).map(|()| Child(child)).inspect_err(|_| {
            let _ = sys::destroy(child).and_then(|()| sys::wait(child));
        })
    });
}

fn start(child: EnvId, fill: Filler, rsp: Va) -> Result<(), Error> {
    fill(child, rsp)?;
    sys::alloc(child, FIRST_PAGE, 1, Perms::WRITE)?;
    sys::set_upcall(child, first_fault as *const () as u64, FIRST_PAGE, 1)?;
    Ok(sys::set_status(child, Status::Runnable)?)
}

/// The topmost page of the exception stack: the only one that a child has at first.
const FIRST_PAGE: Va = Va(EXCEPTION_STACK_TOP.0 - PAGE_SIZE);
/// The number of the other pages.
const MORE: u64 = STACK_PAGES - 1;

/// The first upcall of a child: gets the rest of the exception stack, registers [`upcall::enter`], and jumps there.
/// Many children never have an exception and save this work.
///
/// If there is no memory, one page must suffice, and the next exception tries again.
#[unsafe(naked)]
unsafe extern "C" fn first_fault() {
    naked_asm!(
        "mov eax, {ALLOC}",
        "xor edi, edi",
        "mov esi, {STACK_LOW}",
        "mov edx, {MORE}",
        "mov r10d, {WRITE}",
        "syscall",
        "cmp rax, {MORE}",
        "jne {enter}",
        "mov eax, {SET_UPCALL}",
        "xor edi, edi",
        "lea rsi, [rip + {enter}]",
        "mov edx, {STACK_LOW}",
        "mov r10d, {STACK_PAGES}",
        "syscall",
        "jmp {enter}", // which needs no registers: their values are in the fault
        ALLOC = const abi::Call::Alloc as u64,
        SET_UPCALL = const abi::Call::SetUpcall as u64,
        STACK_LOW = const STACK_LOW.0,
        MORE = const MORE,
        STACK_PAGES = const STACK_PAGES,
        WRITE = const Perms::WRITE.bits(),
        enter = sym upcall::enter,
    )
}

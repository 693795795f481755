//! `exec`: replaces the program in this environment.
//!
//! First the new program is loaded into a stopped child, as [`Command::spawn`] does: everything that can fail happens
//! at this point, and is undone on failure. Then this environment takes over the child's pages, and the child ends.
//!
//! The code that performs the final step must not be in memory that either program occupies. So a few instructions are
//! copied to a page apart ([`STAGE`]): they carry out a list of page operations, end the child, and load the registers
//! of the new program.
//!
//! ```text
//!              before                 after `clear`          after the list
//! stack        old stack              old stack              the child's
//! STAGE        -                      code, list             code, list
//! mappings     whatever               -                      -
//! heap         heap                   -                      -
//! program      all of the old one     libos of the old one   the child's: libos of the new one
//! ```

use crate::layout::{HEAP, SCRATCH, TEXT};
use crate::spawn::{Command, Made};
use crate::{EnvId, Error, ExitStatus, PAGE_SIZE, PageOp, Perms, Registers, Va, page_calls::Sys};
use crate::{console, device, door, pages, regions, stack, sys, upcall, uvpt};
use core::arch::naked_asm;
use core::mem::offset_of;
use core::ops::Range;

const ME: EnvId = EnvId::SELF;
/// Two pages for the final step. They stay mapped, and the new program reuses them if it calls `exec` itself.
const STAGE: Va = Va(SCRATCH.0 + 0x60_0000);
/// The second page of the stage: the [`List`].
const LIST: Va = STAGE.add_pages(1);
/// The number of operations that fit into [`LIST`] behind the registers.
const MOST: usize = (PAGE_SIZE as usize - size_of::<Registers>()) / size_of::<PageOp>();

/// The registers and page operations for the final step.
#[repr(C)]
struct List {
    registers: Registers,
    ops: [PageOp; MOST],
}

impl Command {
    /// Run the program in this environment, in place of the calling program. The environment keeps its id, parent and
    /// children; its memory is replaced, and its devices are free for others.
    ///
    /// Returns only if there is an error.
    ///
    /// # Errors
    /// As [`Command::spawn`]. Nothing has changed then.
    pub fn exec(&self) -> Error {
        let made = match self.prepare() {
            Ok(made) => made,
            Err(error) => return error,
        };
        device::release_all();
        clear();
        // SAFETY: the page is mapped, nothing else uses it, and any bytes are a valid list.
        let list = unsafe { &mut *(LIST.0 as *mut List) };
        list.registers = made.registers;
        let count = write_ops(&made, &mut list.ops);
        // SAFETY: the stage holds a copy of `leap`, which takes these arguments; replacing the program is intended.
        unsafe {
            let leap: extern "C" fn(u64, u64, u64, u64) -> ! = core::mem::transmute(STAGE.0);
            leap(LIST.0 + offset_of!(List, ops) as u64, count, made.child.0.into(), LIST.0)
        }
    }

    /// Makes a stopped child with the new program, and the stage.
    fn prepare(&self) -> Result<Made, Error> {
        // Own the tables in the range of the programs: `exec` is going to change the entries below them.
        pager::unshare::own(&mut Sys, &(TEXT..HEAP))?;
        let made = self.make()?;
        console::flush();
        let staged = pages::fill(STAGE, Perms::EXEC, |page| {
            let (start, end) = (leap as *const u8, &raw const libos_leap_end);
            // SAFETY: the code of `leap` ends at the label, and is shorter than a page.
            let code = unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) };
            page[..code.len()].copy_from_slice(code);
        });
        let staged = staged.and_then(|()| sys::alloc(ME, LIST, 1, Perms::WRITE));
        // After `upcall::remove` no page is brought in on a touch: the rest of `exec` uses less of the stack than
        // this.
        door::touch_stack::<PAGE_SIZE>();
        let staged = staged.and_then(|()| upcall::remove());
        staged.map_err(|error| {
            made.undo();
            Error::from(error)
        })?;
        Ok(made)
    }
}

/// Removes everything but the memory that this code runs on. No upcall is registered any more, so nothing brings the
/// removed pages back.
fn clear() {
    let program = regions::own_program().unwrap_or_else(|| give_up());
    let mut from = TEXT;
    for segment in program.segments().iter().filter(|segment| segment.resident) {
        // One of the gaps between segments contains the stacks.
        remove(from..segment.start.min(stack::low()));
        from = segment.end;
    }
    remove(from..HEAP);
    remove(HEAP..SCRATCH);
}

fn remove(range: Range<Va>) {
    if range.start < range.end && pager::ranges::clear(&mut Sys, &range).is_err() {
        give_up();
    }
}

/// Ends the program, because it is too late to return an error.
fn give_up() -> ! {
    sys::exit(ExitStatus::PANIC.0)
}

/// Writes the operations that move the child's pages into this environment. Mappings come first, since a page that is
/// mapped replaces the old one; then the remaining old pages are removed.
///
/// Returns the number of operations.
fn write_ops(made: &Made, ops: &mut [PageOp; MOST]) -> u64 {
    let mut used = 0;
    let mut push = |op| {
        *ops.get_mut(used).unwrap_or_else(|| give_up()) = op;
        used += 1;
    };
    for (range, perms) in made.pages() {
        push(PageOp::map(made.child, range.start, ME, range.start, pager::pages(&range) as u32, perms));
    }
    let mut run = TEXT..TEXT;
    for (va, _) in uvpt::entries(TEXT..HEAP) {
        if made.pages().any(|(range, _)| range.contains(&va)) {
            continue;
        }
        if run.end != va {
            if run.start < run.end {
                push(PageOp::unmap(ME, run.start, pager::pages(&run) as u32));
            }
            run.start = va;
        }
        run.end = va.add_pages(1);
    }
    if run.start < run.end {
        push(PageOp::unmap(ME, run.start, pager::pages(&run) as u32));
    }
    used as u64
}

unsafe extern "C" {
    static libos_leap_end: u8;
}

/// `(operations, count, child, registers) -> !`: carries out the operations, ends the child, and loads its registers.
/// Position-independent, and uses no stack.
#[unsafe(naked)]
unsafe extern "C" fn leap() -> ! {
    naked_asm!(
        "mov r12, rdi",
        "mov r13, rsi",
        "mov r14, rdx",
        "mov r15, rcx",
        "2:",
        "mov eax, {PAGE_OPS}",
        "mov rdi, r12",
        "mov rsi, r13",
        "syscall", // rax operations are done, and rdx pages of the next one
        "test rax, rax",
        "js 4f",
        "sub r13, rax",
        "imul rax, rax, {OP_BYTES}",
        "add r12, rax",
        "test r13, r13",
        "jz 3f",
        "sub [r12 + {COUNT}], edx",
        "shl rdx, 12",
        "add [r12 + {VA}], rdx",
        "add [r12 + {SOURCE}], rdx",
        "jmp 2b",
        "3:",
        "mov eax, {DESTROY}",
        "mov rdi, r14",
        "syscall",
        "mov eax, {WAIT}",
        "mov rdi, r14",
        "xor esi, esi",
        "syscall",
        "mov eax, {SET_REGS}",
        "xor edi, edi",
        "mov rsi, r15",
        "syscall",
        "4:",
        "mov eax, {EXIT}",
        "mov edi, {PANIC}",
        "syscall",
        "ud2",
        ".globl libos_leap_end",
        "libos_leap_end:",
        PAGE_OPS = const abi::Call::PageOps as u64,
        DESTROY = const abi::Call::Destroy as u64,
        WAIT = const abi::Call::Wait as u64,
        SET_REGS = const abi::Call::SetRegs as u64,
        EXIT = const abi::Call::Exit as u64,
        PANIC = const ExitStatus::PANIC.0,
        OP_BYTES = const size_of::<PageOp>(),
        COUNT = const offset_of!(PageOp, count),
        VA = const offset_of!(PageOp, va),
        SOURCE = const offset_of!(PageOp, source),
    )
}

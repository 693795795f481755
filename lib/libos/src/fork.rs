//! `fork`, copy-on-write, page by page, in user space.
//!
//! The kernel knows nothing of it. It can make an environment with the caller's registers and no
//! memory ([`exofork`](sys::exofork)), and it can share a page between the two. Everything else is
//! here: which page is shared, which is copied, and when.

use crate::upcall::{self, STACK_LOW};
use crate::{
    Child, EnvId, Error, PAGE_SIZE, PageOp, Perms, Pte, Status, Va, console, layout, pager, pages, resident,
    stats, sys, uvpt,
};
use core::arch::naked_asm;

/// Who one is, after a fork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fork {
    /// The one that called; this is the other one.
    Parent(Child),
    /// The new one.
    Child,
}

/// Become two: the same program at the same place, with memory that is equal but not shared.
///
/// # Errors
/// `NoEnvs`, `NoMemory`: there is no child, and the caller goes on as before. `InHandler`.
pub fn fork() -> Result<Fork, Error> {
    with(copy_on_write)
}

/// Make a child, let `fill` give it memory, and start it where the caller is.
///
/// # Errors
/// `InHandler`, the errors of `exofork`, and those of `fill`: the child is then taken back.
pub fn with(fill: Filler) -> Result<Fork, Error> {
    if upcall::in_handler() {
        return Err(Error::InHandler);
    }
    console::flush(); // or both would print what is left of the line
    let mut made = Err(Error::InHandler);
    // SAFETY: both returns of this function find the registers and the stack as a call leaves
    // them; the child does not look at `made`.
    if unsafe { exofork(fill, &mut made) } {
        return made.map(Fork::Parent);
    }
    stats::reset();
    Ok(Fork::Child)
}

/// Gives a new child its memory. The second argument is the child's stack pointer: it needs nothing
/// of the stack below that.
pub type Filler = fn(EnvId, Va) -> Result<(), Error>;

/// Make a child and call [`parent`]; returns `true` in the parent, and `false` in the child.
///
/// The child begins with the registers of this moment, but with the memory of a later one: each page
/// as it is when it is shared. If compiled code made the call, the parent could meanwhile use
/// the same stack slots for something else, and the child would find that. So: everything
/// that the child needs is pushed here, and the parent goes on *below*, leaving it alone.
#[unsafe(naked)]
#[allow(improper_ctypes_definitions)] // both ends of these calls are Rust
unsafe extern "C" fn exofork(fill: Filler, made: &mut Result<Child, Error>) -> bool {
    naked_asm!(
        ".irp r, rbp, rbx, r12, r13, r14, r15",
        "push \\r",
        ".endr",
        "push rax", // rsp is a multiple of 16 again
        "mov eax, {EXOFORK}",
        "syscall", // comes back in the parent, and, once it is started, in the child
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
    upcall::install(child)?;
    Ok(sys::set_status(child, Status::Runnable)?)
}

/// What the child gets in place of an entry of the parent.
#[derive(Clone, Copy, PartialEq)]
enum Share {
    /// The same page.
    Page(Perms),
    /// The same page, to be copied by whoever writes first.
    CopyOnWrite(Perms),
    /// The same mark.
    Mark(u64),
}

impl Share {
    fn of(entry: Pte) -> Share {
        let perms = entry.perms();
        if !entry.is_present() {
            Share::Mark(entry.word())
        } else if perms.intersects(Perms::WRITE | Perms::COW) && !perms.contains(Perms::KEEP) {
            Share::CopyOnWrite((perms - Perms::WRITE) | Perms::COW)
        } else {
            Share::Page(perms)
        }
    }
}

/// Share everything with the child, but for three things:
///
/// * The exception stack: the kernel writes to it, so it cannot be shared. The child gets a new one.
/// * Resident memory, which must never be copy-on-write: it is copied at once.
/// * The page of the stack that both will write to as soon as they run: it is copied at once, which
///   spares both a fault, and means that memory for it is found now or not at all. What lies below
///   is the work of this function, and of no use to the child.
fn copy_on_write(child: EnvId, rsp: Va) -> Result<(), Error> {
    let resident = resident::range();
    let exception_stack = STACK_LOW..layout::EXCEPTION_STACK_TOP;
    let stack = rsp.page()..rsp.page().add_pages(1);
    let in_stack = (pager::stack_low()..layout::STACK_TOP).contains(&rsp);
    let below = if in_stack { pager::stack_low() } else { stack.start }..stack.start;

    for copied in [&resident, &stack] {
        let pages = (copied.end.0 - copied.start.0) / PAGE_SIZE;
        pages::copy_to(child, copied.start, pages, Perms::WRITE)?;
    }
    let elsewhere = [resident, exception_stack, stack, below];
    let mut batch = Batch::new(child);
    for (va, entry) in uvpt::entries(Va(0)..layout::USER_LIMIT) {
        if !elsewhere.iter().any(|range| range.contains(&va)) {
            batch.add(va, Share::of(entry))?;
        }
    }
    batch.end_run()?;
    batch.flush()
}

/// Operations in one call to the kernel.
const BATCH: usize = 32;

/// Collects operations, so that one call does many: a run of neighbouring pages that are treated
/// alike is one operation, or two.
struct Batch {
    child: EnvId,
    ops: [PageOp; BATCH],
    used: usize,
    /// The run that may go on with the next page: where, how many pages, how.
    run: Option<(Va, u32, Share)>,
}

impl Batch {
    fn new(child: EnvId) -> Batch {
        let nothing = PageOp::unmap(EnvId::NONE, Va(0), 0);
        Batch { child, ops: [nothing; BATCH], used: 0, run: None }
    }

    fn add(&mut self, va: Va, share: Share) -> Result<(), Error> {
        if let Some((first, count, how)) = &mut self.run
            && *how == share
            && first.add_pages(u64::from(*count)) == va
            && *count < u32::MAX
        {
            *count += 1;
            return Ok(());
        }
        self.end_run()?;
        self.run = Some((va, 1, share));
        Ok(())
    }

    /// The order matters. First the page goes to the child, copy-on-write; only then the caller's
    /// own becomes copy-on-write. What the caller writes between the two is still seen by the
    /// child, which is as if it had been written before the fork. The other way round the caller,
    /// writing between the two, would get a private writable copy, that
    /// copy would go to the child, and later writes of the caller would appear in the child.
    ///
    /// For the same reason the caller's page is protected even if it is copy-on-write already:
    /// since this run was collected, the caller may have written to it, and have it writable now.
    fn end_run(&mut self) -> Result<(), Error> {
        let Some((va, count, share)) = self.run.take() else { return Ok(()) };
        if self.used + 2 > BATCH {
            self.flush()?;
        }
        let (me, child) = (EnvId::NONE, self.child);
        match share {
            Share::Page(perms) => self.push(PageOp::map(me, va, child, va, count, perms)),
            Share::Mark(word) => self.push(PageOp::mark(child, va, count, word)),
            Share::CopyOnWrite(perms) => {
                self.push(PageOp::map(me, va, child, va, count, perms));
                self.push(PageOp::protect(me, va, count, perms));
            }
        }
        Ok(())
    }

    fn push(&mut self, op: PageOp) {
        self.ops[self.used] = op;
        self.used += 1;
    }

    fn flush(&mut self) -> Result<(), Error> {
        sys::page_ops(&self.ops[..self.used]).map_err(|(_, error)| error)?;
        self.used = 0;
        Ok(())
    }
}

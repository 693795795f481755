//! `fork`, copy-on-write, page by page, in user space.
//!
//! The kernel knows nothing of it. It can make an environment with the caller's registers and no
//! memory (see [`with`]), and it can share a page between the two. Everything
//! else is here: which page is shared, which is copied, and in what order.

pub use crate::exofork::{Filler, Fork, with};
use crate::upcall::STACK_LOW;
use crate::{EnvId, Error, PAGE_SIZE, PageOp, Perms, Pte, Va, layout, pager, pages, resident, sys, uvpt};

/// Become two: the same program at the same place, with memory that is equal but not shared.
///
/// # Errors
/// `NoEnvs`, `NoMemory`: there is no child, and the caller goes on as before. `InHandler`.
pub fn fork() -> Result<Fork, Error> {
    with(copy_on_write)
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
    /// writing between the two, would get a private writable copy, that copy would go to the child,
    /// and later writes of the caller would appear in the child.
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

//! `fork`, copy-on-write, page by page.
//!
//! The kernel knows nothing of it. It can make an environment with the caller's registers and no
//! memory, and it can share a page between the two. Everything else is here: which page is shared,
//! in which way, and in what order.

use crate::batch::Batch;
use crate::{Error, Inherit, Kernel, ME, Region};
use abi::layout::USER_LIMIT;
use abi::{EnvId, PageOp, Perms, Pte, Va};
use core::ops::Range;

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

    /// The order matters. First the page goes to the child, copy-on-write; only then the caller's
    /// own becomes copy-on-write. What the caller writes between the two is still seen by the
    /// child, which is as if it had been written before the fork. The other way round the caller,
    /// writing between the two, would get a private writable copy, that copy would go to the child,
    /// and later writes of the caller would appear in the child.
    ///
    /// For the same reason the caller's page is protected even if it is copy-on-write already:
    /// since this run was collected, the caller may have written to it, and have it writable now.
    fn ops(self, child: EnvId, va: Va, count: u32) -> [Option<PageOp>; 2] {
        match self {
            Share::Page(perms) => [Some(PageOp::map(ME, va, child, va, count, perms)), None],
            Share::Mark(word) => [Some(PageOp::mark(child, va, count, word)), None],
            Share::CopyOnWrite(perms) => [
                Some(PageOp::map(ME, va, child, va, count, perms)),
                Some(PageOp::protect(ME, va, count, perms)),
            ],
        }
    }
}

/// Share every page and mark of the caller with the child, but for what lies in the ranges of `except`
/// (which the caller of this sees to), and for regions that children do not inherit.
///
/// # Errors
/// Those of the kernel. The child is of no use then; the caller's own memory is what it was.
pub fn share<K: Kernel>(
    kernel: &mut K,
    regions: &[Region<K>],
    child: EnvId,
    except: &[Range<Va>],
) -> Result<(), Error> {
    let inherits = |region: &Region<K>| region.pager.on_fork() != Inherit::Not;
    let all_inherit = regions.iter().all(inherits);
    let entries = kernel.entries(Va(0)..USER_LIMIT);
    let mut batch = Batch::new(kernel, |va, count, share: Share| share.ops(child, va, count));
    for (va, entry) in entries {
        let not_inherited = || crate::region::find(regions, va).is_some_and(|region| !inherits(region));
        if !except.iter().any(|range| range.contains(&va)) && (all_inherit || !not_inherited()) {
            batch.add(va, Share::of(entry))?;
        }
    }
    batch.finish()
}

/// Before a fork: fill the regions that stay shared. A page that nobody has touched cannot be shared.
///
/// # Errors
/// Those of the kernel.
pub fn fill_shared<K: Kernel>(kernel: &mut K, regions: &[Region<K>]) -> Result<(), Error> {
    for region in regions.iter().filter(|region| region.pager.on_fork() == Inherit::Shared) {
        let mut at = region.start;
        for (va, _) in kernel.entries(region.range()) {
            fill(kernel, region, at..va)?;
            at = va.add_pages(1);
        }
        fill(kernel, region, at..region.end)?;
    }
    Ok(())
}

fn fill<K: Kernel>(kernel: &mut K, region: &Region<K>, gap: Range<Va>) -> Result<(), Error> {
    if gap.start == gap.end {
        return Ok(());
    }
    Ok(kernel.alloc(gap.start, crate::pages(&gap), region.perms)?)
}

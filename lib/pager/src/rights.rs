//! The rights of pages.

use crate::batch::Batch;
use crate::{Error, ME, PageCalls, runs::runs};
use abi::{PageOp, Perms, Pte, Va};
use core::ops::Range;

/// The permissions that a program can change.
pub(crate) const RIGHTS: Perms = Perms::WRITE.union(Perms::EXEC);

/// Gives these rights to the pages of a range that `which` selects.
pub(crate) fn set_rights<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    rights: Perms,
    which: impl Fn(Pte) -> bool,
) -> Result<(), Error> {
    let new = |_, entry: Pte| (entry.is_present() && which(entry)).then(|| protected(entry, rights));
    let mut batch = Batch::new();
    for (va, count, perms) in runs(kernel.entries(range.clone()), new) {
        batch.add(kernel, PageOp::protect(ME, va, count, perms))?;
    }
    batch.finish(kernel)
}

/// The permissions of a page after a change of rights.
///
/// A page that is not shared on purpose becomes copy-on-write, and not writable at once: while it was read-only a fork
/// may have shared it, and the entry does not show that. If only this environment has the page, the first write costs
/// a fault, and no copy.
fn protected(entry: Pte, perms: Perms) -> Perms {
    let rest = entry.perms() - (Perms::WRITE | Perms::EXEC | Perms::COW);
    let copied_first = perms.contains(Perms::WRITE) && !rest.contains(Perms::KEEP);
    rest | if copied_first { Perms::COW } else { perms }
}

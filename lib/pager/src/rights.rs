//! The rights of pages.

use crate::batch::Batch;
use crate::{
    Error, ME, PageCalls,
    runs::{Singly, runs},
};
use abi::{PageOp, Perms, Pte, Va};
use core::ops::Range;

/// The permissions that a program can change.
pub(crate) const RIGHTS: Perms = Perms::WRITE.union(Perms::EXEC);

/// Gives these rights to the pages of a range that `which` selects. The tables are private.
pub(crate) fn set_rights<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    rights: Perms,
    which: impl Fn(Pte) -> bool,
) -> Result<(), Error> {
    let new = |_, entry: Pte| (entry.is_present() && which(entry)).then(|| protected::<K>(entry, rights));
    let entries = kernel.entries(range.clone());
    match rights.contains(Perms::WRITE) {
        true => set_runs(kernel, runs(Singly(entries), new)),
        false => set_runs(kernel, runs(entries, new)),
    }
}

fn set_runs<K: PageCalls>(kernel: &mut K, runs: impl Iterator<Item = (Va, u32, Perms)>) -> Result<(), Error> {
    let mut batch = Batch::new();
    for (va, count, perms) in runs {
        batch.add(kernel, PageOp::protect(ME, va, count, perms))?;
    }
    batch.finish(kernel)
}

/// The permissions of a page after a change of rights.
///
/// A page that becomes writable, is not shared on purpose, and has another user becomes copy-on-write: while it was
/// read-only a fork may have shared it, and the entry does not show that. The same holds for a page that the kernel will
/// not make writable.
fn protected<K: PageCalls>(entry: Pte, perms: Perms) -> Perms {
    let rest = entry.perms() - (Perms::WRITE | Perms::EXEC | Perms::COW);
    let is_own = || entry.has(Pte::MAY) && K::is_sole(entry.frame());
    let copied_first = perms.contains(Perms::WRITE) && !rest.contains(Perms::KEEP) && !is_own();
    rest | if copied_first { Perms::COW } else { perms }
}

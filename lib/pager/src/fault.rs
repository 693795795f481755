//! Handling of a page fault: the slow path.

use crate::touch::{Access, Cause, Resolution, Touch};
use crate::{PageCalls, Region, unshare};
use abi::{Level, Perms, Pte, Va, fault::PageFaultCode};

/// Owns the tables above a page that is writable and still could not be written: one of them is shared since a fork.
/// Returns the entry of the page afterwards. If a table is sealed the page cannot be written nevertheless: then the
/// entry is returned without W, because the fault is that of a page that does not allow writes.
#[inline(never)]
fn unshare<K: PageCalls>(kernel: &mut K, va: Va) -> Result<Pte, abi::Error> {
    unshare::own_above(kernel, va)?;
    let page = kernel.present(va);
    let is_sealed = |level| !kernel.table(va, level).has(Pte::WRITABLE);
    let blocked = page.has(Pte::WRITABLE) && Level::TABLES.into_iter().any(is_sealed);
    Ok(if blocked { Pte(page.0 & !Pte::WRITABLE) } else { page })
}

/// Resolves a page fault: breaks copy-on-write, or asks the pager of the region, which `find` looks up.
///
/// # Errors
/// Those of the kernel, above all `NoMemory`. Then nothing has changed that a repetition would not repair.
#[inline]
// exercise 4 of fork: a write to a page that is copy-on-write
pub fn resolve<K: PageCalls>(
    kernel: &mut K,
    find: impl FnOnce(Va) -> Option<Region<K>>,
    va: Va,
    code: PageFaultCode,
) -> Result<Resolution, abi::Error> {
    let mut entry = None;
    if code.is_protection() {
        let mut page = kernel.present(va);
        if code.is_write() && page.has(Pte::WRITABLE) {
            page = unshare(kernel, va)?;
            if page.has(Pte::WRITABLE) {
                return Ok(Resolution::Resume(Cause::Unshared));
            }
        }
        if code.is_write() && page.has(Perms::COW.bits()) {
            return kernel.own(va.page()).map(|()| Resolution::Resume(Cause::Copy));
        }
        entry = Some(page);
    }
    let Some(region) = find(va) else { return Ok(Resolution::Unhandled) };
    let (access, allowed) = if code.is_write() {
        (Access::Write, region.is_writable())
    } else if code.is_fetch() {
        (Access::Fetch, region.perms.contains(Perms::EXEC))
    } else {
        (Access::Read, true)
    };
    if !allowed {
        return Ok(Resolution::Unhandled);
    }
    let touch = Touch { va, access, entry: entry.unwrap_or_else(|| kernel.pte(va)) };
    region.pager.fault(kernel, &touch, &region)
}

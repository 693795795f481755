// The answer is in the middle. `todo!` takes pages that come by a fault, and faults are resolved here.
pub fn resolve<K: PageCalls>(
    kernel: &mut K,
    find: impl FnOnce(Va) -> Option<Region<K>>,
    va: Va,
    code: PageFaultCode,
) -> Result<Resolution, abi::Error> {
    let mut entry = None;
    if code.is_protection() {
        let mut page = kernel.present(va);
        if code.is_write() && !page.has(Pte::WRITABLE) {
            kernel.unfinished(EXERCISE)
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

//! `fork`, copy-on-write, in user space.
//!
//! [`pager::fork`] decides what is shared and in which order; the tests run it on the host too. This module adds what
//! a real program needs: the memory that cannot be shared.

pub use crate::exofork::{Filler, Fork, fork_with};
use crate::layout::{OF_DEVICES, PRIVATE, STACK_TOP};
use crate::{EnvId, Error, Level, Perms, Va, device, door, page_calls::Sys, regions, resident, stack, sys};
use abi::page::span;
use pager::fork::Plan;

/// Makes a child: a copy of this program that continues at this point, with equal but separate memory.
///
/// # Errors
/// `NoEnvs`, `NoMemory`: there is no child, and the caller goes on as before. `InHandler`.
pub fn fork() -> Result<Fork, Error> {
    fork_with(|child, rsp| copy_on_write(child, rsp, pager::fork::share_tables))
}

/// Forks as [`fork`] does, but shares page by page instead of whole tables: the algorithm at its simplest, and the
/// cost of a fork before tables could be shared.
///
/// # Errors
/// As [`fork`].
pub fn by_page() -> Result<Fork, Error> {
    fork_with(|child, rsp| copy_on_write(child, rsp, pager::fork::share_pages))
}

/// A function that gives the child all memory that can be shared.
type Share = fn(&mut Sys, &Plan<Sys>) -> Result<(), pager::Error>;

/// Shares everything with the child, except four things:
///
/// * The exception stack: the kernel writes to it, so it cannot be shared. The child gets a new one.
/// * Memory that fault handling itself needs (resident data, the table of regions), which must never be copy-on-write.
/// * The stack page that both write to as soon as they run. Copying it now spares both a fault, and a lack of memory
///   for it is found now instead of later. The stack below belongs to this function only, and is of no use to the
///   child.
/// * The registers and the memory of devices. The devices stay with the parent.
fn copy_on_write(child: EnvId, rsp: Va, share: Share) -> Result<(), Error> {
    // No table may be added while tables are counted.
    door::touch_stack::<0>();
    pager::fork::fill_shared(&mut Sys, regions::all())?;
    let resident = resident::range();
    let table = regions::table_pages();
    let stack = rsp.page()..rsp.page().add_pages(1);
    let in_stack = (stack::low()..STACK_TOP).contains(&rsp);
    let below = if in_stack { stack::low() } else { stack.start }..stack.start;

    for copied in [&resident, &table, &stack].into_iter().filter(|range| !range.is_empty()) {
        sys::copy(EnvId::SELF, copied.start, child, copied.start, pager::pages(copied), Perms::WRITE)?;
    }
    let private = PRIVATE..Va(PRIVATE.0 + span(Level::L2));
    let except = [below, stack, STACK_TOP..private.end, table, OF_DEVICES];
    // Most programs have no devices, and each exception costs time.
    let except = if device::are_used() { &except } else { &except[..4] };
    Ok(share(&mut Sys, &Plan { child, regions: regions::all(), except, private })?)
}

//! `fork`, copy-on-write, in user space.
//!
//! What is shared and in which order is in [`pager::fork`], which the tests run on the host too.
//! Here is what a fork of a real program adds: the memory that cannot be shared.

pub use crate::exofork::{Filler, Fork, with};
use crate::kernel::Sys;
use crate::layout::{PRIVATE, STACK_TOP};
use crate::{EnvId, Error, Perms, Va, door, resident, space, stack, sys};
use abi::page::span;
use pager::fork::Plan;

/// Become two: the same program at the same place, with memory that is equal but not shared.
///
/// # Errors
/// `NoEnvs`, `NoMemory`: there is no child, and the caller goes on as before. `InHandler`.
pub fn fork() -> Result<Fork, Error> {
    with(|child, rsp| copy_on_write(child, rsp, pager::fork::share))
}

/// The same, and every page is shared by itself: what fork is at heart, and what it cost before tables could be
/// shared.
///
/// # Errors
/// As [`fork`].
pub fn by_page() -> Result<Fork, Error> {
    with(|child, rsp| copy_on_write(child, rsp, pager::fork::share_pages))
}

/// Gives the child what can be shared.
type Share = fn(&mut Sys, &Plan<Sys>) -> Result<(), pager::Error>;

/// Share everything with the child, but for three things:
///
/// * The exception stack: the kernel writes to it, so it cannot be shared. The child gets a new one.
/// * Memory that faults themselves need (resident data, the table of regions), which must never be
///   copy-on-write.
/// * The page of the stack that both will write to as soon as they run: that spares both a fault, and means that memory
///   for it is found now or not at all. What lies below is the work of this function, and of no use to the child.
fn copy_on_write(child: EnvId, rsp: Va, share: Share) -> Result<(), Error> {
    // No table may come while tables are counted.
    door::touch_stack::<0>();
    pager::fork::fill_shared(&mut Sys, space::regions())?;
    let resident = resident::range();
    let table = space::table_pages();
    let stack = rsp.page()..rsp.page().add_pages(1);
    let in_stack = (stack::low()..STACK_TOP).contains(&rsp);
    let below = if in_stack { stack::low() } else { stack.start }..stack.start;

    for copied in [&resident, &table, &stack].into_iter().filter(|range| !range.is_empty()) {
        sys::copy(EnvId::SELF, copied.start, child, copied.start, pager::pages(copied), Perms::WRITE)?;
    }
    let private = PRIVATE..Va(PRIVATE.0 + span(2));
    let except = [below, stack, STACK_TOP..private.end, table];
    Ok(share(&mut Sys, &Plan { child, regions: space::regions(), except: &except, private })?)
}

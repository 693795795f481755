//! The stack: it grows when it is touched, down to a limit, and a guard lies below that.

use crate::layout::STACK_TOP;
pub use crate::regions::DEFAULT_STACK_BYTES as DEFAULT_BYTES;
use crate::regions::{self, FIRST_STACK, Region};
use crate::{Error, Fault, PAGE_SIZE, Perms, Va, Vector, door, env, println, resident};
use core::ops::Range;
use executable::{STACK_GUARD_BYTES, STACKS};
use pager::Guard;

/// The greatest limit of the stack: 512 MiB.
pub const MAX_BYTES: u64 = 512 << 20;

/// Bytes below the stack pointer that stay when the limit is lowered.
const RESERVE: u64 = 8 * PAGE_SIZE;

static GUARD: Guard = Guard("stack guard");

const fn guard_below(low: Va) -> Range<Va> {
    Va(low.0 - STACK_GUARD_BYTES)..low
}

/// The region of the stack.
fn region() -> Region {
    regions::find(Va(STACK_TOP.0 - 1)).expect("there is a stack")
}

// The executable format keeps segments away from the stack and its guard.
const _: () = assert!(STACKS.start.0 <= guard_below(FIRST_STACK.start).start.0 && STACK_TOP.0 <= STACKS.end.0);

pub(crate) fn init() -> Result<(), Error> {
    regions::add(Region::new(guard_below(FIRST_STACK.start), Perms::READ, &GUARD))
}

/// Let the stack grow to this many bytes (rounded up to pages), at most [`MAX_BYTES`], and not less than is in use; a
/// fault handler cannot lower the limit. Pages below the limit are given back.
///
/// # Errors
/// `Memory` with [`Overlap`](pager::Error::Overlap): something else is in the way.
pub fn set_limit(bytes: u64) -> Result<(), Error> {
    let rsp = Va(door::stack_pointer());
    // A handler runs on another stack and cannot tell how much the interrupted code uses.
    let used = if rsp < STACK_TOP { STACK_TOP.0 - rsp.0 + RESERVE } else { STACK_TOP.0 - low().0 };
    let bytes = bytes.max(used).clamp(PAGE_SIZE, MAX_BYTES);
    let (old, low) = (low(), Va(STACK_TOP.0 - bytes).page());
    // Each step keeps the stack and its guard apart.
    if low < old {
        regions::resize(&guard_below(old), &guard_below(low))?;
        regions::resize(&(old..STACK_TOP), &(low..STACK_TOP))
    } else if low > old {
        regions::unmap(&(old..low))?;
        regions::resize(&guard_below(old), &guard_below(low))
    } else {
        Ok(())
    }
}

/// The lowest address to which the stack may grow.
#[must_use]
pub fn low() -> Va {
    region().start
}

/// Whether the fault address is in the guard below the exception stack: most likely a handler overflowed the stack.
#[cold]
pub(crate) fn is_exception_guard(fault: &Fault) -> bool {
    fault.vector() == Vector::PAGE_FAULT && (STACK_TOP..resident::STACK_LOW).contains(&Va(fault.address))
}

/// Prints an explanation if the fault address is in a guard.
pub(crate) fn explain(fault: &Fault) {
    let va = Va(fault.address);
    let Some(region) = regions::find(va) else { return };
    let name = region.pager.name();
    if !name.ends_with("guard") {
        return;
    }
    let me = env::id();
    println!("[{me}] {va} is in the {name} ({}..{})", region.start, region.end);
    if name == GUARD.0 && fault.rsp <= STACK_TOP.0 {
        let (depth, limit) = (STACK_TOP.0 - fault.rsp, STACK_TOP.0 - low().0);
        println!("[{me}] stack overflow: {depth} bytes deep, limit {limit} (libos::stack::set_limit)");
    }
}

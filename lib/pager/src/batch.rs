//! Batching: many operations become one call.

use crate::{Error, ME, PageCalls};
use abi::{PageOp, Va};

/// The number of operations in one call to the kernel.
const SIZE: usize = 16;

/// Operations that wait to be executed.
pub(crate) struct Batch {
    ops: [PageOp; SIZE],
    used: usize,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch { ops: [PageOp::unmap(ME, Va(0), 0); SIZE], used: 0 }
    }

    /// Adds an operation. Executes the others first if there is no room.
    pub(crate) fn add<K: PageCalls>(&mut self, kernel: &mut K, op: PageOp) -> Result<(), Error> {
        if self.used == SIZE {
            self.finish(kernel)?;
        }
        self.ops[self.used] = op;
        self.used += 1;
        Ok(())
    }

    /// Executes the operations.
    pub(crate) fn finish<K: PageCalls>(&mut self, kernel: &mut K) -> Result<(), Error> {
        let used = core::mem::take(&mut self.used);
        if used == 0 { Ok(()) } else { Ok(kernel.ops(&self.ops[..used])?) }
    }
}

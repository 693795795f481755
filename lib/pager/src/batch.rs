//! Neighbouring pages that are treated alike become one operation, and many operations one call.

use crate::{Error, Kernel, ME};
use abi::{PageOp, Va};

/// Operations in one call to the kernel.
const SIZE: usize = 32;

/// Collects pages. `T` says how a page is treated; `emit` turns a run of pages into operations.
///
/// Nothing is done to a page before the next one has been added (or [`Batch::finish`] is called): so a
/// walk over the page table may feed it, and the tables that the walk stands in do not go away.
pub(crate) struct Batch<'k, K, T, F> {
    kernel: &'k mut K,
    emit: F,
    ops: [PageOp; SIZE],
    used: usize,
    /// The run that may go on with the next page: where, how many pages, how.
    run: Option<(Va, u32, T)>,
}

impl<'k, K: Kernel, T: PartialEq + Copy, F: Fn(Va, u32, T) -> [Option<PageOp>; 2]> Batch<'k, K, T, F> {
    pub(crate) fn new(kernel: &'k mut K, emit: F) -> Self {
        Batch { kernel, emit, ops: [PageOp::unmap(ME, Va(0), 0); SIZE], used: 0, run: None }
    }

    #[inline]
    pub(crate) fn add(&mut self, va: Va, how: T) -> Result<(), Error> {
        if let Some((first, count, same)) = &mut self.run
            && *same == how
            && first.add_pages(u64::from(*count)) == va
            && *count < u32::MAX
        {
            *count += 1;
            return Ok(());
        }
        self.end_run()?;
        self.run = Some((va, 1, how));
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), Error> {
        let Some((va, count, how)) = self.run.take() else { return Ok(()) };
        for op in (self.emit)(va, count, how).into_iter().flatten() {
            if self.used == SIZE {
                self.flush()?;
            }
            self.ops[self.used] = op;
            self.used += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let used = core::mem::take(&mut self.used);
        if used == 0 { Ok(()) } else { Ok(self.kernel.ops(&self.ops[..used])?) }
    }

    /// Do what is left to do.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.end_run()?;
        self.flush()
    }
}

//! Batching: adjacent pages that are treated alike become one operation, and many operations one call.

use crate::{Error, ME, PageCalls};
use abi::{PageOp, Va};

/// The number of operations in one call to the kernel.
const SIZE: usize = 16;

/// Collects pages. `T` is the treatment of a page; `emit` turns a run of pages into operations.
///
/// No operation on a page is executed before the next page is added (or [`Batch::finish`] is called): so a walk over
/// the page table may feed the batch, and the tables at the walk's position do not disappear.
pub(crate) struct Batch<T, F> {
    emit: F,
    ops: [PageOp; SIZE],
    used: usize,
    /// The current run, which the next page may extend: start, number of pages, treatment.
    run: Option<(Va, u32, T)>,
}

impl<T: PartialEq + Copy, F: Fn(Va, u32, T) -> [Option<PageOp>; 2]> Batch<T, F> {
    pub(crate) fn new(emit: F) -> Self {
        Batch { emit, ops: [PageOp::unmap(ME, Va(0), 0); SIZE], used: 0, run: None }
    }

    #[inline]
    pub(crate) fn add<K: PageCalls>(&mut self, kernel: &mut K, va: Va, how: T) -> Result<(), Error> {
        if let Some((first, count, same)) = &mut self.run
            && *same == how
            && first.add_pages(u64::from(*count)) == va
            && *count < u32::MAX
        {
            *count += 1;
            return Ok(());
        }
        self.end_run(kernel)?;
        self.run = Some((va, 1, how));
        Ok(())
    }

    fn end_run<K: PageCalls>(&mut self, kernel: &mut K) -> Result<(), Error> {
        let Some((va, count, how)) = self.run.take() else { return Ok(()) };
        for op in (self.emit)(va, count, how).into_iter().flatten() {
            if self.used == SIZE {
                self.flush(kernel)?;
            }
            self.ops[self.used] = op;
            self.used += 1;
        }
        Ok(())
    }

    fn flush<K: PageCalls>(&mut self, kernel: &mut K) -> Result<(), Error> {
        let used = core::mem::take(&mut self.used);
        if used == 0 { Ok(()) } else { Ok(kernel.ops(&self.ops[..used])?) }
    }

    /// Executes the remaining operations.
    pub(crate) fn finish<K: PageCalls>(mut self, kernel: &mut K) -> Result<(), Error> {
        self.end_run(kernel)?;
        self.flush(kernel)
    }
}

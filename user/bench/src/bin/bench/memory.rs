//! Memory that is mapped when it is touched: zeros, the stack, files; and mappings. `bulk.rs` has rows for many pages.

use crate::{FEW, MANY, Result, Samples, frames, run, touch};
use alloc::vec::Vec;
use core::hint::black_box;
use libos::mmap::{MmapMut, MmapOptions};
use libos::{Error, PAGE_SIZE, Va, archive, pager::pagers::AROUND, raw, regions::Advice, stack, time::ticks};

/// The distance of pages that are touched one by one. Between two of them others stay untouched, so libos has no reason
/// to bring in more than one page at a fault.
const APART: u32 = 3;
/// The pages of a range in which [`MANY`] are touched apart, and one at each end before.
const SPARSE: u32 = APART * (MANY + 1) + 1;

/// The pages to touch in a range of [`SPARSE`] pages.
fn apart(first: Va) -> impl DoubleEndedIterator<Item = Va> {
    (1..=MANY).map(move |n| first.add_pages((APART * n).into()))
}

/// Touches the first and the last page of a range of [`SPARSE`] pages, so that all its page tables exist.
fn make_tables(first: Va, touch: fn(Va)) {
    touch(first);
    touch(first.add_pages((SPARSE - 1).into()));
}

/// Reads from a page, as a program does.
#[inline(always)]
pub fn read(page: Va) {
    black_box(raw::read_u8(page.0));
}

/// Times the first touch of heap pages: libos allocates a page of zeros for each.
pub fn demand_zero_write(samples: &mut Samples) -> Result {
    let memory: Vec<u8> = Vec::with_capacity((SPARSE as usize + 1) * PAGE_SIZE as usize);
    let first = Va(memory.as_ptr() as u64).page_up();
    make_tables(first, touch);
    apart(first).for_each(|page| samples.time(|| touch(page)));
    Ok(())
}

/// Anonymous memory, untouched, and pages of it to touch.
fn untouched() -> core::result::Result<(MmapMut, impl Iterator<Item = Va>), Error> {
    let memory = MmapOptions::new().len(SPARSE as usize * PAGE_SIZE as usize).map_anon()?;
    let first = memory.range().start;
    make_tables(first, touch);
    Ok((memory, apart(first)))
}

/// Times the first reads of pages: they map the shared page of zeros.
pub fn demand_zero_read(samples: &mut Samples) -> Result {
    let (_memory, pages) = untouched()?;
    pages.for_each(|page| samples.time(|| read(page)));
    Ok(())
}

/// Times the first writes to pages that were read before.
pub fn zero_break(samples: &mut Samples) -> Result {
    let (_memory, pages) = untouched()?;
    for page in pages {
        read(page);
        samples.time(|| touch(page));
    }
    Ok(())
}

/// Times the first touch of pages of the stack, each below the one before.
pub fn stack_growth(samples: &mut Samples) -> Result {
    // A deeper stack, so that the pages lie far below those in use.
    stack::set_limit(2 * stack::DEFAULT_BYTES)?;
    let lowest = stack::low();
    make_tables(lowest, touch);
    apart(lowest).rev().for_each(|page| samples.time(|| touch(page)));
    stack::set_limit(stack::DEFAULT_BYTES)
}

/// Times the first reads of pages of a file.
pub fn file_page(samples: &mut Samples) -> Result {
    let file = MmapOptions::new().map(&archive::find("bigprog")?)?;
    let first = file.range().start;
    make_tables(first, read);
    apart(first).for_each(|page| samples.time(|| read(page)));
    Ok(())
}

/// Times reads of pages of a file that is read sequentially: one fault for each table. The time is for one page.
pub fn fault_around(samples: &mut Samples) -> Result {
    let file = MmapOptions::new().map(&archive::find("bigprog")?)?;
    file.advise(Advice::Sequential)?;
    for page in run(file.range().start, 2 * MANY).step_by(AROUND as usize) {
        let (before, start) = (frames(), ticks());
        run(page, AROUND as u32).for_each(read);
        samples.add(ticks() - start, before, AROUND as u32);
    }
    Ok(())
}

/// Times a mapping of one page that comes and goes, untouched.
pub fn mmap_munmap(samples: &mut Samples) -> Result {
    for _ in 0..MANY {
        samples.time(|| MmapOptions::new().len(1).map_anon().map(drop))?;
    }
    Ok(())
}

/// Times a mapping of 256 pages that are all present at once.
pub fn mmap_munmap_populated(samples: &mut Samples) -> Result {
    let options = MmapOptions::new().len(256 * PAGE_SIZE as usize);
    let file = archive::find("bigprog")?;
    for _ in 0..FEW {
        samples.time(|| options.populate().map(&file).map(drop))?;
    }
    Ok(())
}

//! Memory that is mapped when it is touched: zeros, the stack, files; and mappings. `bulk.rs` has rows for many pages.

use crate::{FEW, MANY, ME, Result, Samples, frames, run, touch};
use alloc::vec::Vec;
use core::hint::black_box;
use libos::mmap::{MmapMut, MmapOptions};
use libos::{
    Error, PAGE_SIZE, Va, archive, pager::pagers::AROUND, raw, regions::Advice, stack, sys, time::ticks, uvpt,
};

/// Reads from a page, as a program does.
#[inline(always)]
pub fn read(page: Va) {
    black_box(raw::read_u8(page.0));
}

/// Times the first touch of heap pages: libos allocates a page of zeros for each.
pub fn demand_zero_write(samples: &mut Samples) -> Result {
    let memory: Vec<u8> = Vec::with_capacity((MANY as usize + 2) * PAGE_SIZE as usize);
    let first = Va(memory.as_ptr() as u64).page_up();
    for page in run(first, MANY).filter(|page| uvpt::pte(*page).is_empty()) {
        samples.time(|| touch(page));
    }
    Ok(())
}

/// Anonymous memory, untouched, and its pages.
fn untouched(pages: u32) -> core::result::Result<(MmapMut, impl Iterator<Item = Va>), Error> {
    // One more page, so that the page table already exists.
    let mut memory = MmapOptions::new().len((pages as usize + 1) * PAGE_SIZE as usize).map_anon()?;
    memory[pages as usize * PAGE_SIZE as usize] = 1;
    let first = memory.range().start;
    Ok((memory, run(first, pages)))
}

/// Times the first reads of pages: they map the shared page of zeros.
pub fn demand_zero_read(samples: &mut Samples) -> Result {
    let (_memory, pages) = untouched(MANY)?;
    for page in pages {
        samples.time(|| read(page));
    }
    Ok(())
}

/// Times the first writes to pages that were read before.
pub fn zero_break(samples: &mut Samples) -> Result {
    let (_memory, pages) = untouched(MANY)?;
    for page in pages {
        read(page);
        samples.time(|| touch(page));
    }
    Ok(())
}

/// Times the first touch of pages of the stack, each below the one before.
pub fn stack_growth(samples: &mut Samples) -> Result {
    let lowest = stack::low();
    let pages = (1..=u64::from(MANY)).map(|page| Va(lowest.0 + (u64::from(MANY) - page) * PAGE_SIZE));
    for page in pages.filter(|page| uvpt::pte(*page).is_empty()) {
        samples.time(|| touch(page));
    }
    sys::unmap(ME, lowest, MANY.into())?;
    Ok(())
}

/// Times the first reads of pages of a file.
pub fn file_page(samples: &mut Samples) -> Result {
    let file = MmapOptions::new().map(&archive::find("bigprog")?)?;
    for page in run(file.range().start, MANY + 1) {
        samples.time(|| read(page));
    }
    Ok(())
}

/// Times reads of pages of a file that is read sequentially: one fault for sixteen. The time is for one page.
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

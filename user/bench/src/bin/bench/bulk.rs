//! Many pages at once: memory of 64 MiB that is filled, protected, moved and removed, and a file that is read. Each
//! sample is of all the pages, and libos gets no advice.

use crate::memory::read;
use crate::{Dirty, MIB, PAGES, Result, Samples, forks, frames, random_order, run, touch};
use alloc::vec::Vec;
use libos::mmap::{MmapMut, MmapOptions};
use libos::{Error, PAGE_SIZE, Pte, Va, archive, time::ticks, uvpt};

/// The pages of the memory.
const BULK: u32 = 64 * MIB;
/// The length of the memory in bytes.
const BYTES: usize = BULK as usize * PAGE_SIZE as usize;
/// Pages in 2 MiB: what a page table maps.
const PIECE: u32 = 512;
/// Samples: few, since each fills or needs much memory.
const SAMPLES: u32 = 3;

impl Samples {
    /// Takes one sample of an operation on this many pages.
    #[inline(always)]
    fn time_pages<T>(&mut self, pages: u32, what: impl FnOnce() -> T) -> T {
        let (frames, start) = (frames(), ticks());
        let result = what();
        self.add_pages(ticks() - start, frames, pages);
        result
    }
}

fn mapped() -> core::result::Result<MmapMut, Error> {
    MmapOptions::new().len(BYTES).map_anon()
}

fn write_all(first: Va) {
    run(first, BULK).for_each(touch);
}

/// Memory that was written.
fn written() -> core::result::Result<MmapMut, Error> {
    let memory = mapped()?;
    write_all(memory.range().start);
    Ok(memory)
}

/// Times the first write to each page, upwards.
pub fn touch_seq(samples: &mut Samples) -> Result {
    for _ in 0..SAMPLES {
        let memory = mapped()?;
        samples.time_pages(BULK, || write_all(memory.range().start));
    }
    Ok(())
}

/// Times the first write to each page, in an order that looks random.
pub fn touch_random(samples: &mut Samples) -> Result {
    for seed in 0..SAMPLES {
        let memory = mapped()?;
        let order = random_order(memory.range().start, BULK, seed);
        samples.time_pages(BULK, || order.iter().for_each(|page| touch(*page)));
    }
    Ok(())
}

/// Times a mapping whose pages are brought in at once, and a write to each.
pub fn populate_write(samples: &mut Samples) -> Result {
    let options = MmapOptions::new().len(BYTES).populate();
    for _ in 0..SAMPLES {
        samples.time_pages(BULK, || {
            let memory = options.map_anon()?;
            write_all(memory.range().start);
            Ok::<MmapMut, Error>(memory)
        })?;
    }
    Ok(())
}

/// Times the end of a mapping that was written.
pub fn unmap_bulk(samples: &mut Samples) -> Result {
    for _ in 0..SAMPLES {
        let memory = written()?;
        samples.time_pages(BULK, || drop(memory));
    }
    Ok(())
}

/// Times the protection of a mapping that was written.
pub fn protect_bulk(samples: &mut Samples) -> Result {
    for _ in 0..SAMPLES {
        let memory = written()?;
        samples.time_pages(BULK, || memory.make_read_only())?;
    }
    Ok(())
}

/// Times the end of that protection, and a write to each page.
pub fn reopen_bulk(samples: &mut Samples) -> Result {
    for _ in 0..SAMPLES {
        let memory = written()?.make_read_only()?;
        samples.time_pages(BULK, || {
            let memory = memory.make_mut()?;
            write_all(memory.range().start);
            Ok::<MmapMut, Error>(memory)
        })?;
    }
    Ok(())
}

/// Times a vector that grows and cannot grow in place: its pages move.
pub fn move_bulk(samples: &mut Samples) -> Result {
    for _ in 0..SAMPLES {
        let mut vector: Vec<u8> = Vec::with_capacity(BYTES);
        let first = Va(vector.as_ptr() as u64);
        write_all(first);
        // Something right behind the vector, which begins on a page boundary, since it is large. An error says that
        // something is there already.
        let _behind = MmapOptions::new().len(1).at(first.add_pages(BULK.into())).map_anon();
        samples.time_pages(BULK, || vector.reserve_exact(BYTES + 1));
        assert!(vector.as_ptr() as u64 != first.0, "the vector moves");
    }
    Ok(())
}

/// Times the first read of each page of a file, upwards.
pub fn file_seq(samples: &mut Samples) -> Result {
    let file = archive::find("bigprog")?;
    for _ in 0..SAMPLES {
        let mapping = MmapOptions::new().map(&file)?;
        let (pages, first) = (file.data.len().div_ceil(PAGE_SIZE as usize) as u32, mapping.range().start);
        samples.time_pages(pages, || run(first, pages).for_each(read));
    }
    Ok(())
}

/// Times the first write to each piece of 2 MiB after a fork whose child has ended: nobody else has the pages, so all
/// pages of the piece can be written afterwards.
pub fn first_write_alone(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, BULK)?;
    forks::fork_child(|| ())?.wait()?;
    for first in run(dirty.0, BULK).step_by(PIECE as usize) {
        samples.time(|| touch(first));
        let last = first.add_pages(u64::from(PIECE) - 1);
        assert!(uvpt::pte(last).has(Pte::WRITABLE), "{last} is in the same piece");
    }
    Ok(())
}

//! Measures the costs of a disk and of swapping: `swapbench ROW`.
//!
//! It prints lines as `bench` does: ticks of the time stamp counter, which are instructions under `--icount`. The time in
//! which the processor had nothing to do is left out. A program has one swapping pager, so a run is for one row.
//!
//! The disk answers when the host has read or written, so it depends on chance whether a request has ended when the
//! program looks for it: these counts differ by some percent from run to run.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::error::Error;
use core::hint::black_box;
use libos::disk::{Buffer, Disk, Sector};
use libos::mmap::MmapMut;
use libos::swap::Compression;
use libos::{Args, PAGE_SIZE, println, swap, time, windows};

libos::entry!(main);

type Result<T> = core::result::Result<T, Box<dyn Error>>;

/// A row: its id, and the function that takes its samples.
type Row = (&'static str, fn(&mut Samples) -> Result<()>);

const ROWS: &[Row] = &[
    ("disk-read", disk_read),
    ("disk-page-in", disk_page_in),
    ("swap-random-write", |samples| uniform(samples, true)),
    ("swap-random-read", |samples| uniform(samples, false)),
    ("swap-seq-write", |samples| sequential(samples, true)),
    ("swap-seq-read", |samples| sequential(samples, false)),
    ("compressed-cycle", compressed_cycle),
];

/// The frames of the pager, and the pages that it serves.
const FRAMES: usize = 16_384;
const PAGES: usize = 2 * FRAMES;
const PAGE: usize = PAGE_SIZE as usize;
/// The samples of a row.
const SAMPLES: usize = 9;

fn main(mut args: Args) -> Result<()> {
    let wanted = args.next().unwrap_or_default();
    let (id, take) = ROWS.iter().find(|(id, _)| *id == wanted).ok_or("no such row")?;
    let mut samples = Samples(Vec::new());
    take(&mut samples)?;
    samples.0.sort_unstable();
    let all = &samples.0[..];
    let [min, median, max] = [0, all.len() / 2, all.len() - 1].map(|index| all[index]);
    println!("row {id} gross {median} min {min} max {max} samples {}", all.len());
    match swap::take_failure() {
        Some(failure) => Err(alloc::format!("{failure}").into()),
        None => Ok(()),
    }
}

/// Instructions of each sample.
struct Samples(Vec<u64>);

impl Samples {
    /// Takes a sample: the instructions of `run`, divided by the number that it returns.
    fn take(&mut self, run: impl FnOnce() -> u64) {
        let (start, idle) = (time::ticks(), windows::idle());
        let times = run();
        let (took, idle) = (time::ticks() - start, windows::idle() - idle);
        self.0.push((took - idle) / times.max(1));
    }

    /// Takes a sample for each page that comes in.
    fn per_page_in(&mut self, run: impl FnOnce()) {
        let before = page_ins();
        self.take(|| {
            run();
            page_ins() - before
        });
    }
}

fn page_ins() -> u64 {
    swap::counts().map_or(0, |counts| counts.page_ins)
}

/// Memory that has been written once, so that half of it is on the disk.
fn memory() -> Result<MmapMut> {
    swap::begin(Disk::open(0)?, FRAMES)?;
    let mut memory = swap::map(PAGES * PAGE)?;
    (0..PAGES).for_each(|page| memory[page * PAGE] = 1);
    Ok(memory)
}

/// A request for one page, without a pager.
fn disk_read(samples: &mut Samples) -> Result<()> {
    let mut disk = Disk::open(0)?;
    let mut page = Buffer::new(&disk, 1)?;
    for number in 0..100 {
        let mut result = Ok(());
        samples.take(|| {
            result = page.read(&mut disk, Sector(8 * number));
            1
        });
        result?;
    }
    Ok(())
}

/// A page that comes in while there are free frames, so none has to go out.
fn disk_page_in(samples: &mut Samples) -> Result<()> {
    let mut memory = memory()?;
    memory.discard(FRAMES * PAGE..PAGES * PAGE)?;
    let mut random = Random(1);
    for _ in 0..1_000 {
        let page = random.below(FRAMES);
        let before = page_ins();
        samples.take(|| {
            black_box(memory[page * PAGE]);
            1
        });
        if page_ins() == before {
            // The page was there.
            samples.0.pop();
        }
    }
    Ok(())
}

/// Accesses to random pages of twice as many as there are frames.
fn uniform(samples: &mut Samples, write: bool) -> Result<()> {
    let mut memory = memory()?;
    let mut random = Random(1);
    let mut pass = |samples: &mut Samples| {
        samples.per_page_in(|| {
            for _ in 0..PAGES {
                access(&mut memory, random.below(PAGES), write);
            }
        });
    };
    // Until the pages are where they are in the long run.
    pass(samples);
    samples.0.clear();
    (0..SAMPLES).for_each(|_| pass(samples));
    Ok(())
}

/// Accesses to all pages in their order.
fn sequential(samples: &mut Samples, write: bool) -> Result<()> {
    let mut memory = memory()?;
    let mut pass = |samples: &mut Samples| {
        samples.take(|| {
            (0..PAGES).for_each(|page| access(&mut memory, page, write));
            PAGES as u64
        });
    };
    pass(samples);
    samples.0.clear();
    (0..SAMPLES).for_each(|_| pass(samples));
    Ok(())
}

/// Memory that is compressed when it leaves and restored when it is touched, by a codec that does nothing: it keeps the
/// first word of a page. The log has room for all.
fn compressed_cycle(samples: &mut Samples) -> Result<()> {
    const KEPT: usize = 8;
    let compression = Compression {
        bytes: PAGES * 16 * KEPT,
        compress: |page, out| {
            out.get_mut(..KEPT)?.copy_from_slice(&page[..KEPT]);
            Some(KEPT)
        },
        restore: |bytes, page| page[..KEPT].copy_from_slice(bytes),
    };
    swap::begin_compressed(Disk::open(0)?, FRAMES, compression)?;
    let mut memory = swap::map(PAGES * PAGE)?;
    (0..PAGES).for_each(|page| memory[page * PAGE] = 1);
    let mut pass = |samples: &mut Samples| {
        samples.per_page_in(|| (0..PAGES).for_each(|page| access(&mut memory, page, true)));
    };
    pass(samples);
    samples.0.clear();
    (0..SAMPLES).for_each(|_| pass(samples));
    let passes = (2 + SAMPLES) as u8;
    if let Some(page) = (0..PAGES).find(|page| memory[page * PAGE] != passes) {
        return Err(alloc::format!("page {page} has {} instead of {passes}", memory[page * PAGE]).into());
    }
    let counts = swap::compressed_counts().unwrap_or_default();
    if counts.passed > 0 || counts.cleaned * 1_000 > counts.compressed {
        Err(alloc::format!("{counts:?}").into())
    } else {
        Ok(())
    }
}

fn access(memory: &mut MmapMut, page: usize, write: bool) {
    if write {
        memory[page * PAGE] = memory[page * PAGE].wrapping_add(1);
    } else {
        black_box(memory[page * PAGE]);
    }
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

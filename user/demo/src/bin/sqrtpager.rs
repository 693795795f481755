//! A terabyte of square roots, of which 64 pages exist at a time: a pager computes them, and throws them away.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use bytemuck::{cast_slice, cast_slice_mut};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos::windows::{free_frames, machine};
use libos::{Cause, Error, PAGE_SIZE, PageCalls, Pager, Region, Resolution, Sys, Touch, Va, mmap::MmapOptions};
use libos::{pages::fill, println, raw, stats, sys, uvpt};

libos::entry!(main);

/// The square root of n is at TABLE + 8 * n.
const TABLE: Va = Va(0x2000_0000_0000);
const NUMBERS: usize = 1 << 37;
const RESIDENT: usize = 64;

/// A pager with a ring of the resident pages, 0 where there is none: a new page replaces the oldest.
struct Roots {
    ring: [AtomicU64; RESIDENT],
    computed: AtomicU64,
}

static ROOTS: Roots = Roots { ring: [const { AtomicU64::new(0) }; RESIDENT], computed: AtomicU64::new(0) };

impl Pager<Sys> for Roots {
    fn name(&self) -> &'static str {
        "square roots"
    }

    fn fault(&self, kernel: &mut Sys, touch: &Touch, region: &Region) -> sys::Result<Resolution> {
        let page = touch.va.page();
        let oldest = &self.ring[self.computed.fetch_add(1, Relaxed) as usize % RESIDENT];
        let old = oldest.swap(0, Relaxed);
        if old != 0 {
            kernel.unmap(Va(old), 1)?;
        }
        fill(page, region.perms, |bytes| {
            let first = (page.0 - TABLE.0) / 8;
            let numbers = cast_slice_mut::<u8, f64>(bytes).iter_mut().zip(first..);
            numbers.for_each(|(root, n)| *root = sqrt(n as f64));
        })?;
        oldest.store(page.0, Relaxed);
        Ok(Resolution::Resume(Cause::Custom))
    }

    fn discard(&self, _: &mut Sys, range: &Range<Va>) {
        let gone = self.ring.iter().filter(|slot| range.contains(&Va(slot.load(Relaxed))));
        gone.for_each(|slot| slot.store(0, Relaxed));
    }
}

/// The square root by Newton's method. Halving the exponent gives a root with an error of at most 6 %; each step
/// squares the error.
fn sqrt(x: f64) -> f64 {
    let guess = f64::from_bits((x.to_bits() >> 1) + (1023 << 51));
    if x > 0.0 { (0..4).fold(guess, |root, _| 0.5 * (root + x / root)) } else { 0.0 }
}

fn main() -> Result<(), Error> {
    let total = machine().total_frames.load(Relaxed) * PAGE_SIZE;
    let free = free_frames();
    let table = MmapOptions::new().at(TABLE).len(8 * NUMBERS).map_with(&ROOTS)?.make_read_only()?;
    let roots: &[f64] = cast_slice(&table);
    let taken = free - free_frames();
    println!("{} GiB reserved on a machine of {} MiB: {taken} frames taken", table.len() >> 30, total >> 20);
    for n in [2, 144, 1_000_000_007, NUMBERS - 1] {
        println!("the square root of {n} is {:.6}", roots[n]);
    }

    // Accesses all over the table, in long strides that wrap around: each meets a missing page.
    let (mut most, mut worst) = (0, 0.0_f64);
    for n in (1..=1000).map(|i| i * 0x9_1e37_79b9 % NUMBERS) {
        let (root, n) = (roots[n], n as f64);
        worst = worst.max((root * root / n - 1.0).abs());
        most = most.max(uvpt::entries(table.range()).count());
    }
    let computed = stats::get().by_pager;
    println!("{computed} pages computed, at most {most} there at a time, {} frames taken", free - free_frames());
    println!("the square of a root is wrong by {worst:.1e} of it at most");
    // The roots of 2 and of 144 are in the same page.
    assert!(taken < 4 && computed == 3 + 1000 && most == RESIDENT && worst < 1e-15);

    println!("the square root of 2 is {:.6} again", roots[2]);
    assert_eq!(stats::get().by_pager, computed + 1, "it was thrown away, and computed once more");
    let write = raw::attempt(|address| raw::write_u8(address, 1), TABLE.0);
    assert!(write.is_some(), "the table can be written");
    Ok(())
}

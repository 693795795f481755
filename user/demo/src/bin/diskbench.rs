//! Writes and reads a disk, and counts what that costs: `diskbench [DEVICE]`. What was on the disk is lost.
//!
//! A request moves a page. Requests go one at a time, or many at once. The counts are those of the time stamp counter,
//! without the time in which the processor had nothing to do: instructions under `--icount`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use core::error::Error;
use libos::disk::{Buffer, Disk, Request, RequestError, Sector};
use libos::{Args, PAGE_SIZE, println, time, windows};

libos::entry!(main);

/// The pages that are written and read.
const PAGES: u64 = 256;
const PAGE: usize = PAGE_SIZE as usize;
const SECTORS: u64 = PAGE_SIZE / 512;

fn main(mut args: Args) -> Result<(), Box<dyn Error>> {
    let index = args.next().map_or(Ok(0), str::parse)?;
    let mut disk = Disk::open(index)?;
    let limits = *disk.limits();
    println!("disk {index}: {} MiB in blocks of {} bytes", limits.sectors / 2048, limits.block);
    let pages = PAGES.min(limits.sectors / SECTORS);
    let mut page = Buffer::new(&disk, 1)?;
    let mut all = Buffer::new(&disk, pages)?;

    measure("write, one at a time", pages, || {
        (0..pages).try_for_each(|number| {
            page.bytes_mut().fill(number as u8);
            page.write(&mut disk, Sector(number * SECTORS))
        })
    })?;
    measure("read, one at a time", pages, || {
        (0..pages).try_for_each(|number| page.read(&mut disk, Sector(number * SECTORS)))
    })?;
    measure("read, many at once", pages, || all.read_pages(&mut disk, Sector(0)))?;
    for (number, page) in all.bytes().chunks(PAGE).enumerate() {
        if page.iter().any(|byte| *byte != number as u8) {
            return Err(alloc::format!("page {number} is not what was written").into());
        }
    }
    measure("write, many at once", pages, || all.write_pages(&mut disk, Sector(0)))?;
    if limits.has_cache {
        measure("flush", 1, || disk.execute(Request::Flush))?;
    }
    println!("all {pages} pages are as they were written");
    Ok(())
}

/// Prints what a request costs.
fn measure(what: &str, requests: u64, run: impl FnOnce() -> Result<(), RequestError>) -> Result<(), RequestError> {
    let (start, idle) = (time::ticks(), windows::idle());
    run()?;
    let (took, idle) = (time::ticks() - start, windows::idle() - idle);
    println!("{what:22} {:6} each, {:9} idle", took.saturating_sub(idle) / requests, idle / requests);
    Ok(())
}

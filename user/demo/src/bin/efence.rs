//! An allocator whose blocks end where a page ends: one byte too many is caught at the instruction that touches it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libos::{Cause, EnvId, Error, PAGE_SIZE, PageCalls, Pager, Perms, Pte, Region, Resolution, Sys, Touch, Va};
use libos::{println, raw, regions, stats, symbols, sys, uvpt, windows::free_frames};

libos::entry!(main);

/// The range of the blocks. The page table is the only metadata: pages of blocks are present or have one of these
/// marks, and the pages between blocks are empty.
const ARENA: Va = Va(0x2000_0000_0000);
const ARENA_PAGES: u64 = 1 << 28;
/// As a mark: the page belongs to a block, and is still untouched.
const FRESH: u64 = 1;
/// As a mark: the page belonged to a block that was freed.
const FREED: u64 = 2;

/// The next unused page of the arena. Pages are not reused, so a stale address of a freed block never leads to a new
/// one.
static NEXT: AtomicU64 = AtomicU64::new(0);

struct Fence;

impl Pager<Sys> for Fence {
    fn name(&self) -> &'static str {
        "fenced blocks"
    }

    fn fault(&self, kernel: &mut Sys, touch: &Touch, region: &Region) -> sys::Result<Resolution> {
        if touch.entry != Pte::mark(FRESH) {
            return Ok(Resolution::Unhandled);
        }
        kernel.alloc(touch.va.page(), 1, region.perms)?;
        Ok(Resolution::Resume(Cause::Custom))
    }
}

/// The pages of a block: the first, and their number.
fn pages_of(block: u64, bytes: u64) -> (Va, u64) {
    (Va(block).page(), bytes.div_ceil(PAGE_SIZE))
}

/// Allocates a block of this many bytes. It ends at a page boundary, so it may begin at any address.
fn allocate(bytes: u64) -> sys::Result<u64> {
    let pages = bytes.div_ceil(PAGE_SIZE);
    let first = ARENA.add_pages(NEXT.fetch_add(pages + 1, Relaxed));
    sys::mark(EnvId::SELF, first, pages, FRESH)?;
    Ok(first.add_pages(pages).0 - bytes)
}

/// Frees a block, and marks its pages as freed.
fn free(block: u64, bytes: u64) -> sys::Result<()> {
    let (first, pages) = pages_of(block, bytes);
    assert_ne!(uvpt::pte(first), Pte::mark(FREED), "given back twice");
    sys::unmap(EnvId::SELF, first, pages)?;
    sys::mark(EnvId::SELF, first, pages, FREED)
}

/// Lets an access fail, and prints the instruction, the address, and what is there.
fn catch(access: fn(u64), block: u64, bytes: u64) {
    let fault = raw::attempt(access, block).expect("the access was not caught");
    let function = symbols::function_at(Va(fault.rip)).unwrap_or("code without a name");
    let how = if fault.page_fault().is_write() { "writes" } else { "reads" };
    let place = match uvpt::pte(Va(fault.address)) {
        entry if entry == Pte::mark(FREED) => "it was given back",
        entry if entry.is_empty() => "there is nothing",
        entry => panic!("{entry:?} should not fault"),
    };
    let offset = fault.address - block;
    println!("{function}, at {:#x}, {how} {:#x}, byte {offset} of {bytes}: {place}", fault.rip, fault.address);
}

/// Copies a text as C programs do, with a zero byte at its end.
fn write_name(block: u64) {
    (block..).zip(*b"exokernel\0").for_each(|(at, byte)| raw::write_u8(at, byte));
}

/// Adds up numbers of 8 bytes, and takes one number too many.
fn add_up(block: u64) {
    let sum: u64 = (0..=100).map(|n| raw::read_u64(block + 8 * n)).sum();
    println!("the sum is {sum}");
}

fn set_first(block: u64) {
    raw::write_u8(block, 1);
}

fn main() -> Result<(), Error> {
    regions::add(Region::new(ARENA..ARENA.add_pages(ARENA_PAGES), Perms::WRITE, &Fence))?;

    // A program without mistakes notices nothing.
    let before = free_frames();
    let blocks: Vec<u64> = (1..=1000).map(|n| allocate(7 * n)).collect::<Result<_, _>>()?;
    let with_sizes = || blocks.iter().copied().zip((1..=1000).map(|n| 7 * n));
    for (block, bytes) in with_sizes() {
        (block..block + bytes).for_each(|at| raw::write_u8(at, at as u8));
    }
    for (block, bytes) in with_sizes() {
        assert!((block..block + bytes).all(|at| raw::read_u8(at) == at as u8));
    }
    let pages: u64 = with_sizes().map(|(block, bytes)| pages_of(block, bytes).1).sum();
    let (faults, taken) = (stats::get().by_pager, before - free_frames());
    println!("{} blocks on {pages} pages: {faults} faults, {taken} frames", blocks.len());
    with_sizes().try_for_each(|(block, bytes)| free(block, bytes))?;
    let kept = before - free_frames();
    println!("all given back: {kept} frames remain, with tables that know the old blocks");
    assert!(faults == pages && taken >= pages && kept < 32);

    let name = allocate(9)?;
    catch(write_name, name, 9);
    catch(add_up, allocate(800)?, 800);
    free(name, 9)?;
    catch(set_first, name, 9);
    Ok(())
}

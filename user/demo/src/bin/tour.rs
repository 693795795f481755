//! A guided tour: a fault in user space, lazy memory, a fork, one write that copies one page; and pages on a disk.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::hint::black_box;
use libos::disk::Disk;
use libos::upcall::{self, Outcome};
use libos::windows::{free_frames, refs};
use libos::{EnvId, Error, Fault, Fork, PAGE_SIZE, Perms, Pte, Va};
use libos::{env, fork, println, raw, stats, swap, sys, time, uvpt, windows};

libos::entry!(main);

fn main() -> Result<(), Box<dyn core::error::Error>> {
    println!("Faultline is an exokernel: the kernel owns the hardware and decides nothing.");
    println!("What follows is done by this program, {}, and the library it is linked to.", env::id());
    println!("Costs are ticks of the time stamp counter; under --icount they count instructions.");
    a_fault();
    lazy_memory();
    a_fork()?;
    costs()?;
    if windows::devices() > 0 {
        more_than_memory()?;
    }
    println!();
    println!("That was the tour (user/demo/src/bin/tour.rs). `help` in the shell lists more programs.");
    Ok(())
}

/// An address where nothing is mapped until it is touched.
const NOWHERE: Va = Va(0x5000_0000);

fn a_fault() {
    println!();
    println!("1. A fault arrives in user space");
    println!("   uvpt, the page tables seen as memory, has for {NOWHERE}: {:?}", uvpt::pte(NOWHERE));
    upcall::set_handler(bring_in);
    println!("   reading it ...");
    let value = raw::read_u64(NOWHERE.0);
    println!("   ... gave {value}, as if it had always been there; uvpt: {:?}", uvpt::pte(NOWHERE));
    upcall::clear_handler();
    assert!(value == 0 && uvpt::pte(NOWHERE).is_present());
}

/// Maps the page. It runs on the exception stack of this program, after the kernel's part is over.
fn bring_in(fault: &mut Fault) -> Outcome {
    let va = Va(fault.address);
    println!("   handler: {} at {va} {}", fault.vector(), fault.page_fault());
    println!("   handler: asks for a zeroed page, puts it there, and resumes at rip {:#x}", fault.rip);
    match sys::alloc(EnvId::SELF, va.page(), 1, Perms::WRITE) {
        Ok(()) => Outcome::Resume,
        Err(_) => Outcome::Unhandled,
    }
}

fn lazy_memory() {
    const MIB: usize = 1 << 20;
    println!();
    println!("2. Memory is paid for when it is touched");
    let (free, faults) = (free_frames(), stats::get().zero_fills);
    let mut big: Vec<u8> = Vec::with_capacity(1024 * MIB);
    println!("   a vector of 1024 MiB takes {} of {free} free page frames", free - free_frames());
    big.extend_from_slice(&[1; 3 * PAGE_SIZE as usize]);
    let (taken, faults) = (free - free_frames(), stats::get().zero_fills - faults);
    println!("   12 KiB written to it: {faults} faults, {taken} frames (pages, and tables for them)");
    assert!(black_box(&big)[5000] == 1 && taken < 16);
}

/// A page of its own, on the heap.
#[repr(align(4096))]
struct Page([u64; 512]);

/// The page table's entry for the page, and the reference count of its frame.
fn describe(page: &Page) -> (Pte, u32) {
    let entry = uvpt::pte(Va(&raw const *page as u64));
    (entry, refs(entry.frame()).unwrap_or(0))
}

fn show(when: &str, page: &Page) -> Pte {
    let (entry, refs) = describe(page);
    println!("   {when:<30} holds {}   {entry:?}, {refs} user(s)", black_box(page).0[0]);
    entry
}

fn a_fork() -> Result<(), Error> {
    println!();
    println!("3. fork, page by page, shares every page, and a write copies one (C: copy-on-write, W: writable)");
    let mut page = Box::new(Page([1; 512]));
    let before = show("before the fork:", &page);
    let child = match fork::by_page()? {
        Fork::Parent(child) => child,
        Fork::Child => {
            write_as_child(&mut page, before);
            libos::exit(0)
        }
    };
    let status = child.wait()?;
    assert!(status.is_success(), "the child: {status}");
    let kept = show("parent, the child has ended:", &page);
    assert!(page.0[0] == 1 && kept.frame() == before.frame());
    write(&mut page, 3);
    let after = show("parent, after writing 3:", &page);
    println!("   nobody shared it any more: no copy was needed, the same frame became writable");
    assert_eq!(after.frame(), before.frame());
    Ok(())
}

fn write_as_child(page: &mut Page, before: Pte) {
    let shared = show("child, after the fork:", page);
    assert!(shared.frame() == before.frame() && shared.has(Perms::COW.bits()));
    let copies = stats::get().copies;
    write(page, 2);
    let after = show("child, after writing 2:", page);
    println!("   the write faulted; the child's handler copied the page: {:?} to {:?}", shared.frame(), after.frame());
    assert!(after.frame() != before.frame() && page.0[0] == 2);
    assert_eq!(stats::get().copies, copies + 1);
}

fn write(page: &mut Page, value: u64) {
    black_box(page).0[0] = value;
}

/// The ticks that something takes: the minimum of several tries.
fn ticks(mut what: impl FnMut()) -> u64 {
    let once = |_| {
        let start = time::ticks();
        what();
        time::ticks() - start
    };
    (0..16).map(once).min().unwrap_or(0)
}

fn step_over(fault: &mut Fault) -> Outcome {
    fault.rip += 2; // `ud2` is two bytes long
    Outcome::Resume
}

fn row(what: &str, ticks: u64) {
    println!("   {what:<66} {ticks:>9}");
}

fn costs() -> Result<(), Error> {
    println!();
    println!("4. What that costs, in ticks");
    row("call the kernel and come back", ticks(|| _ = sys::id()));
    upcall::set_handler(step_over);
    row("a fault: kernel, handler in user regions, back without the kernel", ticks(raw::undefined));
    upcall::clear_handler();

    let lazy = Vec::<Page>::with_capacity(32);
    let all = (lazy.as_ptr() as u64..).step_by(PAGE_SIZE as usize).take(lazy.capacity());
    let mut untouched = all.filter(|&page| uvpt::pte(Va(page)).is_empty());
    let touch = || untouched.next().into_iter().for_each(|page| raw::write_u8(page, 1));
    row("first touch of a page of the heap", ticks(touch));

    let mut pages: Vec<Page> = (0..16).map(|_| Page([1; 512])).collect();
    if let Fork::Parent(child) = fork()? {
        let status = child.wait()?;
        assert!(status.is_success(), "the child: {status}");
    } else {
        let mut shared = pages.iter_mut();
        let touch = || shared.next().into_iter().for_each(|page| write(page, 2));
        row("first write to a page shared by fork", ticks(touch));
        libos::exit(0);
    }

    let start = time::ticks();
    fork_and_wait()?;
    row("fork, exit of the child, wait", time::ticks() - start);
    Ok(())
}

fn fork_and_wait() -> Result<(), Error> {
    match fork()? {
        Fork::Child => libos::exit(0),
        Fork::Parent(child) => child.wait()?,
    };
    Ok(())
}

/// Four times as many pages as the pager may keep in memory. The disk and its driver are this program's own.
fn more_than_memory() -> Result<(), Box<dyn core::error::Error>> {
    const FRAMES: usize = 64;
    const PAGES: usize = 4 * FRAMES;
    const PAGE: usize = PAGE_SIZE as usize;
    println!();
    println!("5. More memory than there is");
    let disk = Disk::open(0)?;
    println!(
        "   the disk is environment {}: a page map that says what it can access, and no processor",
        disk.device().id()
    );
    swap::begin(disk, FRAMES)?;
    let mut memory = swap::map(PAGES * PAGE)?;
    (0..PAGES).for_each(|page| memory[page * PAGE] = page as u8);
    let right = (0..PAGES).filter(|page| memory[page * PAGE] == *page as u8).count();
    let counts = swap::counts().unwrap_or_default();
    println!("   {PAGES} pages were written and read again, and at most {FRAMES} were in memory: {right} are right");
    println!("   {} went to the disk, {} came back, in {} requests", counts.written, counts.page_ins, counts.requests);
    assert!(right == PAGES && counts.page_ins > 0);
    Ok(())
}

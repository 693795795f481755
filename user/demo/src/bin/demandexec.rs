//! Programs are mapped page by page: starting a large one costs only what it touches.
//!
//! `demandexec [PROGRAM]`: the program must take the arguments of `bigprog`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{format, string::String, vec::Vec};
use libos::executable::{Program, Segment};
use libos::{Args, Command, Error, PAGE_SIZE, Perms, archive, ipc, pager, println, windows::free_frames};

libos::entry!(main);

fn main(mut args: Args) -> Result<(), Error> {
    let name = args.next().unwrap_or("bigprog");
    let file = archive::find(name)?;
    let program = Program::parse(file.data).map_err(Error::BadElf)?;
    for segment in program.segments() {
        let Segment { start, end, bytes, perms, resident, .. } = segment;
        println!("  {start}..{end}, {bytes} bytes in the file, {perms:?}, resident: {resident}");
    }
    let pages: u64 = program.segments().iter().map(|segment| pager::pages(&segment.range())).sum();
    let resident = program.segments().iter().filter(|segment| segment.resident);
    let resident: u64 = resident.map(|segment| pager::pages(&segment.range())).sum();
    println!("{name}: {pages} pages, of which {resident} must be there before the first fault");

    // Parsing its arguments touches some pages of a program. These arguments name pages that are touched anyway.
    let nothing = three_pages("r", &program.segments()[0]);
    cost(name, &nothing)?; // so that this program's own pages for starting another are present
    let free = free_frames();
    let (empty, least) = cost(name, &nothing)?;
    println!("started, nothing else touched: {empty} frames, {least} pages of the file came by a fault");

    let constants = three_pages("r", largest(&program, Perms::READ));
    let (frames, faults) = cost(name, &constants)?;
    println!("three pages of constants read: {} frames more, {} faults", frames - empty, faults - least);
    // Read-only pages are the file's own frames; only a page table may be needed.
    assert!(frames - empty <= 1 && faults - least == 3);

    let data = three_pages("w", largest(&program, Perms::WRITE));
    let (frames, faults) = cost(name, &data)?;
    println!("three pages of data written: {} frames more, {} faults", frames - empty, faults - least);
    // Three pages, and perhaps a page table and the one above it.
    assert!((3..=5).contains(&(frames - empty)) && faults - least == 3);
    assert!(empty < pages / 4, "a program that does nothing takes a fraction of its size");
    assert!(free - free_frames() < 4, "the children gave everything back");
    Ok(())
}

/// The costs of a child while it waits: frames, and faults that mapped a page of its file.
fn cost(name: &str, args: &[String]) -> Result<(u64, u64), Error> {
    let free = free_frames();
    let child = Command::new(name).args(args).spawn()?;
    let faults = ipc::recv_from(child.id())?.value;
    let frames = free - free_frames();
    ipc::send(child.id(), 0)?;
    let status = child.wait()?;
    assert!(status.is_success(), "{name}: {status}");
    Ok((frames, faults))
}

fn largest(program: &Program, perms: Perms) -> &Segment {
    let segments = program.segments().iter().filter(|segment| segment.perms == perms);
    segments.max_by_key(|segment| segment.bytes).expect("there is such a segment")
}

/// The arguments that make the child touch three neighbouring pages in the middle of a segment.
fn three_pages(how: &str, segment: &Segment) -> Vec<String> {
    let first = segment.start.add_pages(pager::pages(&segment.range()) / 2);
    (0..3).map(|page| format!("{how}:{:x}", first.0 + page * PAGE_SIZE)).collect()
}

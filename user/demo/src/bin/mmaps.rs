//! Mappings: private and shared memory, files, rights, advice; and every error.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;
use core::sync::atomic::Ordering::Relaxed;
use libos::mmap::{MmapMut, MmapOptions};
use libos::pager::Error as Wrong;
use libos::regions::Advice;
use libos::windows::free_frames;
use libos::{Error, Fork, PAGE_SIZE, Perms, Va, archive, fork, ipc, layout::SCRATCH, println, raw, stats, uvpt};

libos::entry!(main);

const PAGE: usize = PAGE_SIZE as usize;
/// An address that the program chooses.
const FIXED: Va = Va(0x3000_0000_0000);

fn main() -> Result<(), Error> {
    files()?;
    parts()?;
    rights()?;
    advice()?;
    shared()?;
    by_message()?;
    errors()
}

/// The pages of a file are the archive's own frames, until they are written.
fn files() -> Result<(), Error> {
    let file = archive::find("bigprog")?;
    let (free, before) = (free_frames(), stats::get());
    let bytes = MmapOptions::new().map(&file)?;
    assert!(bytes[..] == *file.data, "the mapping is the file");
    let faults = stats::get().file_pages - before.file_pages;
    println!("a file of {} bytes compared: {faults} faults, {} frames", bytes.len(), free - free_frames());
    // Page tables, and a copy of the page in which the file ends. More and more pages come at once.
    assert!(free - free_frames() < 8 && (1..40).contains(&faults));
    let end = bytes.range().end.0 - 1;
    let mut behind = bytes.range().start.0 + bytes.len() as u64..=end;
    assert!(behind.all(|va| raw::read_u8(va) == 0), "what follows in the archive is not to be seen");
    assert!(raw::attempt(|va| raw::write_u8(va, 1), end).is_some(), "the last page is read-only like the others");

    let mut copy = MmapOptions::new().offset(PAGE_SIZE).len(2 * PAGE).map_copy(&file)?;
    copy[0] = !copy[0];
    assert_eq!(copy[0], !file.data[PAGE]);
    assert!(copy[1..] == file.data[PAGE + 1..3 * PAGE] && bytes[PAGE] == file.data[PAGE]);
    println!("a private copy was written, and the file is what it was");
    let (_, mut rest) = MmapOptions::new().len(3 * PAGE).map_copy(&file)?.split_at(PAGE)?;
    (rest[0], rest[PAGE]) = (1, 1); // before they are read
    let same = |from: usize, to: usize| rest[from..to] == file.data[PAGE + from..PAGE + to];
    let same = same(1, PAGE) && same(PAGE + 1, 2 * PAGE);
    assert!(same, "the first page is given up, a byte of each other is written, and the rest is what it was");
    Ok(())
}

/// The middle of a mapping is unmapped.
fn parts() -> Result<(), Error> {
    let free = free_frames();
    let (mut first, rest) = filled(9, 1)?.split_at(3 * PAGE)?;
    let (middle, mut last) = rest.split_at(3 * PAGE)?;
    let hole = middle.range();
    let before = free_frames();
    drop(middle);
    println!("three of nine pages unmapped: {} frames came back", free_frames() - before);
    assert_eq!(free_frames() - before, 3);
    assert!(raw::attempt(|va| _ = raw::read_u8(va), hole.start.0).is_some(), "a hole");
    (first[3 * PAGE - 1], last[0]) = (7, 8);
    assert!(first[0] == 1 && last[3 * PAGE - 1] == 1);
    drop((first, last));
    assert_eq!(free_frames(), free);
    Ok(())
}

/// Maps this many pages at any address, and writes each.
fn filled(pages: usize, value: u8) -> Result<MmapMut, Error> {
    let mut memory = MmapOptions::new().len(pages * PAGE).map_anon()?;
    memory.fill(value);
    Ok(memory)
}

fn rights() -> Result<(), Error> {
    let memory = filled(2, 5)?.make_read_only()?;
    let fault = raw::attempt(|va| raw::write_u8(va, 6), memory.range().start.0);
    println!("read-only memory written: {:?}", fault.map(|fault| fault.page_fault().0));
    assert!(fault.is_some_and(|fault| fault.page_fault().0 == 7) && memory[0] == 5);
    // While it is read-only a fork shares it; afterwards neither sees the other's writes.
    let child = match fork()? {
        Fork::Child => {
            let mut memory = memory.make_mut()?;
            memory[0] = 9;
            libos::exit(memory[0])
        }
        Fork::Parent(child) => child,
    };
    let mut memory = memory.make_mut()?;
    memory[1] = 8;
    assert_eq!(child.wait()?.0, 9);
    assert_eq!(memory[..3], [5, 8, 5]);
    println!("writable again, after a fork: parent and child have their own");

    let mut code = MmapOptions::new().len(PAGE).map_anon()?;
    code[0] = 0xc3; // ret
    let code = code.make_exec()?;
    raw::call(code.range().start.0);
    println!("code that was written here was executed");
    Ok(())
}

fn advice() -> Result<(), Error> {
    let file = archive::find("bigprog")?;
    for (advice, faults) in
        [(Advice::Random, 64..=64), (Advice::Normal, 2..=16), (Advice::Sequential, 1..=2), (Advice::WillNeed, 0..=0)]
    {
        let bytes = MmapOptions::new().len(64 * PAGE).map(&file)?;
        bytes.advise(advice)?;
        let before = stats::get().upcalls;
        black_box(bytes.iter().step_by(PAGE).map(|&byte| u32::from(byte)).sum::<u32>());
        let seen = stats::get().upcalls - before;
        println!("64 pages of a file read, {advice:?}: {seen} faults");
        assert!(faults.contains(&seen));
    }
    let mut memory = MmapOptions::new().len(4 * PAGE).map_anon()?;
    memory.advise(Advice::Sequential)?;
    (memory[2 * PAGE], memory[0]) = (2, 1);
    assert_eq!((memory[0], memory[2 * PAGE]), (1, 2), "what comes at once spares what is there");
    let mut memory = filled(4, 3)?;
    let before = free_frames();
    memory.discard(PAGE..3 * PAGE)?;
    println!("two of four pages not needed: {} frames came back", free_frames() - before);
    assert_eq!((free_frames() - before, memory[0], memory[PAGE], memory[3 * PAGE]), (2, 3, 0, 3));
    Ok(())
}

/// Shared memory stays shared over a fork, touched or not.
fn shared() -> Result<(), Error> {
    let memory = MmapOptions::new().len(3 * PAGE).map_shared_anon()?;
    memory[0].store(1, Relaxed);
    let child = match fork()? {
        Fork::Child => {
            memory[512].store(memory[0].load(Relaxed) + 1, Relaxed);
            libos::exit(0)
        }
        Fork::Parent(child) => child,
    };
    child.wait()?;
    let seen = memory[512].load(Relaxed);
    println!("shared memory: the child wrote {seen} to a page that nobody had touched");
    assert_eq!(seen, 2);
    Ok(())
}

/// A page that was sent by a message is shared by all its holders, and their children.
fn by_message() -> Result<(), Error> {
    let child = match fork()? {
        Fork::Child => {
            let parent = ipc::recv_page(FIXED)?.from;
            // A child of the child writes to it.
            match fork()? {
                Fork::Child => raw::write_u64(FIXED.0, 3),
                Fork::Parent(grandchild) => {
                    grandchild.wait()?;
                    ipc::send(parent, raw::read_u64(FIXED.0))?;
                }
            }
            libos::exit(0)
        }
        Fork::Parent(child) => child,
    };
    let memory = MmapOptions::new().len(PAGE).map_shared_anon()?;
    ipc::send_page(child.id(), 0, memory.range().start, Perms::WRITE | Perms::KEEP)?;
    let seen = ipc::recv_from(child.id())?.value;
    child.wait()?;
    println!("a shared page by message: a grandchild wrote {seen}, and here is {}", memory[0].load(Relaxed));
    assert_eq!((seen, memory[0].load(Relaxed)), (3, 3));
    Ok(())
}

fn errors() -> Result<(), Error> {
    let file = archive::find("bigprog")?;
    let size = file.data.len() as u64;
    let here = MmapOptions::new().at(FIXED).len(2 * PAGE).map_anon()?;
    assert_eq!((here.range().start, uvpt::pte(FIXED).is_empty()), (FIXED, true));
    let bytes = MmapOptions::new().map(&file)?;
    let anon = |options: MmapOptions| options.map_anon().map(|_| ()).unwrap_err();
    let of_file = |options: MmapOptions| options.map(&file).map(|_| ()).unwrap_err();
    let new = MmapOptions::new;
    let second = FIXED.add_pages(1);
    let past = |offset| Error::Memory(Wrong::PastEnd(offset));
    let cases = [
        ("no length", anon(new()), Error::Memory(Wrong::Empty(libos::regions::MAPPINGS.start))),
        ("more than all", anon(new().len(1 << 47)), Error::Memory(Wrong::NoSpace(1 << 47))),
        ("taken", anon(new().at(second).len(1)), Error::Memory(Wrong::Overlap(second))),
        ("not a page", anon(new().at(Va(0x1001)).len(1)), Error::Memory(Wrong::Unaligned(0x1001))),
        ("a window", anon(new().at(Va(0x7f00_0000_0000)).len(1)), {
            Error::Memory(Wrong::OutsideUser(Va(0x7f00_0000_0000)))
        }),
        ("null", anon(new().at(Va(0)).len(1)), Error::Memory(Wrong::OutsideUser(Va(0)))),
        ("what libos uses itself", anon(new().at(SCRATCH).len(1)), { Error::Memory(Wrong::OutsideUser(SCRATCH)) }),
        ("the middle of a page", of_file(new().offset(5)), Error::Memory(Wrong::Unaligned(5))),
        ("too long", of_file(new().len(size as usize + 1)), past(size + 1)),
        ("behind the end", of_file(new().offset(1 << 40)), past(1 << 40)),
        ("both", here.advise(Advice::DontNeed).unwrap_err(), Error::Memory(Wrong::NotSupported(FIXED))),
        ("somebody may be reading", bytes.advise(Advice::DontNeed).unwrap_err(), {
            Error::Memory(Wrong::NotSupported(bytes.range().start))
        }),
        ("write and execute", rights_of(Perms::WRITE | Perms::EXEC), { Error::Memory(Wrong::BadProtection(FIXED)) }),
        ("a hole", libos::regions::protect(&(second..second.add_pages(2)), Perms::READ).unwrap_err(), {
            Error::Memory(Wrong::NoRegion(second.add_pages(1)))
        }),
    ];
    for (what, found, expected) in cases {
        println!("  {what}: {found}");
        assert_eq!(found, expected, "{what}");
    }
    Ok(())
}

fn rights_of(perms: Perms) -> Error {
    libos::regions::protect(&(FIXED..FIXED.add_pages(1)), perms).unwrap_err()
}

//! The tricks of the lecture: each has a program that shows it, and what that program must have seen.

use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;
use std::sync::Arc;
use tests::{Case, Lab, Run, guest, named};
use xtask::images::Flavor;

pub fn cases() -> Vec<Case> {
    [zeros(), heap(), stack(), programs(), mappings()].concat()
}

fn zeros() -> Vec<Case> {
    let case = |name: &str, mebibytes: u64| {
        named(name, "zeropage").args(&[&mebibytes.to_string()]).check(move |run| {
            let (pages, tables) = (mebibytes * 256, mebibytes / 2);
            run.in_order(&[
                format!("^{mebibytes} MiB reserved: 0 frames taken$"),
                format!("^{pages} pages read, all zeros: [0-9]+ frames taken, {tables} of them page tables"),
                format!("^{pages} pages are one frame: "),
                "^3 pages written: 3 frames more$".to_owned(),
                "^unmapped: 0 frames taken$".to_owned(),
            ]);
        })
    };
    // A gibibyte takes more calls than a checking kernel can walk all tables after.
    vec![case("zeropage", 1024).only(Flavor::Plain), case("zeropage-small", 8)]
}

fn heap() -> Vec<Case> {
    // All memory, page by page: too much for a checking kernel.
    vec![guest("lazyheap").only(Flavor::Plain).check(|run| {
        run.in_order(&[
            "^a vector grown to 64 MiB: 16[34][0-9][0-9] faults, ",
            "^a table of 16 GiB, ten bytes written: 10 pages, ",
            r"^\[00001001\] no page for 0x1[0-9a-f]+ \(heap\): out of page frames .*; 0 frames free$",
            r"^a child that took all memory: killed by exception 14 \(Page Fault\); 0 frames are missing$",
            "^no page for 0x1[0-9a-f]+ .*: giving up the cache$",
            "^with a cache in half of the memory, three quarters were filled all the same: true$",
        ]);
    })]
}

fn stack() -> Vec<Case> {
    vec![guest("stackgrow").check(|run| {
        run.in_order(&[
            "^100000 frames deep: the sum is 5000050000; the stack grew by [0-9]+ pages, ",
            r"^\[00001001\] 0x3febfff8 is in the stack guard \(",
            r"^\[00001001\] stack overflow: 262[0-9]{3} bytes deep, limit 262144 ",
            r"^\[00001001\] in stackgrow::forever, at 0x",
            r"^a child that runs off its stack: killed by exception 14 \(Page Fault\)$",
            r"^\[00002001\] 0x[0-9a-f]+ is in the exception stack guard \(",
            r"^a child that runs off its exception stack: killed by exception 14 \(Page Fault\)$",
            "^this program goes on, ",
        ]);
    })]
}

fn programs() -> Vec<Case> {
    vec![
        guest("demandexec").check(|run| {
            run.in_order(&[
                "^started, nothing else touched: [0-9]+ frames, ",
                "^three pages of constants read: [01] frames more, 3 faults$",
                "^three pages of data written: [345] frames more, 3 faults$",
            ]);
        }),
        guest("execs").check(execs),
    ]
}

/// The same environment all the time, with a child in each of its lives.
fn execs(run: &Run) {
    run.count("i am 00001000, ", 6)
        .count(r"^the child became `true`: Ok\(exit status 0\)$", 5)
        .never("not become");
    let lives: Vec<_> = (0..=5).rev().map(|left| format!("^{left} left, i am 00001000, ")).collect();
    run.in_order(&lives).count("new env 00001000$", 1);
    // From the second life on, each begins with as many frames as the one before.
    let free: BTreeSet<&str> = run
        .matching("frames are free$")
        .into_iter()
        .skip(1)
        .filter_map(|line| line.split(", ").nth(2))
        .collect();
    run.expect(free.len() == 1, format!("free frames differ: {free:?}"));
}

pub fn trials(lab: &Arc<Lab>) -> Vec<Trial> {
    let lab = Arc::clone(lab);
    vec![Trial::test("demandexec-16M", move || large_program(&lab))]
}

/// A program of 16 MiB starts with as many frames as one of 2 MiB.
fn large_program(lab: &Lab) -> Result<(), Failed> {
    let small = lab.program("bigprog").map_err(|error| format!("{error:#}"))?;
    let started = |name: &'static str| {
        let case = named("demandexec-16M", "demandexec").args(&[name]);
        case.file("large", &with_segment(&small, 16 << 20)).check(|run| {
            run.once("^three pages of data written: [345] frames more, 3 faults$");
        })
    };
    started("large").judge(lab, Flavor::Plain)?;
    let frames = |name| -> Result<Vec<String>, Failed> {
        let run = started(name).boot(lab, Flavor::Plain)?;
        Ok(run.matching("^started, nothing else touched: ").iter().map(ToString::to_string).collect())
    };
    let (small, large) = (frames("bigprog")?, frames("large")?);
    if small == large && small.len() == 1 { Ok(()) } else { Err(format!("{small:?}, {large:?}").into()) }
}

/// The program with one more segment, writable, of so many bytes that are all in the file.
fn with_segment(elf: &[u8], bytes: u64) -> Vec<u8> {
    const ADDRESS: u64 = 0x5000_0000;
    const HEADER: usize = 56;
    let word = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().expect("eight bytes"));
    let (table, count) = (word(0x20) as usize, u16::from_le_bytes([elf[0x38], elf[0x39]]));
    let mut large = elf.to_vec();
    large.resize(large.len().next_multiple_of(4096), 0);
    let offset = large.len() as u64;
    large.extend((0..bytes).map(|byte| byte as u8 | 1));
    let headers = large.len() as u64;
    large.extend(&elf[table..table + usize::from(count) * HEADER]);
    // PT_LOAD, readable and writable; offset, addresses, sizes, alignment.
    let segment = [1 | 6 << 32, offset, ADDRESS, ADDRESS, bytes, bytes, 4096];
    large.extend(segment.into_iter().flat_map(u64::to_le_bytes));
    large[0x20..0x28].copy_from_slice(&headers.to_le_bytes());
    large[0x38..0x3a].copy_from_slice(&(count + 1).to_le_bytes());
    large
}

fn mappings() -> Vec<Case> {
    vec![
        guest("mmaps").check(|run| {
            run.in_order(&[
                "^a private copy was written, and the file is what it was$",
                "^three of nine pages unmapped: 3 frames came back$",
                r"^read-only memory written: Some\(7\)$",
                "^writable again, after a fork: parent and child have their own$",
                "^code that was written here was executed$",
                "^64 pages of a file read, Normal: 64 faults$",
                "^64 pages of a file read, Sequential: 4 faults$",
                "^64 pages of a file read, WillNeed: 0 faults$",
                "^two of four pages not needed: 2 frames came back$",
                "^shared memory: the child wrote 2 to a page that nobody had touched$",
                "^a shared page by message: a grandchild wrote 3, and here is 3$",
                "^  a hole: there is no region at 0x300000002000$",
            ]);
        }),
        guest("pagemap").check(|run| {
            run.in_order(&[
                "^0000000000200000 [0-9a-f]{16} +[0-9]+ r-x- .* code$",
                " stack guard$",
                "^000000003fe00000 000000003ff00000 +256 rw-- .* stack$",
                "^0000100000000000 0000100040000000 +262144 rw-- +5 +4 +1  anonymous$",
                "^[0-9a-f]{16} [0-9a-f]{16} +4 rw-k +4 +0 +0  shared$",
            ]);
        }),
        named("pagemap-pages", "pagemap").args(&["pages"]).check(|run| {
            run.in_order(&["  stack$", "  anonymous$", "^  0x100000000000: frame 0x[0-9a-f]+ -U[A-]-C---"]);
        }),
    ]
}

//! The tricks of the lecture, with one program each. The expected output is in the rubric (`tests/course/rubric.toml`).

use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use tests::{Case, Testbed, graded, graded_with, named};
use xtask::images::Flavor;

pub fn cases() -> Vec<Case> {
    [zeros(), heap(), stack(), programs(), mappings()].concat()
}

fn zeros() -> Vec<Case> {
    let case = |name: &str, mib: u64| {
        let values = [("mib", mib), ("pages", mib * 256), ("tables", mib / 2)];
        graded_with(name, "zeropage", &values.map(|(key, value)| (key, value.to_string())))
    };
    // A gibibyte takes too many calls for a checking kernel, which walks all page tables after each.
    vec![case("zeropage", 1024).only(Flavor::Plain), case("zeropage-small", 8)]
}

fn heap() -> Vec<Case> {
    // All memory, page by page: too much for a checking kernel.
    vec![graded("lazyheap").only(Flavor::Plain)]
}

fn stack() -> Vec<Case> {
    vec![graded("stackgrow")]
}

fn programs() -> Vec<Case> {
    vec![
        graded("demandexec"),
        graded("execs"),
        graded("forktables"),
        named("forktables-4", "forktables").args(&["2000"]).cpus(4).only(Flavor::Plain).check(|run| {
            run.once("^2000 rounds at once$");
        }),
    ]
}

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let testbed = Arc::clone(testbed);
    vec![Trial::test("demandexec-16M", move || large_program(&testbed))]
}

/// A program of 16 MiB starts with as many frames as one of 2 MiB.
fn large_program(testbed: &Testbed) -> Result<(), Failed> {
    let small = testbed.program("bigprog").map_err(|error| format!("{error:#}"))?;
    let small = std::fs::read(small)?;
    let started = |name: &'static str| {
        let case = named("demandexec-16M", "demandexec").args(&[name]);
        case.file("large", &with_segment(&small, 16 << 20)).check(|run| {
            run.once("^three pages of data written: [345] frames more, 3 faults$");
        })
    };
    started("large").judge(testbed, Flavor::Plain)?;
    let frames = |name| -> Result<Vec<String>, Failed> {
        let run = started(name).boot(testbed, Flavor::Plain)?;
        Ok(run.matching("^started, nothing else touched: ").iter().map(ToString::to_string).collect())
    };
    let (small, large) = (frames("bigprog")?, frames("large")?);
    if small == large && small.len() == 1 { Ok(()) } else { Err(format!("{small:?}, {large:?}").into()) }
}

/// The program with one more writable segment, of this many bytes, all of them in the file.
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
        graded("mmaps"),
        graded("pagemap"),
        named("pagemap-pages", "pagemap").args(&["pages"]).check(|run| {
            run.in_order(&["  stack$", "  anonymous$", "^  0x80000000000: frame 0x[0-9a-f]+ -U[A-]-C---"]);
        }),
    ]
}

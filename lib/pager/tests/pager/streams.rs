//! Pages that are touched one after the other: how many come in at each fault.

use crate::host::FILE_BYTES;
use crate::rig::{Rig, page, range, region};
use abi::layout::ARCHIVE;
use abi::{PAGE_SIZE, Perms, fault::PageFaultCode};
use pager::fast::{self, FastResolution, Known};
use pager::ranges::Advice;
use pager::stream::Streams;
use pager::{File, PageCalls, Region, Resolution, Shared, Zeros};

static ZEROS: Zeros = Zeros::named("zeros");
static FILE: File = File { name: "file" };
/// The pages of a memory that may be touched in any order.
const PAGES: u64 = 1_200;

/// An environment that handles faults as libos does, on the fast path if possible.
struct Program {
    rig: Rig,
    streams: Streams,
}

impl Program {
    fn new(regions: &[Region<crate::host::Host>]) -> Program {
        Program { rig: Rig::new(regions), streams: Streams::none() }
    }

    /// Writes or reads a page, whose entry must be empty. Returns the pages that the fault brought in.
    fn touch(&mut self, number: u64, code: u64) -> Vec<u64> {
        let before = self.rig.held();
        let streams = &mut self.streams;
        let (host, book) = (&mut self.rig.host, &self.rig.books[0]);
        let (regions, va, code) = (book.regions(), page(number), PageFaultCode(code));
        assert!(host.pte(va).is_empty(), "{number} is there");
        let known = std::mem::replace(&mut host.known, Known::nothing());
        let fast = fast::resolve_fast(host, &known, va, code, |_| {});
        host.known = known;
        if fast != FastResolution::Resume {
            if host.known.at(&regions, va).is_none() {
                let mut known = std::mem::replace(&mut host.known, Known::nothing());
                known.look_up(host, &regions, va, streams);
                host.known = known;
            }
            let found = host.known.at(&regions, va).flatten().copied();
            let result = pager::resolve(host, |_| found, va, code).expect("there is memory for the page");
            assert_ne!(result, Resolution::Unhandled, "{number}");
        }
        self.rig.held().into_iter().filter(|number| !before.contains(number)).collect()
    }

    fn write(&mut self, number: u64) -> Vec<u64> {
        self.touch(number, 6)
    }

    fn is_there(&self, number: u64) -> bool {
        self.rig.host.pte(page(number)).is_present()
    }

    /// Writes pages in this order, as far as they are not there. Returns how many came in at each fault.
    fn write_all(&mut self, numbers: impl Iterator<Item = u64>) -> Vec<usize> {
        let mut counts = Vec::new();
        for number in numbers {
            if !self.is_there(number) {
                let came = self.write(number);
                assert!(came.contains(&number));
                counts.push(came.len());
            }
        }
        counts
    }
}

#[test]
fn as_many_pages_come_as_were_touched_in_a_row() {
    let mut program = Program::new(&[region(400..700, &ZEROS)]);
    let upwards = [1, 1, 1, 1, 4, 8, 16, 32, 48, 112, 76];
    assert_eq!(program.write_all(400..700), upwards, "up to the end of the table, and of the region");
    program.rig.unmap(400..700).expect("pages can always go");
    program.rig.end();

    let mut program = Program::new(&[region(400..624, &ZEROS)]);
    assert_eq!(program.write_all((400..624).rev()), [1, 1, 1, 1, 4, 8, 16, 32, 48, 112]);
    program.rig.end();
}

#[test]
fn a_stream_may_begin_anywhere() {
    for first in 1..20 {
        let mut program = Program::new(&[region(0..280, &ZEROS)]);
        let counts = program.write_all(first..280);
        assert!(counts.len() <= 11 + 9, "from {first}: {counts:?}");
        let mut touched = 0;
        for came in counts {
            assert!(came <= touched.max(1), "from {first}: {came} came after {touched}");
            touched += came;
        }
        program.rig.end();
    }
}

#[test]
fn a_program_that_touches_no_row_gets_no_other_page() {
    let strides = [2, 3, 5, 7, 64, 511, 513].map(|stride| (0..64).map(move |n| n * stride % PAGES).collect::<Vec<_>>());
    let mixed = (0..PAGES).map(|n| n * 787 % PAGES).collect();
    let pairs = (0..60).flat_map(|n| [n * 8 + 3, n * 8 + 4]).collect();
    for order in strides.into_iter().chain([mixed, pairs]) {
        let mut program = Program::new(&[region(0..PAGES, &ZEROS)]);
        let most_alone =
            order.iter().take(64).all(|number| program.is_there(*number) || program.write(*number).len() == 1);
        assert!(most_alone, "{order:?}");
        program.rig.end();
    }
}

#[test]
fn what_is_there_is_spared() {
    let mut program = Program::new(&[region(0..PAGES, &ZEROS)]);
    program.rig.host.mark(page(14), 5).expect("memory");
    assert_eq!(program.write_all(0..14), [1, 1, 1, 1, 4, 6], "up to a mark");
    assert_eq!(program.write(15), [15]);
    // Another stream, downwards, comes to the last page.
    assert_eq!(program.write_all((16..28).rev()), [1, 1, 1, 1, 1, 1, 1, 1, 4]);
    program.rig.end();
}

#[test]
fn a_file_is_read_in_order() {
    let file = FILE.region(range(0..30), Perms::WRITE, ARCHIVE, FILE_BYTES);
    let mut program = Program::new(&[file]);
    let reads = (0..19).filter(|number| !program.is_there(*number)).count();
    assert_eq!(reads, 19);
    let mut counts = Vec::new();
    for number in 0..19 {
        if !program.is_there(number) {
            counts.push(program.touch(number, 4).len());
        }
    }
    assert_eq!(counts, [1, 1, 1, 1, 4, 8, 3], "whole pages only");
    assert_eq!(program.rig.read(18), Some(crate::host::file_byte(18 * PAGE_SIZE)));
    program.rig.end();

    // Writes get copies.
    let mut program = Program::new(&[file]);
    assert_eq!(program.write_all(0..16), [1, 1, 1, 1, 4, 8]);
    assert!(program.rig.write(12, 77));
    assert_eq!(program.rig.read(13), Some(crate::host::file_byte(13 * PAGE_SIZE)));
    program.rig.end();
}

#[test]
fn two_regions_have_a_stream_each() {
    let shared = Region { perms: Perms::WRITE | Perms::KEEP, ..region(600..700, &Shared) };
    let mut program = Program::new(&[region(0..100, &ZEROS), shared]);
    let both = program.write_all((0..64).flat_map(|number| [number, 600 + number]));
    assert_eq!(both, [1, 1, 1, 1, 4, 8, 16, 32].map(|count| [count; 2]).as_flattened());
    program.rig.end();
}

#[test]
fn advice_overrides_what_the_faults_say() {
    let mut program = Program::new(&[region(0..PAGES, &ZEROS)]);
    program.rig.advise(0..PAGES, Advice::Random).expect("it is covered");
    assert_eq!(program.write_all(0..40), [1; 40]);
    program.rig.advise(300..600, Advice::Sequential).expect("it is covered");
    program.rig.host.known.forget();
    assert_eq!(program.write(300).len(), 212, "up to the end of the table");
    program.rig.end();
}

#[test]
fn pages_that_are_brought_in_unasked_begin_no_stream() {
    let mut program = Program::new(&[region(0..PAGES, &ZEROS)]);
    for piece in [0..3, 3..4] {
        program.rig.advise(piece, Advice::WillNeed).expect("memory");
    }
    assert_eq!(program.write_all(4..8), [1, 1, 1, 1]);
    program.rig.end();
}

#[test]
fn the_touched_page_comes_if_there_is_a_frame_for_it() {
    for downwards in [false, true] {
        let mut program = Program::new(&[region(0..512, &ZEROS)]);
        let number = |n: u64| if downwards { 511 - n } else { n };
        program.write_all((0..16).map(number));
        let mut taken: Vec<_> = std::iter::from_fn(|| program.rig.host.memory.alloc().ok()).collect();
        program.rig.host.memory.release(taken.pop().expect("a frame"));
        let came = program.write(number(16));
        assert!(program.is_there(number(16)), "{came:?}");
        taken.into_iter().for_each(|frame| program.rig.host.memory.release(frame));
        program.rig.end();
    }
}

#[test]
fn all_pages_can_be_wanted_at_once() {
    let file = FILE.region(range(600..630), Perms::WRITE, ARCHIVE, FILE_BYTES);
    let mut program = Program::new(&[region(400..520, &ZEROS), file]);
    program.rig.advise(400..520, Advice::WillRead).expect("memory");
    assert!((400..520).all(|number| !program.rig.host.pte(page(number)).has(abi::Pte::WRITABLE)));
    program.rig.advise(410..630, Advice::WillNeed).expect_err("there is a hole");
    program.rig.advise(410..520, Advice::WillNeed).expect("memory");
    program.rig.advise(600..630, Advice::WillNeed).expect("memory");
    let writable = |number| program.rig.host.pte(page(number)).has(abi::Pte::WRITABLE);
    assert!((410..520).chain(600..630).all(writable) && !(400..410).any(writable));
    program.rig.end();
}

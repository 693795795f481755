//! The facts about the last fault decide the next one: every kind of fault, after every kind of fault before it, at
//! addresses of every kind. Only accesses that a region allows may bring a page in.

use crate::host::Host;
use crate::rig::{Rig, page, region};
use abi::layout::{ARCHIVE, USER_LIMIT};
use abi::{PAGE_SIZE, Perms, Va, fault::PageFaultCode};
use pager::fast::{self, FastResolution, Known};
use pager::stream::Streams;
use pager::{File, Guard, PageCalls, Region, Resolution, Shared, Zeros, ranges::Advice};

static ZEROS: Zeros = Zeros::named("zeros");
static FILE: File = File { name: "file" };
static GUARD: Guard = Guard("guard");

/// The first page of each region; between them, below and above are holes.
const READ: u64 = 10;
const WRITE: u64 = 20;
const EXEC: u64 = 30;
const FILE_AT: u64 = 40;
const WRITTEN_FILE: u64 = 50;
const KEPT: u64 = 60;
const GUARDED: u64 = 70;
const UPWARDS: u64 = 80;
const PAGES: u64 = 4;

fn world() -> Rig {
    let zeros = |first: u64, perms| Region { perms, ..region(first..first + PAGES, &ZEROS) };
    let file = |first: u64, perms| {
        let range = page(first)..page(first + PAGES);
        FILE.region(range, perms, ARCHIVE, PAGE_SIZE + 10)
    };
    let mut rig = Rig::new(&[
        zeros(READ, Perms::READ),
        zeros(WRITE, Perms::WRITE),
        zeros(EXEC, Perms::EXEC),
        file(FILE_AT, Perms::READ),
        file(WRITTEN_FILE, Perms::WRITE),
        Region { perms: Perms::WRITE | Perms::KEEP, ..region(KEPT..KEPT + PAGES, &Shared) },
        Region { perms: Perms::READ, ..region(GUARDED..GUARDED + PAGES, &GUARD) },
        zeros(UPWARDS, Perms::WRITE),
    ]);
    rig.advise(UPWARDS..UPWARDS + PAGES, Advice::Sequential).expect("it is covered");
    rig
}

const FIRSTS: [u64; 8] = [READ, WRITE, EXEC, FILE_AT, WRITTEN_FILE, KEPT, GUARDED, UPWARDS];

/// Untouched addresses: in these pages of every region, and in holes between and around them.
fn targets(pages: &[u64]) -> Vec<Va> {
    let inside = FIRSTS.iter().flat_map(|first| pages.iter().map(move |number| page(first + number)));
    let holes = [0, READ + PAGES, EXEC + PAGES + 1, UPWARDS + PAGES + 1].map(page);
    inside.chain(holes).chain([Va(0), Va(USER_LIMIT.0 - PAGE_SIZE)]).collect()
}

/// Handles a fault as libos does: by the known facts first, then by the regions; the look-up renews the facts.
fn fault(host: &mut Host, regions: &[Region<Host>], known: &mut Known, va: Va, code: u64) -> bool {
    let code = PageFaultCode(code);
    match fast::resolve_fast(host, known, va, code, |_| {}) {
        FastResolution::Resume => return true,
        FastResolution::NotOurs => return false,
        FastResolution::Unknown => {}
    }
    if known.at(regions, va).is_none() {
        known.look_up(host, regions, va, &mut Streams::none());
    }
    let find = |va| known.at(regions, va).flatten().copied();
    let result = pager::resolve(host, find, va, code).expect("there is enough memory");
    result != Resolution::Unhandled
}

/// Error codes of faults on missing pages: for the processor's own accesses or a program's, reads, writes and fetches.
/// (A fetch is no write.)
const CODES: [u64; 6] = [0, 2, 16, 4, 6, 20];

fn is_allowed(region: Option<&Region<Host>>, code: PageFaultCode) -> bool {
    region.is_some_and(|region| {
        let refused = |asked: bool, right| asked && !region.perms.contains(right);
        region.pager.name() != GUARD.0
            && !refused(code.is_write(), Perms::WRITE)
            && !refused(code.is_fetch(), Perms::EXEC)
    })
}

#[test]
fn only_what_a_region_allows_brings_a_page_in() {
    let mut rig = world();
    // A file ends in the second page of its region.
    let (earlier, targets) = (targets(&[0]), targets(&[0, 1, 2]));
    let (host, book) = rig.parts();
    let regions = book.regions();
    let mut refused = 0;
    for (&before, last) in earlier.iter().flat_map(|va| CODES.map(|code| (va, code))) {
        for (&va, code) in targets.iter().flat_map(|va| CODES.map(|code| (va, code))) {
            let mut known = Known::nothing();
            fault(host, &regions, &mut known, before, last);
            clear(host);
            let resumed = fault(host, &regions, &mut known, va, code);
            let region = pager::region::find(&regions, va);
            let expected = is_allowed(region, PageFaultCode(code));
            let what = || format!("error code {code} at {va} in {region:?}, after {last} at {before}");
            assert_eq!((resumed, host.pte(va).is_present()), (expected, expected), "{}", what());
            refused += u64::from(!expected);
            clear(host);
        }
    }
    assert!(refused > 5_000, "{refused} were refused");
    rig.end();
}

/// Removes all pages.
fn clear(host: &mut Host) {
    pager::ranges::clear(host, &(page(0)..page(UPWARDS + PAGES))).expect("pages can always go");
}

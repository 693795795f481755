//! The steps of the test: operations of programs on their address spaces, and their results.

use crate::host::{ENVS, FILE_BYTES};
use abi::layout::{ARCHIVE, USER_LIMIT};
use abi::{PAGE_SIZE, Perms, Va};
use pager::{Error, ranges::Advice};
use proptest::prelude::*;
use proptest::sample::select;
use sim::processor::Access;
use std::ops::Range;

const fn around(va: u64, below: u64, above: u64) -> Range<Va> {
    Va(va - below * PAGE_SIZE)..Va(va + above * PAGE_SIZE)
}

/// The areas of the test: in one table, and across the boundaries of tables of each level. The pages of
/// each are fewer than a sequential region brings in at once.
pub const AREAS: [Range<Va>; 5] = [
    around(0x20_0000, 12, 12),
    around(0x4000_0000, 10, 8),
    around(0, 0, 5),
    around(0x80_0000_0000, 3, 3),
    around(USER_LIMIT.0, 5, 0),
];

/// All pages in the test.
pub fn pages() -> impl Iterator<Item = Va> {
    AREAS.into_iter().flat_map(|area| pages_of(&area))
}

/// The pages of a range.
pub fn pages_of(range: &Range<Va>) -> impl DoubleEndedIterator<Item = Va> + use<> {
    (range.start.0 / PAGE_SIZE..range.end.0 / PAGE_SIZE).map(|page| Va(page * PAGE_SIZE))
}

/// Bytes of a page that programs touch: among them the last ones of the file and the first one behind.
pub const OFFSETS: [u64; 6] = [0, 9, 1233, 1234, 2049, 4095];

/// The pager of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Zeros,
    /// Zeros that children do not inherit.
    Secret,
    Shared,
    /// The offset from an address to the file, and the end of the file.
    File {
        bias: u64,
        end: u64,
    },
    Guard,
}

/// The choice of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cover {
    /// The first part of the range that is in regions.
    Regions,
    /// The whole range, with holes.
    All,
}

/// A step of the running program.
#[derive(Clone, Debug)]
pub enum Op {
    Add {
        range: Range<Va>,
        kind: Kind,
        rights: Perms,
    },
    Unmap {
        range: Range<Va>,
    },
    Protect {
        range: Range<Va>,
        rights: Perms,
        cover: Cover,
    },
    Advise {
        range: Range<Va>,
        advice: Advice,
        cover: Cover,
    },
    /// Move the region that holds this page.
    Relocate {
        page: Va,
        to: Va,
    },
    /// Fork. The parent goes on.
    Fork,
    /// End the running program, unless it is the last one, and switch to another one.
    Exit,
    Switch {
        env: usize,
    },
    /// Touch a byte; for a write, write this value.
    Touch {
        va: Va,
        access: Access,
        byte: u8,
    },
}

impl Op {
    /// Whether this may need a frame.
    pub fn allocates(&self) -> bool {
        matches!(self, Op::Advise { .. } | Op::Relocate { .. } | Op::Fork | Op::Touch { .. })
    }
}

/// The result of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done(Result<(), Error>),
    /// The value that was read, executed or written.
    Byte(u8),
    /// The access is not allowed.
    Fault,
    /// Nothing was done: the step is not possible.
    Skipped,
}

/// Some areas are chosen more often than others, so that ranges overlap.
fn area() -> impl Strategy<Value = Range<Va>> {
    prop_oneof![
        4 => Just(AREAS[0].clone()),
        2 => Just(AREAS[1].clone()),
        1 => select(AREAS[2..].to_vec()),
    ]
}

fn page() -> impl Strategy<Value = Va> {
    area().prop_flat_map(|area| select(pages_of(&area).collect::<Vec<_>>()))
}

/// A range within an area.
fn range() -> impl Strategy<Value = Range<Va>> {
    area().prop_flat_map(|area| {
        let pages = pager::pages(&area);
        (0..pages, 1..=pages).prop_map(move |(first, count)| {
            let start = area.start.add_pages(first);
            start..area.end.min(start.add_pages(count))
        })
    })
}

/// Mostly a range within an area, and sometimes one from one area to another.
fn any_range() -> impl Strategy<Value = Range<Va>> {
    let wide = (page(), page()).prop_map(|(one, other)| one.min(other)..one.max(other).add_pages(1));
    prop_oneof![9 => range(), 1 => wide]
}

/// A part of the file from one of its pages on, in a range that may be longer.
fn file(range: &Range<Va>, first: u64, most: u64) -> Kind {
    let source = ARCHIVE.add_pages(first);
    let bytes = (FILE_BYTES - first * PAGE_SIZE).min(range.end.0 - range.start.0).min(most);
    Kind::File { bias: source.0.wrapping_sub(range.start.0), end: range.start.0 + bytes }
}

fn rights() -> impl Strategy<Value = Perms> {
    prop_oneof![3 => Just(Perms::WRITE), 1 => Just(Perms::READ), 1 => Just(Perms::EXEC)]
}

fn cover() -> impl Strategy<Value = Cover> {
    prop_oneof![4 => Just(Cover::Regions), 1 => Just(Cover::All)]
}

fn add() -> impl Strategy<Value = Op> {
    let most = select(vec![1, 4095, 4096, 4097, 9000, FILE_BYTES, FILE_BYTES, FILE_BYTES]);
    let file = (range(), 0..20_u64, most).prop_map(|(range, first, most)| {
        let kind = file(&range, first, most);
        (range, kind)
    });
    let plain = vec![Kind::Zeros, Kind::Zeros, Kind::Shared, Kind::Secret, Kind::Guard];
    let what = prop_oneof![2 => (range(), select(plain)), 1 => file];
    (what, rights()).prop_map(|((range, kind), rights)| Op::Add { range, kind, rights })
}

fn touch() -> impl Strategy<Value = Op> {
    let access = select(vec![Access::Read, Access::Write, Access::Write, Access::Fetch]);
    (page(), select(OFFSETS.to_vec()), access, any::<u8>()).prop_map(|(page, offset, access, byte)| Op::Touch {
        va: Va(page.0 + offset),
        access,
        byte,
    })
}

/// A random step.
pub fn op() -> impl Strategy<Value = Op> {
    let advice = select(vec![
        Advice::Normal,
        Advice::Sequential,
        Advice::Random,
        Advice::WillNeed,
        Advice::WillRead,
        Advice::DontNeed,
    ]);
    prop_oneof![
        6 => add(),
        2 => any_range().prop_map(|range| Op::Unmap { range }),
        4 => (any_range(), rights(), cover())
            .prop_map(|(range, rights, cover)| Op::Protect { range, rights, cover }),
        4 => (any_range(), advice, cover())
            .prop_map(|(range, advice, cover)| Op::Advise { range, advice, cover }),
        2 => (page(), page()).prop_map(|(page, to)| Op::Relocate { page, to }),
        2 => Just(Op::Fork),
        1 => Just(Op::Exit),
        3 => (0..ENVS).prop_map(|env| Op::Switch { env }),
        24 => touch(),
    ]
}

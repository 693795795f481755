//! The steps of the test: operations on page maps, and their results.

use abi::{Error, Level, Perms, Pte, Va, call::AGE, layout::USER_LIMIT, page::span};
use proptest::prelude::*;
use proptest::sample::select;

/// The number of page maps in the test.
pub const MAPS: usize = 3;

/// The pages in the test: neighbours, and pages that have tables in common down to each level.
pub const PAGES: [Va; 9] = [
    Va(0),
    Va(0x1000),
    Va(0x1f_f000),
    Va(0x20_0000),
    Va(0x3fff_f000),
    Va(0x4000_0000),
    Va(0x7f_ffff_f000),
    Va(0x80_0000_0000),
    Va(USER_LIMIT.0 - 0x1000),
];

/// One step: a call on any page map, or an access by the program in the current one.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Alloc {
        map: usize,
        va: Va,
        perms: Perms,
    },
    Share {
        from: usize,
        source: Va,
        to: usize,
        va: Va,
        perms: Perms,
    },
    Protect {
        map: usize,
        va: Va,
        perms: Perms,
    },
    Unmap {
        map: usize,
        va: Va,
    },
    Mark {
        map: usize,
        va: Va,
        word: u64,
    },
    MarkOver {
        map: usize,
        va: Va,
        word: u64,
    },
    Own {
        map: usize,
        va: Va,
    },
    /// Share the table that an entry of this level points to.
    ShareTable {
        from: usize,
        source: Va,
        to: usize,
        va: Va,
        level: Level,
    },
    OwnTable {
        map: usize,
        va: Va,
        level: Level,
    },
    UnmapTable {
        map: usize,
        va: Va,
        level: Level,
    },
    /// Protect everything below a table, or no longer.
    ProtectTable {
        map: usize,
        va: Va,
        level: Level,
        sealed: bool,
    },
    /// Tear everything down, this many instructions at a time, and begin anew.
    TearDown {
        map: usize,
        budget: u32,
    },
    /// The processor switches to this page map.
    Switch {
        map: usize,
    },
    Read {
        va: Va,
        word: usize,
    },
    Write {
        va: Va,
        word: usize,
        value: u64,
    },
    Fetch {
        va: Va,
    },
    /// Read the entry of `va` in the self map, and try to write and to execute it.
    Uvpt {
        va: Va,
        level: Level,
    },
}

impl Op {
    /// Whether this may need a frame.
    pub fn allocates(self) -> bool {
        use Op::{Alloc, Mark, MarkOver, Own, OwnTable, Share, ShareTable};
        matches!(
            self,
            Alloc { .. }
                | Share { .. }
                | Mark { .. }
                | MarkOver { .. }
                | Own { .. }
                | ShareTable { .. }
                | OwnTable { .. }
        )
    }
}

/// The result of a step: the result of a call, or of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Call(Result<bool, Error>),
    Value(u64),
    /// A page table entry was read.
    Entry,
    Fault,
}

/// Some page maps and pages are chosen more often than others, so that several steps in a row affect them.
fn map() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 0..MAPS]
}

fn page() -> impl Strategy<Value = Va> {
    prop_oneof![select(PAGES[..3].to_vec()), select(PAGES.to_vec())]
}

/// The permissions, for a `protect` that clears A.
fn aging(perms: Perms) -> Perms {
    Perms::from_bits_retain(perms.bits() | AGE)
}

fn perms() -> impl Strategy<Value = Perms> {
    select(vec![
        Perms::READ,
        Perms::COW,
        Perms::WRITE,
        Perms::WRITE,
        Perms::WRITE | Perms::KEEP,
        Perms::EXEC,
        Perms::EXEC | Perms::SOFT,
    ])
}

fn word() -> impl Strategy<Value = usize> {
    select(vec![0, 1, 511])
}

fn marks() -> impl Strategy<Value = u64> {
    select(vec![0, 1, Pte::MARK_MAX, Pte::MARK_MAX + 1, u64::MAX])
}

/// A table is named by the first address that it translates; mostly a small one is chosen.
fn table() -> impl Strategy<Value = (Va, Level)> {
    let at = |(va, level): (Va, Level)| (Va(va.0 & !(span(level) - 1)), level);
    (page(), select(vec![Level::L2, Level::L2, Level::L2, Level::L3, Level::L3, Level::L4])).prop_map(at)
}

fn share_table() -> impl Strategy<Value = Op> {
    // Mostly to the same place of another page map, as in a fork.
    let same =
        (map(), table(), map()).prop_map(|(from, (va, level), to)| Op::ShareTable { from, source: va, to, va, level });
    let other = (map(), table(), map(), page()).prop_map(|(from, (source, level), to, va)| {
        let va = Va(va.0 & !(span(level) - 1));
        Op::ShareTable { from, source, to, va, level }
    });
    prop_oneof![2 => same, 1 => other]
}

/// A random step.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (map(), page(), perms()).prop_map(|(map, va, perms)| Op::Alloc { map, va, perms }),
        6 => (map(), page(), map(), page(), perms()).prop_map(|(from, source, to, va, perms)| {
            Op::Share { from, source, to, va, perms }
        }),
        4 => (map(), page(), perms()).prop_map(|(map, va, perms)| Op::Protect { map, va, perms }),
        2 => (map(), page(), perms()).prop_map(|(map, va, perms)| Op::Protect { map, va, perms: aging(perms) }),
        5 => (map(), page()).prop_map(|(map, va)| Op::Unmap { map, va }),
        3 => (map(), page(), marks()).prop_map(|(map, va, word)| Op::Mark { map, va, word }),
        3 => (map(), page(), marks()).prop_map(|(map, va, word)| Op::MarkOver { map, va, word }),
        4 => (map(), page()).prop_map(|(map, va)| Op::Own { map, va }),
        5 => share_table(),
        5 => (map(), table()).prop_map(|(map, (va, level))| Op::OwnTable { map, va, level }),
        2 => (map(), table()).prop_map(|(map, (va, level))| Op::UnmapTable { map, va, level }),
        4 => (map(), table(), any::<bool>()).prop_map(|(map, (va, level), sealed)| {
            Op::ProtectTable { map, va, level, sealed }
        }),
        1 => (map(), select(vec![1, 50, 2000])).prop_map(|(map, budget)| Op::TearDown { map, budget }),
        1 => map().prop_map(|map| Op::Switch { map }),
        6 => (page(), word()).prop_map(|(va, word)| Op::Read { va, word }),
        6 => (page(), word(), any::<u64>()).prop_map(|(va, word, value)| Op::Write { va, word, value }),
        2 => page().prop_map(|va| Op::Fetch { va }),
        8 => (page(), select(Level::DOWN.to_vec())).prop_map(|(va, level)| Op::Uvpt { va, level }),
    ]
}

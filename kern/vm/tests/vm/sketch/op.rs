//! The operations, their operands (and the number of each), and the reasons for a refusal.

use std::fmt;

/// The size of everything.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub maps: usize,
    /// The numbers of entries of a root, of the tables below, and of tables with pages in them.
    pub entries: [usize; 3],
    pub frames: usize,
}

impl Shape {
    pub fn pages(self) -> usize {
        self.entries.iter().product()
    }

    /// The number of entries of a level in a page map.
    pub fn names(self, level: usize) -> usize {
        self.entries[..4 - level].iter().product()
    }

    /// The path to the entry of this number: an index for each table.
    pub fn path(self, level: usize, mut number: usize) -> [usize; 3] {
        let mut path = [0; 3];
        for depth in (0..4 - level).rev() {
            path[depth] = number % self.entries[depth];
            number /= self.entries[depth];
        }
        path
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    R,
    W,
    /// Writable, and kept over a fork.
    K,
}

/// A page map, and the number of an entry in it.
pub type At = (usize, usize);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Alloc(At),
    Map(At, At, Mode),
    Protect(At, Mode),
    Unmap(At),
    Own(At),
    ShareTable(usize, At, At),
    OwnTable(usize, At),
    UnmapTable(usize, At),
    Exit(usize),
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let at = |(map, number): At| format!("{}{number}", ['P', 'C', 'X'][map]);
        match *self {
            Op::Alloc(page) => write!(f, "alloc {}", at(page)),
            Op::Map(from, to, mode) => write!(f, "map {} to {} {mode:?}", at(from), at(to)),
            Op::Protect(page, mode) => write!(f, "protect {} {mode:?}", at(page)),
            Op::Unmap(page) => write!(f, "unmap {}", at(page)),
            Op::Own(page) => write!(f, "own {}", at(page)),
            Op::ShareTable(level, from, to) => write!(f, "share table{level} {} as {}", at(from), at(to)),
            Op::OwnTable(level, table) => write!(f, "own table{level} {}", at(table)),
            Op::UnmapTable(level, table) => write!(f, "unmap table{level} {}", at(table)),
            Op::Exit(map) => write!(f, "{} ends", ['P', 'C', 'X'][map]),
        }
    }
}

/// The reason why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    NotMapped,
    NoRight,
    TableShared,
    Mapped,
    NotShared,
}

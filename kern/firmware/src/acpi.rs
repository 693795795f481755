//! The tables of the firmware (ACPI), and the list of processors in one of them.
//!
//! The root pointer names a table of tables (in firmware of this century with addresses of 64 bits), and each of these
//! begins with its name. The one called `APIC` lists the local APICs, one for each processor.

use crate::Physical;
use core::{iter, ops::Range};

/// The ids of the local APICs of all processors that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    ids: [u8; Processors::MAX],
    len: usize,
}

impl Processors {
    /// How many processors are listed at most; more are left out.
    pub const MAX: usize = 64;

    /// The ids, in the order of the table.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        self.ids[..self.len].iter().copied()
    }

    /// Finds the processors, starting at the root pointer. The list is empty if there is no such table.
    pub(crate) fn find(memory: &impl Physical, root: u64) -> Processors {
        const FIRST: u64 = 8;
        const LOCAL_APIC: u8 = 0;
        const ENABLED: u32 = 1;
        let mut found = Processors { ids: [0; Processors::MAX], len: 0 };
        for table in tables(memory, root, *b"APIC") {
            for entry in entries(memory, table.start + FIRST..table.end, |head| head >> 8 & 0xff) {
                let [kind, _, _, id] = memory.word(entry.start).to_le_bytes();
                let is_local = kind == LOCAL_APIC && entry.end - entry.start >= 8;
                if is_local && memory.word(entry.start + 4) & ENABLED != 0 && found.len < Self::MAX {
                    found.ids[found.len] = id;
                    found.len += 1;
                }
            }
        }
        found
    }
}

/// The contents of all tables with this name, without their headers, starting at the root pointer.
pub(crate) fn tables(memory: &impl Physical, root: u64, name: [u8; 4]) -> impl Iterator<Item = Range<u64>> {
    let mut signature = [0; 16];
    memory.read(root, &mut signature);
    let modern = signature[15] >= 2;
    let address = move |at| if modern { memory.long(at) } else { memory.word(at).into() };
    let (table, bytes) = if modern { (address(root.wrapping_add(24)), 8) } else { (address(root.wrapping_add(16)), 4) };
    let list = if signature.starts_with(b"RSD PTR ") { contents(memory, table) } else { 0..0 };
    let all = (0..(list.end - list.start) / bytes).map(move |index| address(list.start + index * bytes));
    all.filter(move |table| memory.word(*table).to_le_bytes() == name).map(|table| contents(memory, table))
}

/// The bytes of a table behind its header; none if its length is not valid.
fn contents(memory: &impl Physical, table: u64) -> Range<u64> {
    const HEADER: u64 = 36;
    const LONGEST: u64 = 1 << 16;
    let bytes = u64::from(memory.word(table.wrapping_add(4)));
    let end = table.checked_add(bytes).filter(|_| (HEADER..=LONGEST).contains(&bytes));
    end.map_or(0..0, |end| table + HEADER..end)
}

/// The entries of a table, up to the first one that does not fit. `length` gets the first word of an entry.
pub(crate) fn entries(
    memory: &impl Physical,
    mut table: Range<u64>,
    length: fn(u32) -> u32,
) -> impl Iterator<Item = Range<u64>> {
    iter::from_fn(move || {
        let has_head = table.start.checked_add(4).is_some_and(|head| head <= table.end);
        let bytes = if has_head { length(memory.word(table.start)).into() } else { 0 };
        let entry = table.start..table.start.saturating_add(bytes);
        (bytes >= 4 && entry.end <= table.end).then(|| {
            table.start = entry.end;
            entry
        })
    })
}

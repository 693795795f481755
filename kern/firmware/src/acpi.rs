//! The list of processors, from the ACPI tables.
//!
//! The root pointer names a table of tables (in firmware of this century with addresses of 64 bits), and the one
//! called `APIC` lists the local APICs, one for each processor.

use crate::Physical;

/// The ids of the local APICs of all processors that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    ids: [u8; Processors::MAX],
    len: usize,
}

/// Bytes before the entries of every table; the length of the table is at offset 4.
const HEADER: u64 = 36;
/// A longer table is regarded as invalid.
const LONGEST: u32 = 1 << 16;

impl Processors {
    /// How many processors are listed at most; more are left out.
    pub const MAX: usize = 64;

    /// The ids, in the order of the table.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        self.ids[..self.len].iter().copied()
    }

    /// Finds the processors, starting at the root pointer. The list is empty if there is no such table.
    pub(crate) fn find(memory: &impl Physical, root: u64) -> Processors {
        let mut found = Processors { ids: [0; Processors::MAX], len: 0 };
        let mut signature = [0; 16];
        memory.read(root, &mut signature);
        if !signature.starts_with(b"RSD PTR ") {
            return found;
        }
        let modern = signature[15] >= 2;
        let address = |at| if modern { memory.long(at) } else { memory.word(at).into() };
        let (table, step) =
            if modern { (address(root.wrapping_add(24)), 8) } else { (address(root.wrapping_add(16)), 4) };
        for at in (HEADER..length(memory, table)).step_by(step) {
            let named = address(table.wrapping_add(at));
            if memory.word(named) == u32::from_le_bytes(*b"APIC") {
                found.list(memory, named);
            }
        }
        found
    }

    /// Adds the entries of the table. Each begins with its kind and its length.
    fn list(&mut self, memory: &impl Physical, table: u64) {
        const FIRST: u64 = HEADER + 8;
        const LOCAL_APIC: u8 = 0;
        const ENABLED: u32 = 1;
        let mut at = FIRST;
        while at < length(memory, table) {
            let entry = table.wrapping_add(at);
            let [kind, bytes, _, id] = memory.word(entry).to_le_bytes();
            if kind == LOCAL_APIC && memory.word(entry.wrapping_add(4)) & ENABLED != 0 && self.len < Self::MAX {
                self.ids[self.len] = id;
                self.len += 1;
            }
            at += u64::from(bytes.max(2));
        }
    }
}

fn length(memory: &impl Physical, table: u64) -> u64 {
    let length = memory.word(table.wrapping_add(4));
    if length <= LONGEST { length.into() } else { 0 }
}

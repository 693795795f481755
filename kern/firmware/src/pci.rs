//! Where the configuration spaces of PCI and the IOMMU are, from the ACPI tables `MCFG` and `DMAR`.
//!
//! Only bus 0 of segment 0 is read: the kernel hands out no functions behind bridges.

use crate::Physical;
use crate::acpi::{entries, tables};
use abi::Frame;
use core::ops::Range;
use devices::pci::Function;

/// The configuration spaces of bus 0 in memory: a page for each function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigSpaces {
    /// The page of function 0.
    pub first: Frame,
}

impl ConfigSpaces {
    /// Finds the configuration spaces, starting at the root pointer.
    pub(crate) fn find(memory: &impl Physical, root: u64) -> Option<ConfigSpaces> {
        const FIRST: u64 = 8;
        const ENTRY: u64 = 16;
        let table = tables(memory, root, *b"MCFG").next()?;
        let count = (table.end - table.start).saturating_sub(FIRST) / ENTRY;
        let mut all = (0..count).map(|index| table.start + FIRST + index * ENTRY);
        // Segment and first bus are in the first three bytes of this word.
        let entry = all.find(|entry| memory.word(entry + 8) << 8 == 0)?;
        let first = Frame::at(memory.long(entry))?;
        first.0.checked_add(u8::MAX.into()).map(|_| ConfigSpaces { first })
    }
}

/// The unit of the IOMMU (VT-d), and the functions of bus 0 whose accesses it translates. A function that it does not
/// cover can access all memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remapping {
    /// The registers of the unit.
    pub registers: Frame,
    /// A bit for each function of bus 0.
    functions: [u64; 4],
}

impl Remapping {
    /// Finds the unit, starting at the root pointer. There is none that can be used if the firmware forbids interrupt
    /// remapping, if there are several, or if anything in the table is not valid.
    pub(crate) fn find(memory: &impl Physical, root: u64) -> Option<Remapping> {
        const FIRST: u64 = 12;
        const INTERRUPTS: u32 = 1 << 8;
        const UNIT: u16 = 0;
        let table = tables(memory, root, *b"DMAR").next()?;
        if table.end - table.start < FIRST || memory.word(table.start) & INTERRUPTS == 0 {
            return None;
        }
        let (mut end, mut found) = (table.start + FIRST, None);
        for entry in entries(memory, end..table.end, |head| head >> 16) {
            end = entry.end;
            if memory.word(entry.start) as u16 == UNIT {
                let entry = Some(entry).filter(|entry| entry.end - entry.start >= 16)?;
                found = Some(Remapping::unit(memory, entry).filter(|_| found.is_none())?);
            }
        }
        found.filter(|_| end == table.end)
    }

    /// Reads the entry of a unit, and the list of functions in it.
    fn unit(memory: &impl Physical, entry: Range<u64>) -> Option<Remapping> {
        const FIRST: u64 = 16;
        const ALL: u32 = 1;
        const FUNCTION: u8 = 1;
        let head = memory.word(entry.start + 4);
        let (has_all, segment) = (head & ALL != 0, head >> 16);
        let registers = Frame::at(memory.long(entry.start + 8))?;
        let mut functions = [if has_all { u64::MAX } else { 0 }; 4];
        for scope in entries(memory, entry.start + FIRST..entry.end, |head| head >> 8 & 0xff) {
            let [kind, bytes, ..] = memory.word(scope.start).to_le_bytes();
            // A path behind bridges has more bytes.
            if kind == FUNCTION && bytes == 8 {
                let [_, bus, device, function] = memory.word(scope.start + 4).to_le_bytes();
                if bus == 0 && device < 32 && function < 8 {
                    functions[usize::from(device / 8)] |= 1 << (device % 8 * 8 + function);
                }
            }
        }
        (segment == 0).then_some(Remapping { registers, functions })
    }

    /// Whether the unit translates the accesses of a function.
    pub fn covers(&self, function: Function) -> bool {
        self.functions.get(usize::from(function.0 / 64)).is_some_and(|bits| bits >> (function.0 % 64) & 1 != 0)
    }
}

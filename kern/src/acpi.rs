//! Which processors there are: the ACPI tables say so.
//!
//! The root table names others; the one called `APIC` lists the local APICs, one for each processor.

use crate::cpu;
use abi::layout::DIRECT_MAP;

/// The ids of the local APICs.
#[derive(Clone, Copy)]
pub struct Processors {
    ids: [u8; cpu::MAX],
    len: usize,
}

impl Processors {
    /// The ids, in the order of the table.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        self.ids[..self.len].iter().copied()
    }

    fn push(&mut self, id: u8) {
        if self.len < self.ids.len() {
            self.ids[self.len] = id;
            self.len += 1;
        }
    }
}

/// The bytes of a physical address.
///
/// # Safety
/// The boot tables are in use. They map the first 4 GiB; what lies above reads as zeros.
unsafe fn read<T: Copy + Default>(physical: u64) -> T {
    if physical >= 1 << 32 {
        return T::default();
    }
    // SAFETY: mapped, and any bytes are a `T`: an integer.
    unsafe { ((DIRECT_MAP.0 + physical) as *const T).read_unaligned() }
}

/// Find the processors.
///
/// # Safety
/// The boot tables are in use, and `root` is what the boot loader gave, or 0.
pub unsafe fn processors(root: u64) -> Processors {
    const HEADER: u64 = 36;
    let mut found = Processors { ids: [0; cpu::MAX], len: 0 };
    // SAFETY: the firmware's tables lie below 4 GiB, and their lengths are right.
    unsafe {
        let modern = read::<u8>(root + 15) >= 2;
        let word = |at, wide| if wide { read::<u64>(at) } else { read::<u32>(at).into() };
        let (table, entry) = if modern { (word(root + 24, true), 8) } else { (word(root + 16, false), 4) };
        let length = if root == 0 { 0 } else { u64::from(read::<u32>(table + 4)) };
        for at in (table + HEADER..table + length).step_by(entry) {
            let named = word(at, modern);
            if read::<[u8; 4]>(named) == *b"APIC" {
                list(named + HEADER + 8, named + u64::from(read::<u32>(named + 4)), &mut found);
            }
        }
    }
    found
}

/// The entries of the table: each has its kind and its length.
///
/// # Safety
/// As [`read`].
unsafe fn list(mut at: u64, end: u64, found: &mut Processors) {
    const LOCAL_APIC: u8 = 0;
    const ENABLED: u32 = 1;
    while at < end {
        // SAFETY: the caller's promise.
        let (kind, length, id, flags) =
            unsafe { (read::<u8>(at), read::<u8>(at + 1), read(at + 3), read::<u32>(at + 4)) };
        if kind == LOCAL_APIC && flags & ENABLED != 0 {
            found.push(id);
        }
        at += u64::from(length.max(2));
    }
}

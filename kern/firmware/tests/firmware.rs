//! Tests with good and bad start infos and ACPI tables, in a small piece of physical memory.

use firmware::{BootInfo, Physical, Processors};
use proptest::prelude::*;

/// Memory from this address on; the rest reads as zeros.
const BASE: u64 = 0x9000;

struct Memory(Vec<u8>);

impl Physical for Memory {
    fn read(&self, address: u64, out: &mut [u8]) {
        for (offset, byte) in out.iter_mut().enumerate() {
            let at = address.wrapping_add(offset as u64).wrapping_sub(BASE);
            *byte = usize::try_from(at).ok().and_then(|at| self.0.get(at)).copied().unwrap_or(0);
        }
    }
}

impl Memory {
    /// Appends bytes. Returns their address.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = BASE + self.0.len() as u64;
        self.0.extend(bytes);
        at
    }

    fn table(&mut self, name: &[u8; 4], contents: &[u8]) -> u64 {
        let mut bytes = name.to_vec();
        bytes.extend((36 + contents.len() as u32).to_le_bytes());
        bytes.resize(36, 0);
        bytes.extend(contents);
        self.put(&bytes)
    }

    /// An `APIC` table with these processors: id, and whether it can be used.
    fn processors(&mut self, processors: &[(u8, bool)]) -> u64 {
        let mut contents = vec![0; 8];
        for &(id, enabled) in processors {
            contents.extend([1, 4, 0, 0]); // an entry of another kind
            contents.extend([0, 8, id, id, u8::from(enabled), 0, 0, 0]);
        }
        self.table(b"APIC", &contents)
    }

    fn root(&mut self, modern: bool, tables: &[u64]) -> u64 {
        let entry = |table: &u64| table.to_le_bytes()[..if modern { 8 } else { 4 }].to_vec();
        let contents: Vec<u8> = tables.iter().flat_map(entry).collect();
        let table = self.table(if modern { b"XSDT" } else { b"RSDT" }, &contents);
        let mut root = b"RSD PTR \0OEMOEM".to_vec();
        root.push(if modern { 2 } else { 0 });
        root.extend(if modern { [0; 4] } else { (table as u32).to_le_bytes() });
        root.extend([0; 4]);
        root.extend(table.to_le_bytes());
        self.put(&root)
    }

    fn start_info(&mut self, root: u64) -> u64 {
        let line = self.put(b"init=hello trace -- \x1fa\0");
        let module = self.put(&[0x20_0000_u64.to_le_bytes(), 12345_u64.to_le_bytes()].concat());
        let map: Vec<u8> = [(0, 0x9_fc00, 1), (0x10_0000, 0x12_3456, 1), (0x50_0000, 0x1000, 2)]
            .into_iter()
            .flat_map(|(address, bytes, kind): (u64, u64, u64)| [address, bytes, kind])
            .flat_map(u64::to_le_bytes)
            .collect();
        let map = self.put(&map);
        let words = [0x336e_c578 | 1 << 32, 1 << 32, module, line, root, map, 3];
        self.put(&words.map(u64::to_le_bytes).concat())
    }
}

fn ids(info: &BootInfo) -> Vec<u8> {
    info.processors.ids().collect()
}

#[test]
fn all_is_found() {
    for modern in [false, true] {
        let mut memory = Memory(Vec::new());
        let apic = memory.processors(&[(0, true), (1, false), (7, true), (3, true)]);
        let other = memory.table(b"FACP", &[0; 100]);
        let root = memory.root(modern, &[other, apic]);
        let start_info = memory.start_info(root);
        let info = BootInfo::read(&memory, start_info);
        assert_eq!(ids(&info), [0, 7, 3]);
        assert_eq!(info.command_line(), "init=hello trace -- \x1fa");
        assert_eq!((info.word("init="), info.word("trace"), info.word("tick=")), (Some("hello"), Some(""), None));
        assert_eq!((info.word("\x1fa"), info.arguments()), (None, "\x1fa"));
        assert_eq!(info.archive, 0x20_0000..0x20_0000 + 12345);
        // Only memory above 1 MiB, in whole pages.
        let usable: Vec<_> = info.usable.iter().filter(|range| range.start < range.end).collect();
        assert_eq!(usable, [&(0x10_0000..0x22_3000)]);
    }
}

fn read_words(words: [u32; 2]) {
    let mut memory = Memory(Vec::new());
    let at = memory.put(&words.map(u32::to_le_bytes).concat());
    BootInfo::read(&memory, at);
}

#[test]
fn a_magic_number_and_a_version_are_enough() {
    read_words([0x336e_c578, 1]);
}

#[test]
#[should_panic(expected = "start info: bad magic 0x1")]
fn a_bad_magic_number_is_said() {
    read_words([1, 1]);
}

#[test]
#[should_panic(expected = "start info: version 0 has no memory map")]
fn a_bad_version_is_said() {
    read_words([0x336e_c578, 0]);
}

#[test]
fn no_more_processors_than_there_is_room_for() {
    let mut memory = Memory(Vec::new());
    let many: Vec<_> = (0..100).map(|id| (id, true)).collect();
    let apic = memory.processors(&many);
    let root = memory.root(true, &[apic]);
    let start_info = memory.start_info(root);
    let found = ids(&BootInfo::read(&memory, start_info));
    assert_eq!(found, (0..Processors::MAX as u8).collect::<Vec<_>>());
}

proptest! {
    /// Nonsense behind magic number and version causes no panic and no endless loop.
    #[test]
    fn nonsense_is_survived(noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut memory = Memory(Vec::new());
        let apic = memory.processors(&[(0, true), (1, true)]);
        let root = memory.root(true, &[apic]);
        let start_info = memory.start_info(root);
        let head = (start_info - BASE) as usize..(start_info - BASE) as usize + 8;
        for (at, byte) in noise {
            let at = at.index(memory.0.len());
            if !head.contains(&at) {
                memory.0[at] = byte;
            }
        }
        let info = BootInfo::read(&memory, start_info);
        prop_assert!(info.usable.iter().all(|range| range.start >= firmware::LOW_MEMORY || range.is_empty()));
        prop_assert!(info.command_line().len() <= firmware::MAX_COMMAND_LINE);
    }
}

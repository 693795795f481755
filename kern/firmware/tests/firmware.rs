//! Tests with good and bad start infos and ACPI tables, in a small piece of physical memory.

use abi::Frame;
use devices::pci::Function;
use firmware::{BootInfo, Physical, Processors};
use proptest::prelude::*;
use std::cell::Cell;

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

    /// An `MCFG` table with these entries: address, segment, and first and last bus.
    fn config_spaces(&mut self, entries: &[(u64, u16, u8, u8)]) -> u64 {
        let mut contents = vec![0; 8];
        for &(address, segment, first, last) in entries {
            contents.extend(address.to_le_bytes());
            contents.extend([segment as u8, (segment >> 8) as u8, first, last, 0, 0, 0, 0]);
        }
        self.table(b"MCFG", &contents)
    }

    /// A `DMAR` table with these flags and entries.
    fn remapping(&mut self, flags: u8, entries: &[Vec<u8>]) -> u64 {
        let mut contents = vec![0x2f, flags];
        contents.resize(12, 0);
        contents.extend(entries.concat());
        self.table(b"DMAR", &contents)
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

/// An entry for a unit with this flag and segment: its registers, and the functions behind it, by kind and path.
fn unit(all: bool, segment: u8, registers: u64, functions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut entry = vec![0, 0, 0, 0, u8::from(all), 0, segment, 0];
    entry.extend(registers.to_le_bytes());
    for (kind, path) in functions {
        entry.extend([*kind, 5 + path.len() as u8, 0, 0, 0]);
        entry.extend(*path);
    }
    entry[2] = entry.len() as u8;
    entry
}

/// Reads the boot information of a machine with such a table.
fn read_with(put: impl FnOnce(&mut Memory) -> u64) -> BootInfo {
    let mut memory = Memory(Vec::new());
    let table = put(&mut memory);
    let root = memory.root(true, &[table]);
    let start_info = memory.start_info(root);
    BootInfo::read(&memory, start_info)
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

#[test]
fn configuration_spaces_of_bus_0_are_found() {
    let read = |entries: &[_]| read_with(|memory| memory.config_spaces(entries)).config_spaces;
    let spaces = |entries: &[_]| read(entries).map(|spaces| spaces.first);
    assert_eq!(spaces(&[(0xb000_0000, 0, 0, 255)]), Some(Frame(0xb_0000)));
    assert_eq!(spaces(&[(0x1000, 1, 0, 255), (0x2000, 0, 1, 255), (0xe000_0000, 0, 0, 0)]), Some(Frame(0xe_0000)));
    assert_eq!(spaces(&[(0xfff_ffff_f000 - 0xff000, 0, 0, 0)]), Some(Frame(u32::MAX - 255)));
    for bad in [0xb000_0800, 0xfff_ffff_f000 - 0xfe000, 1 << 44, u64::MAX] {
        assert_eq!(spaces(&[(bad, 0, 0, 255)]), None, "{bad:#x}");
    }
    assert_eq!(spaces(&[]), None);
    // The last entry is not complete.
    assert_eq!(read_with(|memory| memory.table(b"MCFG", &[0; 8 + 15])).config_spaces, None);
}

#[test]
fn the_iommu_is_found() {
    const AT: u64 = 0xfed9_0000;
    let read = |flags, entries: &[_]| read_with(|memory| memory.remapping(flags, entries)).remapping;
    let covered = |entries: &[_]| {
        let found = read(1, entries).expect("a unit");
        assert_eq!(found.registers, Frame(0xf_ed90));
        (0..=u16::MAX).filter(|function| found.covers(Function(*function))).collect::<Vec<_>>()
    };
    let device: (u8, &[u8]) = (1, &[0, 31, 7]);
    // Not listed: a bridge, behind a bridge, another bus, an I/O APIC, no device, no function.
    let others: [(u8, &[u8]); 6] =
        [(2, &[0, 1, 0]), (1, &[0, 2, 0, 3, 0]), (1, &[1, 4, 0]), (3, &[0, 5, 0]), (1, &[0, 32, 0]), (1, &[0, 6, 8])];
    let listed = [&others[..], &[(1, &[0, 0, 0]), device, (1, &[0, 1, 0])]].concat();
    assert_eq!(covered(&[unit(false, 0, AT, &listed)]), [0, 1 << 3, 0xff]);
    let reserved_memory = vec![1, 0, 8, 0, 0, 0, 0, 0];
    let all = covered(&[reserved_memory.clone(), unit(true, 0, AT, &others), reserved_memory]);
    assert_eq!(all, (0..=0xff).collect::<Vec<_>>());
    assert_eq!(covered(&[unit(false, 0, AT, &[])]), [0; 0]);

    let good = unit(true, 0, AT, &[device]);
    assert_eq!(read(0, std::slice::from_ref(&good)), None, "interrupt remapping is forbidden");
    assert_eq!(read(1, &[]), None, "no unit");
    assert_eq!(read(1, &[good.clone(), good.clone()]), None, "two units");
    assert_eq!(read(1, &[unit(true, 1, AT, &[])]), None, "another segment");
    assert_eq!(read(1, &[unit(true, 0, AT + 1, &[])]), None, "within a page");
    assert_eq!(read(1, &[unit(true, 0, 1 << 44, &[])]), None, "too high");
    assert_eq!(read(1, &[good.clone(), vec![0, 0, 0, 0]]), None, "an entry without bytes");
    assert_eq!(read(1, &[good.clone(), vec![1, 0, 9, 0, 0, 0, 0, 0]]), None, "an entry that is too long");
    assert_eq!(read(1, &[good.clone(), vec![1, 0]]), None, "half an entry");
    let short = read_with(|memory| {
        let table = memory.remapping(1, &[vec![0, 0, 8, 0, 1, 0, 0, 0]]);
        memory.put(&AT.to_le_bytes());
        table
    });
    assert_eq!(short.remapping, None, "a unit without registers");
}

#[test]
fn half_an_entry_is_no_processor() {
    let info = read_with(|memory| {
        let table = memory.table(b"APIC", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 3, 1, 0, 0, 0, 0, 4, 0, 5]);
        memory.put(&[1, 0, 0, 0]);
        table
    });
    assert_eq!(ids(&info), [3]);
}

/// Memory that notes which part is read.
struct Watched<'a> {
    memory: &'a Memory,
    end: Cell<u64>,
}

impl Physical for Watched<'_> {
    fn read(&self, address: u64, out: &mut [u8]) {
        // (The command line has no length.)
        if out.len() < firmware::MAX_COMMAND_LINE {
            self.end.set(self.end.get().max(address.saturating_add(out.len() as u64)));
        }
        self.memory.read(address, out);
    }
}

proptest! {
    /// The last table in memory may be cut, and its bytes may be anything: nothing behind its end is read.
    #[test]
    fn a_table_is_read_up_to_its_end(
        name in prop::sample::select(vec![*b"DMAR", *b"MCFG", *b"APIC"]),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
        random in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut memory = Memory(Vec::new());
        let at = BASE + 0x1000;
        let root = memory.root(true, &[at]);
        let start_info = memory.start_info(root);
        memory.0.resize(0x1000, 0);
        match &name {
            b"DMAR" => memory.remapping(1, &vec![unit(false, 0, 0xfed9_0000, &[(1, &[0, 1, 0]), (3, &[0, 2, 0])]); 2]),
            b"MCFG" => memory.config_spaces(&[(0xb000_0000, 1, 0, 255), (0xb000_0000, 0, 0, 255)]),
            _ => memory.processors(&[(0, true), (1, true)]),
        };
        let mut table = memory.0.split_off(0x1000);
        table.truncate(36 + cut.index(table.len() - 35));
        if let Some(random) = random {
            table.truncate(36);
            table.extend(random);
        }
        let bytes = table.len() as u32;
        table[4..8].copy_from_slice(&bytes.to_le_bytes());
        if let contents @ [_, ..] = &mut table[36..] {
            noise.iter().for_each(|(at, byte)| contents[at.index(contents.len())] = *byte);
        }
        memory.0.extend(table);
        let watched = Watched { memory: &memory, end: Cell::new(0) };
        let info = BootInfo::read(&watched, start_info);
        prop_assert!(watched.end.get() <= at + u64::from(bytes), "{:#x}", watched.end.get());
        prop_assert!(watched.end.get() >= at + 8);
        prop_assert!(info.config_spaces.is_none_or(|spaces| spaces.first.0 <= u32::MAX - 255));
    }

    /// Nonsense behind magic number and version causes no panic and no endless loop.
    #[test]
    fn nonsense_is_survived(noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut memory = Memory(Vec::new());
        let apic = memory.processors(&[(0, true), (1, true)]);
        let spaces = memory.config_spaces(&[(0xb000_0000, 0, 0, 255)]);
        let iommu = memory.remapping(1, &[unit(false, 0, 0xfed9_0000, &[(1, &[0, 1, 0])])]);
        let root = memory.root(true, &[apic, spaces, iommu]);
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

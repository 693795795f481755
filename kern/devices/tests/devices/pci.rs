//! A virtio device as an emulator shows it, the same with something wrong, and configuration spaces full of nonsense.

use devices::pci::{Command, ConfigSpace, Error, Function, Virtio, functions, set_command};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// The configuration space of a function. Some bits of the BARs cannot be changed, which tells their size.
#[derive(Clone)]
struct Space {
    words: [u32; 64],
    fixed: [u32; 6],
}

/// The device. MSI-X entries are in BAR 1, all else in BAR 4, which has 64 bits.
const DEVICE: Function = Function(1 << 3);
const BAR_1: u32 = 0xfebf_e000;
const BAR_4: u32 = 0xfebf_8000;

impl Space {
    fn device() -> Space {
        let mut words = [0; 64];
        words[0] = 0x1042_1af4;
        words[1] = 0x0010_0507; // all of memory, I/O, bus master; a list of capabilities
        words[5] = BAR_1;
        words[8] = BAR_4 | 0b1100;
        words[9] = 0x38;
        words[13] = 0x84;
        let structure =
            |next: u8, number: u8, place: u32, bytes: u32| [u32::from_le_bytes([9, next, 16, number]), 4, place, bytes];
        words[16..20].copy_from_slice(&structure(0x50, 3, 0x1000, 0x1000));
        words[20..24].copy_from_slice(&structure(0x60, 4, 0x2000, 0x1000));
        words[24..28].copy_from_slice(&structure(0x00, 2, 0x3000, 0x1000));
        words[28..32].copy_from_slice(&structure(0x40, 1, 0, 0x1000));
        words[33..36].copy_from_slice(&[0x0001_7011, 1, 0x801]);
        Space { words, fixed: [0, 0xfff, 0, 0, 0x3fff, 0] }
    }

    fn bar_4() -> std::ops::Range<u64> {
        let start = 0x38 << 32 | u64::from(BAR_4);
        start..start + 0x4000
    }
}

#[derive(Default)]
struct Bus {
    spaces: RefCell<BTreeMap<u16, Space>>,
    accesses: Cell<u32>,
}

impl Bus {
    fn new(spaces: impl IntoIterator<Item = (u16, Space)>) -> Bus {
        Bus { spaces: RefCell::new(spaces.into_iter().collect()), accesses: Cell::new(0) }
    }

    fn with(change: impl FnOnce(&mut Space)) -> Bus {
        let mut space = Space::device();
        change(&mut space);
        Bus::new([(DEVICE.0, space)])
    }

    fn command(&self) -> u32 {
        self.read(DEVICE, 4) & 0xffff
    }
}

impl ConfigSpace for Bus {
    fn read(&self, function: Function, offset: u8) -> u32 {
        self.accesses.set(self.accesses.get() + 1);
        self.spaces.borrow().get(&function.0).map_or(u32::MAX, |space| space.words[usize::from(offset / 4)])
    }

    fn write(&self, function: Function, offset: u8, value: u32) {
        let mut spaces = self.spaces.borrow_mut();
        let Some(space) = spaces.get_mut(&function.0) else { return };
        let word = usize::from(offset / 4);
        let decodes = space.words[1] & 3 != 0;
        match word {
            1 => space.words[1] = space.words[1] & 0xffff_0000 | value & 0xffff,
            4..10 => {
                assert!(!decodes, "BAR {} moves while the device decodes", word - 4);
                let fixed = space.fixed[word - 4] | if word == 9 { 0 } else { 0xf };
                space.words[word] = space.words[word] & fixed | value & !fixed;
            }
            33 => space.words[33] = space.words[33] & 0x3fff_ffff | value & 0xc000_0000,
            _ => panic!("{value:#x} is written to {offset:#x}"),
        }
    }
}

#[test]
fn the_parts_of_a_device_are_found() {
    let bus = Bus::with(|_| ());
    let before = bus.spaces.borrow()[&DEVICE.0].words;
    let virtio = Virtio::find(&bus, DEVICE).expect("it is a device");
    assert_eq!(virtio.registers, Space::bar_4());
    assert_eq!(virtio.status, Space::bar_4().start + 20);
    assert_eq!(virtio.interrupts, u64::from(BAR_1)..u64::from(BAR_1) + 2 * 16);
    // BARs are what they were; the device is silent.
    assert_eq!(bus.spaces.borrow()[&DEVICE.0].words[2..], before[2..]);
    assert_eq!(bus.command(), 0);
    virtio.enable_interrupts(&bus, DEVICE);
    assert_eq!(bus.read(DEVICE, 0x84), 0x8001_7011);
    set_command(&bus, DEVICE, Command::MEMORY | Command::MASTER | Command::NO_INTX);
    assert_eq!(bus.command(), 0x406);
}

/// Every reason to refuse a device, with a change that gives it.
#[test]
fn other_functions_are_refused() {
    type Change = fn(&mut Space);
    let cases: [(Change, Error); 21] = [
        (|space| space.words[0] = 0x1000_1af4, Error::BadKind(0x1000_1af4)),
        (|space| space.words[0] = 0x1110_1af4, Error::BadKind(0x1110_1af4)),
        (|space| space.words[0] = 0x1042_8086, Error::BadKind(0x1042_8086)),
        (|space| space.words[3] = 0x0001_0000, Error::BadKind(0x1042_1af4)),
        (|space| space.words[13] = 0x3c, Error::BadCapability(0x3c)),
        (|space| space.words[24] |= 0x8400, Error::BadCapability(0x50)),
        (|space| space.words[13] = 0, Error::Missing(9)),
        (|space| space.words[28] = 0x0510_4009, Error::Missing(9)),
        (|space| space.words[13] = 0x70, Error::Missing(0x11)),
        (|space| space.words[8] |= 1, Error::BadBar(4, 0b101)),
        (|space| space.words[8] |= 2, Error::BadBar(4, 0b110)),
        (|space| space.words[29] = 5, Error::BadBar(5, 0x30)),
        (|space| (space.words[29], space.words[9]) = (5, 0b100), Error::BadBar(5, 0b100)),
        (|space| space.words[29] = 6, Error::BadBar(6, 0)),
        (|space| space.words[29] = 0xff, Error::BadBar(0xff, 0)),
        (|space| space.words[9] = 0x1000, Error::BadBar(4, 0x1000 << 32 | u64::from(BAR_4))),
        (|space| (space.words[8], space.fixed[4]) = (0xfeb8_000c, 0x1_ffff), Error::BadBar(4, 0x38_feb8_0000)),
        (|space| space.fixed[4] = 0x7ff, Error::BadBar(4, 0x38 << 32 | u64::from(BAR_4))),
        (|space| space.words[30] = 0x3fec, Error::Outside(4, 0x3fec)),
        (|space| space.words[33] |= 0x07ff_0000, Error::Outside(1, 0)),
        (|space| space.words[35] = 0x804, Error::SharedBar(4)),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let found = Virtio::find(&Bus::with(change), DEVICE);
        assert_eq!(found, Err(expected), "case {number}");
    }
    let found = Virtio::find(&Bus::with(|space| space.words[34] = 4), DEVICE);
    assert_eq!(found, Err(Error::SharedBar(4)));
    // The last capability does not fit: its words wrap to the id, which reads as another BAR 4.
    let found = Virtio::find(&Bus::with(|space| (space.words[13], space.words[63]) = (0xfc, 0x7011)), DEVICE);
    assert_eq!(found, Err(Error::SharedBar(4)));
}

#[test]
fn a_bar_ends_below_16_tib() {
    let mut bus = Bus::with(|space| (space.words[8], space.words[9]) = (0xffff_c00c, 0xfff));
    assert_eq!(Virtio::find(&bus, DEVICE).map(|virtio| virtio.registers.end), Ok(1 << 44));
    bus = Bus::with(|space| (space.words[8], space.words[9]) = (0xffff_c00c, u32::MAX));
    assert_eq!(Virtio::find(&bus, DEVICE), Err(Error::BadBar(4, 0xffff_ffff_ffff_c000)));
}

#[test]
fn functions_of_a_bus_are_found() {
    let single = Space::device();
    let mut many = Space::device();
    many.words[3] = 0x0080_0000;
    let there = [0x0008, 0x000b, 0x0010, 0x0012, 0x0017, 0x001a, 0x0108, 0x01f8]
        .map(|function| (function, if function & 0xfff8 == 0x0010 { many.clone() } else { single.clone() }));
    let bus = Bus::new(there);
    // 00:01.3 is an echo of a device with one function; 00:03.2 has no first function.
    assert_eq!(functions(&bus, 0).map(|function| function.0).collect::<Vec<_>>(), [0x0008, 0x0010, 0x0012, 0x0017]);
    assert_eq!(functions(&bus, 1).map(|function| function.0).collect::<Vec<_>>(), [0x0108, 0x01f8]);
}

/// What must hold for a device that is handed out, and for the search.
fn check(bus: &Bus) -> Result<(), TestCaseError> {
    let found = Virtio::find(bus, DEVICE);
    prop_assert!(bus.accesses.get() < 200, "{} accesses", bus.accesses.get());
    if let Ok(virtio) = found {
        let (registers, interrupts) = (&virtio.registers, &virtio.interrupts);
        prop_assert!(registers.start > 0 && registers.start < registers.end && registers.end <= 1 << 44);
        prop_assert!(registers.start % 4096 == 0 && registers.end % 4096 == 0);
        prop_assert!(registers.contains(&virtio.status));
        prop_assert!(interrupts.start > 0 && interrupts.start < interrupts.end && interrupts.end <= 1 << 44);
        prop_assert_eq!(bus.command(), 0);
    }
    Ok(())
}

proptest! {
    #[test]
    fn nonsense_is_survived(words in prop::collection::vec(any::<u32>(), 64), fixed: [u32; 6], id in 0x1040_u32..0x1080) {
        let space = Space { words: words.try_into().expect("64 words"), fixed };
        check(&Bus::new([(DEVICE.0, space.clone())]))?;
        let mut device = space;
        device.words[0] = id << 16 | 0x1af4;
        device.words[3] = 0;
        let bus = Bus::new([(DEVICE.0, device)]);
        check(&bus)?;
        prop_assert_eq!(functions(&bus, 0).count(), 1);
    }

    #[test]
    fn changes_are_survived(noise in prop::collection::vec((8_usize..256, any::<u8>()), 1..6), fixed: Option<[u32; 6]>) {
        let mut space = Space::device();
        space.fixed = fixed.unwrap_or(space.fixed);
        for (at, byte) in noise {
            let mut bytes = space.words[at / 4].to_le_bytes();
            bytes[at % 4] = byte;
            space.words[at / 4] = u32::from_le_bytes(bytes);
        }
        check(&Bus::new([(DEVICE.0, space)]))?;
    }
}

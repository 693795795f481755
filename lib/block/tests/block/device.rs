//! A virtio disk that works on the real rings.
//!
//! It behaves as QEMU's: it takes requests when it is notified, completes them when the test says so, in any order, and
//! reports success for an access that the IOMMU blocked. A reset executes the requests that it has taken.

use crate::memory::Iommu;
use block::{Features, Registers};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The length of the rings. The driver must not use another one.
pub const QUEUE: u16 = 128;

/// A structure of registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Common,
    Notify,
    Disk,
}

/// Something that the device does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The device keeps its status when it is reset.
    IgnoresReset,
    /// The device takes back FEATURES_OK.
    RefusesFeatures,
    /// The device has no MSI-X entry.
    RefusesVector,
    /// The configuration changes all the time.
    ChangesAlways,
    /// The queue is in use after a reset.
    QueueInUse,
}

/// A request that the device has taken from the available ring.
#[derive(Clone)]
pub struct Taken {
    pub head: u16,
    /// The buffers: address, number of bytes, and whether the device writes them.
    buffers: Vec<(u64, u32, bool)>,
}

/// The addresses of the rings.
#[derive(Default, Clone, Copy)]
pub struct Rings {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

pub struct Device {
    // What the device is.
    pub offered: u64,
    /// The registers of a disk: capacity (two words), SIZE_MAX, SEG_MAX, geometry, BLK_SIZE.
    pub registers: [u32; 6],
    pub queue_most: u16,
    pub notify_offset: u16,
    pub multiplier: u32,
    /// The number of bytes of the structures.
    pub bytes: [u32; 3],
    pub flaw: Option<Flaw>,
    /// Whether the device asks the driver not to notify it.
    pub is_quiet: bool,
    /// Sectors that cannot be read or written.
    pub bad: BTreeSet<u64>,
    pub contents: Vec<u8>,
    pub iommu: Iommu,
    /// What happens when the queue is enabled.
    pub on_enable: Option<Box<dyn FnOnce()>>,

    // What it does.
    pub status: u8,
    select: [u32; 2],
    pub accepted: u64,
    generation: u8,
    queue: u16,
    size: u16,
    pub vectors: [u16; 2],
    pub enabled: bool,
    pub rings: Rings,
    pub notified: usize,
    pub taken: Vec<Taken>,
    next: u16,
    pub used: u16,
}

impl Device {
    /// A disk of 1 MiB, whose sector N is full of the byte N.
    pub fn new() -> Device {
        let contents = (0..2048).map(|sector| [sector as u8; 512]).collect::<Vec<_>>().concat();
        Device {
            // What QEMU offers: more than the driver knows.
            offered: 0x103_3000_6e54,
            registers: [2048, 0, 0, 254, 0, 512],
            queue_most: 256,
            notify_offset: 0,
            multiplier: 4,
            bytes: [0x1000; 3],
            flaw: None,
            is_quiet: false,
            bad: BTreeSet::new(),
            contents,
            iommu: Iommu::default(),
            on_enable: None,
            status: 0,
            select: [0; 2],
            accepted: 0,
            generation: 0,
            queue: 0,
            size: 0,
            vectors: [0xffff; 2],
            enabled: false,
            rings: Rings::default(),
            notified: 0,
            taken: Vec::new(),
            next: 0,
            used: 0,
        }
    }

    /// Leaves this many sectors.
    pub fn shrink(&mut self, sectors: usize) {
        self.contents.truncate(sectors * 512);
        self.registers[0] = sectors as u32;
    }

    pub fn offer(&mut self, features: Features) {
        self.offered |= features.bits();
    }

    pub fn withhold(&mut self, features: Features) {
        self.offered &= !features.bits();
    }

    fn reset(&mut self) {
        if self.flaw == Some(Flaw::IgnoresReset) {
            return;
        }
        for taken in std::mem::take(&mut self.taken) {
            self.execute(&taken);
        }
        (self.status, self.accepted, self.enabled, self.size) = (0, 0, false, self.queue_most);
        (self.next, self.used, self.vectors, self.rings) = (0, 0, [0xffff; 2], Rings::default());
    }

    /// Takes all new requests from the available ring.
    fn take(&mut self) {
        self.notified += 1;
        assert!(self.enabled && self.status == 15, "notified with the status {}", self.status);
        let [_, index] = self.iommu.read_words(self.rings.available);
        while self.next != index {
            let [head] = self.iommu.read_words(self.rings.available + 4 + 2 * u64::from(self.next % QUEUE));
            let buffers = self.chain(head);
            self.taken.push(Taken { head, buffers });
            self.next = self.next.wrapping_add(1);
        }
    }

    fn chain(&mut self, head: u16) -> Vec<(u64, u32, bool)> {
        let mut buffers = Vec::new();
        let mut next = Some(head);
        while let Some(index) = next {
            let words: [u16; 8] = self.iommu.read_words(self.rings.descriptors + 16 * u64::from(index));
            let wide = |words: &[u16]| words.iter().rev().fold(0, |value, &word| value << 16 | u64::from(word));
            let [flags, after] = [words[6], words[7]];
            buffers.push((wide(&words[..4]), wide(&words[4..6]) as u32, flags & 2 != 0));
            next = (flags & 1 != 0).then_some(after);
            assert!(buffers.len() <= usize::from(QUEUE), "a chain without end");
        }
        buffers
    }

    /// Does what a request asks for, or nothing. Returns its status.
    fn perform(&mut self, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> u8 {
        // (A device that has scribbled over a header finds any number.)
        let mut at = sector.min(1 << 32) as usize * 512;
        let end = data.iter().map(|(_, bytes, _)| *bytes as usize).sum::<usize>() + at;
        let is_good = end <= self.contents.len() && self.bad.range(at as u64 / 512..end as u64 / 512).next().is_none();
        if !is_good || data.iter().any(|(_, _, writes)| *writes == (kind == 1)) {
            return 1;
        }
        for &(address, bytes, writes) in data {
            let range = at..at + bytes as usize;
            at = range.end;
            if writes {
                self.iommu.write(address, &self.contents[range]);
            } else {
                let bytes = self.iommu.read(address, range.len());
                self.contents[range].copy_from_slice(&bytes);
            }
        }
        0
    }

    /// Executes a request, and writes its status. Returns the number of bytes that it may have written.
    fn execute(&mut self, taken: &Taken) -> u32 {
        let [header, data @ .., status] = &taken.buffers[..] else { panic!("a request of one buffer") };
        assert!(header.1 == 16 && !header.2 && status.1 == 1 && status.2, "{:?}", taken.buffers);
        let bytes = self.iommu.read(header.0, 16);
        let kind = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        let sector = u64::from_le_bytes(bytes[8..].try_into().expect("eight bytes"));
        let result = match kind {
            0 | 1 => self.perform(kind, sector, data),
            4 if data.is_empty() => 0,
            _ => 2,
        };
        self.iommu.write(status.0, &[result]);
        1 + data.iter().filter(|(_, _, writes)| *writes).map(|(_, bytes, _)| bytes).sum::<u32>()
    }

    /// Completes the request that was taken as number `index` of those that are left.
    pub fn complete(&mut self, index: usize) {
        let taken = self.taken.remove(index);
        let bytes = self.execute(&taken);
        self.push(taken.head.into(), bytes);
    }

    /// Completes a request without executing it, with any status and number of bytes.
    pub fn complete_with(&mut self, index: usize, status: u8, bytes: u32) {
        let taken = self.taken.remove(index);
        let at = taken.buffers.last().expect("a buffer").0;
        self.iommu.write(at, &[status]);
        self.push(taken.head.into(), bytes);
    }

    /// Completes a request, with bits in the upper half of its id.
    pub fn complete_with_id(&mut self, index: usize, upper: u32) {
        let taken = self.taken.remove(index);
        let bytes = self.execute(&taken);
        self.push(upper | u32::from(taken.head), bytes);
    }

    /// Writes an entry of the used ring.
    pub fn push(&mut self, id: u32, bytes: u32) {
        let at = self.rings.used + 4 + 8 * u64::from(self.used % QUEUE);
        self.iommu.write(at, &id.to_le_bytes());
        self.iommu.write(at + 4, &bytes.to_le_bytes());
        self.advance(1);
    }

    /// Moves the index of the used ring.
    pub fn advance(&mut self, entries: u16) {
        self.used = self.used.wrapping_add(entries);
        let flags = u16::from(self.is_quiet);
        self.iommu.write(self.rings.used, &flags.to_le_bytes());
        self.iommu.write(self.rings.used + 2, &self.used.to_le_bytes());
    }

    fn read(&mut self, place: Place, offset: u32) -> u32 {
        match (place, offset) {
            (Place::Disk, _) => {
                if self.flaw == Some(Flaw::ChangesAlways) {
                    self.generation = self.generation.wrapping_add(1);
                }
                self.registers[offset as usize / 4]
            }
            (Place::Common, 4) => (self.offered >> (32 * self.select[0])) as u32,
            (Place::Common, 20) => self.status.into(),
            (Place::Common, 21) => self.generation.into(),
            (Place::Common, 24) => self.size.into(),
            (Place::Common, 26) => self.vectors[1].into(),
            (Place::Common, 28) => u32::from(self.enabled || self.flaw == Some(Flaw::QueueInUse)),
            (Place::Common, 30) => self.notify_offset.into(),
            _ => panic!("a register at {offset} is read"),
        }
    }

    fn write(&mut self, place: Place, offset: u32, value: u32) {
        let word = |index: u32, old: u64| {
            let shift = 32 * (index % 2);
            old & !(0xffff_ffff << shift) | u64::from(value) << shift
        };
        let vector = if self.flaw == Some(Flaw::RefusesVector) { 0xffff } else { value as u16 };
        match (place, offset) {
            (Place::Notify, offset) => {
                assert_eq!((offset, value), (u32::from(self.notify_offset) * self.multiplier, 0));
                self.take();
            }
            (Place::Common, 0) => self.select[0] = value,
            (Place::Common, 8) => self.select[1] = value,
            (Place::Common, 12) => self.accepted = word(self.select[1], self.accepted),
            (Place::Common, 16) => self.vectors[0] = vector,
            (Place::Common, 20) if value == 0 => self.reset(),
            (Place::Common, 20) if self.flaw == Some(Flaw::RefusesFeatures) => self.status = value as u8 & !8,
            (Place::Common, 20) => self.status = value as u8,
            (Place::Common, 22) => self.queue = value as u16,
            (Place::Common, 24) => self.size = value as u16,
            (Place::Common, 26) => self.vectors[1] = vector,
            (Place::Common, 28) => {
                assert!((self.queue, self.size, value) == (0, QUEUE, 1), "queue {}, size {}", self.queue, self.size);
                assert_eq!(self.vectors[1], 0, "the queue has no vector");
                self.enabled = true;
            }
            (Place::Common, 32 | 36) => self.rings.descriptors = word(offset / 4, self.rings.descriptors),
            (Place::Common, 40 | 44) => self.rings.available = word(offset / 4, self.rings.available),
            (Place::Common, 48 | 52) => self.rings.used = word(offset / 4, self.rings.used),
            _ => panic!("the register at {offset} is written"),
        }
    }
}

/// Access to the registers of one structure.
pub struct Port {
    pub device: Rc<RefCell<Device>>,
    pub place: Place,
}

impl Port {
    fn get(&self, offset: u32, size: u32) -> u32 {
        assert!(offset.is_multiple_of(size) && offset + size <= self.bytes(), "{size} bytes at {offset}");
        self.device.borrow_mut().read(self.place, offset)
    }

    fn set(&self, offset: u32, size: u32, value: u32) {
        assert!(offset.is_multiple_of(size) && offset + size <= self.bytes(), "{size} bytes at {offset}");
        self.device.borrow_mut().write(self.place, offset, value);
        let enabled = self.place == Place::Common && offset == 28;
        let hook = self.device.borrow_mut().on_enable.take_if(|_| enabled);
        hook.into_iter().for_each(|hook| hook());
    }
}

impl Registers for Port {
    fn bytes(&self) -> u32 {
        self.device.borrow().bytes[self.place as usize]
    }
    fn read8(&self, offset: u32) -> u8 {
        self.get(offset, 1) as u8
    }
    fn read16(&self, offset: u32) -> u16 {
        self.get(offset, 2) as u16
    }
    fn read32(&self, offset: u32) -> u32 {
        self.get(offset, 4)
    }
    fn write8(&mut self, offset: u32, value: u8) {
        self.set(offset, 1, value.into());
    }
    fn write16(&mut self, offset: u32, value: u16) {
        self.set(offset, 2, value.into());
    }
    fn write32(&mut self, offset: u32, value: u32) {
        self.set(offset, 4, value);
    }
}

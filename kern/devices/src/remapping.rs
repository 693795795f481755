//! VT-d, Intel's IOMMU: it translates the addresses of memory accesses by devices (DMA remapping), and their interrupts
//! (interrupt remapping).
//!
//! A unit finds the tables of a function in two steps: the root table has an entry for each bus, and a context table
//! has one for each function of a bus. A function without an entry can access nothing, which is the state of all of
//! them at the start. An interrupt names an entry of a third table, which says who may send it, to which processor and
//! with which vector; all others are refused. The kernel owns the tables, and stores what the functions here encode.
//! Page tables are those of page maps: `abi::Pte` lists the bits that both the processor and the unit accept.
//!
//! The unit caches entries. After a removal the kernel must have them invalidated before it uses the memory again, and
//! it must reset the device before that: the unit cannot stop what is under way. All invalidations go through the
//! queue, since newer units have no other way, and caches of interrupt entries never had one. No cache holds what is
//! not present (units that do so are refused), so new entries need no invalidation.
//!
//! Not covered: units that do not see the caches of processors (bit 0 of the extended capabilities is 0). The kernel
//! would have to write back the lines of every table that it changes. The bit decides nothing here, because QEMU does
//! not set it either, and has no such caches.

use crate::pci::Function;
use abi::page::TABLE_ENTRIES;
use abi::{Frame, PAGE_SIZE, Va};
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// The registers of a unit, by their offsets. They are within one page.
pub trait Registers {
    /// Reads 32 bits.
    fn read32(&self, register: u32) -> u32;
    /// Reads 64 bits.
    fn read64(&self, register: u32) -> u64;
    /// Writes 32 bits.
    fn write32(&self, register: u32, value: u32);
    /// Writes 64 bits.
    fn write64(&self, register: u32, value: u64);
    /// Called repeatedly while the unit has not yet answered.
    fn relax(&self);
}

/// A failure of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The unit cannot do what the kernel needs, as this register says with this value.
    Unsuitable(u32, u64),
    /// The unit does not answer: the register that should change, and its value. Nothing is known about what the unit
    /// has cached, so it must not be used any more, and memory that a device had stays with the device.
    Stuck(u32, u32),
}

/// 256 entries of a root table, of a context table, of a table of interrupts, or of the queue: two words each.
pub type Table = [AtomicU64; TABLE_ENTRIES];

/// An entry of such a table.
pub type Entry = [u64; 2];

/// The entry that lets nothing pass.
pub const NONE: Entry = [0; 2];

const PRESENT: u64 = 1;

/// Sets an entry of a table. The entry must be [`NONE`] before or after: the unit never sees half of one.
pub fn set(table: &Table, index: u8, [low, high]: Entry) {
    let word = 2 * usize::from(index);
    // The low word says whether the entry is present.
    table[word].store(0, Ordering::Release);
    table[word + 1].store(high, Ordering::Release);
    table[word].store(low, Ordering::Release);
    // Before registers are written.
    fence(Ordering::SeqCst);
}

/// The entry of a bus in the root table: the index is the number of the bus.
pub const fn root_entry(contexts: Frame) -> Entry {
    [contexts.address() | PRESENT, 0]
}

/// The entry of a function in the context table of its bus: the index is the low byte of the function. The function sees
/// what a table of level 3 translates, from address 0 on.
pub const fn context_entry(table: Frame, domain: Domain) -> Entry {
    const THREE_LEVELS: u64 = 1;
    [table.address() | PRESENT, THREE_LEVELS | (domain.0 as u64) << 8]
}

/// The entry of an interrupt: from this function only, edge-triggered, to the processor with this local APIC.
pub const fn interrupt_entry(source: Function, vector: u8, apic: u8) -> Entry {
    const VERIFY_SOURCE: u64 = 1 << 18;
    [PRESENT | (vector as u64) << 16 | (apic as u64) << 40, VERIFY_SOURCE | source.0 as u64]
}

/// The first three words of an MSI-X entry, address and data, that names an entry in the table of interrupts.
pub const fn message(index: u8) -> [u32; 3] {
    const REMAPPABLE: u32 = 1 << 4;
    const ADD_DATA: u32 = 1 << 3;
    [0xfee0_0000 | (index as u32) << 5 | REMAPPABLE | ADD_DATA, 0, 0]
}

/// The number by which a unit tells the entries of one page map in its caches from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain(pub u8);

/// An access that a unit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The function that made the access.
    pub source: Function,
    /// The page. (Of a refused interrupt: its index, from bit 48 on.)
    pub page: Va,
    /// The reason, as the architecture numbers them.
    pub reason: u8,
    /// Whether the access was a write.
    pub is_write: bool,
}

/// The tables that a unit begins with: three frames of zeros.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The root table.
    pub root: Frame,
    /// The table of interrupts.
    pub interrupts: Frame,
    /// The queue of invalidations.
    pub queue: Frame,
}

/// A unit that is turned on.
pub struct Unit<'a, R> {
    registers: R,
    tries: u32,
    queue: &'a Table,
    /// The next free entry of the queue.
    next: u8,
    first_record: u32,
    records: u32,
}

const CAPABILITY: u32 = 0x08;
const MORE_CAPABILITY: u32 = 0x10;
const COMMAND: u32 = 0x18;
const STATUS: u32 = 0x1c;
const ROOT_TABLE: u32 = 0x20;
const FAULT_STATUS: u32 = 0x34;
const QUEUE_TAIL: u32 = 0x88;
const QUEUE: u32 = 0x90;
const COMPLETION: u32 = 0x9c;
const INTERRUPT_TABLE: u32 = 0xb8;

// Capabilities.
const THREE_LEVELS: u64 = 1 << 9;
const REFUSED: u64 = 1 << 4 | 1 << 7; // write buffers to be flushed; absent entries are cached
const NEEDED: u64 = 1 << 1 | 1 << 3; // the queue; interrupt remapping

// Bits of the command register and of the status register.
const TRANSLATE: u32 = 1 << 31;
const SET_ROOT_TABLE: u32 = 1 << 30;
const USE_QUEUE: u32 = 1 << 26;
const REMAP_INTERRUPTS: u32 = 1 << 25;
const SET_INTERRUPT_TABLE: u32 = 1 << 24;

// Requests to the queue, and the extent of the first two.
const CONTEXTS: u64 = 1;
const TRANSLATIONS: u64 = 2 | 0b11 << 6; // when the reads and writes that are under way are complete
const INTERRUPTS: u64 = 4;
const ALL: u64 = 1 << 4;
const ONE_DOMAIN: u64 = 2 << 4;
const WAIT: u64 = 5 | 1 << 4; // sets the bit COMPLETE
const COMPLETE: u32 = 1;

// A fault record, its second word, and the fault status.
const RECORDED: u64 = 1 << 63;
const READ: u64 = 1 << 62;
const OVERFLOW: u32 = 1;

impl<'a, R: Registers> Unit<'a, R> {
    /// Turns a unit on: from then on it refuses all accesses and interrupts for which the tables have no entries. Gets
    /// the memory of the queue, too. `tries` is how often a register is read until it must have changed.
    ///
    /// # Errors
    /// The unit is not suitable, or does not answer.
    pub fn start(registers: R, tries: u32, frames: Frames, queue: &'a Table) -> Result<Unit<'a, R>, Error> {
        const LOG_ENTRIES: u64 = 7; // 2 to the power of this and one more
        let (can, more) = (registers.read64(CAPABILITY), registers.read64(MORE_CAPABILITY));
        let (first_record, records) = ((can >> 24 & 0x3ff) as u32 * 16, (can >> 40 & 0xff) as u32 + 1);
        let has_room = u64::from(first_record + 16 * records) <= PAGE_SIZE;
        let has_width = can & THREE_LEVELS != 0 && can >> 16 & 0x3f >= 38;
        let has_domains = can & 7 >= 2;
        if !has_room || !has_width || !has_domains || can & REFUSED != 0 {
            return Err(Error::Unsuitable(CAPABILITY, can));
        }
        if more & NEEDED != NEEDED {
            return Err(Error::Unsuitable(MORE_CAPABILITY, more));
        }
        let mut unit = Unit { registers, tries, queue, next: 0, first_record, records };
        // Firmware may have left it on.
        for part in [TRANSLATE, REMAP_INTERRUPTS, USE_QUEUE] {
            unit.command(part, false)?;
        }
        unit.registers.write64(ROOT_TABLE, frames.root.address());
        unit.command(SET_ROOT_TABLE, true)?;
        unit.registers.write64(INTERRUPT_TABLE, frames.interrupts.address() | LOG_ENTRIES);
        unit.command(SET_INTERRUPT_TABLE, true)?;
        unit.registers.write64(QUEUE_TAIL, 0);
        unit.registers.write64(QUEUE, frames.queue.address());
        unit.command(USE_QUEUE, true)?;
        unit.flush(ALL)?;
        unit.command(TRANSLATE, true)?;
        unit.command(REMAP_INTERRUPTS, true)?;
        Ok(unit)
    }

    /// Invalidates everything that is cached for a domain, and all entries of interrupts: after entries of one of these
    /// have been removed. The accesses that the unit had let pass are complete when this returns.
    ///
    /// # Errors
    /// The unit does not answer.
    pub fn invalidate(&mut self, domain: Domain) -> Result<(), Error> {
        self.flush(ONE_DOMAIN | u64::from(domain.0) << 16)
    }

    fn flush(&mut self, extent: u64) -> Result<(), Error> {
        [CONTEXTS | extent, TRANSLATIONS | extent, INTERRUPTS].into_iter().try_for_each(|request| self.request(request))
    }

    /// Passes on the recorded faults, and makes room for new ones. Returns whether others were not recorded.
    #[must_use]
    pub fn take_faults(&mut self, mut each: impl FnMut(Fault)) -> bool {
        let first = self.registers.read32(FAULT_STATUS) >> 8 & 0xff;
        for record in first..first + self.records {
            let at = self.first_record + 16 * (record % self.records);
            let (low, high) = (self.registers.read64(at), self.registers.read64(at + 8));
            if high & RECORDED != 0 {
                let (source, page, reason) = (Function(high as u16), Va(low).page(), (high >> 32) as u8);
                each(Fault { source, page, reason, is_write: high & READ == 0 });
                self.registers.write64(at + 8, RECORDED);
            }
        }
        let overflow = self.registers.read32(FAULT_STATUS) & OVERFLOW;
        self.registers.write32(FAULT_STATUS, overflow);
        overflow != 0
    }

    /// Has the unit execute a request, and waits until it has.
    fn request(&mut self, request: u64) -> Result<(), Error> {
        self.registers.write32(COMPLETION, COMPLETE);
        for low in [request, WAIT] {
            set(self.queue, self.next, [low, 0]);
            self.next = self.next.wrapping_add(1);
        }
        self.registers.write64(QUEUE_TAIL, u64::from(self.next) << 4);
        self.wait(COMPLETION, COMPLETE, true)
    }

    /// Turns a part of the unit on or off, or has it take over the address of a table.
    fn command(&self, bit: u32, on: bool) -> Result<(), Error> {
        const KEPT: u32 = TRANSLATE | USE_QUEUE | REMAP_INTERRUPTS;
        let others = self.registers.read32(STATUS) & KEPT & !bit;
        self.registers.write32(COMMAND, if on { others | bit } else { others });
        self.wait(STATUS, bit, on)
    }

    fn wait(&self, register: u32, bit: u32, on: bool) -> Result<(), Error> {
        for _ in 0..self.tries {
            if (self.registers.read32(register) & bit != 0) == on {
                return Ok(());
            }
            self.registers.relax();
        }
        Err(Error::Stuck(register, self.registers.read32(register)))
    }
}

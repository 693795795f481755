//! A simulated unit with memory, which does what the architecture says of the parts that the kernel uses. Whatever the
//! architecture forbids gets it stuck: the register never changes. It caches all that it may cache.

use abi::page::TABLE_ENTRIES;
use abi::{Frame, Va};
use devices::pci::Function;
use devices::remapping::{Frames, Registers, Table};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The capabilities of an emulator's unit with 48 bits of address.
pub const CAPABILITY: u64 = 0x00d2_008c_222f_0606;
pub const MORE_CAPABILITY: u64 = 0x00f0_0f4a;

pub const ROOT: Frame = Frame(0x100);
pub const INTERRUPTS: Frame = Frame(0x101);
pub const QUEUE: Frame = Frame(0x102);
pub const FRAMES: Frames = Frames { root: ROOT, interrupts: INTERRUPTS, queue: QUEUE };

/// Physical memory: tables.
pub struct Memory(RefCell<BTreeMap<u32, &'static Table>>);

impl Memory {
    /// A table of zeros, unless it is used already.
    pub fn table(&self, frame: Frame) -> &'static Table {
        let zeros = || &*Box::leak(Box::new([const { AtomicU64::new(0) }; TABLE_ENTRIES]));
        self.0.borrow_mut().entry(frame.0).or_insert_with(zeros)
    }

    fn entry(&self, table: u64, index: u8) -> [u64; 2] {
        let table = self.table(Frame::containing(table));
        [0, 1].map(|half| table[2 * usize::from(index) + half].load(Relaxed))
    }
}

/// A context entry in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Context {
    table: u64,
    levels: u64,
    domain: u64,
}

/// A translation in the cache.
#[derive(Clone, Copy)]
struct Translation {
    frame: u64,
    can_read: bool,
    can_write: bool,
}

/// A refused access: the numbers of the architecture.
pub const NO_ROOT_ENTRY: u8 = 1;
pub const NO_CONTEXT_ENTRY: u8 = 2;
pub const NO_WRITE: u8 = 5;
pub const NO_READ: u8 = 6;
pub const RESERVED_BIT: u8 = 0xc;
pub const NO_INTERRUPT_ENTRY: u8 = 0x22;
pub const COMPATIBILITY_FORMAT: u8 = 0x25;
pub const BAD_SOURCE: u8 = 0x26;

/// The unit.
pub struct Simulated {
    pub memory: Memory,
    pub capability: u64,
    pub more_capability: u64,
    /// Bits of the status register that never change.
    pub dead: u32,
    /// How many reads each change takes.
    pub delay: u32,
    /// Whether the unit executes requests in the queue.
    pub serves: Cell<bool>,
    /// How often a wait asked for more time.
    pub relaxed: Cell<u32>,
    status: Cell<u32>,
    /// A change of the status or of the completion that is under way.
    pending: Cell<Option<(u32, u32, u32)>>,
    values: RefCell<HashMap<u32, u64>>,
    root: Cell<u64>,
    interrupts: Cell<u64>,
    head: Cell<u64>,
    /// The caches that may hold something of previous tables.
    stale: Cell<u8>,
    contexts: RefCell<HashMap<u16, Context>>,
    translations: RefCell<HashMap<(u64, u64), Translation>>,
    interrupt_cache: RefCell<HashMap<u16, [u64; 2]>>,
    records: RefCell<Vec<[u64; 2]>>,
}

const STALE_CONTEXTS: u8 = 1;
const STALE_TRANSLATIONS: u8 = 2;
const STALE_INTERRUPTS: u8 = 4;

const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
const QIE: u32 = 1 << 26;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;

impl Simulated {
    pub fn new() -> Simulated {
        Simulated {
            memory: Memory(RefCell::default()),
            capability: CAPABILITY,
            more_capability: MORE_CAPABILITY,
            dead: 0,
            delay: 3,
            serves: Cell::new(true),
            relaxed: Cell::new(0),
            status: Cell::new(0),
            pending: Cell::new(None),
            values: RefCell::default(),
            root: Cell::new(0),
            interrupts: Cell::new(0),
            head: Cell::new(0),
            stale: Cell::new(0),
            contexts: RefCell::default(),
            translations: RefCell::default(),
            interrupt_cache: RefCell::default(),
            records: RefCell::default(),
        }
    }

    /// The state in which firmware may leave a unit that it used itself.
    pub fn set_status(&self, status: u32) {
        self.status.set(status);
    }

    pub fn status(&self) -> u32 {
        self.status.get()
    }

    fn value(&self, register: u32) -> u64 {
        self.values.borrow().get(&register).copied().unwrap_or(0)
    }

    fn first_record(&self) -> u32 {
        (self.capability >> 24 & 0x3ff) as u32 * 16
    }

    fn record_count(&self) -> usize {
        (self.capability >> 40 & 0xff) as usize + 1
    }

    /// A change of bits in a register, which takes some time. That a table was taken over is not true before.
    fn change(&self, register: u32, bit: u32, on: bool) {
        self.status.set(self.status.get() & !(bit & (SRTP | SIRTP)));
        if register != 0x1c || self.dead & bit == 0 {
            self.pending.set(Some((register, bit * u32::from(on), bit)));
        }
    }

    fn command(&self, command: u32) {
        const STATES: u32 = TE | QIE | IRE;
        let changed = (self.status.get() & STATES ^ command & STATES) | command & (SRTP | SIRTP);
        // One thing at a time, and nothing unknown.
        if changed.count_ones() > 1 || command & !(STATES | SRTP | SIRTP) != 0 || self.pending.get().is_some() {
            return;
        }
        let on = command & changed != 0;
        let stale = self.stale.get();
        match changed {
            SRTP if self.status.get() & TE == 0 => {
                self.root.set(self.value(0x20));
                self.stale.set(stale | STALE_CONTEXTS | STALE_TRANSLATIONS);
            }
            SIRTP if self.status.get() & IRE == 0 && self.value(0xb8) & 0xf == 7 => {
                self.interrupts.set(self.value(0xb8) & !0xfff);
                self.stale.set(stale | STALE_INTERRUPTS);
            }
            QIE if on && self.value(0x88) == 0 && self.value(0x90) & 0xfff == 0 => self.head.set(0),
            TE if on && self.root.get() != 0 && stale & (STALE_CONTEXTS | STALE_TRANSLATIONS) == 0 => {}
            IRE if on && self.interrupts.get() != 0 && stale & STALE_INTERRUPTS == 0 => {}
            TE | IRE | QIE if !on => {}
            _ => return,
        }
        self.change(0x1c, changed, on);
    }

    /// Executes what is in the queue.
    fn serve(&self) {
        while self.serves.get() && self.status.get() & QIE != 0 && self.head.get() != self.value(0x88) {
            let [low, high] = self.memory.entry(self.value(0x90), (self.head.get() / 16) as u8);
            let (domain, granularity) = (low >> 16 & 0xffff, low >> 4 & 3);
            let mut stale = self.stale.get();
            match low & 0xf {
                1 if granularity == 1 => {
                    self.contexts.borrow_mut().clear();
                    stale &= !STALE_CONTEXTS;
                }
                1 if granularity == 2 => self.contexts.borrow_mut().retain(|_, context| context.domain != domain),
                // Contexts come first: a translation in between would use an old one.
                2 if granularity == 1 && stale & STALE_CONTEXTS == 0 => {
                    self.translations.borrow_mut().clear();
                    stale &= !STALE_TRANSLATIONS;
                }
                2 if granularity == 2 => self.translations.borrow_mut().retain(|(other, _), _| *other != domain),
                4 if low >> 4 == 0 => {
                    self.interrupt_cache.borrow_mut().clear();
                    stale &= !STALE_INTERRUPTS;
                }
                5 if low >> 4 == 1 => self.change(0x9c, 1, true),
                _ => return, // an invalid request stops the queue
            }
            assert_eq!(high, 0, "reserved");
            self.stale.set(stale);
            self.head.set((self.head.get() + 16) % 4096);
        }
    }

    fn fault(&self, source: Function, address: u64, reason: u8, write: bool) -> u8 {
        let mut records = self.records.borrow_mut();
        if records.len() < self.record_count() {
            let read = u64::from(!write) << 62;
            records.push([address & !0xfff, 1 << 63 | read | u64::from(reason) << 32 | u64::from(source.0)]);
        } else {
            self.values.borrow_mut().insert(0x34, 1);
        }
        reason
    }

    /// An access to memory by a function. Returns the physical address that is accessed.
    pub fn access(&self, source: Function, address: Va, write: bool) -> Result<u64, u8> {
        if self.status.get() & TE == 0 {
            return Ok(address.0);
        }
        self.translate(source, address.0, write).map_err(|reason| self.fault(source, address.0, reason, write))
    }

    fn translate(&self, source: Function, address: u64, write: bool) -> Result<u64, u8> {
        let context = self.context(source)?;
        let cached = self.translations.borrow().get(&(context.domain, address >> 12)).copied();
        let translation = cached.map_or_else(|| self.walk(context, address, write), Ok)?;
        match (write, translation.can_read, translation.can_write) {
            (true, _, false) => return Err(NO_WRITE),
            (false, false, _) => return Err(NO_READ),
            _ => {}
        }
        self.translations.borrow_mut().insert((context.domain, address >> 12), translation);
        Ok(translation.frame | address & 0xfff)
    }

    fn context(&self, source: Function) -> Result<Context, u8> {
        let cached = self.contexts.borrow().get(&source.0).copied();
        if let Some(context) = cached {
            return Ok(context);
        }
        let [bus, index] = source.0.to_be_bytes();
        let [root, _] = self.memory.entry(self.root.get(), bus);
        if root & 1 == 0 {
            return Err(NO_ROOT_ENTRY);
        }
        let [low, high] = self.memory.entry(root, index);
        if low & 1 == 0 {
            return Err(NO_CONTEXT_ENTRY);
        }
        let width = high & 7;
        let is_possible = self.capability >> 8 & 1 << width != 0;
        assert!(low & 0xffe == 0 && high & !0xff_ff07 == 0 && is_possible, "a bad context entry {low:#x} {high:#x}");
        let context = Context { table: low & !0xfff, levels: width + 2, domain: high >> 8 & 0xffff };
        self.contexts.borrow_mut().insert(source.0, context);
        Ok(context)
    }

    /// Second-level translation: rights are those that all levels give.
    fn walk(&self, context: Context, address: u64, write: bool) -> Result<Translation, u8> {
        const SNOOP: u64 = 1 << 11; // reserved without snoop control
        const TRANSIENT: u64 = 1 << 62;
        let denied = if write { NO_WRITE } else { NO_READ };
        if address >> (12 + 9 * context.levels) != 0 {
            return Err(4);
        }
        let mut translation = Translation { frame: context.table, can_read: true, can_write: true };
        for level in (0..context.levels).rev() {
            let index = address >> (12 + 9 * level) & 0x1ff;
            let entry = self.memory.table(Frame::containing(translation.frame))[index as usize].load(Relaxed);
            if entry & 3 == 0 {
                return Err(denied);
            }
            if entry & (SNOOP | TRANSIENT) != 0 {
                return Err(RESERVED_BIT);
            }
            assert!(level == 0 || entry & 1 << 7 == 0, "no large pages");
            translation.frame = entry & 0x000f_ffff_ffff_f000;
            translation.can_read &= entry & 1 != 0;
            translation.can_write &= entry & 2 != 0;
        }
        Ok(translation)
    }

    /// A write to the addresses of interrupts. Returns vector and local APIC.
    pub fn interrupt(&self, source: Function, [address, high, data]: [u32; 3]) -> Result<(u8, u8), u8> {
        assert!(address >> 20 == 0xfee && high == 0 && self.status.get() & IRE != 0);
        let handle = address >> 5 & 0x7fff | (address >> 2 & 1) << 15;
        let index = handle + if address & 1 << 3 != 0 { data & 0xffff } else { 0 };
        let place = u64::from(index) << 48;
        if address & 1 << 4 == 0 {
            return Err(self.fault(source, place, COMPATIBILITY_FORMAT, true));
        }
        let read = || self.memory.entry(self.interrupts.get(), u8::try_from(index).expect("an index in the table"));
        let cached = self.interrupt_cache.borrow().get(&(index as u16)).copied();
        let [low, high] = cached.unwrap_or_else(read);
        if low & 1 == 0 {
            return Err(self.fault(source, place, NO_INTERRUPT_ENTRY, true));
        }
        assert_eq!(low & !(0xff << 16 | 0xff << 40), 1, "edge-triggered, fixed, one processor");
        assert_eq!(high >> 16, 0b0100, "the whole source id is compared");
        if high as u16 != source.0 {
            return Err(self.fault(source, place, BAD_SOURCE, true));
        }
        self.interrupt_cache.borrow_mut().insert(index as u16, [low, high]);
        Ok(((low >> 16) as u8, (low >> 40) as u8))
    }
}

impl Registers for &Simulated {
    fn read32(&self, register: u32) -> u32 {
        assert_eq!(register % 4, 0);
        if let Some((of, bits, mask)) = self.pending.get().filter(|(of, ..)| *of == register) {
            let reads = self.value(u32::MAX) + 1;
            self.values.borrow_mut().insert(u32::MAX, reads % u64::from(self.delay));
            if reads == u64::from(self.delay) {
                self.pending.set(None);
                if of == 0x1c {
                    self.status.set(self.status.get() & !mask | bits);
                } else {
                    self.values.borrow_mut().insert(of, bits.into());
                }
            }
        }
        match register {
            0x1c => self.status.get(),
            0x34 => self.value(0x34) as u32 | u32::from(!self.records.borrow().is_empty()) << 1,
            _ => self.value(register) as u32,
        }
    }

    fn read64(&self, register: u32) -> u64 {
        assert_eq!(register % 8, 0);
        match register {
            0x08 => self.capability,
            0x10 => self.more_capability,
            at if at >= self.first_record() => {
                let [record, half] = [at - self.first_record(), (at - self.first_record()) / 8 % 2];
                self.records.borrow().get(record as usize / 16).map_or(0, |record| record[half as usize])
            }
            _ => self.value(register),
        }
    }

    fn write32(&self, register: u32, value: u32) {
        match register {
            0x18 => self.command(value),
            // Ones clear bits.
            0x34 | 0x9c => {
                let kept = self.value(register) & !u64::from(value);
                self.values.borrow_mut().insert(register, kept);
            }
            _ => panic!("{value:#x} is written to register {register:#x}"),
        }
    }

    fn write64(&self, register: u32, value: u64) {
        match register {
            0x20 | 0x90 | 0xb8 => drop(self.values.borrow_mut().insert(register, value)),
            0x88 => {
                assert_eq!(value & !0xff0, 0, "a tail in a queue of one page");
                self.values.borrow_mut().insert(register, value);
                self.serve();
            }
            at if at >= self.first_record() && at % 16 == 8 && value == 1 << 63 => {
                let record = (at - self.first_record()) as usize / 16;
                self.records.borrow_mut()[record] = [0; 2];
                if self.records.borrow().iter().all(|record| *record == [0; 2]) {
                    self.records.borrow_mut().clear();
                }
            }
            _ => panic!("{value:#x} is written to register {register:#x}"),
        }
    }

    fn relax(&self) {
        self.relaxed.set(self.relaxed.get() + 1);
    }
}

//! PCI functions: which there are, where their registers lie, and which of these a driver may have.
//!
//! The kernel hands out virtio 1.x devices only: it must be able to stop the accesses of a device to memory, and it
//! knows the reset of no others. A driver gets the whole BAR with the common configuration, in which all structures of
//! virtio usually lie; it finds them by the capabilities, as the kernel does. The entries of MSI-X name processors and
//! vectors, so only the kernel writes them: a device with entries in the driver's BAR is refused.
//!
//! A configuration space may hold anything: nothing is used that is not within a BAR. Firmware is trusted in one point:
//! different functions have different addresses.

use abi::{Frame, PAGE_SIZE};
use bitflags::bitflags;
use core::ops::Range;

/// A PCI function: bus in bits 8 to 15, device in bits 3 to 7, function in bits 0 to 2. Each of its requests carries
/// this number as source id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(pub u16);

/// The configuration spaces of all functions, in words of 32 bits.
pub trait ConfigSpace {
    /// Reads the word at this offset, a multiple of 4: all ones if there is no such function.
    fn read(&self, function: Function, offset: u8) -> u32;
    /// Writes the word at this offset, a multiple of 4.
    fn write(&self, function: Function, offset: u8, value: u32);
}

/// Why the kernel does not hand out a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The function is no virtio 1.x device: its vendor (low half) and device id.
    BadKind(u32),
    /// The list of capabilities is circular, or leads to an offset where none can be.
    BadCapability(u8),
    /// The function lacks the common configuration of virtio, or MSI-X: the id of the capability.
    Missing(u8),
    /// A BAR is not of memory, has no address or one that is too high, or is too small or too large: index and
    /// value.
    BadBar(u8, u64),
    /// The registers at this offset are not within the BAR with this index.
    Outside(u8, u32),
    /// The driver's BAR has the entries of MSI-X in it: its index.
    SharedBar(u8),
}

const ID: u8 = 0x00;
const COMMAND: u8 = 0x04;
const HEADER: u8 = 0x0c;
const FIRST_BAR: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;

bitflags! {
    /// Bits of the command register.
    pub struct Command: u32 {
        /// The function answers accesses to its memory BARs.
        const MEMORY = 1 << 1;
        /// The function may access memory, and send interrupts by MSI-X.
        const MASTER = 1 << 2;
        /// The function uses no interrupt line.
        const NO_INTX = 1 << 10;
    }
}

/// Sets the command register to these bits, and no others.
pub fn set_command(config: &impl ConfigSpace, function: Function, command: Command) {
    // The upper half is the status register, where zeros change nothing.
    config.write(function, COMMAND, command.bits());
}

/// The functions of a bus.
pub fn functions(config: &impl ConfigSpace, bus: u8) -> impl Iterator<Item = Function> {
    const MANY: u32 = 1 << 23;
    let exists = |function| config.read(function, ID) as u16 != u16::MAX;
    (0..=u8::MAX).map(move |index| Function(u16::from_be_bytes([bus, index]))).filter(move |&function| {
        // A device with a single function may answer for all eight.
        let first = Function(function.0 & !7);
        exists(first) && (function == first || config.read(first, HEADER) & MANY != 0 && exists(function))
    })
}

/// The physical addresses of a BAR, in whole pages. The function must not answer accesses to its memory BARs meanwhile,
/// because the size is found by writing another address.
fn bar(config: &impl ConfigSpace, function: Function, index: u8) -> Result<Range<u64>, Error> {
    const LAST: u8 = 5;
    const FLAGS: u64 = 0b1111;
    let offset = FIRST_BAR + 4 * index.min(LAST);
    let kind = config.read(function, offset) & 0b111;
    let is_wide = kind == 0b100 && index < LAST;
    if !is_wide && (kind != 0 || index > LAST) {
        return Err(Error::BadBar(index, kind.into()));
    }
    let probe = |offset| {
        let old = config.read(function, offset);
        config.write(function, offset, u32::MAX);
        let writable = config.read(function, offset);
        config.write(function, offset, old);
        [old, writable].map(u64::from)
    };
    let (low, high) = (probe(offset), if is_wide { probe(offset + 4) } else { [0, u32::MAX.into()] });
    let [start, writable] = [0, 1].map(|value| (high[value] << 32 | low[value]) & !FLAGS);
    let bytes = writable.wrapping_neg();
    let is_good = start != 0 && bytes >= PAGE_SIZE && bytes.is_power_of_two() && start.is_multiple_of(bytes);
    let end = start.checked_add(bytes).filter(|end| is_good && Frame::at(end - PAGE_SIZE).is_some());
    end.map(|end| start..end).ok_or(Error::BadBar(index, start))
}

/// The parts of a virtio 1.x device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtio {
    /// The physical addresses that a driver may have: whole pages, which no other function has.
    pub registers: Range<u64>,
    /// The physical address of the device status, a byte. A write of 0 resets the device. When 0 is read back, the
    /// device no longer accesses memory.
    pub status: u64,
    /// The physical addresses of the entries of MSI-X: 16 bytes each.
    pub interrupts: Range<u64>,
    /// The offset of the capability MSI-X.
    msi_x: u8,
}

impl Virtio {
    /// The greatest size of a driver's BAR.
    const MOST: u64 = 16 * PAGE_SIZE;

    /// Finds the parts of a device. The command register is clear afterwards: the function neither accesses memory nor
    /// answers accesses.
    ///
    /// # Errors
    /// The reason not to hand out the device.
    pub fn find(config: &impl ConfigSpace, function: Function) -> Result<Virtio, Error> {
        const STATUS: u32 = 20;
        let word = |offset| config.read(function, offset);
        let is_bridge = word(HEADER) >> 16 & 0x7f != 0;
        if word(ID) as u16 != 0x1af4 || !(0x1040..0x1080).contains(&(word(ID) >> 16)) || is_bridge {
            return Err(Error::BadKind(word(ID)));
        }
        set_command(config, function, Command::empty());
        let [common, msi_x] = capabilities(config, function)?;
        // (An offset behind the end of the space wraps to its start. What is read there is checked, too.)
        let [index, place, entries, pending] = [(common, 4), (common, 8), (msi_x, 4), (msi_x, 8)]
            .map(|(at, offset): (u8, u8)| word(at.wrapping_add(offset)));
        let (index, owner) = (index as u8, entries as u8 & 7);
        if owner == index || pending as u8 & 7 == index {
            return Err(Error::SharedBar(index));
        }
        let bytes = ((word(msi_x) >> 16 & 0x7ff) + 1) * 16;
        let part = |within: &Range<u64>, index, offset: u32, bytes: u32| {
            let start = within.start + u64::from(offset);
            let end = start + u64::from(bytes);
            if end <= within.end { Ok(start..end) } else { Err(Error::Outside(index, offset)) }
        };
        let (registers, others) = (bar(config, function, index)?, bar(config, function, owner)?);
        if registers.end - registers.start > Virtio::MOST {
            return Err(Error::BadBar(index, registers.start));
        }
        let status = part(&registers, index, place, STATUS + 1)?.end - 1;
        let interrupts = part(&others, owner, entries & !7, bytes)?;
        Ok(Virtio { registers, status, interrupts, msi_x })
    }

    /// Lets the function send interrupts by its entries of MSI-X.
    pub fn enable_interrupts(&self, config: &impl ConfigSpace, function: Function) {
        const ENABLE: u32 = 1 << 31;
        const MASK_ALL: u32 = 1 << 30;
        let control = config.read(function, self.msi_x);
        config.write(function, self.msi_x, control & !MASK_ALL | ENABLE);
    }
}

/// The offsets of two capabilities: the common configuration of virtio, and MSI-X. The first one of a kind counts.
fn capabilities(config: &impl ConfigSpace, function: Function) -> Result<[u8; 2], Error> {
    const VENDOR: u8 = 0x09;
    const MSI_X: u8 = 0x11;
    const COMMON: u8 = 1;
    const FIRST: u8 = 0x40;
    const MOST: usize = 48;
    let (mut common, mut msi_x) = (None, None);
    let mut at = config.read(function, CAPABILITIES) as u8 & !3;
    for _ in 0..MOST {
        match config.read(function, at).to_le_bytes() {
            _ if at < FIRST => break,
            [VENDOR, _, _, COMMON] => common = common.or(Some(at)),
            [MSI_X, ..] => msi_x = msi_x.or(Some(at)),
            _ => {}
        }
        at = (config.read(function, at) >> 8) as u8 & !3;
    }
    if at != 0 {
        return Err(Error::BadCapability(at));
    }
    Ok([common.ok_or(Error::Missing(VENDOR))?, msi_x.ok_or(Error::Missing(MSI_X))?])
}

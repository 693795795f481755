//! The IOMMU, the configuration spaces of PCI, and the registers of devices.
//!
//! From boot on, the IOMMU refuses every access of a device to memory, and every interrupt of a device but one: that of
//! its entry 0 of MSI-X, which is masked unless somebody waits for it. Devices that the firmware left on are turned off.

use crate::machine::hardware::{Hardware, Lock};
use crate::machine::windows::{CONFIG_SPACES, IOMMU, bytes, device as info, machine};
use crate::machine::{apic, flush, print::kprintln};
use abi::window::{DeviceInfo, LockKind};
use abi::{Error, Frame, PAGE_SIZE};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use devices::pci::{self, Command, ConfigSpace, Function, Virtio};
use devices::remapping::{self, Domain, Frames, Registers, Unit, set};
use firmware::Remapping;
use spin::Once;
use vm::Machine;

/// How often a register is read, at most, until it must have changed.
const TRIES: u32 = 1_000;
/// The vector of the interrupts of the device with index 0.
pub const VECTOR: u64 = 0x40;

/// A device that a driver could have.
pub struct Device {
    /// Its index.
    pub index: usize,
    function: Function,
    parts: Virtio,
}

static DEVICES: Once<[Option<Device>; DeviceInfo::MAX]> = Once::new();
static UNIT: Lock<Option<Remapper>> = Lock::new(LockKind::Devices, None);

/// The IOMMU, and its table of what the functions of bus 0 can access.
struct Remapper {
    unit: Unit<'static, Iommu>,
    contexts: Frame,
}

/// The registers of the IOMMU.
struct Iommu;

/// The address of a register. The parameter says how wide it is.
fn register<T>(base: u64, offset: u32) -> *mut T {
    (base + u64::from(offset)) as *mut T
}

impl Registers for Iommu {
    fn read32(&self, offset: u32) -> u32 {
        // SAFETY: `kernel_map::init` mapped the registers there.
        unsafe { register::<u32>(IOMMU.0, offset).read_volatile() }
    }

    fn read64(&self, offset: u32) -> u64 {
        // SAFETY: as above.
        unsafe { register::<u64>(IOMMU.0, offset).read_volatile() }
    }

    fn write32(&self, offset: u32, value: u32) {
        // SAFETY: as above. The tables that a unit is told to use are the kernel's own.
        unsafe { register::<u32>(IOMMU.0, offset).write_volatile(value) }
    }

    fn write64(&self, offset: u32, value: u64) {
        // SAFETY: as above.
        unsafe { register::<u64>(IOMMU.0, offset).write_volatile(value) }
    }

    fn relax(&self) {
        flush::relax();
    }
}

/// The configuration spaces of bus 0.
struct Spaces;

impl Spaces {
    fn word(function: Function, offset: u8) -> *mut u32 {
        register(CONFIG_SPACES.0 + u64::from(function.0) * PAGE_SIZE, offset.into())
    }
}

impl ConfigSpace for Spaces {
    fn read(&self, function: Function, offset: u8) -> u32 {
        // SAFETY: `kernel_map::init` mapped a page for each function of bus 0, and no other bus is asked for.
        unsafe { Spaces::word(function, offset).read_volatile() }
    }

    fn write(&self, function: Function, offset: u8, value: u32) {
        // SAFETY: as above. The IOMMU limits what a device accesses.
        unsafe { Spaces::word(function, offset).write_volatile(value) }
    }
}

/// Finds the devices that a driver could have, and turns them off.
pub fn find(remapping: &Remapping) -> impl Iterator<Item = &'static Device> {
    let covered = pci::functions(&Spaces, 0).filter(|function| remapping.covers(*function));
    let mut found = covered.filter_map(|function| Some((function, Virtio::find(&Spaces, function).ok()?)));
    let device = |index| found.next().map(|(function, parts)| Device { index, function, parts });
    DEVICES.call_once(|| core::array::from_fn(device)).iter().flatten()
}

/// Turns the IOMMU on, and makes the devices ready. The frames, of zeros, are for the tables of the IOMMU.
pub fn init([root, contexts, interrupts, queue]: [Frame; 4]) {
    set(Hardware::table(root), 0, remapping::root_entry(contexts));
    let frames = Frames { root, interrupts, queue };
    match Unit::start(Iommu, TRIES, frames, Hardware::table(queue)) {
        Ok(unit) => *UNIT.lock() = Some(Remapper { unit, contexts }),
        Err(error) => return kprintln!("the IOMMU cannot be used, and so no device: {error:?}"),
    }
    for device in DEVICES.get().into_iter().flatten().flatten() {
        let vector = VECTOR as u8 + device.index as u8;
        let entry = remapping::interrupt_entry(device.function, vector, apic::id());
        set(Hardware::table(interrupts), device.index as u8, entry);
        device.init();
        machine().devices.fetch_add(1, Relaxed);
    }
}

/// The device with this index.
pub fn device(index: u64) -> Result<&'static Device, Error> {
    let device = DEVICES.get().and_then(|all| all.get(index as usize)?.as_ref());
    device.filter(|_| index < machine().devices.load(Relaxed).into()).ok_or(Error::BadDevice(index))
}

/// All devices.
pub fn devices() -> impl Iterator<Item = &'static Device> {
    (0..machine().devices.load(Relaxed).into()).flat_map(device)
}

/// Records the accesses that the IOMMU has refused since the last call.
pub fn take_faults() {
    let mut unit = UNIT.lock();
    let Some(Remapper { unit, .. }) = unit.as_mut() else { return };
    _ = unit.take_faults(|fault| {
        let Some(device) = devices().find(|device| device.function == fault.source) else { return };
        let info = device.info();
        if info.faults.fetch_add(1, Relaxed) == 0 {
            info.fault_page.store(fault.page.0, Relaxed);
            info.fault_reason.store(fault.reason.into(), Relaxed);
        }
    });
}

impl Device {
    const OFF: Command = Command::MEMORY.union(Command::NO_INTX);

    /// What every program can read.
    pub fn info(&self) -> &'static DeviceInfo {
        info(self.index)
    }

    /// The pages with the registers that a driver may have.
    pub fn registers(&self) -> impl Iterator<Item = Frame> + use<> {
        let Range { start, end } = self.parts.registers;
        (start..end).step_by(PAGE_SIZE as usize).map(Frame::containing)
    }

    /// The physical addresses that the kernel accesses: the registers, and the entries of MSI-X.
    pub fn areas(&self) -> [Range<u64>; 2] {
        let pages = |range: &Range<u64>| range.start & !(PAGE_SIZE - 1)..range.end.next_multiple_of(PAGE_SIZE);
        [pages(&self.parts.registers), pages(&self.parts.interrupts)]
    }

    /// Writes a word of an MSI-X entry: address, upper half of the address, data, control.
    fn set_entry(&self, entry: usize, word: usize, value: u32) {
        let entries = bytes(Frame(0)) as u64 + self.parts.interrupts.start;
        // SAFETY: `kernel_map::init` mapped the entries, and nobody else has them. The IOMMU checks what they send.
        unsafe { (entries as *mut u32).add(4 * entry + word).write_volatile(value) }
    }

    /// Masks the interrupt of the device, or no longer. One that comes meanwhile is sent afterwards.
    pub fn mask(&self, masked: bool) {
        self.set_entry(0, 3, masked.into());
    }

    fn init(&self) {
        pci::set_command(&Spaces, self.function, Device::OFF);
        let entries = (self.parts.interrupts.end - self.parts.interrupts.start) as usize / 16;
        (0..entries).for_each(|entry| self.set_entry(entry, 3, 1));
        let message = remapping::message(self.index as u8);
        message.into_iter().enumerate().for_each(|(word, value)| self.set_entry(0, word, value));
        self.parts.enable_interrupts(&Spaces, self.function);
        let words = self.info().config.iter().zip((0..).step_by(4));
        words.for_each(|(word, offset)| word.store(Spaces.read(self.function, offset), Relaxed));
        self.info().register_pages.store(self.registers().count() as u32, Relaxed);
    }

    /// Lets the device access what this table of level 3 translates.
    pub fn start(&self, table: Frame) {
        if let Some(Remapper { contexts, .. }) = UNIT.lock().as_ref() {
            set(Hardware::table(*contexts), self.function.0 as u8, remapping::context_entry(table, self.domain()));
            pci::set_command(&Spaces, self.function, Device::OFF | Command::MASTER);
        }
    }

    /// Resets the device, and takes away its access to memory. `false` if it still may have access.
    #[must_use]
    pub fn stop(&self) -> bool {
        let status = (bytes(Frame(0)) as u64 + self.parts.status) as *mut u8;
        // SAFETY: `kernel_map::init` mapped the registers. A reset concerns only the driver.
        let is_reset = || unsafe { status.read_volatile() } == 0;
        // SAFETY: as above.
        unsafe { status.write_volatile(0) };
        self.mask(true);
        if !(0..TRIES).any(|_| {
            is_reset() || {
                flush::relax();
                false
            }
        }) {
            return false;
        }
        pci::set_command(&Spaces, self.function, Device::OFF);
        UNIT.lock().as_mut().is_some_and(|Remapper { unit, contexts }| {
            set(Hardware::table(*contexts), self.function.0 as u8, remapping::NONE);
            unit.invalidate(self.domain()).is_ok()
        })
    }

    fn domain(&self) -> Domain {
        Domain(self.index as u8 + 1)
    }
}

//! The IOMMU, and the configuration spaces of PCI.
//!
//! From boot on, the IOMMU refuses every access of a device to memory, and every interrupt of a device. Devices that the
//! firmware left on are turned off.

use crate::machine::hardware::Hardware;
use crate::machine::windows::{CONFIG_SPACES, IOMMU, machine};
use crate::machine::{flush, print::kprintln};
use abi::{Frame, PAGE_SIZE};
use core::sync::atomic::Ordering::Relaxed;
use devices::pci::{ConfigSpace, Function, Virtio, functions};
use devices::remapping::{Frames, Registers, Unit, root_entry, set};
use firmware::Remapping;
use vm::Machine;

/// How often a register of the IOMMU is read, at most, until it must have changed.
const TRIES: u32 = 100_000;

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

/// Turns the IOMMU on, and the devices off that a driver could have. The frames, of zeros, are for the tables of the
/// IOMMU.
pub fn init(remapping: &Remapping, [root, contexts, interrupts, queue]: [Frame; 4]) {
    set(Hardware::table(root), 0, root_entry(contexts));
    let frames = Frames { root, interrupts, queue };
    if let Err(error) = Unit::start(Iommu, TRIES, frames, Hardware::table(queue)) {
        kprintln!("the IOMMU cannot be used, and so no device: {error:?}");
        return;
    }
    let covered = functions(&Spaces, 0).filter(|function| remapping.covers(*function));
    let found = covered.filter(|function| Virtio::find(&Spaces, *function).is_ok());
    machine().devices.store(found.count() as u32, Relaxed);
}

//! The kernel's addresses of physical memory, of the windows and of its own tables.
//!
//! The kernel's half is the same 256 top-level entries in every page map, filled once in `boot::kernel_map`: the direct
//! map, the writable alias of the windows, the environment table, the image and the devices. Nothing in it is both
//! writable and executable, and no entry is global.

use abi::layout::{ARCHIVE, DEVICES, DIRECT_MAP, ENVS, KERNEL_REGISTERS, KERNEL_WINDOWS, MACHINE, WINDOWS};
use abi::window::{DeviceInfo, EnvInfo, MachineInfo};
use abi::{Frame, Va};
use core::sync::atomic::Ordering::Relaxed;

/// The private parts of the environments.
pub const ENV_TABLE: Va = Va(0xffff_d000_0000_0000);
/// The records of the checking kernel, indexed by frame number.
#[cfg(feature = "check")]
pub const CHECK_TABLE: Va = Va(0xffff_d800_0000_0000);
/// Stacks and data of the application processors, one after the other.
pub const PROCESSORS: Va = Va(0xffff_d400_0000_0000);
/// The registers of the local APIC, at its page in [`KERNEL_REGISTERS`].
pub const LOCAL_APIC: Va = KERNEL_REGISTERS;
/// The registers of the IOMMU: a page.
pub const IOMMU: Va = Va(KERNEL_REGISTERS.0 + 0x1000);
/// The configuration spaces of the functions of PCI bus 0: a page for each.
pub const CONFIG_SPACES: Va = Va(KERNEL_REGISTERS.0 + 0x10_0000);

/// The kernel's writable address of something in the windows.
pub const fn alias(window: Va) -> u64 {
    window.0 - WINDOWS.0 + KERNEL_WINDOWS.0
}

/// The bytes of a page frame, in the direct map.
pub fn bytes(frame: Frame) -> *mut u8 {
    (DIRECT_MAP.0 + frame.address()) as *mut u8
}

/// The machine page, which every program can read.
pub fn machine() -> &'static MachineInfo {
    // SAFETY: the machine page is mapped from `kernel_map::init` on, and its fields are atomic.
    unsafe { &*(alias(MACHINE) as *const MachineInfo) }
}

/// The public part of an environment.
pub fn env(slot: usize) -> &'static EnvInfo {
    // SAFETY: the window has an entry for every slot; the fields are atomic.
    unsafe { &*(alias(ENVS) as *const EnvInfo).add(slot) }
}

/// The public part of a device.
pub fn device(index: usize) -> &'static DeviceInfo {
    // SAFETY: the page has room for the greatest number of devices; the fields are atomic.
    unsafe { &*(alias(DEVICES) as *const DeviceInfo).add(index) }
}

/// The boot archive.
pub fn archive() -> &'static [u8] {
    let len = machine().archive_bytes.load(Relaxed) as usize;
    // SAFETY: `kernel_map` mapped that many bytes there; nobody ever writes them.
    unsafe { core::slice::from_raw_parts(alias(ARCHIVE) as *const u8, len) }
}

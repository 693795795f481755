//! The read-only windows: what the kernel shows of the machine, of environments and of frames.

use crate::{EnvId, Frame, Va, layout, uvpt};
use abi::window::{CpuInfo, DeviceInfo, EnvInfo, FrameInfo, MachineInfo};
use core::sync::atomic::Ordering::Relaxed;

/// The machine page.
#[must_use]
pub fn machine() -> &'static MachineInfo {
    // SAFETY: the kernel maps this page in every environment, read-only and permanently; it changes atomics only.
    unsafe { &*(layout::MACHINE.0 as *const MachineInfo) }
}

/// All processors that are running.
#[must_use]
pub fn cpus() -> &'static [CpuInfo] {
    let cpus = machine().cpus.load(Relaxed) as usize;
    // SAFETY: see `machine`; the table has this many entries.
    unsafe { core::slice::from_raw_parts(layout::CPUS.0 as *const CpuInfo, cpus) }
}

/// The number of free page frames.
#[must_use]
pub fn free_frames() -> u64 {
    CpuInfo::free_frames(cpus())
}

/// The number of devices that a driver could have: 0 on a machine without an IOMMU.
#[must_use]
pub fn devices() -> u32 {
    machine().devices.load(Relaxed)
}

/// How far the time stamp counters went while processors halted because nothing could run. Costs leave that out.
#[must_use]
pub fn idle() -> u64 {
    machine().idle.load(Relaxed)
}

/// The devices that a driver could have, by index.
#[must_use]
pub fn device_infos() -> &'static [DeviceInfo] {
    // SAFETY: see `machine`; the page has room for the greatest number of devices.
    unsafe { core::slice::from_raw_parts(layout::DEVICES.0 as *const DeviceInfo, devices() as usize) }
}

/// All slots of the environment table.
#[must_use]
pub fn envs() -> &'static [EnvInfo] {
    let slots = machine().env_slots.load(Relaxed) as usize;
    // SAFETY: see `machine`; the table has this many entries.
    unsafe { core::slice::from_raw_parts(layout::ENVS.0 as *const EnvInfo, slots) }
}

/// The public data of an environment, if its slot still belongs to it.
#[must_use]
pub fn env(id: EnvId) -> Option<&'static EnvInfo> {
    envs().get(id.slot()).filter(|info| info.id() == id)
}

/// The metadata of a page frame. `None` if the frame is not usable memory.
#[must_use]
pub fn frame(frame: Frame) -> Option<&'static FrameInfo> {
    let info = Va(layout::FRAMES.0 + u64::from(frame.0) * size_of::<FrameInfo>() as u64);
    if !uvpt::pte(info).is_present() {
        return None;
    }
    // SAFETY: the page is mapped (an entry lies within one page), it stays mapped, and the kernel changes atomics
    // only.
    Some(unsafe { &*(info.0 as *const FrameInfo) })
}

/// The reference count of a page frame. `None` if the frame is not usable memory.
#[must_use]
pub fn refs(of: Frame) -> Option<u32> {
    frame(of).map(|info| info.refs.load(Relaxed))
}

/// The size of the boot archive in bytes.
#[inline]
pub(crate) fn archive_bytes() -> u64 {
    machine().archive_bytes.load(Relaxed)
}

/// The boot archive.
#[must_use]
pub fn archive() -> &'static [u8] {
    let bytes = archive_bytes() as usize;
    // SAFETY: the kernel maps the archive, read-only, in every environment; nothing writes to it.
    unsafe { core::slice::from_raw_parts(layout::ARCHIVE.0 as *const u8, bytes) }
}

/// The file of the first program.
pub(crate) fn boot_program() -> &'static [u8] {
    let (machine, archive) = (machine(), archive());
    let start = machine.program_offset.load(Relaxed) as usize;
    &archive[start..start + machine.program_bytes.load(Relaxed) as usize]
}

/// The arguments of the first program.
pub(crate) fn boot_args() -> &'static [u8] {
    let machine = machine();
    let len = machine.args_len.load(Relaxed) as usize;
    let args = &machine.args[..len.min(MachineInfo::MAX_ARGS)];
    // SAFETY: atomics have the layout of their values, and the kernel wrote these before the first program began, and
    // never again.
    unsafe { core::slice::from_raw_parts(args.as_ptr().cast(), args.len()) }
}

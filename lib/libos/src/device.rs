//! Devices: environments without a processor.
//!
//! The kernel lets the first program claim devices, which can [let others](allow) do so. A device that was claimed is a
//! stopped child, and has its registers as pages. Its page map says what it can access: the addresses that it uses are
//! those of the pages in its map. So pages that a driver [shares](Device::share) with it have the same addresses for
//! both. `docs/devices.md` is the guide to a driver.

use crate::resident::Local;
use crate::{EnvId, PAGE_SIZE, Perms, Status, Va, layout, sys, windows};
use abi::Error;
use abi::window::DeviceInfo;
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

/// The first address in [`layout::OF_DEVICES`] that was not given out. (`fork` looks here, so all programs have it.)
#[unsafe(link_section = ".resident")]
static NEXT: Local<Va> = Local::new(layout::OF_DEVICES.start);

/// Addresses for this many pages in [`layout::OF_DEVICES`], which are never given out again.
pub(crate) fn addresses(pages: u64) -> sys::Result<Range<Va>> {
    let start = NEXT.get();
    if pages > (layout::OF_DEVICES.end.0 - start.0) / PAGE_SIZE {
        return Err(Error::BadCount(pages));
    }
    NEXT.set(start.add_pages(pages));
    Ok(start..NEXT.get())
}

/// Whether this program may have something in [`layout::OF_DEVICES`].
pub(crate) fn are_used() -> bool {
    NEXT.get() != layout::OF_DEVICES.start
}

/// A device that this program has claimed. A child of the program does not inherit it.
#[derive(Debug)]
pub struct Device {
    index: usize,
    id: EnvId,
    /// Where the program has the registers.
    registers: Range<Va>,
}

/// The message of a device: what happened since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupts {
    /// How many interrupts it has sent since it was started. (Not more than one for each wait.)
    pub count: u32,
    /// How many of its accesses to memory were refused since it was started, as far as the IOMMU recorded them.
    pub faults: u32,
}

/// Lets another program claim a device, too. For the first program only.
///
/// # Errors
/// `NotFirst`, `BadDevice`, `BadEnv`.
pub fn allow(index: usize, program: EnvId) -> sys::Result<()> {
    sys::claim(index as u64, program).map(drop)
}

/// The configuration space of a device, as it was at boot. `None` if there is no such device.
#[must_use]
pub fn config(index: usize) -> Option<[u8; 256]> {
    let words = &windows::device_infos().get(index)?.config;
    let mut bytes = [0; 256];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    Some(bytes)
}

impl Device {
    /// Claims a device, which is stopped, and maps its registers.
    ///
    /// # Errors
    /// `NotFirst` if nobody has allowed it, `BadDevice`, `Taken`, `NoMemory`, `NoEnvs`.
    pub fn claim(index: usize) -> sys::Result<Device> {
        let id = sys::claim(index as u64, EnvId::SELF)?;
        let pages = windows::device_infos()[index].register_pages.load(Relaxed).into();
        let device = Device { index, id, registers: addresses(pages)? };
        sys::map(id, layout::REGISTERS, EnvId::SELF, device.registers.start, pages, Perms::WRITE)?;
        Ok(device)
    }

    /// The environment of the device.
    #[must_use]
    pub fn id(&self) -> EnvId {
        self.id
    }

    /// The entry of the device in the window of devices.
    #[must_use]
    pub fn info(&self) -> &'static DeviceInfo {
        &windows::device_infos()[self.index]
    }

    /// Where the program has the registers.
    #[must_use]
    pub fn registers(&self) -> Range<Va> {
        self.registers.clone()
    }

    /// Lets the device access pages of this program, at the same addresses: to read, or with `WRITE` to write, too. They
    /// must be present, and below 512 GiB. While the device runs, it keeps them.
    ///
    /// # Errors
    /// Those of [`sys::map`].
    pub fn share(&self, va: Va, pages: u64, perms: Perms) -> sys::Result<()> {
        sys::map(EnvId::SELF, va, self.id, va, pages, perms)
    }

    /// Takes pages from the device, which must be stopped.
    ///
    /// # Errors
    /// Those of [`sys::unmap`]; `Pinned` if it runs.
    pub fn take(&self, va: Va, pages: u64) -> sys::Result<()> {
        sys::unmap(self.id, va, pages)
    }

    /// Lets the device run: it can access what is in its page map. Nothing changes if it runs.
    ///
    /// # Errors
    /// `NotMapped` if it has no page at all.
    pub fn start(&self) -> sys::Result<()> {
        sys::set_status(self.id, Status::Runnable)
    }

    /// The number of its accesses that were refused since it was started, brought up to date.
    ///
    /// # Errors
    /// None that a correct program sees.
    pub fn faults(&self) -> sys::Result<u32> {
        self.start()?;
        Ok(self.info().faults.load(Relaxed))
    }

    /// Resets the device, and waits until it accesses no memory any more.
    ///
    /// # Errors
    /// `NotReset` if it does not confirm the reset.
    pub fn stop(&self) -> sys::Result<()> {
        sys::set_status(self.id, Status::Stopped)
    }

    /// Waits for an interrupt, at most this many ticks (0: without a limit).
    ///
    /// # Errors
    /// `TimedOut`.
    pub fn wait(&self, ticks: u32) -> sys::Result<Interrupts> {
        let message = crate::ipc::recv_for(self.id, ticks)?;
        Ok(Interrupts { count: message.value as u32, faults: (message.value >> 32) as u32 })
    }
}

/// Gives all devices of this program back, so that they can be claimed again.
pub(crate) fn release_all() {
    let me = crate::env::id();
    for id in windows::device_infos().iter().map(DeviceInfo::env) {
        if windows::env(id).is_some_and(|env| env.parent() == me) {
            let _ = sys::destroy(id);
        }
    }
}

/// Gives the device back, so that it can be claimed again.
impl Drop for Device {
    fn drop(&mut self) {
        let _ = sys::unmap(EnvId::SELF, self.registers.start, pager::pages(&self.registers));
        let _ = sys::destroy(self.id);
    }
}

/// Registers of a device that are mapped in this program.
pub struct Mapped {
    start: Va,
    bytes: u32,
}

impl Mapped {
    /// The registers of a structure, if they are within those that the program has.
    #[must_use]
    pub fn new(device: &Device, structure: block::config::Structure) -> Option<Mapped> {
        let Range { start, end } = device.registers();
        let fits = u64::from(structure.offset) + u64::from(structure.length) <= end.0 - start.0;
        fits.then_some(Mapped { start: Va(start.0 + u64::from(structure.offset)), bytes: structure.length })
    }

    #[inline(always)]
    fn at<T>(&self, offset: u32) -> *mut T {
        assert!(offset + size_of::<T>() as u32 <= self.bytes, "the register {offset:#x} is not within {}", self.bytes);
        (self.start.0 + u64::from(offset)) as *mut T
    }
}

impl block::Registers for Mapped {
    fn bytes(&self) -> u32 {
        self.bytes
    }

    fn read8(&self, offset: u32) -> u8 {
        // SAFETY: only registers are mapped there; what they do to memory is limited by the page map of the device.
        unsafe { self.at::<u8>(offset).read_volatile() }
    }

    fn read16(&self, offset: u32) -> u16 {
        // SAFETY: as above.
        unsafe { self.at::<u16>(offset).read_volatile() }
    }

    fn read32(&self, offset: u32) -> u32 {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    fn write8(&mut self, offset: u32, value: u8) {
        // SAFETY: as above.
        unsafe { self.at::<u8>(offset).write_volatile(value) }
    }

    fn write16(&mut self, offset: u32, value: u16) {
        // SAFETY: as above.
        unsafe { self.at::<u16>(offset).write_volatile(value) }
    }

    fn write32(&mut self, offset: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).write_volatile(value) }
    }
}

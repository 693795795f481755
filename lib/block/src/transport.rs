//! All accesses to the registers of the device: its reset, its features, the set-up of its queue.
//!
//! `virtio-drivers` sets up the queue through the trait `Transport`. The transport that it has for PCI does not know of
//! MSI-X, does not accept `ACCESS_PLATFORM`, and believes that a device accepts all features, so this crate has its own.

use crate::error::StartError;
use crate::features::Features;
use crate::registers::{Registers, Structures};
use virtio_drivers::PhysAddr;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Offsets in the structure with the registers of all virtio devices.
mod common {
    pub const DEVICE_FEATURE_SELECT: u32 = 0;
    pub const DEVICE_FEATURE: u32 = 4;
    pub const DRIVER_FEATURE_SELECT: u32 = 8;
    pub const DRIVER_FEATURE: u32 = 12;
    pub const CONFIG_VECTOR: u32 = 16;
    pub const STATUS: u32 = 20;
    pub const GENERATION: u32 = 21;
    pub const QUEUE_SELECT: u32 = 22;
    pub const QUEUE_SIZE: u32 = 24;
    pub const QUEUE_VECTOR: u32 = 26;
    pub const QUEUE_ENABLE: u32 = 28;
    pub const QUEUE_NOTIFY_OFFSET: u32 = 30;
    pub const QUEUE_DESCRIPTORS: u32 = 32;
    pub const QUEUE_DRIVER_AREA: u32 = 40;
    pub const QUEUE_DEVICE_AREA: u32 = 48;
    pub const BYTES: u32 = 56;
}

/// The MSI-X entry for the queue, which the kernel lets the driver have.
const VECTOR: u16 = 0;
/// A vector register with this value causes no interrupt.
const NO_VECTOR: u16 = 0xffff;
/// The number of times that a device may not have finished its reset, or may have changed its configuration.
const TRIES: usize = 100_000;

/// A proof that the device has been reset: it accesses no memory, until its queue is set up again.
pub struct Reset(());

/// The registers of a disk.
pub struct Pci<R> {
    structures: Structures<R>,
    /// The offset of the notify register of the queue.
    notify: u32,
    /// What went wrong while the queue was set up, which `Transport` cannot say.
    problem: Option<StartError>,
}

impl<R: Registers> Pci<R> {
    pub fn new(structures: Structures<R>) -> Pci<R> {
        Pci { structures, notify: 0, problem: None }
    }

    /// Whether the device has finished a reset.
    pub fn is_reset(&self) -> Option<Reset> {
        (self.status() == 0).then_some(Reset(()))
    }

    /// Resets the device, and waits until it confirms that, for a bounded time.
    pub fn reset(&mut self) -> Result<Reset, StartError> {
        let bytes = self.structures.common.bytes();
        if bytes < common::BYTES {
            return Err(StartError::TooFewRegisters(bytes));
        }
        self.set_status(DeviceStatus::empty());
        let confirmed = (0..TRIES).find_map(|_| self.is_reset());
        confirmed.ok_or_else(|| StartError::NotReset(self.status()))
    }

    /// Agrees with the device on features, and returns them.
    pub fn negotiate(&mut self, _: &Reset) -> Result<Features, StartError> {
        self.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        let offered = Features::from_bits_truncate(self.read_device_features());
        let missing = Features::NEEDED - offered;
        if !missing.is_empty() {
            return Err(StartError::Missing(missing));
        }
        self.write_driver_features(offered.bits());
        let status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK;
        self.set_status(status);
        let accepted = self.get_status().contains(DeviceStatus::FEATURES_OK);
        if accepted { Ok(offered) } else { Err(StartError::NotAccepted(offered)) }
    }

    /// Reads some registers of the disk, until they do not change while they are read.
    pub fn consistent<T>(&self, read: impl Fn(&Self) -> Result<T, StartError>) -> Result<T, StartError> {
        for _ in 0..TRIES {
            let before = self.read_config_generation();
            let value = read(self)?;
            if self.read_config_generation() == before {
                return Ok(value);
            }
        }
        Err(StartError::Unstable)
    }

    /// Adjacent registers of the disk, of 32 bits each.
    pub fn device<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, StartError> {
        let bytes = self.structures.device.bytes();
        self.read_config_space(offset).map_err(|_| StartError::TooFewRegisters(bytes))
    }

    /// Tells the device that it should not go on, since the start has failed.
    pub fn give_up(&mut self) {
        self.set_status(DeviceStatus::FAILED);
    }

    /// What went wrong while the queue was set up.
    pub fn problem(&self) -> Result<(), StartError> {
        self.problem.map_or(Ok(()), Err)
    }

    /// The offset of the notify register of the selected queue, if it lies within its structure.
    fn notify_offset(&self) -> Result<u32, StartError> {
        let index = self.structures.common.read16(common::QUEUE_NOTIFY_OFFSET);
        let offset = u64::from(index) * u64::from(self.structures.multiplier);
        let bytes = self.structures.notify.bytes();
        let found =
            u32::try_from(offset).ok().filter(|&offset| offset.is_multiple_of(2) && bytes >= 2 && offset <= bytes - 2);
        found.ok_or(StartError::NotifyOutside(offset))
    }

    /// Assigns the MSI-X entry to the selected queue, and none to changes of the configuration.
    fn set_vector(&mut self) -> Result<(), StartError> {
        let registers = &mut self.structures.common;
        registers.write16(common::CONFIG_VECTOR, NO_VECTOR);
        registers.write16(common::QUEUE_VECTOR, VECTOR);
        match registers.read16(common::QUEUE_VECTOR) {
            VECTOR => Ok(()),
            other => Err(StartError::VectorRefused(other)),
        }
    }

    fn write64(&mut self, offset: u32, value: u64) {
        self.structures.common.write32(offset, value as u32);
        self.structures.common.write32(offset + 4, (value >> 32) as u32);
    }

    fn status(&self) -> u8 {
        self.structures.common.read8(common::STATUS)
    }

    fn select(&mut self, queue: u16) {
        self.structures.common.write16(common::QUEUE_SELECT, queue);
    }
}

impl<R: Registers> Transport for Pci<R> {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn read_device_features(&mut self) -> u64 {
        let registers = &mut self.structures.common;
        let mut half = |index| {
            registers.write32(common::DEVICE_FEATURE_SELECT, index);
            u64::from(registers.read32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        let registers = &mut self.structures.common;
        for (index, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            registers.write32(common::DRIVER_FEATURE_SELECT, index);
            registers.write32(common::DRIVER_FEATURE, half);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        self.structures.common.read16(common::QUEUE_SIZE).into()
    }

    #[inline]
    fn notify(&mut self, queue: u16) {
        self.structures.notify.write16(self.notify, queue);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.status().into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.structures.common.write8(common::STATUS, status.bits() as u8);
    }

    fn set_guest_page_size(&mut self, _: u32) {
        // Only legacy devices have such a register.
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    /// The queue is enabled last, and not at all if anything is wrong.
    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        self.structures.common.write16(common::QUEUE_SIZE, size as u16);
        self.write64(common::QUEUE_DESCRIPTORS, descriptors);
        self.write64(common::QUEUE_DRIVER_AREA, driver_area);
        self.write64(common::QUEUE_DEVICE_AREA, device_area);
        let ready = self.set_vector().and_then(|()| self.notify_offset());
        self.problem = ready.err();
        if let Ok(offset) = ready {
            self.notify = offset;
            self.structures.common.write16(common::QUEUE_ENABLE, 1);
        }
    }

    fn queue_unset(&mut self, _: u16) {
        // A queue ends only with a reset of the device.
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.structures.common.read16(common::QUEUE_ENABLE) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        // With MSI-X there is nothing to acknowledge.
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        self.structures.common.read8(common::GENERATION).into()
    }

    /// Reads registers of 32 bits: a disk has no others that the driver needs.
    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let device = &self.structures.device;
        let end = offset.checked_add(size_of::<T>()).filter(|&end| end <= device.bytes() as usize);
        end.ok_or(virtio_drivers::Error::ConfigSpaceTooSmall)?;
        let mut value = T::new_zeroed();
        let (words, rest) = value.as_mut_bytes().as_chunks_mut();
        if !rest.is_empty() {
            return Err(virtio_drivers::Error::InvalidParam);
        }
        for (word, at) in words.iter_mut().zip((offset as u32..).step_by(4)) {
            *word = device.read32(at).to_le_bytes();
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> virtio_drivers::Result<()> {
        // A disk has no configuration that the driver would change.
        Err(virtio_drivers::Error::Unsupported)
    }
}

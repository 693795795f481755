//! The registers of a virtio device, as the program makes them accessible.

/// The registers of one structure. libos implements this with volatile accesses, tests with a simulated device.
///
/// Offsets are those from the start of the structure, aligned to the size of the access, and below [`Registers::bytes`].
/// Virtio allows 64-bit registers to be accessed as two halves, so no access is wider than 32 bits.
pub trait Registers {
    /// The number of bytes of the structure.
    fn bytes(&self) -> u32;

    /// Reads a register of 8 bits.
    fn read8(&self, offset: u32) -> u8;
    /// Reads a register of 16 bits.
    fn read16(&self, offset: u32) -> u16;
    /// Reads a register of 32 bits.
    fn read32(&self, offset: u32) -> u32;

    /// Writes a register of 8 bits.
    fn write8(&mut self, offset: u32, value: u8);
    /// Writes a register of 16 bits.
    fn write16(&mut self, offset: u32, value: u16);
    /// Writes a register of 32 bits.
    fn write32(&mut self, offset: u32, value: u32);
}

/// The structures that a driver needs, mapped. [`config::find`](crate::config::find) says where they are.
pub struct Structures<R> {
    /// The registers that all virtio devices have.
    pub common: R,
    /// The registers that tell the device of new requests.
    pub notify: R,
    /// The number of bytes between the notify registers of two queues.
    pub multiplier: u32,
    /// The registers of a disk.
    pub device: R,
}

//! The structures of a virtio device, found in its PCI configuration space.
//!
//! A virtio device has its registers in four *structures*, each in a range of one of its BARs. It announces them in
//! vendor-specific capabilities: the linked list that begins at byte 0x34. The device wrote these bytes, so each is
//! checked, and the list is followed for a bounded number of steps.

use thiserror::Error;

/// The configuration space of a PCI function, without the extended part.
pub type Space = [u8; 256];

const STATUS: usize = 0x06;
const HAS_CAPABILITIES: u8 = 1 << 4;
const FIRST: usize = 0x34;
/// The end of the header: no capability lies below.
const HEADER: u8 = 0x40;
const VENDOR_SPECIFIC: u8 = 0x09;
/// The type of the structure with the notify registers. Its capability has one word more, the multiplier.
const NOTIFY: u8 = 2;
const BARS: u8 = 6;
/// Each capability has a word of its own at least.
const CAPABILITIES_MOST: usize = (256 - HEADER as usize) / 4;

/// A range of a BAR with registers of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Structure {
    /// The number of the BAR, below 6.
    pub bar: u8,
    /// The first byte, from the start of the BAR.
    pub offset: u32,
    /// The number of bytes.
    pub length: u32,
}

/// The places of all structures that a driver needs.
///
/// Virtio has another one, the interrupt status, which a device with MSI-X does not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The registers that all virtio devices have.
    pub common: Structure,
    /// The registers that tell the device of new requests.
    pub notify: Structure,
    /// The number of bytes between the notify registers of two queues.
    pub multiplier: u32,
    /// The interrupt status.
    pub interrupt: Structure,
    /// The registers of this type of device.
    pub device: Structure,
}

/// The reason why a configuration space has no complete [`Layout`].
#[derive(Clone, Copy, PartialEq, Eq, Error, Debug)]
pub enum ConfigError {
    /// The function has no list of capabilities.
    #[error("the device has no capabilities: it is not a virtio device, or a legacy one (QEMU: disable-legacy=on)")]
    NoCapabilities,
    /// The list of capabilities is longer than the space, so it is circular.
    #[error("the list of capabilities is circular at byte {0:#x}: the device is broken")]
    Circular(u8),
    /// A capability reaches beyond the space, or into the header.
    #[error("the capability at byte {0:#x} lies outside of the space: the device is broken")]
    Outside(u8),
    /// A structure is said to lie in a BAR that does not exist, or wraps around.
    #[error("the structure {0:?} cannot exist: the device is broken")]
    BadStructure(Structure),
    /// No capability announces the structure of this type.
    #[error(
        "the device does not announce its virtio structure of type {0}: it is not a virtio device, or a legacy one"
    )]
    Missing(u8),
}

/// Whether this is the configuration space of a virtio disk that follows version 1 of the specification.
#[must_use]
pub fn is_disk(space: &Space) -> bool {
    // Vendor 0x1af4, device 0x1042.
    space[..4] == [0xf4, 0x1a, 0x42, 0x10]
}

/// Finds the structures of a virtio device. Of two that have the same type, the first one counts.
///
/// # Errors
/// The first capability that is wrong, or a structure that is missing.
pub fn find(space: &Space) -> Result<Layout, ConfigError> {
    if space[STATUS] & HAS_CAPABILITIES == 0 {
        return Err(ConfigError::NoCapabilities);
    }
    // The lowest two bits of a pointer are reserved.
    let pointer = |at: usize| space[at] & !3;
    let (mut found, mut multiplier) = ([None; 4], 0);
    let mut at = pointer(FIRST);
    for _ in 0..CAPABILITIES_MOST {
        if at == 0 {
            break;
        }
        if at < HEADER {
            return Err(ConfigError::Outside(at));
        }
        if let Some(kind @ 1..=4) = virtio_type(space, at)
            && let place @ None = &mut found[usize::from(kind - 1)]
        {
            *place = Some(structure(space, at)?);
            if kind == NOTIFY {
                multiplier = word(space, at, 16)?;
            }
        }
        at = pointer(usize::from(at) + 1);
    }
    if at != 0 {
        return Err(ConfigError::Circular(at));
    }
    let [common, notify, interrupt, device] = found;
    Ok(Layout {
        common: common.ok_or(ConfigError::Missing(1))?,
        notify: notify.ok_or(ConfigError::Missing(NOTIFY))?,
        multiplier,
        interrupt: interrupt.ok_or(ConfigError::Missing(3))?,
        device: device.ok_or(ConfigError::Missing(4))?,
    })
}

/// The type of the structure that a capability announces, if it does.
fn virtio_type(space: &Space, at: u8) -> Option<u8> {
    let at = usize::from(at);
    (space[at] == VENDOR_SPECIFIC).then_some(space[at + 3])
}

fn structure(space: &Space, at: u8) -> Result<Structure, ConfigError> {
    let bar = word(space, at, 4)?.to_le_bytes()[0];
    let structure = Structure { bar, offset: word(space, at, 8)?, length: word(space, at, 12)? };
    let exists = bar < BARS && structure.length > 0 && structure.offset.checked_add(structure.length).is_some();
    if exists { Ok(structure) } else { Err(ConfigError::BadStructure(structure)) }
}

/// A word of the capability at a byte.
fn word(space: &Space, at: u8, offset: usize) -> Result<u32, ConfigError> {
    let bytes = space[usize::from(at)..].get(offset..).and_then(<[u8]>::first_chunk);
    bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(ConfigError::Outside(at))
}

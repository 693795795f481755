//! The limits of a disk, and the requests that exceed them.

use crate::error::{Refused, StartError};
use crate::features::Features;
use crate::memory::Segment;
use crate::registers::Registers;
use crate::transport::Pci;
use crate::{SECTOR_SIZE, SEGMENTS, Sector};
use abi::PAGE_SIZE;

/// Offsets in the structure with the registers of a disk.
mod device {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const BLK_SIZE: usize = 20;
}

/// The device counts the bytes of a request, with its status, in 32 bits.
const BYTES_MOST: u32 = u32::MAX - 1;

/// The limits of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The number of sectors.
    pub sectors: u64,
    /// The number of bytes in a block: requests consist of whole blocks.
    pub block: u32,
    /// The number of segments that a request may have.
    pub segments: usize,
    /// The number of bytes that a segment may have.
    pub segment_bytes: u32,
    /// Whether the disk cannot be written.
    pub read_only: bool,
    /// Whether the disk has a cache, so that writes are durable only after a flush.
    pub has_cache: bool,
}

impl Limits {
    /// The limits of a disk that has not been started: it has no sectors.
    pub(crate) const NONE: Limits =
        Limits { sectors: 0, block: SECTOR_SIZE, segments: 0, segment_bytes: 0, read_only: true, has_cache: false };

    /// Reads the limits from the registers. Those without a feature have no meaning.
    pub(crate) fn read<R: Registers>(registers: &Pci<R>, features: Features) -> Result<Limits, StartError> {
        let register = |feature, offset, otherwise| {
            if features.contains(feature) { registers.device(offset) } else { Ok(otherwise) }
        };
        let [low, high] = registers.device::<[u32; 2]>(device::CAPACITY)?.map(u64::from);
        let segments = register(Features::SEG_MAX, device::SEG_MAX, u32::MAX)?;
        let limits = Limits {
            sectors: low | high << 32,
            block: register(Features::BLK_SIZE, device::BLK_SIZE, SECTOR_SIZE)?,
            // A device that allows none cannot mean it.
            segments: (segments as usize).clamp(1, SEGMENTS),
            segment_bytes: register(Features::SIZE_MAX, device::SIZE_MAX, BYTES_MOST)?.min(BYTES_MOST),
            read_only: features.contains(Features::RO),
            has_cache: features.contains(Features::FLUSH),
        };
        let possible = SECTOR_SIZE..=PAGE_SIZE as u32;
        let usable = limits.block.is_power_of_two() && possible.contains(&limits.block);
        if usable { Ok(limits) } else { Err(StartError::BlockSize(limits.block)) }
    }

    /// Checks a transfer between segments and the sectors from one on.
    #[inline]
    pub(crate) fn check(&self, sector: Sector, segments: &[Segment]) -> Result<(), Refused> {
        if segments.len() > self.segments {
            return Err(Refused::TooManySegments { segments: segments.len(), most: self.segments });
        }
        if segments.is_empty() {
            return Err(Refused::Empty(sector));
        }
        let mut total = 0;
        for segment in segments {
            let bytes = segment.bytes();
            total += u64::from(bytes);
            if bytes == 0 {
                return Err(Refused::Empty(sector));
            }
            // The size of a block is a power of two.
            if bytes & (self.block - 1) != 0 {
                return Err(Refused::UnalignedSegment { bytes, block: self.block });
            }
            if bytes > self.segment_bytes {
                return Err(Refused::TooLarge { bytes: bytes.into(), most: self.segment_bytes });
            }
        }
        let count = total / u64::from(SECTOR_SIZE);
        if sector.0 > self.sectors || count > self.sectors - sector.0 {
            return Err(Refused::OutOfRange { sector, count, sectors: self.sectors });
        }
        if sector.0 & u64::from(self.block / SECTOR_SIZE - 1) != 0 {
            return Err(Refused::UnalignedSector { sector, block: self.block });
        }
        if total > BYTES_MOST.into() {
            return Err(Refused::TooLarge { bytes: total, most: BYTES_MOST });
        }
        Ok(())
    }
}

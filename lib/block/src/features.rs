//! The features that device and driver agree on.

use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// Features of a disk, those that the driver knows.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// The size of a segment is limited.
        const SIZE_MAX = 1 << 1;
        /// The number of segments is limited.
        const SEG_MAX = 1 << 2;
        /// The disk cannot be written.
        const RO = 1 << 5;
        /// The disk says how large its blocks are.
        const BLK_SIZE = 1 << 6;
        /// The disk has a cache, which can be flushed.
        const FLUSH = 1 << 9;
        /// The device follows version 1 of the specification.
        const VERSION_1 = 1 << 32;
        /// The IOMMU translates the addresses that the device uses.
        const ACCESS_PLATFORM = 1 << 33;
    }
}

impl Features {
    /// The features without which the driver does not work.
    pub(crate) const NEEDED: Features = Features::VERSION_1.union(Features::ACCESS_PLATFORM);
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}

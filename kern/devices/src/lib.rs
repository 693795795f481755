//! Devices, as far as the kernel must know them: what a PCI function has, and how the IOMMU limits what it accesses.
//!
//! The kernel calls this crate, and gives it access to registers by traits. The crate has no unsafe code, and the tests
//! run it on the host, with simulated devices that may answer nonsense or never.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod pci;
pub mod remapping;

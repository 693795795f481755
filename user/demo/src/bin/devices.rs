//! The devices that a driver could have. Until one of them is claimed, the IOMMU lets none access any memory.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{println, windows};

libos::entry!(main);

fn main() {
    match windows::devices() {
        0 => println!("no devices: this machine has no IOMMU, or nothing behind it"),
        1 => println!("1 device, behind an IOMMU"),
        count => println!("{count} devices, behind an IOMMU"),
    }
}

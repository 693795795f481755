//! A driver from its parts: claims a disk, and reads its first sector. `docs/devices.md` explains it line by line.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use core::error::Error;
use libos::block::Registers;
use libos::block::config;
use libos::device::{self, Device, Mapped};
use libos::disk::Pages;
use libos::{Perms, Va, println, raw, windows};

libos::entry!(main);

/// Registers that all virtio 1.x devices have, by their offset.
mod register {
    pub const DRIVER_FEATURES_SELECT: u32 = 0x08;
    pub const DRIVER_FEATURES: u32 = 0x0c;
    pub const STATUS: u32 = 0x14;
    pub const QUEUE_SIZE: u32 = 0x18;
    pub const QUEUE_VECTOR: u32 = 0x1a;
    pub const QUEUE_ENABLE: u32 = 0x1c;
    pub const QUEUE_NOTIFY: u32 = 0x1e;
    pub const QUEUE_ADDRESSES: u32 = 0x20;
}

/// Bits of the status: found, can drive it, features agreed, goes.
const STEPS: [u8; 4] = [1, 1 | 2, 1 | 2 | 8, 1 | 2 | 8 | 4];
/// The feature bits 32 and 33: a device of version 1, behind an IOMMU.
const FEATURES: u32 = 1 | 2;

/// Where things are in the page that the driver shares with the disk.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
const HEADER: u64 = 0x300;
const STATUS: u64 = 0x380;
const SECTOR: u64 = 0x400;

/// Bits of a descriptor: there is a next one, and the device writes.
const NEXT: u64 = 1;
const WRITES: u64 = 2;

/// The ticks in which the disk must answer.
const PATIENCE: u32 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    // Which of the devices is a disk, and where are its registers?
    let spaces = (0..windows::devices() as usize).filter_map(|index| Some((index, device::config(index)?)));
    let (index, space) = spaces.into_iter().find(|(_, space)| config::is_disk(space)).ok_or("there is no disk")?;
    let places = config::find(&space)?;
    let device = Device::claim(index)?;
    let mapped = |place| Mapped::new(&device, place).ok_or("the registers are outside");
    let (mut common, mut notify) = (mapped(places.common)?, mapped(places.notify)?);
    let disk = mapped(places.device)?;
    println!("device {index} is environment {}, and has {} sectors", device.id(), disk.read32(0));

    // Memory for both: one page, at the same address in both page maps.
    let shared = Pages::new(1)?;
    let page = shared.range().start;
    device.share(page, 1, Perms::WRITE)?;
    device.start()?;

    // The registers of the device say what it may do, and where the queue is.
    common.write8(register::STATUS, 0);
    common.write8(register::STATUS, STEPS[0]);
    common.write8(register::STATUS, STEPS[1]);
    common.write32(register::DRIVER_FEATURES_SELECT, 1);
    common.write32(register::DRIVER_FEATURES, FEATURES);
    common.write8(register::STATUS, STEPS[2]);
    common.write16(register::QUEUE_SIZE, 8);
    common.write16(register::QUEUE_VECTOR, 0);
    for (number, place) in (0..).zip([DESCRIPTORS, AVAILABLE, USED]) {
        common.write32(register::QUEUE_ADDRESSES + 8 * number, (page.0 + place) as u32);
        common.write32(register::QUEUE_ADDRESSES + 8 * number + 4, ((page.0 + place) >> 32) as u32);
    }
    common.write16(register::QUEUE_ENABLE, 1);
    common.write8(register::STATUS, STEPS[3]);

    // A request: what to do (0: read, from sector 0), where the sector goes, and where the result goes.
    descriptor(page, 0, HEADER, 16, NEXT, 1);
    descriptor(page, 1, SECTOR, 512, NEXT | WRITES, 2);
    descriptor(page, 2, STATUS, 1, WRITES, 0);
    raw::write_u8(page.0 + STATUS, 0xff);
    // One request is available, the one whose first descriptor is 0.
    raw::write_u64(page.0 + AVAILABLE, 1 << 16);
    let place = u32::from(common.read16(register::QUEUE_NOTIFY)) * places.multiplier;
    notify.write16(place, 0);

    // Its interrupt is a message.
    let told = device.wait(PATIENCE)?;
    println!("{} interrupt(s), {} accesses refused", told.count, told.faults);
    let (status, first) = (raw::read_u8(page.0 + STATUS), raw::read_u64(page.0 + SECTOR));
    println!("status {status}, and the sector begins with {first:#x}");

    // What the disk does not have, it cannot reach: not even its driver's other pages.
    descriptor(page, 1, 0x1000, 512, NEXT | WRITES, 2);
    raw::write_u64(page.0 + AVAILABLE, 2 << 16);
    notify.write16(place, 0);
    let told = device.wait(PATIENCE)?;
    println!("{} interrupt(s), {} accesses refused: {}", told.count, told.faults, fault_page(&device));
    device.stop()?;
    Ok(())
}

/// Writes a descriptor of the queue: an address, the number of bytes, the bits, and the next one.
fn descriptor(page: Va, number: u64, place: u64, bytes: u64, bits: u64, next: u64) {
    let at = page.0 + DESCRIPTORS + 16 * number;
    raw::write_u64(at, page.0 + place);
    raw::write_u64(at + 8, bytes | bits << 32 | next << 48);
}

fn fault_page(device: &Device) -> Va {
    Va(device.info().fault_page.load(core::sync::atomic::Ordering::Relaxed))
}

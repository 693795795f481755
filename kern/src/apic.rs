//! The local APIC: the timer that ends turns.

use crate::memory::LOCAL_APIC;
use crate::sched;
use x86_64::instructions::port::{Port, PortWriteOnly};

/// Registers, as offsets.
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const TIMER: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

const ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_16: u32 = 3;

/// The old timer counts at this rate.
const PIT_HZ: u64 = 1_193_182;
const CALIBRATION_US: u64 = 5_000;

fn read(register: u64) -> u32 {
    // SAFETY: `memory::init` mapped the registers there.
    unsafe { ((LOCAL_APIC.0 + register) as *const u32).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: as above; this processor owns its local APIC.
    unsafe { ((LOCAL_APIC.0 + register) as *mut u32).write_volatile(value) }
}

/// Interrupt every so many microseconds; 0: never.
pub fn init(tick_us: u64) {
    mask_legacy();
    write(SPURIOUS, ENABLE | 0xff);
    write(DIVIDE, DIVIDE_BY_16);
    write(TIMER, MASKED);
    if tick_us == 0 {
        return;
    }
    write(INITIAL_COUNT, u32::MAX);
    wait(CALIBRATION_US);
    let counted = u64::from(u32::MAX - read(CURRENT_COUNT));
    let count = (counted * tick_us / CALIBRATION_US).clamp(1, u32::MAX.into());
    write(TIMER, PERIODIC | sched::TIMER as u32);
    write(INITIAL_COUNT, count as u32);
}

/// The interrupt that is being handled has been.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// The old interrupt controllers stay silent, with their vectors out of the way of exceptions.
fn mask_legacy() {
    for (port, words) in [(0x20, [0x11, 0xf0, 4, 1, 0xff]), (0xa0, [0x11, 0xf8, 2, 1, 0xff])] {
        let (mut command, mut data) = (PortWriteOnly::<u8>::new(port), PortWriteOnly::new(port + 1));
        // SAFETY: the initialisation sequence of the 8259, then all lines masked.
        unsafe {
            command.write(words[0]);
            words[1..].iter().for_each(|word| data.write(*word));
        }
    }
}

/// Wait, by the one clock whose rate is known: channel 2 of the old timer.
fn wait(us: u64) {
    let count = (PIT_HZ * us / 1_000_000) as u16;
    let mut gate = Port::<u8>::new(0x61);
    let (mut mode, mut channel) = (PortWriteOnly::<u8>::new(0x43), PortWriteOnly::<u8>::new(0x42));
    // SAFETY: channel 2 drives nothing but the speaker, which stays off.
    unsafe {
        let off = gate.read() & !0b11;
        gate.write(off | 1);
        mode.write(0b1011_0000); // channel 2, both bytes, one shot
        channel.write(count as u8);
        channel.write((count >> 8) as u8);
        while gate.read() & 1 << 5 == 0 {}
        gate.write(off);
    }
}

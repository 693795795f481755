//! The local APICs: the timers that end time slices, and inter-processor interrupts.

use crate::machine::windows::LOCAL_APIC;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use x86_64::instructions::port::{Port, PortWriteOnly};
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags};

/// Physical address of the registers of a local APIC.
pub const PHYSICAL: u64 = 0xfee0_0000;
/// The vector of the timer.
pub const TIMER: u64 = 32;
/// The vector of inter-processor interrupts.
pub const KICK: u64 = 33;

/// Registers, as offsets.
const ID: u64 = 0x20;
const VERSION: u64 = 0x30;
const PRIORITY: u64 = 0x80;
/// The address of the register whose highest byte is the id of the local APIC.
pub const ID_ADDRESS: u64 = LOCAL_APIC.0 + ID;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const COMMAND_TARGET: u64 = 0x310;
const TIMER_SOURCE: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

/// The base register (IA32_APIC_BASE): enabled, in xAPIC mode, at the address where `kernel_map` expects it.
pub const BASE: u64 = PHYSICAL | 1 << 11;
/// A bit of IA32_APIC_BASE: this is the boot processor.
pub const BOOTS: u64 = 1 << 8;

const ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_16: u32 = 3;

/// The rate of the PIT, the old timer.
const PIT_HZ: u64 = 1_193_182;
const CALIBRATION_US: u64 = 5_000;

fn read(register: u64) -> u32 {
    // SAFETY: `kernel_map::init` mapped the registers there.
    unsafe { ((LOCAL_APIC.0 + register) as *const u32).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: `kernel_map::init` mapped the registers there; this processor owns its local APIC.
    unsafe { ((LOCAL_APIC.0 + register) as *mut u32).write_volatile(value) }
}

/// The count from which the timers count down; 0: no timer.
static TICK: AtomicU32 = AtomicU32::new(0);

/// Measures the rate of the timer, and starts it: an interrupt every `tick_us` microseconds, counted from the last
/// interrupt; 0: never.
pub fn init(tick_us: u64) {
    mask_legacy();
    write(DIVIDE, DIVIDE_BY_16);
    write(TIMER_SOURCE, MASKED);
    write(INITIAL_COUNT, u32::MAX);
    wait(CALIBRATION_US);
    let counted = u64::from(u32::MAX - read(CURRENT_COUNT));
    TICK.store((counted * tick_us / CALIBRATION_US).min(u32::MAX.into()) as u32, Relaxed);
    init_here();
}

/// The required contents of the registers: all interrupts are taken, and only the timer and other processors send any.
/// (Not every processor has the last ones of the list: [`VERSION`] says how many sources there are.)
const STATE: [(u64, u32); 8] = [
    (SPURIOUS, ENABLE | 0xff), // first: while it is off, sources cannot be set
    (PRIORITY, 0),
    (0x350, MASKED), // the old interrupt controllers
    (0x360, MASKED), // NMIs
    (0x370, MASKED), // errors
    (0x340, MASKED), // performance counters
    (0x330, MASKED), // temperature
    (0x2f0, MASKED), // corrected machine checks
];

fn state() -> impl Iterator<Item = (u64, u32)> {
    let sources = (read(VERSION) >> 16 & 0xff) as usize + 1;
    STATE.into_iter().take(1 + sources.clamp(4, 7))
}

/// Checks that the registers still have their required contents, in a checking kernel.
#[cfg(feature = "check")]
pub fn compare() {
    for (register, expected) in state() {
        let (found, id) = (read(register), id());
        assert!(found == expected, "register {register:#x} of local APIC {id}: {found:#x}, expected {expected:#x}");
    }
}

/// Disables the local APIC if it is in x2APIC mode: the way from there to xAPIC mode leads through the disabled state.
pub fn leave_x2_mode() {
    let (base, flags) = ApicBase::read();
    if flags.contains(ApicBaseFlags::X2APIC_ENABLE) {
        // SAFETY: nothing on this processor uses its local APIC yet.
        unsafe { ApicBase::write(base, ApicBaseFlags::empty()) };
    }
}

/// Sets up the local APIC of this processor, and starts its timer.
pub fn init_here() {
    state().for_each(|(register, value)| write(register, value));
    write(DIVIDE, DIVIDE_BY_16);
    let tick = TICK.load(Relaxed);
    write(TIMER_SOURCE, if tick == 0 { MASKED } else { TIMER as u32 });
    write(INITIAL_COUNT, tick);
}

/// Starts the timer again after its interrupt, and ends the interrupt. With a periodic timer, a processor that a busy
/// host runs for less than a tick at a time would be interrupted again before its program made progress.
pub fn count_again() {
    write(INITIAL_COUNT, TICK.load(Relaxed));
    end_of_interrupt();
}

/// The id of this processor's local APIC.
pub fn id() -> u8 {
    (read(ID) >> 24) as u8
}

fn command(apic_id: u8, command: u32) {
    const PENDING: u32 = 1 << 12;
    while read(COMMAND) & PENDING != 0 {}
    write(COMMAND_TARGET, u32::from(apic_id) << 24);
    write(COMMAND, command);
}

/// Makes a processor enter the kernel.
pub fn interrupt(apic_id: u8) {
    const ASSERT: u32 = 1 << 14;
    command(apic_id, ASSERT | KICK as u32);
}

/// Resets a processor, which then waits to be started.
pub fn reset(apic_id: u8) {
    command(apic_id, 0x4500);
}

/// Starts a processor that was reset, in real mode at this page below 1 MiB.
pub fn start(apic_id: u8, page: u8) {
    command(apic_id, 0x4600 | u32::from(page));
}

/// Signals the end of interrupt (EOI).
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Masks the old interrupt controllers, and moves their vectors out of the way of exceptions.
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

/// Waits, by the only clock whose rate is known: channel 2 of the PIT.
pub fn wait(us: u64) {
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

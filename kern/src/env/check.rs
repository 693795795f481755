//! The checking kernel, built with the feature `check`: one processor at a time is in the kernel, and after every entry
//! the crate `checker` compares all metadata with all page tables.

use crate::env::table::{self, Env};
use crate::machine::hardware::{Hardware, MEMORY, kernel_root};
use crate::machine::windows::{self, CHECK_TABLE};
use crate::machine::{apic, control, cpu, flush, iommu, provoke::holds_twice};
use abi::{Frame, Status, window::MachineInfo};
use checker::{Checked, FrameRecord, Known};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use sched::Node;
use spin::Once;

impl Checked for Hardware {
    fn record(frame: Frame) -> &'static FrameRecord {
        // SAFETY: `kernel_map::init` made an entry for every usable frame; they are atomic.
        unsafe { &*(CHECK_TABLE.0 as *const FrameRecord).add(frame.0 as usize) }
    }

    fn is_registers(frame: Frame) -> bool {
        iommu::devices().any(|device| device.areas()[0].contains(&frame.address()))
    }
}

/// The constant part of what the checker knows about the machine.
static KNOWN: Once<Known> = Once::new();
/// Whether a processor is in the kernel. Only one is at a time, because tables must not change while they are compared.
static ALONE: AtomicBool = AtomicBool::new(false);

/// Records the frames of the boot archive, and how many frames are in use now: the kernel keeps those for good.
pub fn init(archive: &Range<u64>) {
    let archive = Frame::containing(archive.start).0..Frame::containing(archive.end + 4095).0;
    let (free, total) = (MEMORY.free_frames(), windows::machine().total_frames.load(Relaxed));
    KNOWN.call_once(|| Known { number: 0, template: kernel_root(), archive, kept: total - free, free, total });
}

/// Waits until no other processor is in the kernel.
pub fn enter() {
    while ALONE.swap(true, Acquire) {
        flush::relax();
    }
    check_holders();
}

/// Lets another processor enter the kernel.
pub fn let_others_enter() {
    ALONE.store(false, Release);
}

/// Checks everything at the end of an entry, unless a switch from one environment to another ended it.
pub fn leave(cause: u64) {
    if cause != MachineInfo::SWITCH {
        check_all();
    }
    let_others_enter();
}

/// Compares all metadata with all page tables. A difference is a kernel bug: panic.
fn check_all() {
    static CHECKS: AtomicU32 = AtomicU32::new(0);
    control::compare(cpu::this());
    let (number, free) = (CHECKS.fetch_add(1, Relaxed) + 1, MEMORY.free_frames());
    let known = Known { number, free, ..KNOWN.get().expect("boot is over").clone() };
    let found = checker::check::<Hardware>(known, |check| {
        table::all().iter().filter(|env| env.status() != Status::Free).try_for_each(|env| {
            let map = env.page_map.lock();
            map.as_ref().map_or(Ok(()), |map| check(map.root()))
        })
    });
    if let Err(difference) = found {
        // What is wrong now was right when the entry of this environment began.
        panic!("{difference}, loaded here: {:?}", table::loaded(cpu::this()).map(Env::id));
    }
}

/// If the fault `hold-twice` is injected, makes one processor at a time slow to leave an environment that is runnable:
/// slow enough for another processor to take it.
pub fn dawdle() {
    const TICKS: u64 = 1 << 33;
    static SOMEBODY: AtomicBool = AtomicBool::new(false);
    let goes_on = table::loaded(cpu::this()).is_some_and(|last| last.status() == Status::Runnable);
    if !holds_twice() || !goes_on || SOMEBODY.swap(true, Relaxed) {
        return;
    }
    let start = cpu::time_stamp();
    while cpu::time_stamp() - start < TICKS {
        flush::relax();
    }
    SOMEBODY.store(false, Relaxed);
}

/// Checks that no other processor runs an environment that this one has just taken. A processor that leaves an
/// environment loads another one before it gives the first one back.
pub fn check_taken(env: &Env) {
    if let Some(other) = cpu::others().find(|other| table::is_loaded(other, env)) {
        let (id, here, there) = (env.id(), cpu::here(), other.number.get());
        panic!("environment {id} is on processors {here} and {there}");
    }
}

/// Checks that every processor holds the environment that it runs, so that no two run the same one; and that this
/// processor, if it runs none, has loaded no page map that another one could free.
fn check_holders() {
    let here = cpu::this();
    let is_kernel = here.root() == kernel_root();
    assert!(is_kernel || !here.env.get().is_null(), "nobody's page map is loaded: {:?}", here.root());
    for cpu in cpu::others().chain([here]) {
        let Some(env) = table::loaded(cpu) else { continue };
        let (id, here, holder) = (env.id(), cpu.number.get(), env.holder());
        // Read again: the processor may have left the environment since.
        let runs = table::is_loaded(cpu, env);
        assert!(holder == Some(here) || !runs, "environment {id} runs on processor {here}, and {holder:?} holds it");
    }
}

/// Checks that the registers of this processor hold what `control` and `apic` put there.
pub fn check_processor() {
    control::compare(cpu::this());
    apic::compare();
}

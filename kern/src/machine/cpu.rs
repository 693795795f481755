//! Processors: their stacks, their descriptor tables, and their data, at which GS points.

use crate::machine::apic;
use crate::machine::registers::{KERNEL_CODE, TrapFrame};
use abi::{Frame, PAGE_SIZE, window::CpuInfo};
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use smp::{Flushes, Loaded};
use x86_64::instructions::{segmentation::CS, segmentation::Segment, tables::load_tss};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PhysAddr, VirtAddr, registers::model_specific::GsBase, structures::paging::PhysFrame};

const PAGE: usize = PAGE_SIZE as usize;
const MAIN_PAGES: usize = 4;
const IST_PAGES: usize = 2;
/// Vectors whose handlers start on a stack of their own, because they can come at any instruction: #DB, NMI, double
/// fault, machine check.
pub const IST_VECTORS: [usize; 4] = [1, 2, 8, 18];

/// The stacks of a processor, each above a page that is not mapped.
///
/// ```text
/// | guard | machine check | guard | double fault | guard | NMI | guard | #DB | guard | main |
/// ```
#[repr(C, align(4096))]
pub struct Stacks(UnsafeCell<[u8; Stacks::MAIN_TOP]>);

// SAFETY: only the processor that runs on them touches the stacks.
unsafe impl Sync for Stacks {}

impl Stacks {
    const IST_STEP: usize = (1 + IST_PAGES) * PAGE;
    /// Offset of the top of the main stack, which is the end of the whole block.
    pub const MAIN_TOP: usize = 4 * Stacks::IST_STEP + (1 + MAIN_PAGES) * PAGE;
    /// Offsets of the pages that must not be mapped: one below each stack.
    pub const GUARDS: [usize; 5] =
        [0, Stacks::IST_STEP, 2 * Stacks::IST_STEP, 3 * Stacks::IST_STEP, 4 * Stacks::IST_STEP];
}

/// The stacks of the boot processor.
pub static BOOT_STACKS: Stacks = Stacks(UnsafeCell::new([0; Stacks::MAIN_TOP]));

/// The data of one processor. GS points here while the kernel runs.
#[repr(C)]
pub struct Cpu {
    /// The address of this structure: `gs:[0]`.
    this: Cell<*const Cpu>,
    /// Scratch space of the entry stubs.
    pub scratch: Cell<u64>,
    /// The top of the kernel's stack, where every entry begins.
    pub stack_top: Cell<u64>,
    /// The environment whose page map and floating-point state are loaded, or null. (Its registers are its first
    /// field.)
    pub env: Cell<*const TrapFrame>,
    /// The page map in CR3.
    pub root: Loaded,
    /// The number of the processor; the boot processor is 0.
    pub number: Cell<u32>,
    /// The local APIC to which its interrupts are addressed.
    pub apic_id: Cell<u8>,
    /// Whether the current time slice began after the last tick, not with it.
    pub is_turn_new: Cell<bool>,
    /// The time stamp at which it halted, until the next interrupt; 0 otherwise.
    pub halted: Cell<u64>,
    /// Requests of other processors to flush the TLB.
    pub flushes: Flushes,
    tss: UnsafeCell<TaskStateSegment>,
    gdt: UnsafeCell<GlobalDescriptorTable<8>>,
}

// SAFETY: a field that is not atomic is used only by the processor itself, or set before it starts.
unsafe impl Sync for Cpu {}

impl Cpu {
    const fn new() -> Cpu {
        Cpu {
            this: Cell::new(null()),
            scratch: Cell::new(0),
            stack_top: Cell::new(0),
            env: Cell::new(null()),
            root: Loaded::none(),
            number: Cell::new(0),
            apic_id: Cell::new(0),
            is_turn_new: Cell::new(false),
            halted: Cell::new(0),
            flushes: Flushes::none(),
            tss: UnsafeCell::new(TaskStateSegment::new()),
            gdt: UnsafeCell::new(GlobalDescriptorTable::empty()),
        }
    }

    /// Makes the processor enter the kernel.
    pub fn interrupt(&self) {
        apic::interrupt(self.apic_id.get());
    }

    /// Makes entries from user mode save the registers in this frame.
    pub fn set_frame(&self, frame: &'static TrapFrame) {
        self.env.set(frame);
        // SAFETY: the end of the frame is an address; the processor reads the field only when it enters from user
        // mode.
        unsafe { (*self.tss.get()).privilege_stack_table[0] = VirtAddr::new_unsafe(frame.top()) };
    }

    pub fn root(&self) -> Frame {
        Frame(self.root.get())
    }
}

static BOOT_CPU: Cpu = Cpu::new();

/// How many processors are used at most.
pub const MAX: usize = firmware::Processors::MAX;
const _: () = assert!(MAX <= CpuInfo::MAX);
/// The processors that work, by number; null behind the last one.
static ALL: [AtomicPtr<Cpu>; MAX] = [const { AtomicPtr::new(null_mut()) }; MAX];
static COUNT: AtomicU32 = AtomicU32::new(1);

/// How many processors work.
pub fn count() -> u32 {
    COUNT.load(Relaxed)
}

/// All processors that work but this one.
pub fn others() -> impl Iterator<Item = &'static Cpu> {
    // SAFETY: a number below the count always has a processor.
    let all = ALL[..count() as usize].iter().map(|cpu| unsafe { &*cpu.load(Relaxed) });
    all.filter(|cpu| cpu.number.get() != this().number.get())
}

/// The processor with this number, if it works and is not this one.
pub fn other(number: u32) -> Option<&'static Cpu> {
    // SAFETY: null, or a processor that works.
    let cpu = unsafe { ALL.get(number as usize)?.load(Relaxed).as_ref() };
    cpu.filter(|cpu| cpu.number.get() != here())
}

/// Adds a processor to those that work.
pub fn announce(cpu: &'static Cpu) {
    ALL[cpu.number.get() as usize].store((cpu as *const Cpu).cast_mut(), Relaxed);
    COUNT.store(cpu.number.get() + 1, core::sync::atomic::Ordering::Release);
}

/// Stacks and data of an application processor; `kernel_map` maps one after the other.
#[repr(C)]
pub struct Processor {
    pub stacks: Stacks,
    cpu: Cpu,
}

/// Initializes the data of a processor that is about to start.
///
/// # Safety
/// The memory is mapped (but for the guard pages) and nobody uses it.
pub unsafe fn prepare(place: *mut Processor, number: u32, apic_id: u8) -> &'static Cpu {
    // SAFETY: the caller promises it.
    let cpu = unsafe {
        (&raw mut (*place).cpu).write(Cpu::new());
        &(*place).cpu
    };
    cpu.stack_top.set(&raw const *cpu as u64);
    cpu.number.set(number);
    cpu.apic_id.set(apic_id);
    cpu
}

/// The processor that this runs on.
pub fn this() -> &'static Cpu {
    let cpu: *const Cpu;
    // SAFETY: GS points at a `Cpu` whenever Rust code of the kernel runs (`early_init`, `swapgs`).
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) cpu, options(pure, nomem, nostack, preserves_flags));
        &*cpu
    }
}

/// Makes `this()` work on the boot processor. Called before anything else.
pub fn early_init() {
    BOOT_CPU.stack_top.set(BOOT_STACKS.0.get() as u64 + Stacks::MAIN_TOP as u64);
    announce(&BOOT_CPU);
    adopt(&BOOT_CPU);
}

/// Makes `cpu` the data of the processor that this runs on.
pub fn adopt(cpu: &'static Cpu) {
    cpu.this.set(cpu);
    GsBase::write(VirtAddr::from_ptr(cpu));
}

/// The number of this processor.
pub fn here() -> u32 {
    this().number.get()
}

/// Loads the segments, and the stacks of interrupts.
pub fn load_segments(cpu: &'static Cpu) {
    // SAFETY: nobody uses the tables yet.
    let (tss, gdt) = unsafe { (&mut *cpu.tss.get(), &mut *cpu.gdt.get()) };
    let stacks = cpu.stack_top.get() - Stacks::MAIN_TOP as u64;
    for (index, guard) in Stacks::GUARDS[..4].iter().enumerate() {
        let top = stacks + (guard + Stacks::IST_STEP) as u64;
        tss.interrupt_stack_table[index] = VirtAddr::new(top);
    }
    gdt.append(Descriptor::kernel_code_segment());
    gdt.append(Descriptor::kernel_data_segment());
    gdt.append(Descriptor::user_data_segment());
    gdt.append(Descriptor::user_code_segment());
    // SAFETY: both live as long as the processor.
    let tss = gdt.append(unsafe { Descriptor::tss_segment_unchecked(cpu.tss.get()) });
    // SAFETY: the selectors are those of the table that is being loaded.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(SegmentSelector(KERNEL_CODE));
        load_tss(tss);
    }
}

/// The instructions of each entry.
#[cfg(feature = "count")]
pub static COUNTER: counter::Counter = counter::Counter::new();

/// The time stamp counter; under the deterministic emulator it counts instructions.
pub fn time_stamp() -> u64 {
    // SAFETY: every processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Loads a page map on this processor.
///
/// No other processor may believe that a page map is not loaded here while it is. So `Cpu::root` names the new one
/// before it is loaded, and the previous one until it is gone.
///
/// # Safety
/// `root` is the root of a `PageMap` that exists, or the kernel's own.
pub unsafe fn load_root(cpu: &Cpu, root: Frame) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root.address()));
    cpu.root.begin(root.0);
    // SAFETY: every page map has the kernel's half, in which this code and its stack are.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    cpu.root.end(root.0);
}

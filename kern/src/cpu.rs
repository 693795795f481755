//! Processors: their stacks, descriptor tables, and what hangs off GS.

use crate::env::Env;
use crate::state;
use abi::window::CpuInfo;
use abi::{Frame, PAGE_SIZE};
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use smp::{Flushes, Loaded};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::{segmentation::CS, segmentation::Segment, tables::load_tss};
use x86_64::registers::model_specific::GsBase;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::{Entry, HandlerFunc};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, structures::DescriptorTablePointer};

/// Selectors. `sysret` wants user data right before user code.
pub const KERNEL_CODE: u16 = 0x08;
pub const USER_DATA: u16 = 0x18 | 3;
pub const USER_CODE: u16 = 0x20 | 3;

const PAGE: usize = PAGE_SIZE as usize;
const MAIN_PAGES: usize = 4;
const IST_PAGES: usize = 2;
/// Vectors that come on a stack of their own, because they can come at any instruction: #DB, NMI,
/// double fault, machine check.
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
    /// Offset of the top of the main stack: the end of it all.
    pub const MAIN_TOP: usize = 4 * Stacks::IST_STEP + (1 + MAIN_PAGES) * PAGE;
    /// Offsets of the pages that must not be mapped: one below each stack.
    pub const GUARDS: [usize; 5] =
        [0, Stacks::IST_STEP, 2 * Stacks::IST_STEP, 3 * Stacks::IST_STEP, 4 * Stacks::IST_STEP];
}

/// The stacks of the processor that boots.
pub static BOOT_STACKS: Stacks = Stacks(UnsafeCell::new([0; Stacks::MAIN_TOP]));

/// What belongs to one processor. GS points here while the kernel runs.
#[repr(C)]
pub struct Cpu {
    /// Its own address: `gs:[0]`.
    this: Cell<*const Cpu>,
    /// For the entry stubs.
    pub scratch: Cell<u64>,
    /// Where the kernel's stack begins at every entry.
    pub stack_top: Cell<u64>,
    /// The environment whose page map and floating-point state are loaded, or null; and at its start its registers.
    pub env: Cell<*const Env>,
    /// The page map in CR3.
    pub root: Loaded,
    /// Time stamp of the last entry, in kernels that count.
    pub entered: Cell<u64>,
    /// From 0 on: the processor that boots is 0.
    pub number: Cell<u32>,
    /// What interrupts for it are addressed to.
    pub apic_id: Cell<u8>,
    /// The environment that runs had its turn after the last tick, not by it.
    pub is_turn_new: Cell<bool>,
    /// Requests of others to forget what it has cached.
    pub flushes: Flushes,
    tss: UnsafeCell<TaskStateSegment>,
    gdt: UnsafeCell<GlobalDescriptorTable<8>>,
}

// SAFETY: what is not atomic is used by the processor itself only, or set before it starts.
unsafe impl Sync for Cpu {}

impl Cpu {
    const fn new() -> Cpu {
        Cpu {
            this: Cell::new(null()),
            scratch: Cell::new(0),
            stack_top: Cell::new(0),
            env: Cell::new(null()),
            root: Loaded::new(),
            entered: Cell::new(0),
            number: Cell::new(0),
            apic_id: Cell::new(0),
            is_turn_new: Cell::new(false),
            flushes: Flushes::new(),
            tss: UnsafeCell::new(TaskStateSegment::new()),
            gdt: UnsafeCell::new(GlobalDescriptorTable::empty()),
        }
    }

    /// Let the processor enter the kernel.
    pub fn interrupt(&self) {
        crate::apic::interrupt(self.apic_id.get());
    }

    /// Let an environment be the one that runs: entries from user mode save its registers.
    #[inline]
    pub fn set_env(&self, env: &'static Env) {
        self.env.set(env);
        // SAFETY: the end of the frame is an address; the processor reads the field only when it enters from user
        // mode.
        unsafe { (*self.tss.get()).privilege_stack_table[0] = VirtAddr::new_unsafe(env.frame.top()) };
    }

    #[inline]
    pub fn root(&self) -> Frame {
        Frame(self.root.get())
    }
}

static BOOT_CPU: Cpu = Cpu::new();

/// The most processors that are used.
pub const MAX: usize = boot::Processors::MAX;
const _: () = assert!(MAX <= CpuInfo::MAX);
/// Those that work, by their numbers.
static ALL: [AtomicPtr<Cpu>; MAX] = [const { AtomicPtr::new(null_mut()) }; MAX];
static COUNT: AtomicU32 = AtomicU32::new(1);

/// How many processors work.
#[inline]
pub fn count() -> u32 {
    COUNT.load(Relaxed)
}

/// All processors that work but this one.
pub fn others() -> impl Iterator<Item = &'static Cpu> {
    // SAFETY: a number below the count has a processor, for ever.
    let all = ALL[..count() as usize].iter().map(|cpu| unsafe { &*cpu.load(Relaxed) });
    all.filter(|cpu| cpu.number.get() != this().number.get())
}

/// The processor with this number, if it works and is not this one.
pub fn other(number: u32) -> Option<&'static Cpu> {
    if number >= count() || number == this().number.get() {
        return None;
    }
    // SAFETY: a number below the count has a processor, for ever.
    Some(unsafe { &*ALL[number as usize].load(Relaxed) })
}

/// The processor with this number works from now on.
pub fn announce(cpu: &'static Cpu) {
    ALL[cpu.number.get() as usize].store((cpu as *const Cpu).cast_mut(), Relaxed);
    COUNT.store(cpu.number.get() + 1, core::sync::atomic::Ordering::Release);
}

/// What a processor other than the first one needs: mapped by `tables`, one behind the other.
#[repr(C)]
pub struct Processor {
    pub stacks: Stacks,
    cpu: Cpu,
}

/// Make the parts of a processor that is about to start.
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
#[inline]
pub fn this() -> &'static Cpu {
    let cpu: *const Cpu;
    // SAFETY: GS points at a `Cpu` whenever Rust code of the kernel runs (`early_init`, `swapgs`).
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) cpu, options(pure, nomem, nostack, preserves_flags));
        &*cpu
    }
}

/// The environment that runs on this processor.
#[inline]
pub fn env() -> &'static Env {
    // SAFETY: set before the first entry from user mode; environments are never unmapped.
    unsafe { &*current() }
}

/// Whether this is the environment that runs on this processor.
#[inline]
pub fn is_running(env: &Env) -> bool {
    core::ptr::eq(env, current())
}

#[inline]
fn current() -> *const Env {
    let env: *const Env;
    // SAFETY: as in `this`.
    unsafe {
        core::arch::asm!("mov {}, gs:[{field}]", out(reg) env, field = const offset_of!(Cpu, env),
            options(pure, readonly, nostack, preserves_flags));
    }
    env
}

/// Make `this()` work on the processor that boots. The very first thing to do.
pub fn early_init() {
    BOOT_CPU.stack_top.set(BOOT_STACKS.0.get() as u64 + Stacks::MAIN_TOP as u64);
    announce(&BOOT_CPU);
    adopt(&BOOT_CPU);
}

/// This processor is that one.
pub fn adopt(cpu: &'static Cpu) {
    cpu.this.set(cpu);
    GsBase::write(VirtAddr::from_ptr(cpu));
}

/// Segments, stacks, interrupt table, and all other registers.
pub fn init() {
    load_segments(this());
    load_idt();
    state::set(this());
}

fn load_segments(cpu: &'static Cpu) {
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

static IDT: Once<[Entry<HandlerFunc>; 256]> = Once::new();

fn make_idt() -> [Entry<HandlerFunc>; 256] {
    core::array::from_fn(|vector| {
        let mut entry = Entry::missing();
        // SAFETY: the stub saves what an interrupt handler must save.
        let options = unsafe { entry.set_handler_addr(crate::trap::stub(vector)) };
        // User programs may say `int3` and `into`; any other `int n` is a protection fault.
        if vector == 3 || vector == 4 {
            options.set_privilege_level(PrivilegeLevel::Ring3);
        }
        if let Some(index) = IST_VECTORS.iter().position(|ist| *ist == vector) {
            // SAFETY: `load_segments` has set up that stack.
            unsafe { options.set_stack_index(index as u16) };
        }
        entry
    })
}

fn load_idt() {
    let idt = IDT.call_once(make_idt);
    let pointer =
        DescriptorTablePointer { limit: size_of_val(idt) as u16 - 1, base: VirtAddr::from_ptr(idt) };
    // SAFETY: the table is complete and lives for ever.
    unsafe { x86_64::instructions::tables::lidt(&pointer) };
}

/// The time stamp counter; under the deterministic emulator it counts instructions.
pub fn time_stamp() -> u64 {
    // SAFETY: every processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

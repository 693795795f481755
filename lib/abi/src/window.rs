//! The contents of the read-only windows. The kernel keeps them up to date; reading costs no call.

use crate::{Call, EnvId, ExitStatus, Status};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The machine page, at [`MACHINE`](crate::layout::MACHINE).
#[derive(Debug)]
#[repr(C)]
pub struct MachineInfo {
    /// Usable page frames, those of the kernel and of the boot archive included.
    pub total_frames: AtomicU64,
    /// Timer ticks since the start.
    pub ticks: AtomicU64,
    /// Nanoseconds between ticks.
    pub tick_ns: AtomicU64,
    /// Bytes of the boot archive.
    pub archive_bytes: AtomicU64,
    /// The offset in the boot archive of the file of the first program.
    pub program_offset: AtomicU64,
    /// The size of the first program's file in bytes.
    pub program_bytes: AtomicU64,
    /// Instructions of the longest kernel entry so far; counted only by a kernel that was built to
    /// count, and only where the time stamp counter counts instructions.
    pub longest_entry: AtomicU64,
    /// The cause of the longest entry: a call's number, [`MachineInfo::VECTOR`] plus a vector, or one of the other
    /// causes.
    pub longest_cause: AtomicU64,
    /// Instructions of the longest entry by each call, by its number.
    pub longest_by_call: [AtomicU64; Call::ALL.len()],
    /// How far the time stamp counters went while processors halted because nothing could run: the sum over all
    /// processors. Costs leave it out.
    pub idle: AtomicU64,
    /// Slots in the environment table.
    pub env_slots: AtomicU32,
    /// Processors that run environments.
    pub cpus: AtomicU32,
    /// The first environment; 0 when it has ended.
    pub first_env: AtomicU32,
    /// Devices that a driver could have: 0 on a machine without an IOMMU.
    pub devices: AtomicU32,
    /// Bytes of [`MachineInfo::args`] in use.
    pub args_len: AtomicU32,
    /// The arguments of the first program, as on the boot command line: each one behind
    /// [`ARG_SEPARATOR`](crate::boot::ARG_SEPARATOR).
    pub args: [core::sync::atomic::AtomicU8; MachineInfo::MAX_ARGS],
}

impl MachineInfo {
    /// The greatest number of instructions that a kernel entry may take.
    pub const LONGEST_BOUND: u64 = 20_000;
    /// A cause of an entry: an exception or an interrupt, plus its vector.
    pub const VECTOR: u64 = 0x100;
    /// A cause of an entry: a context switch.
    pub const SWITCH: u64 = 0x200;
    /// A cause of an entry: a part of the teardown of an environment.
    pub const ENDING: u64 = 0x201;
    /// The greatest number of bytes of arguments.
    pub const MAX_ARGS: usize = 3072;

    /// Sets the arguments. `None` if they are too long.
    pub fn set_arguments(&self, arguments: &str) -> Option<()> {
        for (to, from) in self.args.get(..arguments.len())?.iter().zip(arguments.bytes()) {
            to.store(from, Relaxed);
        }
        self.args_len.store(arguments.len() as u32, Relaxed);
        Some(())
    }
}

const _: () = assert!(size_of::<MachineInfo>() <= crate::PAGE_SIZE as usize);

/// The counters of one processor: one entry of the table at [`CPUS`](crate::layout::CPUS). Only that processor changes
/// it, so counting costs no bus traffic; a total for the machine is the sum over all processors.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct CpuInfo {
    /// Page frames that this processor freed, minus those that it took. May wrap: only the sum over all processors is
    /// a number of frames.
    pub free_frames: AtomicU64,
    /// Frames zeroed so far; counted only by a kernel that was built to count.
    pub frames_zeroed: AtomicU64,
    /// Frames copied so far; counted only by a kernel that was built to count.
    pub frames_copied: AtomicU64,
    /// How often this processor found a lock taken, by [`LockKind`].
    pub contended: [AtomicU64; LockKind::COUNT],
}

impl CpuInfo {
    /// The greatest number of processors: as many as fit into the page.
    pub const MAX: usize = 64;

    /// The number of free page frames by these processors' counters: exact, unless one is changing its counter.
    #[must_use]
    pub fn free_frames(all: &[CpuInfo]) -> u64 {
        all.iter().fold(0, |sum, cpu| sum.wrapping_add(cpu.free_frames.load(Relaxed)))
    }

    /// How often these processors found a lock of this kind taken.
    #[must_use]
    pub fn contended(all: &[CpuInfo], kind: LockKind) -> u64 {
        all.iter().map(|cpu| cpu.contended[kind as usize].load(Relaxed)).sum()
    }
}

const _: () = assert!(size_of::<[CpuInfo; CpuInfo::MAX]>() == crate::PAGE_SIZE as usize);

/// The locks of the kernel, in the order in which they are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum LockKind {
    /// Run queue, states and family of the environments.
    Scheduler,
    /// The page map of one environment.
    PageMap,
    /// Free page frames: those of one processor, or the shared pool.
    Frames,
    /// The IOMMU.
    Devices,
    /// The console.
    Console,
}

impl LockKind {
    /// The number of kinds.
    pub const COUNT: usize = 5;
    /// All kinds.
    pub const ALL: [LockKind; LockKind::COUNT] =
        [LockKind::Scheduler, LockKind::PageMap, LockKind::Frames, LockKind::Devices, LockKind::Console];

    /// The name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LockKind::Scheduler => "scheduler",
            LockKind::PageMap => "page map",
            LockKind::Frames => "frames",
            LockKind::Devices => "devices",
            LockKind::Console => "console",
        }
    }
}

/// The public part of an environment: one entry of the table at [`ENVS`](crate::layout::ENVS).
#[derive(Debug, Default)]
#[repr(C)]
pub struct EnvInfo {
    /// The id in use, or the last one that was; 0 if the slot was never used.
    pub id: AtomicU32,
    /// The parent; 0 if it has none: the first environment, its replacement after it has ended, and environments that
    /// end together with their parent.
    pub parent: AtomicU32,
    /// A number of [`Status`] in the [lowest bits](EnvInfo::STATUS); the others are the kernel's own.
    pub state: AtomicU64,
    /// How often the environment was put on a processor.
    pub runs: AtomicU64,
    /// The processor that it ran on last.
    pub cpu: AtomicU32,
    /// The exit status of a zombie.
    pub exit: AtomicU32,
    /// The index of the [device](DeviceInfo) that this environment is, plus 1; 0 if it is a program.
    pub device: AtomicU32,
    /// The number of devices that it has claimed.
    pub devices: AtomicU32,
    /// Reserved.
    pub reserved: [AtomicU32; 6],
}

impl EnvInfo {
    /// The bits of [`EnvInfo::state`] that are the status.
    pub const STATUS: u64 = 0xf;

    /// The id in use, or the last one that was.
    #[inline]
    #[must_use]
    pub fn id(&self) -> EnvId {
        EnvId(self.id.load(Relaxed))
    }

    /// The parent.
    #[inline]
    #[must_use]
    pub fn parent(&self) -> EnvId {
        EnvId(self.parent.load(Relaxed))
    }

    /// The state of the environment.
    #[inline]
    #[must_use]
    pub fn status(&self) -> Status {
        Status::from_number(self.state.load(Relaxed) & EnvInfo::STATUS).unwrap_or(Status::Free)
    }

    /// The exit status of the environment, if it has ended.
    #[must_use]
    pub fn exit(&self) -> ExitStatus {
        ExitStatus(self.exit.load(Relaxed) as u8)
    }
}

const _: () = assert!(size_of::<EnvInfo>() == 64);

/// A device: one entry of the table at [`DEVICES`](crate::layout::DEVICES).
#[derive(Debug)]
#[repr(C)]
pub struct DeviceInfo {
    /// The configuration space of its PCI function, as it was at boot.
    pub config: [AtomicU32; 64],
    /// The environment that it is; 0 if nobody has claimed it; [`DeviceInfo::LOST`] (also while it is being claimed).
    pub env: AtomicU32,
    /// The environment that may claim it, besides the first one.
    pub allowed: AtomicU32,
    /// The pages of registers, from [`REGISTERS`](crate::layout::REGISTERS) on.
    pub register_pages: AtomicU32,
    /// Whether it runs: it can access memory, and its page map only grows.
    pub running: AtomicU32,
    /// The interrupts since it was started.
    pub interrupts: AtomicU32,
    /// The interrupts of which a message has told.
    pub reported: AtomicU32,
    /// The accesses to memory, since it was started, that the IOMMU refused and recorded. It does not record all.
    pub faults: AtomicU32,
    /// The reason of the first refusal, as the architecture of the IOMMU numbers them.
    pub fault_reason: AtomicU32,
    /// The page of the first refusal.
    pub fault_page: AtomicU64,
    /// How often it was reset in vain, while its environment was ending.
    pub resets: AtomicU32,
    /// Reserved.
    pub reserved: [AtomicU32; 53],
}

impl DeviceInfo {
    /// The greatest number of devices: as many as fit into the page.
    pub const MAX: usize = 8;
    /// In place of an environment, of which none has this id: the device did not finish its reset, so what it can access
    /// was never freed.
    pub const LOST: EnvId = EnvId(1);

    /// The environment that it is.
    #[must_use]
    pub fn env(&self) -> EnvId {
        EnvId(self.env.load(Relaxed))
    }
}

const _: () = assert!(size_of::<[DeviceInfo; DeviceInfo::MAX]>() == crate::PAGE_SIZE as usize);

/// The metadata of a page frame: one entry of the table at [`FRAMES`](crate::layout::FRAMES).
#[derive(Debug, Default)]
#[repr(C)]
pub struct FrameInfo {
    /// The reference count: page table entries that name the frame, plus the kernel's own references. 0: free.
    pub refs: AtomicU32,
    /// For a free frame: the number of the next one. For a table: the number of its nonempty entries, and
    /// [`FrameInfo::OTHERS`].
    pub word: AtomicU32,
}

impl FrameInfo {
    /// In the word of a table of level 1: a page that the table names may have other users, although its entry has a
    /// right that belongs to a sole user.
    pub const OTHERS: u32 = 1 << 31;

    /// The number of nonempty entries of a table.
    #[inline(always)]
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.word.load(Relaxed) & !FrameInfo::OTHERS
    }
}

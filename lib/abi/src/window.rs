//! What the read-only windows show. The kernel keeps these up to date; reading costs no call.

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
    /// Where in the boot archive the file of the first program begins.
    pub program_offset: AtomicU64,
    /// Bytes of that file.
    pub program_bytes: AtomicU64,
    /// Instructions of the longest kernel entry so far; counted only by a kernel that was built to
    /// count, and only where the time stamp counter counts instructions.
    pub longest_entry: AtomicU64,
    /// What that was: a call's number, [`MachineInfo::VECTOR`] plus a vector, or one of the others.
    pub longest_cause: AtomicU64,
    /// Instructions of the longest entry by each call, by its number.
    pub longest_by_call: [AtomicU64; Call::ALL.len()],
    /// Slots in the environment table.
    pub env_slots: AtomicU32,
    /// Processors that run environments.
    pub cpus: AtomicU32,
    /// The first environment; 0 when it has ended.
    pub first_env: AtomicU32,
    /// Bytes of [`MachineInfo::args`] in use.
    pub args_len: AtomicU32,
    /// The arguments of the first program, as on the boot command line: each one behind
    /// [`ARG_SEPARATOR`](crate::boot::ARG_SEPARATOR).
    pub args: [core::sync::atomic::AtomicU8; MachineInfo::MAX_ARGS],
}

impl MachineInfo {
    /// No entry to the kernel may take longer than so many instructions.
    pub const LONGEST_BOUND: u64 = 20_000;
    /// A cause of an entry: an exception or an interrupt, plus its vector.
    pub const VECTOR: u64 = 0x100;
    /// A cause: the processor went over to another environment.
    pub const SWITCH: u64 = 0x200;
    /// A cause: a part of the work of ending an environment.
    pub const ENDING: u64 = 0x201;
    /// The most bytes of arguments.
    pub const MAX_ARGS: usize = 3072;

    /// Set the arguments. `None` if they are too long.
    pub fn set_arguments(&self, arguments: &str) -> Option<()> {
        for (to, from) in self.args.get(..arguments.len())?.iter().zip(arguments.bytes()) {
            to.store(from, Relaxed);
        }
        self.args_len.store(arguments.len() as u32, Relaxed);
        Some(())
    }
}

const _: () = assert!(size_of::<MachineInfo>() <= crate::PAGE_SIZE as usize);

/// What one processor counts: one entry of the table at [`CPUS`](crate::layout::CPUS). Only that processor
/// changes it, so counting costs no bus traffic; whoever wants a number for the machine adds them up.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct CpuInfo {
    /// Page frames that this processor freed, less those that it took. May wrap: only the sum over all
    /// processors is a number of frames.
    pub free_frames: AtomicU64,
    /// Frames zeroed so far; counted only by a kernel that was built to count.
    pub frames_zeroed: AtomicU64,
    /// Frames copied so far; counted only by a kernel that was built to count.
    pub frames_copied: AtomicU64,
    /// How often this processor found a lock taken, by [`LockKind`].
    pub contended: [AtomicU64; LockKind::COUNT],
}

impl CpuInfo {
    /// The most processors that are used: as many as the page holds.
    pub const MAX: usize = 64;

    /// How many page frames are free, as these processors counted: exact, unless one is at it now.
    #[must_use]
    pub fn free_frames(all: &[CpuInfo]) -> u64 {
        all.iter().fold(0, |sum, cpu| sum.wrapping_add(cpu.free_frames.load(Relaxed)))
    }

    /// How often these processors found a lock of a kind taken.
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
    /// Who runs, and who belongs to whom.
    Scheduler,
    /// The page map of one environment.
    PageMap,
    /// Free page frames: a processor's own, or those of all.
    Frames,
    /// The console.
    Console,
}

impl LockKind {
    /// How many kinds there are.
    pub const COUNT: usize = 4;
    /// All of them.
    pub const ALL: [LockKind; LockKind::COUNT] =
        [LockKind::Scheduler, LockKind::PageMap, LockKind::Frames, LockKind::Console];

    /// What to call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LockKind::Scheduler => "scheduler",
            LockKind::PageMap => "page map",
            LockKind::Frames => "frames",
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
    /// The parent; 0 if it has none: the first environment, what goes in its place when it has ended, and those that
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
    /// For later use.
    pub reserved: [AtomicU32; 8],
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

    /// What the environment is doing.
    #[inline]
    #[must_use]
    pub fn status(&self) -> Status {
        Status::from_number(self.state.load(Relaxed) & EnvInfo::STATUS).unwrap_or(Status::Free)
    }

    /// How the environment ended, if it did.
    #[must_use]
    pub fn exit(&self) -> ExitStatus {
        ExitStatus(self.exit.load(Relaxed) as u8)
    }
}

const _: () = assert!(size_of::<EnvInfo>() == 64);

/// What the kernel knows about a page frame: one entry of the table at
/// [`FRAMES`](crate::layout::FRAMES).
#[derive(Debug, Default)]
#[repr(C)]
pub struct FrameInfo {
    /// References: page map entries that name the frame, and the kernel's own. 0: free.
    pub refs: AtomicU32,
    /// A free frame: the number of the next one. A table: how many of its entries are not empty.
    pub word: AtomicU32,
}

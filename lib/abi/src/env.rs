//! Environments: protection domain, processor context and upcall entry in one.

use crate::{Error, Vector};
use core::fmt;

/// Names an environment: `generation << 12 | slot`.
///
/// 0 is never the id of an environment. A slot that is used again gets the next generation; the first generation
/// follows the last one. So an id returns after its slot has been used a million times, and slots are used in turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct EnvId(pub u32);

impl EnvId {
    /// No environment: the parent of the first one, or a placeholder.
    pub const NONE: EnvId = EnvId(0);
    /// The calling environment, as an argument.
    pub const SELF: EnvId = EnvId(0);
    /// Any sender, as the argument of a receive; any child, as the argument of a wait.
    pub const ANY: EnvId = EnvId(0);
    /// The number of bits of the slot number.
    pub const SLOT_BITS: u32 = 12;
    /// The greatest number of slots.
    pub const MAX_SLOTS: usize = 1 << EnvId::SLOT_BITS;
    /// The last generation; the first one, 1, follows it.
    pub const MAX_GENERATION: u32 = u32::MAX >> EnvId::SLOT_BITS;

    /// The id of this slot in this generation (at least 1).
    #[inline]
    #[must_use]
    pub const fn new(generation: u32, slot: usize) -> EnvId {
        EnvId(generation << EnvId::SLOT_BITS | slot as u32)
    }

    /// The slot in the environment table.
    #[inline]
    #[must_use]
    pub const fn slot(self) -> usize {
        self.0 as usize % EnvId::MAX_SLOTS
    }

    /// The number of times that the slot was given out, this one included, until it wraps.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0 >> EnvId::SLOT_BITS
    }
}

/// Eight hexadecimal digits, as in all messages.
impl fmt::Display for EnvId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for EnvId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The registers of an environment, for [`crate::Call::SetRegs`].
///
/// The kernel accepts only safe values: `rip` must be a canonical address below
/// [`USER_LIMIT`](crate::layout::USER_LIMIT), and of `rflags` it uses only the arithmetic flags, DF, TF, AC and ID.
/// `rsp` may be anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
#[allow(missing_docs)] // the names say it
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub rip: u64,
}

/// Flags that a user may choose: CF PF AF ZF SF, TF, DF, OF, AC, ID.
pub const USER_RFLAGS: u64 = 0x8d5 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 21;
/// Flags that are always set in user mode: IF, and bit 1, which is always one.
pub const FIXED_RFLAGS: u64 = 0x202;

/// Whose message a receiver waits for, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Awaited {
    /// The sender; [`EnvId::ANY`]: anybody.
    pub env: EnvId,
    /// The timer ticks after which the receiver gives up; 0: never. Without a timer, no tick passes.
    pub ticks: u32,
}

/// Without a deadline.
impl From<EnvId> for Awaited {
    fn from(env: EnvId) -> Awaited {
        Awaited { env, ticks: 0 }
    }
}

/// How an environment, or the machine, ended. Also the exit status of `cargo xtask run`.
///
/// | value | meaning |
/// | --- | --- |
/// | 0..=63 | the program's own |
/// | 64 + vector | killed by an exception that nobody handled |
/// | 96 | destroyed by its parent, or by itself |
/// | 122 | machine: the processor lacks what the kernel needs |
/// | 123 | machine: deadlock |
/// | 124 | tool: the time was up |
/// | 125 | tool: could not do its work |
/// | 126 | machine: kernel panic |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct ExitStatus(pub u8);

impl ExitStatus {
    /// Success.
    pub const SUCCESS: ExitStatus = ExitStatus(0);
    /// Failure.
    pub const FAILURE: ExitStatus = ExitStatus(1);
    /// The largest status that a program can give itself.
    pub const PROGRAM_MAX: u8 = 63;
    /// A panic in a program that uses libos.
    pub const PANIC: ExitStatus = ExitStatus(63);
    /// Ended by [`crate::Call::Destroy`].
    pub const DESTROYED: ExitStatus = ExitStatus(96);
    /// The processor lacks what the kernel needs.
    pub const UNFIT_PROCESSOR: ExitStatus = ExitStatus(122);
    /// No environment could run, and no event could wake one.
    pub const DEADLOCK: ExitStatus = ExitStatus(123);
    /// The tool's time limit was reached.
    pub const TIMEOUT: ExitStatus = ExitStatus(124);
    /// The tool itself failed.
    pub const TOOL_FAILED: ExitStatus = ExitStatus(125);
    /// The kernel panicked.
    pub const KERNEL_PANIC: ExitStatus = ExitStatus(126);

    /// Decodes an argument: a status that a program can give itself.
    ///
    /// # Errors
    /// [`Error::BadStatus`].
    #[inline]
    pub fn from_register(argument: u64) -> Result<ExitStatus, Error> {
        match argument {
            0..=63 => Ok(ExitStatus(argument as u8)),
            _ => Err(Error::BadStatus(argument)),
        }
    }

    /// The status of an environment that an exception killed.
    #[must_use]
    pub const fn killed_by(vector: Vector) -> ExitStatus {
        ExitStatus(64 + vector.0 % 32)
    }

    /// The exception that killed the environment, if one did.
    #[must_use]
    pub const fn vector(self) -> Option<Vector> {
        match self.0 {
            64..=95 => Some(Vector(self.0 - 64)),
            _ => None,
        }
    }

    /// Whether this is 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (*self, self.vector()) {
            (_, Some(vector)) => write!(f, "killed by exception {} ({vector})", vector.0),
            (ExitStatus::DESTROYED, _) => f.write_str("destroyed"),
            (ExitStatus::PANIC, _) => f.write_str("panicked"),
            (ExitStatus::UNFIT_PROCESSOR, _) => f.write_str("the processor lacks what the kernel needs"),
            (ExitStatus::DEADLOCK, _) => f.write_str("deadlock"),
            (ExitStatus::TIMEOUT, _) => f.write_str("timeout"),
            (ExitStatus::TOOL_FAILED, _) => f.write_str("the tool failed"),
            (ExitStatus::KERNEL_PANIC, _) => f.write_str("kernel panic"),
            (status, _) => write!(f, "exit status {}", status.0),
        }
    }
}

impl fmt::Debug for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

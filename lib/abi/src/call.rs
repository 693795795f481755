//! The system calls.
//!
//! The macro `calls` states their numbers, names, arguments and results; nothing else does. `docs/syscalls.md` says how
//! a call is made, and describes each. [`Error::decode`](crate::Error::decode) reads the results of a call that failed.

use crate::{Awaited, EnvId, Error, Perms, Va, register::Register};

macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal, $text:literal($($argument:ident: $kind:ty),*) -> ($($result:ident),*);
    )*) => {
        /// The number of a system call.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum Call {
            $($(#[$doc])* $name = $number,)*
        }

        impl Call {
            /// Every call, in the order of the numbers.
            pub const ALL: &'static [Call] = &[$(Call::$name),*];

            /// The call with this number.
            #[inline]
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Call> {
                match number {
                    $($number => Some(Call::$name),)*
                    _ => None,
                }
            }

            /// The name under which `docs/syscalls.md` describes the call.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Call::$name => $text,)*
                }
            }

            /// The names of the arguments, in the order of the registers.
            #[inline(always)]
            #[must_use]
            pub const fn arguments(self) -> &'static [&'static str] {
                match self {
                    $(Call::$name => &[$(stringify!($argument)),*],)*
                }
            }

            /// The names of the results, in the order of the registers.
            #[must_use]
            pub const fn results(self) -> &'static [&'static str] {
                match self {
                    $(Call::$name => &[$(stringify!($result)),*],)*
                }
            }
        }

        /// The arguments of each call by name: a struct for each, with the name of the call.
        #[allow(missing_docs)] // the names of the fields say it
        pub mod args {
            use super::*;

            $(
                $(#[$doc])*
                #[derive(Clone, Copy, PartialEq, Eq, Debug)]
                pub struct $name {
                    $(pub $argument: $kind,)*
                }

                impl Arguments for $name {
                    const CALL: Call = Call::$name;

                    #[inline(always)]
                    fn from_registers(registers: [u64; 6]) -> Result<$name, Error> {
                        let [$($argument,)* ..] = registers;
                        Ok($name { $($argument: Register::from_register($argument)?,)* })
                    }

                    #[inline(always)]
                    fn to_registers(self) -> [u64; 6] {
                        let mut registers = [0; 6];
                        let [$($argument,)* ..] = &mut registers;
                        $(*$argument = self.$argument.to_register();)*
                        registers
                    }
                }
            )*
        }
    };
}

/// Arguments of a call: one of the structs in [`args`].
pub trait Arguments: Sized {
    /// The call.
    const CALL: Call;

    /// Decodes the arguments.
    ///
    /// # Errors
    /// That of the first argument that is not of its kind.
    fn from_registers(registers: [u64; 6]) -> Result<Self, Error>;

    /// The argument registers; those that the call does not use are 0.
    fn to_registers(self) -> [u64; 6];
}

// Each call: number, name, arguments with their kinds, results. The order of the arguments is that of the registers,
// and is stated nowhere else.
calls! {
    /// The caller's own id.
    Id = 0, "id"() -> (id);
    /// Fresh zeroed pages.
    Alloc = 1, "alloc"(env: EnvId, va: Va, pages: u32, perms: Perms) -> (done);
    /// Share pages.
    Map = 2, "map"(source_env: EnvId, source: Va, env: EnvId, va: Va, pages: u32, perms: Perms) -> (done);
    /// Change permissions.
    Protect = 3, "protect"(env: EnvId, va: Va, pages: u32, perms: Perms) -> (done);
    /// Remove pages and marks.
    Unmap = 4, "unmap"(env: EnvId, va: Va, pages: u32) -> (done);
    /// Store a software word where no page is mapped, or in place of a page.
    Mark = 5, "mark"(env: EnvId, va: Va, pages: u32, word: u64) -> (done, dirty);
    /// Make pages private to the caller, and writable.
    Own = 6, "own"(va: Va, pages: u32) -> (done);
    /// Fresh pages with the contents of others.
    Copy = 7, "copy"(source_env: EnvId, source: Va, env: EnvId, va: Va, pages: u32, perms: Perms) -> (done);
    /// Share whole page tables.
    ShareTables = 8, "share_tables"(source_env: EnvId, source: Va, env: EnvId, va: Va, tables: u32, level: u64)
        -> (done);
    /// Make page tables private to the caller.
    OwnTables = 9, "own_tables"(va: Va, tables: u32, level: u64) -> (done);
    /// Remove page tables, with everything below.
    UnmapTables = 10, "unmap_tables"(env: EnvId, va: Va, tables: u32, level: u64) -> (done);
    /// Protect everything below page tables against writes, or no longer.
    ProtectTables = 11, "protect_tables"(env: EnvId, va: Va, tables: u32, level: u64, perms: Perms) -> (done);
    /// Many page calls in one: an array of [`PageOp`](crate::PageOp).
    PageOps = 12, "page_ops"(operations: Va, count: u64) -> (done, pages);
    /// Console output.
    Write = 13, "write"(buffer: Va, bytes: u64) -> (written);
    /// Console input; waits until there is at least one byte.
    Read = 14, "read"(buffer: Va, bytes: u64) -> (count);
    /// A child with the caller's registers and no memory, stopped. The child gets 0.
    Exofork = 15, "exofork"() -> (child);
    /// End an environment.
    Destroy = 16, "destroy"(env: EnvId) -> ();
    /// End the caller. Returns only with an error.
    Exit = 17, "exit"(status: u64) -> ();
    /// Make an environment runnable, or stop it.
    SetStatus = 18, "set_status"(env: EnvId, status: u64) -> ();
    /// Replace the registers of a stopped child, or the caller's own: [`Registers`](crate::Registers).
    SetRegs = 19, "set_regs"(env: EnvId, registers: Va) -> ();
    /// Set the entry point and the stack for exceptions.
    SetUpcall = 20, "set_upcall"(env: EnvId, entry: u64, stack: Va, pages: u64) -> ();
    /// Wait for a child (0: any) to end, and release its slot.
    Wait = 21, "wait"(child: EnvId, flags: u64) -> (id, status);
    /// Let others run, `env` first.
    Yield = 22, "yield"(env: EnvId) -> ();
    /// A word and perhaps a page ([`NO_PAGE`]: none) to a receiver.
    Send = 23, "send"(env: EnvId, value: u64, va: Va, perms: Perms) -> ();
    /// Wait for a message from `from` (0: anybody), perhaps until a deadline, and for a page at `va` ([`NO_PAGE`]: none).
    Recv = 24, "recv"(va: Va, from: Awaited) -> (sender, value);
    /// `send` and `recv`, without a gap between.
    SendRecv = 25, "send_recv"(env: EnvId, value: u64, va: Va, perms: Perms, recv_va: Va, from: Awaited)
        -> (sender, value);
    /// End the machine; first environment only. Returns only with an error.
    PowerOff = 26, "power_off"(status: u64) -> ();
    /// Make a device a stopped child of the caller, or (`env` is not 0) let an environment do so.
    Claim = 27, "claim"(device: u64, env: EnvId) -> (child);
}

impl Call {
    /// Calls with a number below this one are *non-blocking*: they never wait or switch, and always return. They have
    /// the lowest numbers, so that the kernel knows which registers to save.
    pub const FIRST_BLOCKING: u64 = Call::PageOps as u64 + 1;

    /// Whether this page call works on whole tables.
    #[inline(always)]
    #[must_use]
    pub const fn is_about_tables(self) -> bool {
        matches!(self, Call::ShareTables | Call::OwnTables | Call::UnmapTables | Call::ProtectTables)
    }

    /// Where the arguments with these names are, for code that takes only some, and without decoding them.
    ///
    /// # Panics
    /// The call has no argument of this name. In a constant, that does not compile.
    #[must_use]
    pub const fn places<const N: usize>(self, names: [&str; N]) -> [usize; N] {
        let (mut places, mut n) = ([0; N], 0);
        while n < N {
            while !is_same(self.arguments()[places[n]].as_bytes(), names[n].as_bytes()) {
                places[n] += 1;
            }
            n += 1;
        }
        places
    }
}

/// Whether two names are the same. (Constants cannot use `==` for that.)
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([a, one @ ..], [b, other @ ..]) => *a == *b && is_same(one, other),
        _ => false,
    }
}

/// The page address for [`Call::Send`] and [`Call::Recv`] that means no page.
pub const NO_PAGE: u64 = u64::MAX;

/// Set in the first result of [`Call::Recv`], beside the sender's id, if the message brought a page.
pub const GOT_PAGE: u64 = 1 << 32;

/// Flag of [`Call::Wait`]: if no child has ended yet, return id 0 at once.
pub const WAIT_NO_BLOCK: u64 = 1;

/// The greatest number of bytes that one [`Call::Write`] or [`Call::Read`] moves.
pub const CONSOLE_MAX: u64 = 256;

/// Set in the word of [`Call::Mark`]: the mark may take the place of a page.
pub const MARK_OVER_PAGE: u64 = 1 << 63;

/// Set in the permissions of [`Call::Protect`]: the A bit becomes 0, so that the next access shows.
pub const AGE: u64 = 1 << 62;

/// The greatest number of operations that one [`Call::PageOps`] takes; the rest is for the next call.
pub const PAGE_OPS_MAX: u64 = 64;

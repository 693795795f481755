//! The system calls.
//!
//! Number in `rax`, arguments in `rdi rsi rdx r10 r8 r9`, then the instruction `syscall`. Results are returned in
//! `rax` and `rdx`; the instruction overwrites `rcx` and `r11`; every other register is preserved. If bit 63 of `rax`
//! is clear the call succeeded and `rax`, `rdx` are its results; otherwise they are an [`Error`](crate::Error): see
//! [`Error::decode`](crate::Error::decode).
//!
//! An environment argument of 0 means the caller. Calls that work on a run of pages return the number of pages that
//! are done, which may be fewer than asked: no kernel entry runs long, and a call returns an error only if it has done
//! nothing. The caller continues from there.

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
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
        }
    };
}

calls! {
    /// `id() -> id`: the caller's own id.
    Id = 0, "id";
    /// `alloc(env, va, pages, perms) -> done`: fresh zeroed pages.
    Alloc = 1, "alloc";
    /// `map(source, source va, env, va, pages, perms) -> done`: share pages.
    Map = 2, "map";
    /// `protect(env, va, pages, perms) -> done`: change permissions.
    Protect = 3, "protect";
    /// `unmap(env, va, pages) -> done`: remove pages and marks.
    Unmap = 4, "unmap";
    /// `mark(env, va, pages, word) -> done`: store a software word where no page is mapped.
    Mark = 5, "mark";
    /// `own(va, pages) -> done`: make pages private to the caller, and writable.
    Own = 6, "own";
    /// `copy(source, source va, env, va, pages, perms) -> done`: fresh pages with the contents of others.
    Copy = 7, "copy";
    /// `share_tables(source, source va, env, va, tables, level) -> done`: share whole page tables.
    ShareTables = 8, "share_tables";
    /// `own_tables(va, tables, level) -> done`: make page tables private to the caller.
    OwnTables = 9, "own_tables";
    /// `unmap_tables(env, va, tables, level) -> done`: remove page tables that others have too.
    UnmapTables = 10, "unmap_tables";
    /// `page_ops(operations, count) -> done, pages`: many page calls in one.
    PageOps = 11, "page_ops";
    /// `write(buffer, bytes) -> written`: console output.
    Write = 12, "write";
    /// `read(buffer, bytes) -> count`: console input; waits until there is at least one byte.
    Read = 13, "read";
    /// `exofork() -> child | 0`: a child with the caller's registers and no memory, stopped.
    Exofork = 14, "exofork";
    /// `destroy(env)`.
    Destroy = 15, "destroy";
    /// `exit(status) -> !`.
    Exit = 16, "exit";
    /// `set_status(env, status)`: make an environment runnable, or stop it.
    SetStatus = 17, "set_status";
    /// `set_regs(env, registers)`: replace the registers of a stopped child, or the caller's own.
    SetRegs = 18, "set_regs";
    /// `set_upcall(env, entry, stack, pages)`: set the entry point and the stack for exceptions.
    SetUpcall = 19, "set_upcall";
    /// `wait(child | 0, flags) -> id, status`: wait for a child to end, and release its slot.
    Wait = 20, "wait";
    /// `yield(env | 0)`: let others run, `env` first.
    Yield = 21, "yield";
    /// `send(env, value, va | NO_PAGE, perms)`: a word and perhaps a page to a receiver.
    Send = 22, "send";
    /// `recv(va | NO_PAGE, from | 0) -> sender + flags, value`: wait for a message.
    Recv = 23, "recv";
    /// `send_recv(env, value, va, perms, recv va, from)`: `send` and `recv`, without a gap between.
    SendRecv = 24, "send_recv";
    /// `power_off(status) -> !`: end the machine; first environment only.
    PowerOff = 25, "power_off";
}

impl Call {
    /// Calls with a number below this one are *quick*: they never block or switch, and always return. They have the
    /// lowest numbers, so that the kernel knows which registers to save.
    pub const QUICK: u64 = Call::PageOps as u64 + 1;
}

/// The page address for [`Call::Send`] and [`Call::Recv`] that means no page.
pub const NO_PAGE: u64 = u64::MAX;

/// Set in the first result of [`Call::Recv`], beside the sender's id, if the message brought a page.
pub const GOT_PAGE: u64 = 1 << 32;

/// Flag of [`Call::Wait`]: if no child has ended yet, return id 0 at once.
pub const WAIT_NO_BLOCK: u64 = 1;

/// The greatest number of bytes that one [`Call::Write`] or [`Call::Read`] moves.
pub const CONSOLE_MAX: u64 = 256;

/// The greatest number of operations that one [`Call::PageOps`] takes; the rest is for the next call.
pub const PAGE_OPS_MAX: u64 = 64;

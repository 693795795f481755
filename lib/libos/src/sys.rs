//! The system calls, one safe function each.
//!
//! Names, arguments and errors are those of [`abi::call`]. [`EnvId::SELF`] as an environment means the caller. The
//! functions differ from the plain calls in four ways:
//!
//! * A call on a run of pages continues where the kernel stopped, until all pages are done or an error occurs. After
//!   an error the pages before the offending address are done, the others are not.
//! * If a buffer is not in memory yet (`Error::Fault`), its page is touched, so that this program's own fault handler
//!   brings it in, and the call is repeated. A buffer that cannot be brought in ends the program as any other bad
//!   access does. [`raw::syscall`](crate::raw::syscall) does neither.
//! * If a page is below a table that is shared since a fork (`Error::TableShared`), the table is [owned](own_tables)
//!   and the call is repeated.
//! * Page calls are safe functions although they can unmap memory that the program uses: such an environment harms
//!   itself only.

use crate::door::{syscall, touch_to_read, touch_to_write};
use crate::{EnvId, ExitStatus, Level, PageOp, Perms, Pte, Registers, Status, Va, uvpt};
use abi::call::{CONSOLE_MAX, GOT_PAGE, NO_PAGE, WAIT_NO_BLOCK};
pub use abi::error::Error;
use abi::ops::{Places, count};
use abi::{Arguments, Awaited, Call, args};

/// The result of a call.
pub type Result<T> = core::result::Result<T, Error>;

/// Makes a call; returns `rax` and `rdx`.
#[inline(always)]
fn enter<A: Arguments>(arguments: A) -> (u64, u64) {
    syscall(A::CALL as u64, arguments.to_registers(), const { A::CALL.arguments().len() })
}

#[inline(always)]
fn call<A: Arguments>(arguments: A) -> Result<(u64, u64)> {
    results(enter(arguments))
}

#[inline(always)]
fn results((rax, rdx): (u64, u64)) -> Result<(u64, u64)> {
    if rax >> 63 == 0 { Ok((rax, rdx)) } else { Err(error(rax, rdx)) }
}

/// Decodes an error. Cold, to keep it out of the path of calls that succeed.
#[cold]
#[inline(never)]
fn error(rax: u64, rdx: u64) -> Error {
    Error::decode(rax, rdx).expect_err("bit 63 is set")
}

/// Makes a call that uses a buffer, and brings the buffer in where pages are missing.
///
/// If the call fails twice in a row at the same address, touching does not help: that error is the result.
fn with_buffer<T>(touch: fn(u64), mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut touched = None;
    loop {
        match call() {
            Err(Error::Fault(address)) if touched != Some(address) => {
                touch(address);
                touched = Some(address);
            }
            Err(error @ Error::TableShared(_)) => own_shared(error)?,
            result => return result,
        }
    }
}

/// Makes the call of a page operation, once. `None`: it is not a page call.
#[inline(always)]
fn page_call(op: &PageOp) -> Option<(u64, u64)> {
    // One arm for each call: there the compiler knows the places of its arguments.
    macro_rules! page_calls {
        ($($name:ident)*) => {
            match Call::from_number(op.call.into())? {
                $(Call::$name => Some(enter_page_call::<{ Call::$name as usize }>(op)),)*
                _ => None,
            }
        };
    }
    page_calls!(Alloc Map Protect Unmap Mark Own Copy ShareTables OwnTables UnmapTables ProtectTables)
}

#[inline(always)]
fn enter_page_call<const CALL: usize>(op: &PageOp) -> (u64, u64) {
    let at = const { Places::of(Call::ALL[CALL]).unwrap() };
    syscall(CALL as u64, at.put(op), const { Call::ALL[CALL].arguments().len() })
}

/// Do a page operation, in as many calls as it takes. The function is inlined, so the compiler knows which call it is.
///
/// # Errors
/// Those of the call. `BadOp`: it is not a page call.
#[inline(always)]
pub fn page_op(mut op: PageOp) -> Result<()> {
    if op.call == Call::ShareTables as u32 {
        // Nearly always done with one call. A loop would take registers from the search around it, in a fork.
        let (rax, rdx) = page_call(&op).unwrap_or_default();
        return if rax == op.count.into() { Ok(()) } else { share_rest(op, rax, rdx) };
    }
    loop {
        match results(page_call(&op).ok_or(Error::BadOp(op.call.into()))?) {
            Ok((done, _)) if done >= op.count.into() => return Ok(()),
            Ok((done, _)) => op = op.skip(done as u32),
            Err(error) => own_shared(error)?,
        }
    }
}

/// Continues to share tables after a call with this answer.
#[cold]
#[inline(never)]
fn share_rest(op: PageOp, rax: u64, rdx: u64) -> Result<()> {
    let op = PageOp { call: Call::ShareTables as u32, ..op };
    match results((rax, rdx)) {
        Ok((done, _)) => page_op(op.skip(done as u32)),
        Err(error) => own_shared(error).and_then(|()| page_op(op)),
    }
}

/// Owns the shared table if `error` reports one of the caller's own. (The tables of a child are for the child to own.)
#[cold]
#[inline(never)]
fn own_shared(error: Error) -> Result<()> {
    let Error::TableShared(value) = error else { return Err(error) };
    let (va, level) = (Va(value).page(), Va(value).offset());
    let entry = Level::from_number(level).and_then(|level| uvpt::entry(va, level));
    if !entry.is_some_and(Pte::is_shared_table) {
        return Err(error);
    }
    call(args::OwnTables { va, tables: 1, level }).map(drop)
}

/// Makes a call that may change the caller's own pages, and owns the shared tables that are in the way.
#[inline]
fn with_own_tables<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error @ Error::TableShared(_)) => own_shared(error)?,
            result => return result,
        }
    }
}

/// The caller's own id.
#[inline]
#[must_use]
pub fn id() -> EnvId {
    EnvId(enter(args::Id {}).0 as u32)
}

/// Write to the console; returns the number of bytes written, at most [`CONSOLE_MAX`].
///
/// # Errors
/// `BadAddress` if the bytes are not in memory that a call may read.
pub fn write(bytes: &[u8]) -> Result<usize> {
    let count = bytes.len().min(CONSOLE_MAX as usize) as u64;
    let buffer = Va(bytes.as_ptr() as u64);
    let (done, _) = with_buffer(touch_to_read, || call(args::Write { buffer, bytes: count }))?;
    Ok(done as usize)
}

/// Read from the console; waits until there is at least one byte.
///
/// # Errors
/// `BadAddress` if the buffer is not in memory that a call may write, `BadCount` if it is empty.
pub fn read(buffer: &mut [u8]) -> Result<usize> {
    let bytes = buffer.len().min(CONSOLE_MAX as usize) as u64;
    let buffer = Va(buffer.as_mut_ptr() as u64);
    let (done, _) = with_buffer(touch_to_write, || call(args::Read { buffer, bytes }))?;
    Ok(done as usize)
}

/// Make a child with the caller's registers and no memory, stopped.
///
/// A child that is started in this state returns from this call without memory to return to. Use
/// [`fork::fork_with`](crate::fork::fork_with), which gives the child memory, or [`set_regs`].
///
/// # Errors
/// `NoEnvs`, `NoMemory`.
pub fn exofork() -> Result<EnvId> {
    Ok(EnvId(call(args::Exofork {})?.0 as u32))
}

/// End an environment: the caller or one of its children.
///
/// # Errors
/// `BadEnv`, `NotYours`.
pub fn destroy(env: EnvId) -> Result<()> {
    call(args::Destroy { env }).map(drop)
}

/// End the caller at once, without [`env::exit`](crate::env::exit)'s flush of the console. A program may give a status
/// of at most 63; a greater one becomes 63.
pub fn exit(status: u8) -> ! {
    loop {
        let _ = enter(args::Exit { status: status.min(ExitStatus::PROGRAM_MAX).into() });
    }
}

/// Make an environment `Runnable`, or stop it (`Stopped`).
///
/// # Errors
/// `BadEnv`, `NotYours`, `BadStatus`, `BadState`.
pub fn set_status(env: EnvId, status: Status) -> Result<()> {
    call(args::SetStatus { env, status: status as u64 }).map(drop)
}

/// Replace the registers of a stopped child.
///
/// # Errors
/// `BadEnv`, `NotYours`, `BadState`, `BadAddress` for `rip`.
pub fn set_regs(env: EnvId, registers: &Registers) -> Result<()> {
    let registers = Va(core::ptr::from_ref(registers) as u64);
    with_buffer(touch_to_read, || call(args::SetRegs { env, registers })).map(drop)
}

/// Register the entry point for exceptions and the exception stack (lowest address, pages), which becomes pinned.
/// `entry`, `stack` and `pages` all 0: no upcall.
///
/// # Errors
/// `BadEnv`, `NotYours`, `BadAddress`, `Unaligned`, `BadCount`; for a page of the stack `NotMapped`,
/// `NoRight`, `Shared`.
pub fn set_upcall(env: EnvId, entry: u64, stack: Va, pages: u64) -> Result<()> {
    call(args::SetUpcall { env, entry, stack, pages }).map(drop)
}

/// Wait until a child (`NONE`: any child) has ended, and release its slot.
///
/// # Errors
/// `NoChild`, `BadEnv`, `NotYours`.
pub fn wait(child: EnvId) -> Result<(EnvId, ExitStatus)> {
    let (id, status) = call(args::Wait { child, flags: 0 })?;
    Ok((EnvId(id as u32), ExitStatus(status as u8)))
}

/// Release a child (`NONE`: any child) that has ended; returns `None` at once if no such child has ended yet.
///
/// # Errors
/// As [`wait`].
pub fn try_wait(child: EnvId) -> Result<Option<(EnvId, ExitStatus)>> {
    let (id, status) = call(args::Wait { child, flags: WAIT_NO_BLOCK })?;
    Ok((id != 0).then_some((EnvId(id as u32), ExitStatus(status as u8))))
}

/// Yield: let other environments run.
pub fn yield_now() {
    let _ = enter(args::Yield { env: EnvId::NONE });
}

/// Yield to `env`: let other environments run, `env` first.
///
/// # Errors
/// `BadEnv`.
#[inline]
pub fn yield_to(env: EnvId) -> Result<()> {
    call(args::Yield { env }).map(drop)
}

/// Map fresh zeroed pages at `va`, replacing what is mapped there.
///
/// # Errors
/// `BadEnv`, `NotYours`, `Unaligned`, `BadAddress`, `BadCount`, `BadPerms`, `Pinned`, `NoMemory`.
#[inline]
pub fn alloc(env: EnvId, va: Va, pages: u64, perms: Perms) -> Result<()> {
    page_op(PageOp::alloc(env, va, count(pages)?, perms))
}

/// Share the pages at `source` of `source_env`: the same frames appear at `va` of `env`.
///
/// # Errors
/// As [`alloc`](fn@alloc), and `NotMapped`, `NoRight`, `TooManyRefs` for the source.
#[inline]
pub fn map(source_env: EnvId, source: Va, env: EnvId, va: Va, pages: u64, perms: Perms) -> Result<()> {
    page_op(PageOp::map(source_env, source, env, va, count(pages)?, perms))
}

/// Map fresh pages at `va` of `env`, with the contents of the pages at `source` of `source_env`.
///
/// # Errors
/// As [`alloc`](fn@alloc), and `NotMapped` for the source.
pub fn copy(source_env: EnvId, source: Va, env: EnvId, va: Va, pages: u64, perms: Perms) -> Result<()> {
    page_op(PageOp::copy(source_env, source, env, va, count(pages)?, perms))
}

/// Do a page operation in a single call, for [fast handlers](crate::fast_handler). Returns whether all of it was
/// done; nothing is repeated, no error is reported, and no function is called.
#[inline(always)]
#[must_use]
pub fn op_fast(op: PageOp) -> bool {
    page_call(&op).is_some_and(|(done, _)| done == op.count.into())
}

/// Change the permissions of pages.
///
/// # Errors
/// `BadEnv`, `NotYours`, `Unaligned`, `BadAddress`, `BadCount`, `BadPerms`, `NotMapped`, `NoRight`,
/// `Pinned`.
#[inline]
pub fn protect(env: EnvId, va: Va, pages: u64, perms: Perms) -> Result<()> {
    page_op(PageOp::protect(env, va, count(pages)?, perms))
}

/// Remove pages and marks.
///
/// # Errors
/// `BadEnv`, `NotYours`, `Unaligned`, `BadAddress`, `BadCount`, `Pinned`; `NotMapped` where there is neither.
#[inline]
pub fn unmap(env: EnvId, va: Va, pages: u64) -> Result<()> {
    page_op(PageOp::unmap(env, va, count(pages)?))
}

/// Store a mark, a software word, where no page is mapped; 0 clears it.
///
/// # Errors
/// `BadEnv`, `NotYours`, `Unaligned`, `BadAddress`, `BadCount`, `BadWord`, `NoMemory`; `Mapped` where a page is
/// mapped.
#[inline]
pub fn mark(env: EnvId, va: Va, pages: u64, word: u64) -> Result<()> {
    page_op(PageOp::mark(env, va, count(pages)?, word))
}

/// Stores a mark, a software word that is not 0, in place of whatever is at an address. Returns whether that was a page
/// that had been written: its D bit was set.
///
/// # Errors
/// `BadEnv`, `NotYours`, `Unaligned`, `BadAddress`, `Pinned`, `BadWord`; `NoMemory` only where no page was mapped.
#[inline]
pub fn mark_over(env: EnvId, va: Va, word: u64) -> Result<bool> {
    let op = PageOp::mark_over(env, va, 1, word);
    loop {
        match results(page_call(&op).ok_or(Error::BadOp(op.call.into()))?) {
            Ok((0, _)) => {}
            Ok((_, dirty)) => return Ok(dirty != 0),
            Err(error) => own_shared(error)?,
        }
    }
}

/// Make pages private to the caller, and writable: the copy in copy-on-write.
///
/// # Errors
/// `Unaligned`, `BadAddress`, `BadCount`, `NotMapped`, `Executable`, `NoMemory`.
#[inline]
pub fn own(va: Va, pages: u64) -> Result<()> {
    page_op(PageOp::own(va, count(pages)?))
}

/// Share whole page tables of `source_env`: entries of this level, from `source` on.
/// Neither environment can then write or change what is below, until it [owns](own_tables) the tables.
///
/// # Errors
/// As [`alloc`](fn@alloc), and `BadLevel`, `NotMapped` where there is no table to share, `Mapped` where the target has
/// entries already, `TooManyRefs`; `Pinned` if an exception stack is below; `TableShared` for a table of a child.
pub fn share_tables(source_env: EnvId, source: Va, env: EnvId, va: Va, tables: u64, level: Level) -> Result<()> {
    page_op(PageOp::share_tables(source_env, source, env, va, count(tables)?, level))
}

/// Make page tables private to the caller. Tables that others have too are copied, and pages that several environments
/// have and must not write become copy-on-write.
///
/// # Errors
/// `Unaligned`, `BadAddress`, `BadCount`, `BadLevel`, `NotMapped`, `NoMemory`, `TooManyRefs`.
pub fn own_tables(va: Va, tables: u64, level: Level) -> Result<()> {
    page_op(PageOp::own_tables(va, count(tables)?, level))
}

/// Remove page tables, and everything below them. Tables of tables must have other users.
///
/// # Errors
/// As [`own_tables`], and `Pinned` if an exception stack is below; `NotShared` if no other environment has a table of
/// tables.
pub fn unmap_tables(env: EnvId, va: Va, tables: u64, level: Level) -> Result<()> {
    page_op(PageOp::unmap_tables(env, va, count(tables)?, level))
}

/// Protect everything below page tables against writes ([`Perms::READ`]), or no longer ([`Perms::WRITE`]). The entries of
/// the pages stay as they are: a page can be written if its entry and every level above allow it.
///
/// # Errors
/// As [`unmap_tables`], but not `NotShared`; `BadPerms`; `Pinned` if an exception stack is below.
pub fn protect_tables(env: EnvId, va: Va, tables: u64, level: Level, perms: Perms) -> Result<()> {
    page_op(PageOp::protect_tables(env, va, count(tables)?, level, perms))
}

/// Do many page operations in as few calls as possible.
///
/// # Errors
/// The index of the operation that failed, and its error. The operations before it are done; of the failing one the
/// pages before the offending address may be.
pub fn page_ops(ops: &[PageOp]) -> core::result::Result<(), (usize, Error)> {
    let (mut done, mut pages) = (0, 0);
    while done < ops.len() {
        // An operation that was cut short is finished by itself. For a single one, a call of its own is cheaper.
        if pages > 0 || done + 1 == ops.len() {
            page_op(ops[done].skip(pages)).map_err(|error| (done, error))?;
            (done, pages) = (done + 1, 0);
            continue;
        }
        let todo = &ops[done..];
        let (operations, count) = (Va(todo.as_ptr() as u64), todo.len() as u64);
        let result = with_buffer(touch_to_read, || call(args::PageOps { operations, count }));
        let (whole, part) = result.map_err(|error| (done, error))?;
        (done, pages) = (done + whole as usize, part as u32);
    }
    Ok(())
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sender.
    pub from: EnvId,
    /// The word.
    pub value: u64,
    /// Whether the message brought a page.
    pub page: bool,
}

#[inline]
fn message((from, value): (u64, u64)) -> Message {
    Message { from: EnvId(from as u32), value, page: from & GOT_PAGE != 0 }
}

#[inline]
fn page_args(page: Option<(Va, Perms)>) -> (Va, Perms) {
    page.unwrap_or((Va(NO_PAGE), Perms::READ))
}

/// Send a word, and perhaps a page, to an environment that is waiting for it.
///
/// # Errors
/// `NotReceiving` if `env` is not waiting (see [`ipc::send`](crate::ipc::send)), `BadEnv`; for the page as [`map`].
pub fn send(env: EnvId, value: u64, page: Option<(Va, Perms)>) -> Result<()> {
    let (va, perms) = page_args(page);
    with_own_tables(|| call(args::Send { env, value, va, perms })).map(drop)
}

/// Wait for a message, from `from` or (`NONE`) from any environment; a page in the message is mapped at `page`.
///
/// # Errors
/// `BadEnv`, `BadAddress`, `Unaligned`, `Pinned`; `TimedOut` with a deadline.
pub fn recv(page: Option<Va>, from: impl Into<Awaited>) -> Result<Message> {
    let (va, from) = (page.unwrap_or(Va(NO_PAGE)), from.into());
    with_own_tables(|| call(args::Recv { va, from })).map(message)
}

/// Call [`send`] and then [`recv`] as one atomic call. If the send fails, nothing is done.
///
/// # Errors
/// Those of [`send`] and [`recv`].
#[inline]
pub fn send_recv(
    env: EnvId,
    value: u64,
    page: Option<(Va, Perms)>,
    answer: Option<Va>,
    from: impl Into<Awaited>,
) -> Result<Message> {
    let (va, perms) = page_args(page);
    let (recv_va, from) = (answer.unwrap_or(Va(NO_PAGE)), from.into());
    with_own_tables(|| call(args::SendRecv { env, value, va, perms, recv_va, from })).map(message)
}

/// Make a device a stopped child, or let another environment do so (see [`device`](crate::device)).
///
/// # Errors
/// `BadDevice`, `NotFirst`, `BadEnv`, `Taken`, `NoMemory`, `NoEnvs`.
pub fn claim(device: u64, env: EnvId) -> Result<EnvId> {
    call(args::Claim { device, env }).map(|(id, _)| EnvId(id as u32))
}

/// End the machine with this exit status; for the first environment only.
///
/// # Errors
/// `NotFirst`, `BadStatus`.
pub fn power_off(status: u8) -> Result<()> {
    call(args::PowerOff { status: status.into() }).map(drop)
}

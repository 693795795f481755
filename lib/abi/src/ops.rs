//! Page operations: the entries of the batched call `page_ops`.

use crate::page::{Level, span};
use crate::{Call, EnvId, Error, PAGE_SIZE, Perms, Va, call::AGE, call::MARK_OVER_PAGE, register::Register};

/// A page call with its arguments, for [`Call::PageOps`].
///
/// The call decides which fields are used; the others are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PageOp {
    /// The number of one of `alloc`, `map`, `protect`, `unmap`, `mark`, `own`, `copy`, `share_tables`,
    /// `own_tables`, `unmap_tables`, `protect_tables`.
    pub call: u32,
    /// The number of pages, or tables.
    pub count: u32,
    /// `map`, `copy`, `share_tables`: the environment whose pages are shared or copied.
    pub source_env: EnvId,
    /// The environment whose page map is changed. `own`, `own_tables`: must be the caller, or 0.
    pub env: EnvId,
    /// `map`, `copy`, `share_tables`: the first page that is shared or copied. `protect_tables`: permissions.
    pub source: Va,
    /// The first page that is changed.
    pub va: Va,
    /// `alloc`, `map`, `copy`, `protect`: permissions; `mark`: the word; tables: the level.
    pub arg: u64,
}

/// One value for each field of a [`PageOp`] that is an argument of its call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are those of the fields
pub struct Fields<T> {
    pub source_env: T,
    pub source: T,
    pub env: T,
    pub va: T,
    pub count: T,
    pub arg: T,
}

/// Where the fields of a [`PageOp`] are among the arguments of its call.
pub type Places = Fields<usize>;

impl Places {
    /// The place of a field that the call does not have: behind the last register.
    const NONE: usize = 6;

    /// The places of every call, computed by the compiler.
    const ALL: &[Option<Places>; Call::ALL.len()] = &{
        let mut all = [None; _];
        let mut n = 0;
        while n < all.len() {
            all[n] = Places::find(Call::ALL[n].arguments());
            n += 1;
        }
        all
    };

    /// Says which argument goes into which field. All arguments of a page call do, and a count is one of them.
    const fn find(arguments: &[&str]) -> Option<Places> {
        const NONE: usize = Places::NONE;
        let mut at = Fields { source_env: NONE, source: NONE, env: NONE, va: NONE, count: NONE, arg: NONE };
        let mut n = 0;
        while n < arguments.len() {
            let field = match arguments[n].as_bytes() {
                b"source_env" => &mut at.source_env,
                b"source" => &mut at.source,
                b"env" => &mut at.env,
                b"va" => &mut at.va,
                b"pages" | b"tables" => &mut at.count,
                // Beside a level, in a call that has no source.
                b"perms" if at.arg != NONE => &mut at.source,
                b"perms" | b"word" | b"level" => &mut at.arg,
                _ => return None,
            };
            *field = n;
            n += 1;
        }
        if at.count == NONE { None } else { Some(at) }
    }

    /// The places of this call; `None`: it is not a page call.
    #[inline(always)]
    #[must_use]
    pub const fn of(call: Call) -> Option<Places> {
        Places::ALL[call as usize]
    }

    /// The arguments in these registers, not checked yet. Those that the call does not have are 0.
    #[inline(always)]
    #[must_use]
    pub const fn pick(self, [a, b, c, d, e, f]: [u64; 6]) -> Fields<u64> {
        let registers = [a, b, c, d, e, f, 0];
        Fields {
            source_env: registers[self.source_env],
            source: registers[self.source],
            env: registers[self.env],
            va: registers[self.va],
            count: registers[self.count],
            arg: registers[self.arg],
        }
    }

    /// The registers with the arguments of this operation; those that its call does not use are 0.
    #[inline(always)]
    #[must_use]
    pub const fn put(self, op: &PageOp) -> [u64; 6] {
        let mut registers = [0; 7];
        registers[self.source_env] = op.source_env.0 as u64;
        registers[self.source] = op.source.0;
        registers[self.env] = op.env.0 as u64;
        registers[self.va] = op.va.0;
        registers[self.count] = op.count as u64;
        registers[self.arg] = op.arg;
        let [registers @ .., _] = registers;
        registers
    }
}

/// A number of pages or tables, in the type of a [`PageOp`].
///
/// # Errors
/// [`Error::BadCount`]: more than 32 bits.
#[inline(always)]
pub fn count(pages: u64) -> Result<u32, Error> {
    Register::from_register(pages)
}

impl PageOp {
    #[inline]
    const fn new(call: Call, env: EnvId, va: Va, count: u32, arg: u64) -> PageOp {
        let (source_env, source) = (EnvId(0), Va(0));
        PageOp { call: call as u32, count, source_env, env, source, va, arg }
    }

    /// Decodes a page call from registers. The call itself checks everything else.
    ///
    /// # Errors
    /// [`Error::BadEnv`], [`Error::BadCount`]: more than 32 bits. [`Error::BadCall`]: not a page call.
    #[inline(always)]
    pub fn from_registers(call: Call, registers: [u64; 6]) -> Result<PageOp, Error> {
        let raw = Places::of(call).ok_or(Error::BadCall(call as u64))?.pick(registers);
        Ok(PageOp {
            call: call as u32,
            source_env: Register::from_register(raw.source_env)?,
            env: Register::from_register(raw.env)?,
            count: Register::from_register(raw.count)?,
            source: Va(raw.source),
            va: Va(raw.va),
            arg: raw.arg,
        })
    }

    /// The argument registers of the call. `None`: it is not a page call.
    #[must_use]
    pub fn to_registers(&self) -> Option<[u64; 6]> {
        let call = Call::from_number(self.call.into())?;
        Some(Places::of(call)?.put(self))
    }

    /// The level of the tables of a table operation.
    ///
    /// # Errors
    /// [`Error::BadLevel`]: neither 2, 3 nor 4.
    #[inline]
    pub fn level(&self) -> Result<Level, Error> {
        let level = Level::from_number(self.arg).filter(|level| *level > Level::L1);
        level.ok_or(Error::BadLevel(self.arg))
    }

    /// Maps fresh zeroed pages.
    #[inline]
    #[must_use]
    pub const fn alloc(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Alloc, env, va, count, perms.bits())
    }

    /// Shares the pages at `source` of `source_env`.
    #[inline]
    #[must_use]
    pub const fn map(source_env: EnvId, source: Va, env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        let op = PageOp::new(Call::Map, env, va, count, perms.bits());
        PageOp { source_env, source, ..op }
    }

    /// Maps fresh pages with the contents of those at `source` of `source_env`.
    #[inline]
    #[must_use]
    pub const fn copy(source_env: EnvId, source: Va, env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp { call: Call::Copy as u32, ..PageOp::map(source_env, source, env, va, count, perms) }
    }

    /// Changes permissions.
    #[inline]
    #[must_use]
    pub const fn protect(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Protect, env, va, count, perms.bits())
    }

    /// Removes pages and marks.
    #[inline]
    #[must_use]
    pub const fn unmap(env: EnvId, va: Va, count: u32) -> PageOp {
        PageOp::new(Call::Unmap, env, va, count, 0)
    }

    /// Stores a mark, a software word, where no page is mapped.
    #[inline]
    #[must_use]
    pub const fn mark(env: EnvId, va: Va, count: u32, word: u64) -> PageOp {
        PageOp::new(Call::Mark, env, va, count, word)
    }

    /// Changes the permissions of pages, and clears their A bits.
    #[inline]
    #[must_use]
    pub const fn age(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Protect, env, va, count, perms.bits() | AGE)
    }

    /// Stores a mark that is not 0 in place of whatever is at these addresses.
    #[inline]
    #[must_use]
    pub const fn mark_over(env: EnvId, va: Va, count: u32, word: u64) -> PageOp {
        PageOp::new(Call::Mark, env, va, count, word | MARK_OVER_PAGE)
    }

    /// Makes pages private to the caller, and writable.
    #[inline]
    #[must_use]
    pub const fn own(va: Va, count: u32) -> PageOp {
        PageOp::new(Call::Own, EnvId(0), va, count, 0)
    }

    /// Shares whole tables: entries of this level, from `source` of `source_env` on, with another environment.
    #[inline]
    #[must_use]
    pub const fn share_tables(source_env: EnvId, source: Va, env: EnvId, va: Va, count: u32, level: Level) -> PageOp {
        let op = PageOp::new(Call::ShareTables, env, va, count, level as u64);
        PageOp { source_env, source, ..op }
    }

    /// Makes tables private to the caller.
    #[inline]
    #[must_use]
    pub const fn own_tables(va: Va, count: u32, level: Level) -> PageOp {
        PageOp::new(Call::OwnTables, EnvId(0), va, count, level as u64)
    }

    /// Removes tables that others have too.
    #[inline]
    #[must_use]
    pub const fn unmap_tables(env: EnvId, va: Va, count: u32, level: Level) -> PageOp {
        PageOp::new(Call::UnmapTables, env, va, count, level as u64)
    }

    /// Protects everything below tables against writes ([`Perms::READ`]), or no longer ([`Perms::WRITE`]).
    #[inline]
    #[must_use]
    pub const fn protect_tables(env: EnvId, va: Va, count: u32, level: Level, perms: Perms) -> PageOp {
        let op = PageOp::new(Call::ProtectTables, env, va, count, level as u64);
        PageOp { source: Va(perms.bits()), ..op }
    }

    /// The number of pages of one counted unit: 1, or as many as a table translates.
    #[inline]
    #[must_use]
    pub const fn step(&self) -> u64 {
        match (Call::from_number(self.call as u64), Level::from_number(self.arg)) {
            (Some(call), Some(level)) if call.is_about_tables() => span(level) / PAGE_SIZE,
            _ => 1,
        }
    }

    /// This operation without the first `done` pages or tables.
    #[inline]
    #[must_use]
    pub const fn skip(self, done: u32) -> PageOp {
        let pages = done as u64 * self.step();
        let rest = PageOp { count: self.count - done, ..self.moved(pages) };
        // The permissions of tables stay.
        if self.call == Call::ProtectTables as u32 { PageOp { source: self.source, ..rest } } else { rest }
    }

    /// As [`skip`](Self::skip), for calls on pages.
    #[inline]
    #[must_use]
    pub const fn skip_pages(self, done: u32) -> PageOp {
        PageOp { count: self.count - done, ..self.moved(done as u64) }
    }

    /// This operation, moved up by this many pages.
    #[inline]
    const fn moved(self, pages: u64) -> PageOp {
        PageOp { source: self.source.add_pages(pages), va: self.va.add_pages(pages), ..self }
    }
}

//! Page operations: the entries of the batched call `page_ops`.

use crate::page::span;
use crate::{Call, EnvId, Error, PAGE_SIZE, Perms, Va};

/// A page call with its arguments, for [`Call::PageOps`].
///
/// The call decides which fields are used; the others are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PageOp {
    /// The number of one of `alloc`, `map`, `protect`, `unmap`, `mark`, `own`, `copy`, `share_tables`,
    /// `own_tables`, `unmap_tables`.
    pub call: u32,
    /// The number of pages, or tables.
    pub count: u32,
    /// `map`, `copy`, `share_tables`: the environment whose pages are shared or copied.
    pub source_env: EnvId,
    /// The environment whose page map is changed. `own`, `own_tables`: must be the caller, or 0.
    pub env: EnvId,
    /// `map`, `copy`, `share_tables`: the first page that is shared or copied.
    pub source: Va,
    /// The first page that is changed.
    pub va: Va,
    /// `alloc`, `map`, `copy`, `protect`: permissions; `mark`: the word; tables: the level.
    pub arg: u64,
}

impl PageOp {
    const fn new(call: Call, env: EnvId, va: Va, count: u32, arg: u64) -> PageOp {
        let (source_env, source) = (EnvId(0), Va(0));
        PageOp { call: call as u32, count, source_env, env, source, va, arg }
    }

    /// Decodes a page call from registers. The call itself checks everything else.
    ///
    /// # Errors
    /// [`Error::BadEnv`], [`Error::BadCount`]: more than 32 bits. [`Error::BadCall`]: not a page call.
    #[inline(always)]
    pub fn from_registers(call: Call, [a, b, c, d, e, f]: [u64; 6]) -> Result<PageOp, Error> {
        let (source_env, source, env, va, count, arg) = match call {
            Call::Alloc | Call::Protect | Call::Unmap | Call::Mark | Call::UnmapTables => (0, 0, a, b, c, d),
            Call::Map | Call::Copy | Call::ShareTables => (a, b, c, d, e, f),
            Call::Own | Call::OwnTables => (0, 0, 0, a, b, c),
            _ => return Err(Error::BadCall(call as u64)),
        };
        let source_env = EnvId::from_register(source_env)?;
        let env = EnvId::from_register(env)?;
        let count = u32::try_from(count).map_err(|_| Error::BadCount(count))?;
        Ok(PageOp { call: call as u32, count, source_env, env, source: Va(source), va: Va(va), arg })
    }

    /// The level of the tables of a table operation.
    ///
    /// # Errors
    /// [`Error::BadLevel`]: neither 2, 3 nor 4.
    #[inline]
    pub fn level(&self) -> Result<u32, Error> {
        match self.arg {
            2..=4 => Ok(self.arg as u32),
            _ => Err(Error::BadLevel(self.arg)),
        }
    }

    /// Maps fresh zeroed pages.
    #[must_use]
    pub const fn alloc(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Alloc, env, va, count, perms.bits())
    }

    /// Shares the pages at `source` of `source_env`.
    #[must_use]
    pub const fn map(source_env: EnvId, source: Va, env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        let op = PageOp::new(Call::Map, env, va, count, perms.bits());
        PageOp { source_env, source, ..op }
    }

    /// Maps fresh pages with the contents of those at `source` of `source_env`.
    #[must_use]
    pub const fn copy(source_env: EnvId, source: Va, env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp { call: Call::Copy as u32, ..PageOp::map(source_env, source, env, va, count, perms) }
    }

    /// Changes permissions.
    #[must_use]
    pub const fn protect(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Protect, env, va, count, perms.bits())
    }

    /// Removes pages and marks.
    #[must_use]
    pub const fn unmap(env: EnvId, va: Va, count: u32) -> PageOp {
        PageOp::new(Call::Unmap, env, va, count, 0)
    }

    /// Stores a mark, a software word, where no page is mapped.
    #[must_use]
    pub const fn mark(env: EnvId, va: Va, count: u32, word: u64) -> PageOp {
        PageOp::new(Call::Mark, env, va, count, word)
    }

    /// Makes pages private to the caller, and writable.
    #[must_use]
    pub const fn own(va: Va, count: u32) -> PageOp {
        PageOp::new(Call::Own, EnvId(0), va, count, 0)
    }

    /// Shares whole tables: entries of this level, from `source` of `source_env` on, with another environment.
    #[must_use]
    pub const fn share_tables(
        source_env: EnvId,
        source: Va,
        env: EnvId,
        va: Va,
        count: u32,
        level: u32,
    ) -> PageOp {
        let op = PageOp::new(Call::ShareTables, env, va, count, level as u64);
        PageOp { source_env, source, ..op }
    }

    /// Makes tables private to the caller.
    #[must_use]
    pub const fn own_tables(va: Va, count: u32, level: u32) -> PageOp {
        PageOp::new(Call::OwnTables, EnvId(0), va, count, level as u64)
    }

    /// Removes tables that others have too.
    #[must_use]
    pub const fn unmap_tables(env: EnvId, va: Va, count: u32, level: u32) -> PageOp {
        PageOp::new(Call::UnmapTables, env, va, count, level as u64)
    }

    /// The number of pages of one counted unit: 1, or as many as a table translates.
    #[must_use]
    pub const fn step(&self) -> u64 {
        match Call::from_number(self.call as u64) {
            Some(Call::ShareTables | Call::OwnTables | Call::UnmapTables) if self.arg <= 4 => {
                span(self.arg as u32) / PAGE_SIZE
            }
            _ => 1,
        }
    }

    /// This operation without the first `done` pages or tables.
    #[must_use]
    pub const fn skip(self, done: u32) -> PageOp {
        let pages = done as u64 * self.step();
        PageOp {
            count: self.count - done,
            source: self.source.add_pages(pages),
            va: self.va.add_pages(pages),
            ..self
        }
    }
}

//! One entry of the batched call.

use crate::{Call, EnvId, Perms, Va};

/// A page call with its arguments, for [`Call::PageOps`].
///
/// Which fields count depends on the call: those that a call does not take are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PageOp {
    /// The number of one of `alloc`, `map`, `protect`, `unmap`, `mark`, `own`.
    pub call: u32,
    /// How many pages.
    pub count: u32,
    /// `map`: whose pages are shared.
    pub source_env: EnvId,
    /// Whose page map is changed. `own`: must be the caller, or 0.
    pub env: EnvId,
    /// `map`: the first page that is shared.
    pub source: Va,
    /// The first page that is changed.
    pub va: Va,
    /// `alloc`, `map`, `protect`: permissions; `mark`: the word.
    pub arg: u64,
}

impl PageOp {
    const fn new(call: Call, env: EnvId, va: Va, count: u32, arg: u64) -> PageOp {
        let (source_env, source) = (EnvId(0), Va(0));
        PageOp { call: call as u32, count, source_env, env, source, va, arg }
    }

    /// Fresh zeroed pages.
    #[must_use]
    pub const fn alloc(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Alloc, env, va, count, perms.bits())
    }

    /// Share the pages at `source` of `source_env`.
    #[must_use]
    pub const fn map(source_env: EnvId, source: Va, env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        let op = PageOp::new(Call::Map, env, va, count, perms.bits());
        PageOp { source_env, source, ..op }
    }

    /// Change permissions.
    #[must_use]
    pub const fn protect(env: EnvId, va: Va, count: u32, perms: Perms) -> PageOp {
        PageOp::new(Call::Protect, env, va, count, perms.bits())
    }

    /// Remove pages and marks.
    #[must_use]
    pub const fn unmap(env: EnvId, va: Va, count: u32) -> PageOp {
        PageOp::new(Call::Unmap, env, va, count, 0)
    }

    /// Store a software word where no page is.
    #[must_use]
    pub const fn mark(env: EnvId, va: Va, count: u32, word: u64) -> PageOp {
        PageOp::new(Call::Mark, env, va, count, word)
    }

    /// Make pages the caller's alone, and writable.
    #[must_use]
    pub const fn own(va: Va, count: u32) -> PageOp {
        PageOp::new(Call::Own, EnvId(0), va, count, 0)
    }

    /// The same operation without its first `pages` pages.
    #[must_use]
    pub const fn skip(self, pages: u32) -> PageOp {
        PageOp {
            count: self.count - pages,
            source: self.source.add_pages(pages as u64),
            va: self.va.add_pages(pages as u64),
            ..self
        }
    }
}

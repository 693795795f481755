//! The page map of an environment: four levels of tables.

use crate::entry::user_entries;
use crate::frames::{Emptied, FILL, add};
use crate::{Machine, Memory, Table};
use abi::layout::UVPT_SLOT;
use abi::{Error, Frame, PAGE_SIZE, Pte, Va};
use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One address space, named by the frame of its top-level table.
///
/// Whoever has the value holds the lock of the environment that it belongs to.
pub struct Space<M> {
    pub(crate) root: Frame,
    /// The tables that were walked to last: to grant a page, and for everything else.
    pub(crate) last: [Cell<Walk>; 2],
    /// What was spent since somebody asked, beyond what every page takes: instructions, roughly.
    pub(crate) work: u32,
    /// What lies below is gone already: teardown goes on here.
    pub(crate) torn_down: Va,
    /// Who may have cached what changes here.
    pub(crate) loaded: Loaded,
    /// Something was taken away that another processor may have cached.
    pub(crate) stale: bool,
    /// The same for this processor, and it is more than single pages could be forgotten for.
    pub(crate) stale_here: bool,
    /// Frames that cannot be given back before it has forgotten them.
    pub(crate) parked: [Frame; PARKED],
    pub(crate) parked_len: usize,
    pub(crate) machine: PhantomData<M>,
}

/// Which processor has a space loaded. It is one at the most: an environment runs in one place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// This one: whoever runs changes its own space. That is so whenever nobody [says](Space::begin) otherwise.
    Here,
    /// None.
    Nowhere,
    /// Another one, or it may load it at any time.
    Elsewhere,
}

/// So many frames wait for one flush at the most.
pub(crate) const PARKED: usize = 16;

/// The result of a walk down to a table of level 1: good for 2 MiB, until a table is freed.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// The address, divided by 2 MiB; and [`Walk::READ_ONLY`], unless every level above allows writing.
    pub span: u64,
    pub entries: &'static Table,
    pub table: Frame,
}

impl Walk {
    pub const READ_ONLY: u64 = 1 << 63;

    pub fn new<M: Machine>(va: Va, table: Frame, writable: bool) -> Walk {
        let read_only = if writable { 0 } else { Walk::READ_ONLY };
        Walk { span: (va.0 / SPAN) | read_only, entries: M::table(table), table }
    }

    /// To nowhere.
    pub fn none<M: Machine>(root: Frame) -> Walk {
        Walk { span: u64::MAX, entries: M::table(root), table: root }
    }
}

/// What a table of level 1 translates, in bytes.
pub(crate) const SPAN: u64 = 512 * PAGE_SIZE;

/// Where a page is translated: its leaf entry, found by [`Space::find`].
pub(crate) struct Leaf {
    pub entry: &'static AtomicU64,
    /// What was in it. (The processor may set A and D at any time, if it is present.)
    pub pte: Pte,
    /// The table that holds the entry.
    pub table: Frame,
    /// Whether every level above allows writing.
    pub writable_above: bool,
}

impl Leaf {
    /// What the holder may do: the AND over all levels, never the leaf alone.
    #[inline]
    pub fn allows(&self, right: u64) -> bool {
        self.writable_above && self.pte.has(right)
    }
}

impl<M: Machine> Space<M> {
    /// An address space with no pages: the kernel's half and the windows are those of `template`, in which there is
    /// nothing else.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(memory: &Memory<M>, template: Frame) -> Result<Self, Error> {
        let root = memory.take_emptied(Emptied::Root).map_or_else(|| new_root(memory, template), Ok)?;
        M::expect_zeros(user_entries::<M>(root, 4));
        Ok(Space {
            root,
            last: [0, 1].map(|_| Cell::new(Walk::none::<M>(root))),
            work: 0,
            torn_down: Va(0),
            loaded: Loaded::Here,
            stale: false,
            stale_here: false,
            parked: [Frame(0); PARKED],
            parked_len: 0,
            machine: PhantomData,
        })
    }

    /// The frame of the top-level table.
    #[inline]
    #[must_use]
    pub fn root(&self) -> Frame {
        self.root
    }

    /// Instructions that were spent since somebody asked, roughly, beyond what every page takes: on filling frames, on
    /// freeing those that were displaced, on tables that come and go, and on asking processors. Most of the work of a page
    /// call.
    #[inline]
    pub fn take_work(&mut self) -> u32 {
        core::mem::take(&mut self.work)
    }

    /// So much came.
    #[inline(always)]
    pub(crate) fn has_worked(&mut self, instructions: u32) {
        add(&mut self.work, instructions);
    }

    #[inline(always)]
    pub(crate) fn has_filled(&mut self, frames: u32) {
        self.has_worked(frames * FILL);
    }
}

/// A top-level table: the kernel's half, and itself.
fn new_root<M: Machine>(memory: &Memory<M>, template: Frame) -> Result<Frame, Error> {
    let root = memory.alloc_copy(template, &mut 0)?;
    let own = Pte(root.address() | Pte::PRESENT | Pte::USER | Pte::NO_EXEC);
    M::table(root)[UVPT_SLOT as usize].store(own.0, Relaxed);
    Ok(root)
}

//! The page map of an environment: four levels of tables.

use crate::frames::{Emptied, add};
use crate::{Machine, Table, entry::user_entries};
use abi::{Error, Frame, Level, PAGE_SIZE, Pte, Va, layout::UVPT_SLOT};
use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One page map, named by the frame of its top-level table.
///
/// Access to the value implies holding the lock of the environment that it belongs to.
///
/// It can be read as it is. Calls change it through an [`Edit`](crate::Edit), except for the fast path on one page, and
/// except for teardown: then no processor has it loaded.
pub struct PageMap<M>(pub(crate) Editable<M>);

impl<M> Deref for PageMap<M> {
    type Target = Editable<M>;

    #[inline(always)]
    fn deref(&self) -> &Editable<M> {
        &self.0
    }
}

/// The content of a page map, with the operations that change it.
pub struct Editable<M> {
    pub(crate) root: Frame,
    /// The level-1 tables of the last walks: one walk for entries that are changed, one for pages that are read, written
    /// or granted.
    pub(crate) last: [Cell<Walk>; 2],
    /// Work since the last [`Editable::take_work`], beyond the fixed cost of every page: instructions, roughly.
    pub(crate) work: u32,
    /// The address at which teardown continues: everything below it is gone.
    pub(crate) torn_down: Va,
    /// Where translations of this page map may be cached.
    pub(crate) loaded: Loaded,
    /// Whether another processor may have cached a translation that was taken away.
    pub(crate) stale: bool,
    /// Whether this processor's TLB needs a full invalidation (too many pages for single ones, or a table changed).
    pub(crate) stale_here: bool,
    /// Frames that wait for the pending TLB shootdown before they are freed.
    pub(crate) deferred: [Frame; DEFERRED],
    pub(crate) deferred_len: usize,
    pub(crate) machine: PhantomData<M>,
}

/// Where a page map is loaded: on one processor at most, since an environment runs in one place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// On this processor: an environment changes its own page map. The default, unless [`PageMap::edit`] finds
    /// otherwise.
    Here,
    /// On no processor.
    Nowhere,
    /// On another processor, or another one may load it at any time.
    Elsewhere,
}

/// The greatest number of frames that wait for one TLB shootdown.
pub(crate) const DEFERRED: usize = 16;

/// The result of a walk down to a table of level 1: valid for 2 MiB, until a table is freed.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// The address divided by 2 MiB; with [`Walk::CLOSED`], unless every table above is private.
    pub span: u64,
    pub entries: &'static Table,
    pub table: Frame,
    /// The low half of the AND over the levels above; 0 if a table was made.
    pub above: u32,
}

impl Walk {
    /// A bit that no address has.
    pub const CLOSED: u64 = Pte::EDIT;

    /// A walk to a table. `above` is the AND over the entries on the way.
    pub fn new<M: Machine>(va: Va, table: Frame, above: u64) -> Walk {
        let closed = !above & Walk::CLOSED;
        Walk { span: (va.0 / SPAN) | closed, entries: M::table(table), table, above: above as u32 }
    }

    /// Whether every level above allows writing.
    #[inline(always)]
    pub fn is_writable(&self) -> bool {
        self.above & Pte::WRITABLE as u32 != 0
    }

    /// An empty walk: matches no address.
    pub fn none<M: Machine>(root: Frame) -> Walk {
        Walk { span: u64::MAX, entries: M::table(root), table: Frame(0), above: 0 }
    }
}

/// The number of bytes that a table of level 1 translates.
pub(crate) const SPAN: u64 = 512 * PAGE_SIZE;

/// The leaf entry of a page, found by [`Editable::find`].
pub(crate) struct Leaf {
    pub entry: &'static AtomicU64,
    /// The value of the entry. (The processor may set A and D at any time, if the page is present.)
    pub pte: Pte,
    /// The table that holds the entry.
    pub table: Frame,
    /// Whether every table above is private, so that the entry may be changed.
    pub open: bool,
    /// Whether every level above allows writing. (Not known to a walk that made tables.)
    pub writable_above: bool,
}

impl<M: Machine> PageMap<M> {
    /// A page map with no pages: the kernel's half and the windows are copied from `template`, which has nothing else.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new(template: Frame) -> Result<Self, Error> {
        let root = M::memory().take_emptied(Emptied::Root).map_or_else(|| new_root::<M>(template), Ok)?;
        M::expect_zeros(user_entries::<M>(root, Level::L4));
        Ok(PageMap(Editable {
            root,
            last: [0, 1].map(|_| Cell::new(Walk::none::<M>(root))),
            work: 0,
            torn_down: Va(0),
            loaded: Loaded::Here,
            stale: false,
            stale_here: false,
            deferred: [Frame(0); DEFERRED],
            deferred_len: 0,
            machine: PhantomData,
        }))
    }
}

impl<M: Machine> Editable<M> {
    /// The frame of the top-level table.
    pub fn root(&self) -> Frame {
        self.root
    }

    /// Takes the work since the last call, in instructions, roughly, beyond the fixed cost of every page: filling
    /// frames, freeing replaced frames, adding and removing tables, and searching at processors. Most of the work of a
    /// page call.
    pub fn take_work(&mut self) -> u32 {
        core::mem::take(&mut self.work)
    }

    /// Adds to the work.
    #[inline(always)]
    pub(crate) fn has_worked(&mut self, instructions: u32) {
        add(&mut self.work, instructions);
    }
}

/// Makes a top-level table: the kernel's half, and the self map.
fn new_root<M: Machine>(template: Frame) -> Result<Frame, Error> {
    let root = M::memory().alloc_copy(template, &mut 0)?;
    let own = Pte(root.address() | Pte::PRESENT | Pte::USER | Pte::NO_EXEC);
    M::table(root)[UVPT_SLOT as usize].store(own.0, Relaxed);
    Ok(root)
}

//! The part of a processor that translates addresses: it walks the page tables like the hardware, and caches the result
//! until it is invalidated.

use abi::{Frame, Level, Pte, Va, page::span};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;
use vm::Machine;

/// The kind of an access by a user program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads a word.
    Read,
    /// Writes a word.
    Write,
    /// Executes an instruction.
    Fetch,
}

/// Rights collected on the way down: the AND over the levels.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rights {
    write: bool,
    user: bool,
    exec: bool,
}

impl Rights {
    const ALL: Rights = Rights { write: true, user: true, exec: true };

    fn and(self, pte: Pte) -> Rights {
        Rights {
            write: self.write && pte.has(Pte::WRITABLE),
            user: self.user && pte.has(Pte::USER),
            exec: self.exec && !pte.has(Pte::NO_EXEC),
        }
    }

    fn allow(self, access: Access) -> bool {
        self.user
            && match access {
                Access::Read => true,
                Access::Write => self.write,
                Access::Fetch => self.exec,
            }
    }
}

/// A cached translation.
struct Cached {
    frame: Frame,
    rights: Rights,
    /// D is already set in the entry, so a write need not access it.
    dirty: bool,
}

/// A processor's TLB. It caches translations per page, and entries that point to page tables, by level and the address
/// bits that select them, like real processors.
pub struct Processor<M> {
    root: Option<Frame>,
    pages: HashMap<Va, Cached>,
    tables: HashMap<(Level, u64), (Frame, Rights)>,
    machine: PhantomData<M>,
}

impl<M> Default for Processor<M> {
    fn default() -> Self {
        Processor { root: None, pages: HashMap::new(), tables: HashMap::new(), machine: PhantomData }
    }
}

/// The bits of an address that select the entry at a level.
fn prefix(va: Va, level: Level) -> u64 {
    va.0 / span(level)
}

impl<M: Machine> Processor<M> {
    /// Loads another top-level table: all cached translations are invalidated.
    pub fn load(&mut self, root: Option<Frame>) {
        *self = Processor { root, ..Processor::default() };
    }

    /// Whether the processor uses this top-level table.
    pub fn has(&self, root: Frame) -> bool {
        self.root == Some(root)
    }

    /// `invlpg`: invalidates one page, and all cached entries that point to page tables.
    pub fn invalidate(&mut self, root: Frame, page: Va) {
        if self.root == Some(root) {
            self.pages.remove(&page);
            self.tables.clear();
        }
    }

    /// Invalidates all cached translations of a page map.
    pub fn invalidate_all(&mut self, root: Frame) {
        if self.root == Some(root) {
            self.load(self.root);
        }
    }

    /// An address for which the processor still caches this frame.
    pub fn knows(&self, frame: Frame) -> Option<Va> {
        let pages = self.pages.iter().map(|(va, cached)| (*va, cached.frame));
        let tables = self.tables.iter().map(|((level, prefix), (table, _))| (Va(prefix * span(*level)), *table));
        pages.chain(tables).find(|(_, known)| *known == frame).map(|(va, _)| va)
    }

    /// The frame behind an address, or `None`: a page fault.
    pub fn translate(&mut self, va: Va, access: Access) -> Option<Frame> {
        if let Some(cached) = self.pages.get(&va.page()) {
            if !cached.rights.allow(access) {
                // The fault itself invalidates the translation.
                self.pages.remove(&va.page());
                return None;
            }
            if access != Access::Write || cached.dirty {
                return Some(cached.frame);
            }
        }
        self.walk(va, access)
    }

    /// A page whose cached translation differs from the page tables.
    pub fn stale(&self) -> Option<Va> {
        let stands = |va: &Va, cached: &Cached| {
            let mut fresh = Processor::<M> { root: self.root, ..Processor::default() };
            fresh.walk(*va, Access::Read);
            fresh.pages.get(va).is_some_and(|now| (now.frame, now.rights) == (cached.frame, cached.rights))
        };
        self.pages.iter().find(|(va, cached)| !stands(va, cached)).map(|(va, _)| *va)
    }

    /// The frame that a processor without cached translations would find at an address.
    pub fn peek(&self, va: Va) -> Option<Frame> {
        Processor::<M> { root: self.root, ..Processor::default() }.walk(va, Access::Read)
    }

    fn walk(&mut self, va: Va, access: Access) -> Option<Frame> {
        let known = |level| Some((level, *self.tables.get(&(level, prefix(va, level)))?));
        let cached = Level::TABLES.into_iter().rev().find_map(known);
        let (mut table, mut rights) = cached.map_or((self.root?, Rights::ALL), |(_, found)| found);
        let is_below = |level: &Level| cached.is_none_or(|(known, _)| *level < known);
        let mut visited = Vec::new();
        for level in Level::DOWN.into_iter().filter(is_below) {
            let entry = &M::table(table)[va.index(level)];
            let pte = Pte(entry.load(SeqCst));
            if !pte.is_present() {
                return None;
            }
            rights = rights.and(pte);
            table = pte.frame();
            visited.push((level, entry, table, rights));
        }
        if !rights.allow(access) {
            return None;
        }
        let dirty = access == Access::Write;
        for (level, entry, frame, rights) in visited {
            let leaf_dirty = if dirty && level == Level::L1 { Pte::DIRTY } else { 0 };
            entry.fetch_or(Pte::ACCESSED | leaf_dirty, SeqCst);
            if level > Level::L1 {
                self.tables.insert((level, prefix(va, level)), (frame, rights));
            }
        }
        self.pages.insert(va.page(), Cached { frame: table, rights, dirty });
        Some(table)
    }
}

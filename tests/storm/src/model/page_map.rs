//! Pages and page maps. A page map is a tree of page tables; some page tables are in several trees.

use abi::{Error, Level, PAGE_SIZE, Perms, Pte, call::AGE, call::MARK_OVER_PAGE};
use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

/// A page frame that holds a page.
#[derive(Default)]
pub struct Page {
    pub refs: u32,
    /// The contents; `None`: zeros.
    bytes: Option<Box<[u8; PAGE_SIZE as usize]>>,
}

impl Page {
    pub fn read(&self, offset: u64) -> u64 {
        let bytes = self.bytes.as_ref().map_or(&[0; 8][..], |bytes| &bytes[offset as usize..][..8]);
        u64::from_le_bytes(bytes.try_into().unwrap_or_default())
    }

    pub fn write(&mut self, offset: u64, word: u64) {
        let bytes = self.bytes.get_or_insert_with(|| Box::new([0; PAGE_SIZE as usize]));
        bytes[offset as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }

    pub fn byte(&self, offset: u64) -> u8 {
        self.bytes.as_ref().map_or(0, |bytes| bytes[offset as usize])
    }
}

/// A page frame that holds a page table: its entries that are not empty, by index.
#[derive(Clone, Default)]
pub struct Table {
    pub refs: u32,
    pub entries: BTreeMap<usize, Entry>,
}

/// An entry that is not empty.
#[derive(Clone, Copy)]
pub enum Entry {
    /// A page, or a mark.
    Slot(Slot),
    /// A page table. If it is not open, nothing below can be written or changed: it may be shared. If it is sealed,
    /// nothing below can be written.
    Table { table: usize, open: bool, sealed: bool },
}

/// All page frames that are in use, and the number of the others.
#[derive(Default)]
pub struct Pages {
    /// The number of free frames.
    pub free: u64,
    pub all: Vec<Page>,
    /// Indices in `all` that are free.
    pub gone: Vec<usize>,
    /// The frames that hold page tables.
    pub tables: BTreeMap<usize, Table>,
    /// How many shared page tables were owned: kept, and copied.
    pub owned_tables: [u32; 2],
}

impl Pages {
    /// A page of zeros, without a reference and without taking a frame; the caller puts it somewhere.
    pub fn add(&mut self) -> usize {
        let page = self.gone.pop().unwrap_or(self.all.len());
        if page == self.all.len() {
            self.all.push(Page::default());
        }
        self.all[page] = Page { refs: 1, bytes: None };
        page
    }

    /// A page of zeros with a reference.
    pub fn alloc(&mut self) -> Result<usize, Error> {
        self.take(1)?;
        Ok(self.add())
    }

    /// Takes this many frames.
    pub fn take(&mut self, frames: u64) -> Result<(), Error> {
        if self.free < frames {
            return Err(Error::NoMemory(0));
        }
        self.free -= frames;
        Ok(())
    }

    pub fn share(&mut self, page: usize) {
        self.all[page].refs += 1;
    }

    pub fn release(&mut self, page: usize) {
        self.all[page].refs -= 1;
        if self.all[page].refs == 0 {
            self.free += 1;
            self.gone.push(page);
        }
    }

    /// A page with the same contents.
    pub fn copy(&mut self, page: usize) -> Result<usize, Error> {
        let copy = self.alloc()?;
        self.all[copy].bytes = self.all[page].bytes.clone();
        Ok(copy)
    }
}

/// An entry that is not empty: a page, or a mark.
#[derive(Clone, Copy)]
pub struct Slot {
    /// The visible entry, without the frame.
    pub bits: u64,
    pub page: usize,
}

impl Slot {
    fn new(page: usize, perms: Perms, may: bool) -> Slot {
        let may = if may { Pte::MAY } else { 0 };
        Slot { bits: Pte::page(abi::Frame(0), perms).0 | may, page }
    }

    pub fn mark(word: u64) -> Slot {
        Slot { bits: Pte::mark(word).0, page: 0 }
    }

    pub fn own(page: usize, perms: Perms) -> Slot {
        Slot::new(page, perms, true)
    }

    pub fn shared(page: usize, perms: Perms) -> Slot {
        Slot::new(page, perms, perms.contains(Perms::WRITE))
    }

    pub fn text(page: usize) -> Slot {
        Slot::new(page, Perms::EXEC, false)
    }

    pub fn is_present(&self) -> bool {
        self.has(Pte::PRESENT)
    }

    pub fn has(&self, bit: u64) -> bool {
        self.bits & bit != 0
    }
}

/// A page map, by its table of level 4.
#[derive(Clone, Copy)]
pub struct PageMap {
    pub root: usize,
}

impl PageMap {
    pub fn new(pages: &mut Pages) -> Result<PageMap, Error> {
        pages.take(1)?;
        Ok(PageMap { root: pages.add_table(Table::default()) })
    }

    /// The page or mark at this address.
    pub fn slot(self, pages: &Pages, va: u64) -> Option<Slot> {
        match self.entry(pages, va, Level::L1)? {
            Entry::Slot(slot) => Some(slot),
            Entry::Table { .. } => None,
        }
    }

    pub fn page(self, pages: &Pages, va: u64) -> Option<Slot> {
        self.slot(pages, va).filter(|slot| slot.is_present())
    }

    /// Whether the page can be written now: the page itself and all levels above allow that.
    pub fn is_writable(self, pages: &Pages, va: u64) -> bool {
        let page = self.page(pages, va);
        page.is_some_and(|page| page.has(Pte::WRITABLE))
            && self.require_open(pages, va, Level::L1).is_ok()
            && !self.is_sealed(pages, va)
    }

    /// Fills an entry, and replaces its old content. It takes over a reference to its page.
    pub fn put(self, pages: &mut Pages, va: u64, new: Slot) -> Result<(), Error> {
        self.make(pages, va, Level::L1)?;
        if let Some(old) = self.page(pages, va) {
            pages.release(old.page);
        }
        self.set(pages, va, Level::L1, Some(Entry::Slot(new)));
        Ok(())
    }

    /// Changes the bits of a present page.
    pub fn change(self, pages: &mut Pages, va: u64, f: impl FnOnce(u64) -> u64) {
        if let Some(slot) = self.page(pages, va) {
            self.set(pages, va, Level::L1, Some(Entry::Slot(Slot { bits: f(slot.bits), ..slot })));
        }
    }

    /// Empties an entry; a page table that is empty afterwards is freed, too.
    fn clear(self, pages: &mut Pages, va: u64) {
        if let Some(old) = self.page(pages, va) {
            pages.release(old.page);
        }
        self.set(pages, va, Level::L1, None);
        self.prune(pages, va);
    }

    /// Frees everything, including the root.
    pub fn tear_down(self, pages: &mut Pages) {
        pages.release_table(self.root);
    }
}

/// The effects of the page calls on one page.
impl PageMap {
    pub fn alloc(self, pages: &mut Pages, va: u64, perms: Perms) -> Result<(), Error> {
        let page = pages.alloc()?;
        let put = self.put(pages, va, Slot::own(page, perms));
        put.inspect_err(|_| pages.release(page))
    }

    /// Maps a fresh page with the contents of another one.
    pub fn copy(self, pages: &mut Pages, va: u64, from: usize, perms: Perms) -> Result<(), Error> {
        let page = pages.copy(from)?;
        let put = self.put(pages, va, Slot::own(page, perms));
        put.inspect_err(|_| pages.release(page))
    }

    /// The page at `va`, to be mapped elsewhere with these permissions.
    pub fn grant(self, pages: &Pages, va: u64, perms: Perms) -> Result<usize, Error> {
        let slot = self.page(pages, va).ok_or(Error::NotMapped(va))?;
        if perms.contains(Perms::WRITE) {
            if !slot.has(Pte::WRITABLE) {
                return Err(Error::NoRight(va));
            }
            self.require_open(pages, va, Level::L1)?;
            if self.is_sealed(pages, va) {
                return Err(Error::NoRight(va));
            }
        }
        Ok(slot.page)
    }

    pub fn accept(self, pages: &mut Pages, va: u64, page: usize, perms: Perms) -> Result<(), Error> {
        pages.share(page);
        let put = self.put(pages, va, Slot::shared(page, perms));
        put.inspect_err(|_| pages.release(page))
    }

    pub fn protect(self, pages: &mut Pages, va: u64, argument: u64) -> Result<(), Error> {
        let perms = Perms::checked(argument & !AGE)?;
        let slot = self.page(pages, va).ok_or(Error::NotMapped(va))?;
        self.require_open(pages, va, Level::L1)?;
        if perms.contains(Perms::WRITE) && !slot.has(Pte::MAY) {
            return Err(Error::NoRight(va));
        }
        let stays = Pte::DIRTY | Pte::MAY | if argument & AGE == 0 { Pte::ACCESSED } else { 0 };
        self.change(pages, va, |bits| Pte::page(abi::Frame(0), perms).0 | bits & stays);
        Ok(())
    }

    pub fn unmap(self, pages: &mut Pages, va: u64) -> Result<(), Error> {
        self.slot(pages, va).ok_or(Error::NotMapped(va))?;
        self.require_open(pages, va, Level::L1)?;
        self.clear(pages, va);
        Ok(())
    }

    /// Stores a mark in place of what is there.
    pub fn mark_over(self, pages: &mut Pages, va: u64, argument: u64) -> Result<(), Error> {
        let word = argument & !MARK_OVER_PAGE;
        let fits = (1..=Pte::MARK_MAX).contains(&word);
        if fits { self.put(pages, va, Slot::mark(word)) } else { Err(Error::BadWord(argument)) }
    }

    pub fn mark(self, pages: &mut Pages, va: u64, word: u64) -> Result<(), Error> {
        if word > Pte::MARK_MAX {
            return Err(Error::BadWord(word));
        }
        if self.page(pages, va).is_some() {
            return Err(Error::Mapped(va));
        }
        if word != 0 {
            return self.put(pages, va, Slot::mark(word));
        }
        if self.has_table(pages, va, Level::L1) {
            self.require_open(pages, va, Level::L1)?;
            self.clear(pages, va);
        }
        Ok(())
    }

    pub fn own(self, pages: &mut Pages, va: u64) -> Result<(), Error> {
        let mut slot = self.page(pages, va).ok_or(Error::NotMapped(va))?;
        self.require_open(pages, va, Level::L1)?;
        if !slot.has(Pte::NO_EXEC) {
            return Err(Error::Executable(va));
        }
        if pages.all[slot.page].refs > 1 {
            let copy = pages.copy(slot.page)?;
            pages.release(slot.page);
            slot.page = copy;
            slot.bits &= !(Pte::ACCESSED | Pte::DIRTY);
        }
        slot.bits = (slot.bits & !Perms::COW.bits()) | Pte::WRITABLE | Pte::MAY;
        self.set(pages, va, Level::L1, Some(Entry::Slot(slot)));
        Ok(())
    }
}

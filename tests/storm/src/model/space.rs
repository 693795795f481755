//! Pages and page maps.

use abi::{Error, PAGE_SIZE, Perms, Pte};
use alloc::collections::BTreeMap;
use alloc::{boxed::Box, vec::Vec};

/// A page frame that holds a page. (Those that hold tables are only counted.)
#[derive(Default)]
pub struct Page {
    pub refs: u32,
    /// None: zeros.
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

/// All of them.
pub struct Pages {
    /// Frames that nobody has.
    pub free: u64,
    pub all: Vec<Page>,
    /// Indices of those that are no more.
    pub gone: Vec<usize>,
}

impl Pages {
    /// A page of zeros, without a reference and without taking a frame: to be put somewhere.
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

    /// So many frames, for tables.
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
    /// The entry as it can be seen, the frame left out.
    pub bits: u64,
    pub page: usize,
}

impl Slot {
    fn new(page: usize, perms: Perms, may: bool) -> Slot {
        let may = if may { Pte::MAY } else { 0 };
        Slot { bits: Pte::page(abi::Frame(0), perms).0 | may, page }
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

/// A page map.
#[derive(Default)]
pub struct Space {
    pub slots: BTreeMap<u64, Slot>,
    /// For each table below the root, by level and number, how many of its entries are in use.
    tables: BTreeMap<(u32, u64), u32>,
}

/// The tables of level 3, 2 and 1 on the way to an address.
fn path(va: u64) -> [(u32, u64); 3] {
    [(3, va >> 39), (2, va >> 30), (1, va >> 21)]
}

impl Space {
    pub fn new(pages: &mut Pages) -> Result<Space, Error> {
        pages.take(1).map(|()| Space::default())
    }

    /// What is at this address.
    pub fn slot(&self, va: u64) -> Option<&Slot> {
        self.slots.get(&(va - va % PAGE_SIZE))
    }

    pub fn page(&self, va: u64) -> Option<&Slot> {
        self.slot(va).filter(|slot| slot.is_present())
    }

    pub fn page_mut(&mut self, va: u64) -> Option<&mut Slot> {
        self.slots.get_mut(&(va - va % PAGE_SIZE)).filter(|slot| slot.is_present())
    }

    /// Make the tables for an address.
    fn make(&mut self, pages: &mut Pages, va: u64) -> Result<(), Error> {
        let missing = path(va).into_iter().filter(|table| !self.tables.contains_key(table)).count();
        pages.take(missing as u64)?;
        let mut above: Option<(u32, u64)> = None;
        for table in path(va) {
            if self.tables.insert(table, self.tables.get(&table).copied().unwrap_or(0)).is_none()
                && let Some(above) = above
            {
                *self.tables.entry(above).or_default() += 1;
            }
            above = Some(table);
        }
        Ok(())
    }

    /// Fill an entry, instead of whatever is there. It takes over a reference to its page.
    pub fn put(&mut self, pages: &mut Pages, va: u64, new: Slot) -> Result<(), Error> {
        self.make(pages, va)?;
        match self.slots.insert(va, new) {
            Some(old) if old.is_present() => pages.release(old.page),
            Some(_) => {}
            None => *self.tables.entry(path(va)[2]).or_default() += 1,
        }
        Ok(())
    }

    /// Empty an entry; a table that is empty then goes, too.
    pub fn clear(&mut self, pages: &mut Pages, va: u64) {
        let Some(old) = self.slots.remove(&va) else { return };
        if old.is_present() {
            pages.release(old.page);
        }
        for table in path(va).into_iter().rev() {
            let entries = self.tables.entry(table).or_default();
            *entries -= 1;
            if *entries > 0 {
                return;
            }
            self.tables.remove(&table);
            pages.free += 1;
        }
    }

    /// Give everything back, the root too.
    pub fn tear_down(self, pages: &mut Pages) {
        self.slots.values().filter(|slot| slot.is_present()).for_each(|slot| pages.release(slot.page));
        pages.free += 1 + self.tables.len() as u64;
    }
}

/// What the page calls do to one page.
impl Space {
    pub fn alloc(&mut self, pages: &mut Pages, va: u64, perms: Perms) -> Result<(), Error> {
        let page = pages.alloc()?;
        let put = self.put(pages, va, Slot::own(page, perms));
        put.inspect_err(|_| pages.release(page))
    }

    /// The page at `va`, for somebody who wants it with these permissions.
    pub fn grant(&self, va: u64, perms: Perms) -> Result<usize, Error> {
        let slot = self.page(va).ok_or(Error::NotMapped(va))?;
        if perms.contains(Perms::WRITE) && !slot.has(Pte::WRITABLE) {
            return Err(Error::NoRight(va));
        }
        Ok(slot.page)
    }

    pub fn accept(&mut self, pages: &mut Pages, va: u64, page: usize, perms: Perms) -> Result<(), Error> {
        pages.share(page);
        let put = self.put(pages, va, Slot::shared(page, perms));
        put.inspect_err(|_| pages.release(page))
    }

    pub fn protect(&mut self, va: u64, perms: Perms) -> Result<(), Error> {
        let slot = self.page_mut(va).ok_or(Error::NotMapped(va))?;
        if perms.contains(Perms::WRITE) && !slot.has(Pte::MAY) {
            return Err(Error::NoRight(va));
        }
        let stays = slot.bits & (Pte::ACCESSED | Pte::DIRTY | Pte::MAY);
        slot.bits = Pte::page(abi::Frame(0), perms).0 | stays;
        Ok(())
    }

    pub fn unmap(&mut self, pages: &mut Pages, va: u64) -> Result<(), Error> {
        self.slot(va).ok_or(Error::NotMapped(va))?;
        self.clear(pages, va);
        Ok(())
    }

    pub fn mark(&mut self, pages: &mut Pages, va: u64, word: u64) -> Result<(), Error> {
        if word > Pte::MARK_MAX {
            return Err(Error::BadWord(word));
        }
        match self.slot(va) {
            Some(slot) if slot.is_present() => Err(Error::Mapped(va)),
            _ if word == 0 => {
                self.clear(pages, va);
                Ok(())
            }
            _ => self.put(pages, va, Slot { bits: Pte::mark(word).0, page: 0 }),
        }
    }

    pub fn own(&mut self, pages: &mut Pages, va: u64) -> Result<(), Error> {
        let slot = self.page_mut(va).ok_or(Error::NotMapped(va))?;
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
        Ok(())
    }
}

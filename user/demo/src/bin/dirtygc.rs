//! A generational garbage collector that finds writes to old objects in the D bits of the page table.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{collections::BTreeSet, vec, vec::Vec};
use bytemuck::{cast_slice, cast_slice_mut};
use core::ops::Range;
use libos::mmap::{MmapMut, MmapOptions};
use libos::{EnvId, Error, PAGE_SIZE, Perms, Pte, Va, println, sys, uvpt};

libos::entry!(main);

/// An object: a value, references to two other objects, and, if it was promoted, its new place. A reference is the
/// number of an object; 0 means none.
type Object = [u64; 4];
const VALUE: usize = 0;
const NEXT: usize = 1;
const TAG: usize = 2;
const MOVED: usize = 3;
const PER_PAGE: usize = PAGE_SIZE as usize / size_of::<Object>();

/// Objects below this number are young, the others are old.
const YOUNG: usize = 4096;
const OBJECTS: usize = 1 << 20;

/// A heap. All live objects are reachable from old ones.
struct Heap {
    memory: MmapMut,
    next_young: usize,
    next_old: usize,
}

struct Collection {
    scanned: usize,
    old_pages: usize,
    promoted: usize,
    young: usize,
}

impl Heap {
    fn new() -> Result<Heap, Error> {
        let memory = MmapOptions::new().len(OBJECTS * size_of::<Object>()).map_anon()?;
        Ok(Heap { memory, next_young: 1, next_old: YOUNG })
    }

    fn objects(&self) -> &[Object] {
        cast_slice(&self.memory)
    }

    /// The objects, for writing. Writes need no extra work: that is the point.
    fn objects_mut(&mut self) -> &mut [Object] {
        cast_slice_mut(&mut self.memory)
    }

    fn new_young(&mut self, object: Object) -> u64 {
        let number = self.next_young;
        assert!(number < YOUNG, "it is time for a collection");
        self.next_young += 1;
        self.objects_mut()[number] = object;
        number as u64
    }

    fn new_old(&mut self, object: Object) -> u64 {
        let number = self.next_old;
        self.next_old += 1;
        self.objects_mut()[number] = object;
        number as u64
    }

    /// Promotes young objects to which old ones refer, and drops the others.
    fn collect(&mut self) -> Result<Collection, Error> {
        let start = self.memory.range().start;
        let old = start.add_pages((YOUNG / PER_PAGE) as u64)..self.memory.range().end;
        let first_promoted = self.next_old;

        // An old object can refer to a young one only if it was written since the last collection. All of them are
        // found before anything is promoted, since promotion makes pages dirty, too.
        let is_dirty = |page: Pte| page.has(Pte::DIRTY).then_some(());
        let dirty: Vec<(Va, u64, ())> = uvpt::runs(old.clone(), is_dirty).collect();
        for &(page, count, ()) in &dirty {
            let first = (page.0 - start.0) as usize / size_of::<Object>();
            self.promote_from(first..first + count as usize * PER_PAGE);
        }
        // A promoted object may refer to others.
        let mut done = first_promoted;
        while done < self.next_old {
            self.promote_from(done..done + 1);
            done += 1;
        }

        let collection = Collection {
            scanned: dirty.iter().map(|&(_, count, ())| count as usize).sum(),
            old_pages: uvpt::entries(old.clone()).count(),
            promoted: self.next_old - first_promoted,
            young: self.next_young - 1,
        };
        // No old object refers to a young one now. A page that is mapped onto itself is clean.
        for (page, count, ()) in uvpt::runs(old, is_dirty) {
            sys::map(EnvId::SELF, page, EnvId::SELF, page, count, Perms::WRITE)?;
        }
        self.next_young = 1;
        Ok(collection)
    }

    fn promote_from(&mut self, old: Range<usize>) {
        for number in old {
            for field in [NEXT, TAG] {
                let young = self.objects()[number][field] as usize;
                if young != 0 && young < YOUNG {
                    self.objects_mut()[number][field] = self.promote(young);
                }
            }
        }
    }

    fn promote(&mut self, young: usize) -> u64 {
        let object = self.objects()[young];
        if object[MOVED] == 0 {
            self.objects_mut()[young][MOVED] = self.new_old(object);
        }
        self.objects()[young][MOVED]
    }
}

/// The values in the list behind an object.
fn list(heap: &Heap, head: usize) -> Vec<u64> {
    let objects = heap.objects();
    let behind = |&number: &usize| Some(objects[number][NEXT] as usize).filter(|&next| next != 0);
    core::iter::successors(behind(&head), behind).map(|number| objects[number][VALUE]).collect()
}

fn main() -> Result<(), Error> {
    const LISTS: usize = 100 * PER_PAGE;
    let mut heap = Heap::new()?;
    let mut random = 1_u64;
    (0..LISTS).for_each(|_| _ = heap.new_old([0; 4]));
    // The expected content of the lists, each with the newest value first.
    let mut expected = vec![Vec::new(); LISTS];
    println!("{LISTS} lists, empty, on {} old pages: all of them are new", heap.collect()?.scanned);

    for round in 1..=6 {
        let mut written = BTreeSet::new();
        let tag = heap.new_young([round, 0, 0, 0]);
        for value in 0..1000 {
            // Most objects die young, because nothing refers to them.
            let object = heap.new_young([value, 0, tag, 0]);
            if value % 100 < 2 * round {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let head = YOUNG + (random >> 33) as usize % LISTS;
                let objects = heap.objects_mut();
                objects[object as usize][NEXT] = core::mem::replace(&mut objects[head][NEXT], object);
                expected[head - YOUNG].insert(0, value);
                written.insert(head / PER_PAGE);
            }
        }
        let Collection { scanned, old_pages, promoted, young } = heap.collect()?;
        println!("round {round}: {scanned} of {old_pages} old pages scanned, {promoted} of {young} young objects live");
        assert_eq!(scanned, written.len(), "the pages that were written, and no others");
        assert!((0..LISTS).all(|n| list(&heap, YOUNG + n) == expected[n]), "something was lost");
    }
    let old = &heap.objects()[YOUNG..heap.next_old];
    assert!(old.iter().flat_map(|object| &object[NEXT..=TAG]).all(|&to| to == 0 || to >= YOUNG as u64));
    let values: usize = expected.iter().map(Vec::len).sum();
    println!("{} old objects: {LISTS} heads, {values} in lists, {} tags", old.len(), old.len() - LISTS - values);
    Ok(())
}

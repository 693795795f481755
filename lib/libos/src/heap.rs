//! The global allocator. Its memory is reserved as addresses, and allocated when it is touched.
//!
//! Small allocations come from a first-fit list in an arena that begins at [`HEAP`]. Extending the arena only moves
//! its end, which costs nothing: a page of zeros is mapped wherever the arena is first touched. The arena does not
//! shrink.
//!
//! Allocations of 64 KiB and more ([`LARGE`]) are regions of their own, which are removed when they are freed. When
//! one grows, it grows in place, or its pages move to another place: they are never copied.
//!
//! So the allocator may fault in the middle of its work, in its own arena. A fault handler of the program that then
//! runs and allocates would find the list half-changed. Such a handler is served from a small separate arena in
//! resident memory, where nothing faults.

use crate::layout::{HEAP, HEAP_END};
use crate::regions::{self, Region};
use crate::{Error, PAGE_SIZE, Perms, Va, resident::Local};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;
use pager::Zeros;

/// The size in bytes from which an allocation is a region of its own.
pub const LARGE: usize = 64 << 10;

pub(crate) static PAGER: Zeros = Zeros::named("heap");

/// The least number of bytes by which the arena grows.
const STEP: u64 = 1 << 20;
/// Bytes for handlers that interrupted the allocator. (With many more, fork would have a second page to copy.)
const SPARE: usize = 768;

struct Allocator {
    heap: UnsafeCell<Heap>,
    /// Whether the list is being changed.
    busy: Local<bool>,
    /// One past the last byte of the arena.
    end: Local<Va>,
    spare: UnsafeCell<Heap>,
    spare_bytes: UnsafeCell<[u64; SPARE / 8]>,
}

// SAFETY: an environment is a single thread; only its own fault handler may interrupt it. `busy` keeps the handler
// away from `heap`. The work on `spare` touches resident memory only and is never interrupted.
unsafe impl Sync for Allocator {}

#[cfg_attr(bare_metal, global_allocator)]
#[cfg_attr(not(bare_metal), allow(dead_code))]
#[unsafe(link_section = ".resident")]
static ALLOCATOR: Allocator = Allocator {
    heap: UnsafeCell::new(Heap::empty()),
    busy: Local::new(false),
    end: Local::new(HEAP),
    spare: UnsafeCell::new(Heap::empty()),
    spare_bytes: UnsafeCell::new([0; SPARE / 8]),
};

impl Allocator {
    /// Whether this memory came from the spare arena.
    fn is_spare(&self, memory: *mut u8) -> bool {
        let start = self.spare_bytes.get() as usize;
        (start..start + SPARE).contains(&(memory as usize))
    }

    /// Extends the arena to make room for `layout`. `false` if the address space is used up.
    fn extend(&self, heap: &mut Heap, layout: Layout) -> bool {
        let old = self.end.get();
        let need = (layout.size() + layout.align()) as u64 + PAGE_SIZE;
        let by = Va(need.max(STEP).max((old.0 - HEAP.0) / 2)).page_up().0;
        if by > HEAP_END.0 - old.0 {
            return false;
        }
        // Extend the region first: the allocator writes into its new room at once.
        let now = HEAP..if old == HEAP { HEAP.add_pages(1) } else { old };
        if regions::resize(&now, &(HEAP..Va(old.0 + by))).is_err() {
            return false;
        }
        self.end.set(Va(old.0 + by));
        // SAFETY: the arena belongs to this allocator alone, from HEAP to the new end; its pages are mapped when they
        // are touched.
        unsafe {
            if old == HEAP {
                heap.init(HEAP.0 as *mut u8, by as usize);
            } else {
                heap.extend(by as usize);
            }
        }
        true
    }

    fn alloc_main(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `busy` is set, so this is the only reference.
        let heap = unsafe { &mut *self.heap.get() };
        loop {
            if let Ok(memory) = heap.allocate_first_fit(layout) {
                return memory.as_ptr();
            }
            if layout.size() as u64 > HEAP_END.0 - HEAP.0 || !self.extend(heap, layout) {
                return null_mut();
            }
        }
    }

    fn alloc_spare(&self, layout: Layout) -> *mut u8 {
        // SAFETY: nothing in this function faults, so nothing interrupts it: this is the only reference. The spare
        // arena belongs to this heap alone.
        unsafe {
            let spare = &mut *self.spare.get();
            if spare.size() == 0 {
                spare.init(self.spare_bytes.get().cast(), SPARE);
            }
            spare.allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr)
        }
    }
}

/// The pages of a large allocation.
fn large(memory: *mut u8, bytes: usize) -> Range<Va> {
    Va(memory as u64)..Va(memory as u64 + bytes as u64).page_up()
}

/// Makes a region for a large allocation.
fn alloc_large(bytes: usize, align: usize) -> *mut u8 {
    let region = |range| Region::new(range, Perms::WRITE, &PAGER);
    let range = regions::add_anywhere(bytes as u64, align as u64, region);
    range.map_or(null_mut(), |range| range.start.0 as *mut u8)
}

/// Resizes a large allocation in place, if there is room; its new size is large, too.
fn resize_large(memory: *mut u8, old: Layout, bytes: usize) -> Result<*mut u8, Error> {
    let (old, new) = (large(memory, old.size()), large(memory, bytes));
    if new.end < old.end {
        regions::unmap(&(new.end..old.end))?;
    } else if new.end > old.end {
        regions::resize(&old, &new)?;
    }
    Ok(memory)
}

/// Moves the pages of a large allocation to a place with room for more.
fn move_large(memory: *mut u8, layout: Layout, bytes: usize) -> Result<*mut u8, Error> {
    let old = large(memory, layout.size());
    let room = alloc_large(bytes, layout.align());
    if room.is_null() {
        return Err(pager::Error::NoSpace(bytes as u64).into());
    }
    // The new region served to find the place; remove it, since the old region moves there.
    let new = large(room, bytes);
    regions::unmap(&new)?;
    regions::relocate(&old, &new)?;
    Ok(room)
}

// SAFETY: both heaps hand out memory that is theirs, fits the layout, and is handed out once; so does the table of
// regions. The size and address of an allocation tell where it came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            return alloc_large(layout.size(), layout.align());
        }
        if self.busy.get() {
            return self.alloc_spare(layout);
        }
        self.busy.set(true);
        let memory = self.alloc_main(layout);
        self.busy.set(false);
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let memory = unsafe { self.alloc(layout) };
        if layout.size() < LARGE && !memory.is_null() {
            // SAFETY: `layout.size()` bytes were just allocated. (Large allocations begin as zeros.)
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if layout.size() >= LARGE && bytes >= LARGE {
            let resized = resize_large(memory, layout, bytes);
            if let Ok(memory) = resized.or_else(|_| move_large(memory, layout, bytes)) {
                return memory;
            }
            // The program has cut the region into pieces: copy.
        }
        // SAFETY: the caller promises that `bytes`, rounded up to the alignment, is not too large.
        let new = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        // SAFETY: the caller got `memory` with this layout; the copied bytes fit both.
        unsafe {
            let room = self.alloc(new);
            if !room.is_null() {
                room.copy_from_nonoverlapping(memory, layout.size().min(bytes));
                self.dealloc(memory, layout);
            }
            room
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(pointer) = NonNull::new(memory) else { return };
        if layout.size() >= LARGE {
            // Fails if the table has no slot for the two pieces of a region that was joined with its neighbours, or if
            // a shared table cannot be copied. Then the memory and its addresses are lost, and nothing else.
            let _ = regions::unmap(&large(memory, layout.size()));
        } else if self.is_spare(memory) {
            // SAFETY: the caller got it from `alloc_spare`, with this layout.
            unsafe { (*self.spare.get()).deallocate(pointer, layout) }
        } else if !self.busy.get() {
            self.busy.set(true);
            // SAFETY: the caller got it from `alloc_main`, with this layout; `busy` is set.
            unsafe { (*self.heap.get()).deallocate(pointer, layout) };
            self.busy.set(false);
        }
        // Otherwise a handler that interrupted the allocator frees memory that it did not allocate itself. The list
        // cannot be touched now: the memory is lost, which is better than a broken list.
    }
}

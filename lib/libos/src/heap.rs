//! The global allocator: a first-fit list over memory that is reserved, and paid for when touched.
//!
//! The arena starts at [`HEAP`](crate::layout::HEAP) and is extended by moving its end, which costs
//! nothing: the [`pager`](crate::pager) puts a zeroed page wherever the arena is touched first.
//!
//! So the allocator may fault in the middle of its work, in its own arena. A program's fault
//! handler that runs then, and allocates, would find the list half-changed. Such a handler is
//! served from a small arena apart, in resident memory, where nothing faults.

use crate::layout::{HEAP, HEAP_END};
use crate::resident::Local;
use crate::{PAGE_SIZE, Va};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;

/// Bytes by which the arena grows at least.
const STEP: u64 = 1 << 20;
/// Bytes for handlers that interrupted the allocator.
const SPARE: usize = 6 << 10;

struct Allocator {
    heap: UnsafeCell<Heap>,
    /// The list is being changed.
    busy: Local<bool>,
    /// One past the last byte of the arena.
    end: Local<Va>,
    spare: UnsafeCell<Heap>,
    spare_bytes: UnsafeCell<[u64; SPARE / 8]>,
}

// SAFETY: an environment is a single thread; what may interrupt it is its own fault handler. `busy`
// keeps that away from `heap`. The work on `spare` touches resident memory only and is never
// interrupted.
unsafe impl Sync for Allocator {}

#[global_allocator]
#[unsafe(link_section = ".resident")]
static ALLOCATOR: Allocator = Allocator {
    heap: UnsafeCell::new(Heap::empty()),
    busy: Local::new(false),
    end: Local::new(HEAP),
    spare: UnsafeCell::new(Heap::empty()),
    spare_bytes: UnsafeCell::new([0; SPARE / 8]),
};

/// Whether the address is in the arena, so that touching it should bring a page.
#[inline]
pub(crate) fn contains(va: Va) -> bool {
    va >= HEAP && va < ALLOCATOR.end.get()
}

impl Allocator {
    /// Whether memory came from the spare arena.
    fn is_spare(&self, memory: *mut u8) -> bool {
        let start = self.spare_bytes.get() as usize;
        (start..start + SPARE).contains(&(memory as usize))
    }

    /// Give the arena room for another `layout`. `false` if the address space is used up.
    fn extend(&self, heap: &mut Heap, layout: Layout) -> bool {
        let old = self.end.get();
        let need = (layout.size() + layout.align()) as u64 + PAGE_SIZE;
        let by = Va(need.max(STEP).max((old.0 - HEAP.0) / 2)).page_up().0;
        if by > HEAP_END.0 - old.0 {
            return false;
        }
        // First the end: the allocator writes into its new room at once.
        self.end.set(Va(old.0 + by));
        // SAFETY: the arena is this allocator's alone, from HEAP to the new end; its pages come
        // when they are touched.
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
        // SAFETY: nothing here faults, so nothing interrupts: this is the only reference. The
        // spare arena is this heap's alone.
        unsafe {
            let spare = &mut *self.spare.get();
            if spare.size() == 0 {
                spare.init(self.spare_bytes.get().cast(), SPARE);
            }
            spare.allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr)
        }
    }
}

// SAFETY: both heaps hand out memory that is theirs, fits the layout, and is handed out once.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.busy.get() {
            return self.alloc_spare(layout);
        }
        self.busy.set(true);
        let memory = self.alloc_main(layout);
        self.busy.set(false);
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(pointer) = NonNull::new(memory) else { return };
        if self.is_spare(memory) {
            // SAFETY: the caller got it from `alloc_spare`, with this layout.
            unsafe { (*self.spare.get()).deallocate(pointer, layout) }
        } else if !self.busy.get() {
            self.busy.set(true);
            // SAFETY: the caller got it from `alloc_main`, with this layout; `busy` is set.
            unsafe { (*self.heap.get()).deallocate(pointer, layout) };
            self.busy.set(false);
        }
        // Otherwise a handler that interrupted the allocator frees what was not allocated in it.
        // The list cannot be touched now: the memory is lost, which is better than a broken list.
    }
}

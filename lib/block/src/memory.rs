//! The memory that driver and device share, and how `virtio-drivers` gets its part of it.
//!
//! Device addresses are virtual addresses of the program, so nothing is translated.

#![allow(unsafe_code)]

use crate::REQUESTS;
use abi::{PAGE_SIZE, Va};
use core::mem::offset_of;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicPtr, Ordering};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

const PAGE: usize = PAGE_SIZE as usize;

/// A status that no device writes: the request is not completed.
const NO_STATUS: u8 = 0xff;

/// The memory of a [`Disk`](crate::Disk) that the device can access, in three pages.
///
/// The device reads the first one (descriptors and the available ring), writes the second one (the used ring), and reads
/// and writes the third one (headers and statuses of requests).
#[repr(C, align(4096))]
pub struct Memory {
    driver_area: [u8; PAGE],
    device_area: [u8; PAGE],
    headers: [Header; REQUESTS],
    statuses: [u8; REQUESTS],
}

impl Memory {
    /// Memory for a disk that has not been started.
    #[must_use]
    pub const fn new() -> Memory {
        Memory {
            driver_area: [0; PAGE],
            device_area: [0; PAGE],
            headers: [Header { kind: 0, reserved: 0, sector: 0 }; REQUESTS],
            statuses: [NO_STATUS; REQUESTS],
        }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

/// The first part of a request, as the device reads it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub kind: u32,
    pub reserved: u32,
    pub sector: u64,
}

/// A piece of memory that a device reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    at: Va,
    bytes: u32,
}

impl Segment {
    /// The memory of this many bytes at an address. It should be mapped to the device, too.
    ///
    /// # Safety
    /// The address must not be 0, and the bytes must be mapped in the program. From [`Disk::submit`](crate::Disk::submit) of a request with this segment
    /// until [`Disk::complete`](crate::Disk::complete) returns its ticket, nobody else may write them, or read them
    /// unless the request is a write; no Rust reference to them may exist that says otherwise.
    #[must_use]
    pub const unsafe fn new(at: Va, bytes: u32) -> Segment {
        Segment { at, bytes }
    }

    /// The first address.
    #[must_use]
    pub const fn at(self) -> Va {
        self.at
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.bytes
    }

    /// The bytes, as `virtio-drivers` wants to have what a device reads.
    #[inline]
    pub(crate) fn as_input<'a>(self) -> &'a [u8] {
        // SAFETY: the creator of the segment promises that the bytes are mapped, and that nobody writes them.
        unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(self.at.0 as usize), self.bytes as usize) }
    }

    /// The bytes, as `virtio-drivers` wants to have what a device writes.
    #[inline]
    pub(crate) fn as_output<'a>(self) -> &'a mut [u8] {
        // SAFETY: the creator of the segment promises that the bytes are mapped, and that nobody else accesses them.
        unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(self.at.0 as usize), self.bytes as usize) }
    }
}

/// The one owner of a [`Memory`], whose contents the device may change at any time.
pub(crate) struct Shared(NonNull<Memory>);

// SAFETY: it came from an exclusive reference, and the memory belongs to no thread.
unsafe impl Send for Shared {}

impl Shared {
    pub fn new(memory: &'static mut Memory) -> Shared {
        Shared(NonNull::from(memory))
    }

    /// The addresses of the memory.
    pub fn range(&self) -> Range<Va> {
        let start = self.0.as_ptr().expose_provenance() as u64;
        Va(start)..Va(start + size_of::<Memory>() as u64)
    }

    /// Fills the rings with zeros, as a queue needs them. The device must have been reset.
    pub fn clear(&mut self) {
        // SAFETY: the memory is valid forever, and the device does not use it.
        unsafe { ptr::write_bytes(self.0.as_ptr().cast::<u8>(), 0, offset_of!(Memory, headers)) }
    }

    /// Writes the header of a request that is not in flight, and clears its status.
    #[inline]
    pub fn prepare(&mut self, index: usize, header: Header) {
        assert!(index < REQUESTS);
        let memory = self.0.as_ptr();
        // SAFETY: the index is checked, and the memory is valid forever.
        unsafe {
            (&raw mut (*memory).headers[index]).write_volatile(header);
            (&raw mut (*memory).statuses[index]).write_volatile(NO_STATUS);
        }
    }

    /// The two parts of a request that are not data: the header, and a segment for the status.
    #[inline]
    pub fn ends(&self, index: usize) -> [Segment; 2] {
        assert!(index < REQUESTS);
        let memory = self.0.as_ptr();
        // SAFETY: the index is checked, and the memory is valid forever. `Shared` accesses the parts of a request
        // before it is in flight, and after, and nobody else does.
        unsafe {
            let header = (&raw mut (*memory).headers[index]).expose_provenance();
            let status = (&raw mut (*memory).statuses[index]).expose_provenance();
            [Segment::new(Va(header as u64), size_of::<Header>() as u32), Segment::new(Va(status as u64), 1)]
        }
    }

    /// The status of a completed request.
    #[inline]
    pub fn status(&self, index: usize) -> u8 {
        assert!(index < REQUESTS);
        // SAFETY: the index is checked, and the memory is valid forever.
        unsafe { (&raw const (*self.0.as_ptr()).statuses[index]).read_volatile() }
    }

    /// Calls a function that makes a queue from this memory. Returns nothing if another queue is being made.
    pub fn lend<T>(&mut self, make: impl FnOnce() -> T) -> Option<T> {
        let (none, orders) = (ptr::null_mut(), (Ordering::Acquire, Ordering::Relaxed));
        LENT.compare_exchange(none, self.0.as_ptr(), orders.0, orders.1).ok()?;
        let made = make();
        LENT.store(none, Ordering::Release);
        Some(made)
    }
}

/// The memory from which a queue is being made, or null: `Hal` has no value to keep it in.
///
/// It serves as a lock, too. Nobody waits for it: who finds it taken may be the fault handler of the program that took
/// it.
static LENT: AtomicPtr<Memory> = AtomicPtr::new(ptr::null_mut());

/// The `Hal` of a program whose device has the program's own addresses.
pub(crate) struct Identity;

// SAFETY: a queue allocates twice, one page for each direction (`ring` checks the sizes), and gets two different pages
// of a memory that only it uses, aligned and cleared. It is made while `LENT` is not null.
unsafe impl Hal for Identity {
    fn dma_alloc(_pages: usize, direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let offset = match direction {
            BufferDirection::DriverToDevice => offset_of!(Memory, driver_area),
            _ => offset_of!(Memory, device_area),
        };
        match NonNull::new(LENT.load(Ordering::Relaxed).cast::<u8>()) {
            Some(memory) => {
                // SAFETY: the offset is one of a field.
                let at = unsafe { memory.add(offset) };
                (at.as_ptr().expose_provenance() as PhysAddr, at)
            }
            // `virtio-drivers` takes the address 0 as a failure.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("only the PCI transport of virtio-drivers maps registers, and it is not used")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

//! The queue of a disk: that of `virtio-drivers`, with a guard against what the device writes into it.
//!
//! `VirtQueue` believes that the descriptor which completes is one that its caller has in flight, with the buffers that
//! its caller names. The ring remembers which descriptors are in flight, and the buffers of each, so it never calls it
//! otherwise. Event indexes are not used: `VirtQueue` misses a notification when the index of the available ring wraps
//! around in the middle of a batch.

#![allow(unsafe_code)]

use crate::error::{StartError, Violation};
use crate::memory::{Header, Identity, Memory, Segment, Shared};
use crate::registers::Registers;
use crate::transport::{Pci, Reset};
use crate::{QUEUE, REQUESTS, SEGMENTS};
use abi::{PAGE_SIZE, Va};
use arrayvec::ArrayVec;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::Error;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// The number of the queue for requests.
const INDEX: u16 = 0;

// Each area must fit into its page of `Memory`. The one of the driver is the larger: 16 bytes for a descriptor, two for
// an entry of the available ring. (An entry of the used ring has eight.)
const _: () = assert!(QUEUE * (16 + 2) + 6 <= PAGE_SIZE as usize);

/// The direction in which a request moves data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device writes the segments.
    FromDisk,
    /// The device reads the segments.
    ToDisk,
}

/// The buffers of a request, as they were given to the queue.
struct Chain {
    direction: Direction,
    segments: ArrayVec<Segment, SEGMENTS>,
}

/// A request that the device has completed.
pub struct Completed {
    /// The index of the request.
    pub index: usize,
    /// The status that the device has written.
    pub status: u8,
}

/// The queue, and what is in flight.
pub struct Ring {
    memory: Shared,
    queue: Option<VirtQueue<Identity, QUEUE>>,
    /// The index of the request whose first descriptor this is, if it is in flight.
    owners: [Option<u8>; QUEUE],
    /// The buffers of each request that is in flight.
    chains: [Chain; REQUESTS],
}

impl Ring {
    pub fn new(memory: &'static mut Memory) -> Ring {
        Ring {
            memory: Shared::new(memory),
            queue: None,
            owners: [None; QUEUE],
            chains: [const { Chain { direction: Direction::ToDisk, segments: ArrayVec::new_const() } }; REQUESTS],
        }
    }

    /// The addresses that the device uses apart from those of segments.
    pub fn memory(&self) -> Range<Va> {
        self.memory.range()
    }

    /// Sets up an empty queue. Nothing is in flight afterwards.
    pub fn set_up<R: Registers>(&mut self, registers: &mut Pci<R>, _: &Reset) -> Result<(), StartError> {
        // The old one must go first: the new one has the same memory.
        self.queue = None;
        self.owners = [None; QUEUE];
        self.memory.clear();
        let made = self.memory.lend(|| VirtQueue::new(registers, INDEX, false, false)).ok_or(StartError::Busy)?;
        let queue = made.map_err(|error| match error {
            Error::AlreadyUsed => StartError::QueueInUse,
            _ => StartError::QueueTooShort(registers.max_queue_size(INDEX)),
        })?;
        registers.problem()?;
        self.queue = Some(queue);
        Ok(())
    }

    /// Puts a request into the queue, if there is room. The index must not be that of a request in flight.
    #[inline]
    pub fn add(&mut self, index: usize, header: Header, direction: Direction, segments: &[Segment]) -> Option<()> {
        let queue = self.queue.as_mut()?;
        self.memory.prepare(index, header);
        let chain = &mut self.chains[index];
        chain.direction = direction;
        chain.segments.clear();
        chain.segments.extend(segments.iter().copied());
        // SAFETY: who made the segments promised that nobody else accesses them while they are in flight. Header and
        // status belong to this request: its index is not in flight.
        let token =
            chain.with(self.memory.ends(index), |inputs, outputs| unsafe { queue.add(inputs, outputs) }).ok()?;
        self.owners[usize::from(token)] = Some(index as u8);
        Some(())
    }

    /// Tells the device of new requests, unless it looks for them anyway.
    pub fn notify<R: Registers>(&self, registers: &mut Pci<R>) {
        // The device turns notifications on, then looks at the index of the available ring. The driver has written
        // the index, and must read whether they are on only after that is visible: `VirtQueue` has no such barrier.
        fence(Ordering::SeqCst);
        if self.queue.as_ref().is_some_and(VirtQueue::should_notify) {
            registers.notify(INDEX);
        }
    }

    /// Takes the next completed request from the queue.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Completed>, Violation> {
        let Some(queue) = &mut self.queue else { return Ok(None) };
        let Some(token) = queue.peek_used() else { return Ok(None) };
        let owner = self.owners.get_mut(usize::from(token)).and_then(Option::take);
        let index = usize::from(owner.ok_or(Violation::NotInFlight(token))?);
        let chain = &self.chains[index];
        // SAFETY: `add` got the same buffers when it returned this token, and nothing was popped for it since: its
        // owner was noted.
        let popped =
            chain.with(self.memory.ends(index), |inputs, outputs| unsafe { queue.pop_used(token, inputs, outputs) });
        let bytes = popped.map_err(|_| Violation::Changed(token))?;
        let status = self.memory.status(index);
        chain.check(bytes, status)?;
        Ok(Some(Completed { index, status }))
    }
}

impl Chain {
    /// Calls a function with all buffers: those that the device reads, and those that it writes.
    #[inline]
    fn with<T>(
        &self,
        [header, status]: [Segment; 2],
        f: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> T,
    ) -> T {
        let header = header.as_input();
        let status = status.as_output();
        // References need not be dropped, and `VirtQueue` borrows the list for as long as what it lists.
        match self.direction {
            Direction::FromDisk => {
                let mut outputs = ManuallyDrop::new(ArrayVec::<_, { SEGMENTS + 1 }>::new());
                outputs.extend(self.segments.iter().map(|segment| segment.as_output()));
                outputs.push(status);
                f(&[header], &mut outputs)
            }
            Direction::ToDisk => {
                let mut inputs = ManuallyDrop::new(ArrayVec::<_, { SEGMENTS + 1 }>::new());
                inputs.push(header);
                inputs.extend(self.segments.iter().map(|segment| segment.as_input()));
                f(&inputs, &mut [status])
            }
        }
    }

    /// Checks how many bytes the device says that it wrote. Some devices do not count the status of a write.
    #[inline]
    fn check(&self, bytes: u32, status: u8) -> Result<(), Violation> {
        let data = match self.direction {
            Direction::FromDisk => self.segments.iter().map(|segment| segment.bytes()).sum(),
            Direction::ToDisk => 0,
        };
        let is_possible = bytes <= data + 1 && (bytes >= data || status != 0);
        if is_possible { Ok(()) } else { Err(Violation::BadLength { bytes, expected: data + 1 }) }
    }
}

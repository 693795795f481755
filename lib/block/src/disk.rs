//! A disk: requests that are in flight, their tickets, and what becomes of them when the device fails.

use crate::error::{Cause, Failed, Refused, StartError, Violation};
use crate::limits::Limits;
use crate::memory::{Header, Memory, Segment};
use crate::registers::{Registers, Structures};
use crate::ring::{Direction, Ring};
use crate::transport::{Pci, Reset};
use crate::{REQUESTS, Sector};
use abi::Va;
use core::ops::Range;
use virtio_drivers::transport::Transport;

/// A task for a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// To copy the sectors from this one on into segments of memory.
    Read(Sector, &'a [Segment]),
    /// To copy segments of memory to the sectors from this one on.
    Write(Sector, &'a [Segment]),
    /// To make all writes durable that have completed.
    Flush,
}

/// A request that was submitted, until [`Disk::complete`] returns it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(u64);

impl Ticket {
    /// A number below [`REQUESTS`] that no other request has at the same time: an index for what the caller notes.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 % REQUESTS as u64) as usize
    }
}

/// The notes about a request.
#[derive(Clone, Copy)]
struct Slot {
    ticket: Ticket,
    sector: Option<Sector>,
    /// Why it failed, if it did.
    cause: Cause,
}

impl Slot {
    const EMPTY: Slot = Slot { ticket: Ticket(0), sector: None, cause: Cause::Stopped };
}

/// The state of the device.
#[derive(Clone, Copy)]
enum State {
    /// The device serves requests.
    Running,
    /// The device was told to reset itself, but may still access the memory of requests.
    Resetting(Cause),
    /// The device does nothing.
    Stopped(Cause),
}

/// A virtio disk.
///
/// A request is *in flight* from [`Disk::submit`] until [`Disk::complete`] returns its ticket, which happens once. If the
/// device fails, it is reset, and all requests in flight fail. [`Disk::start`] then starts it again.
pub struct Disk<R> {
    registers: Pci<R>,
    ring: Ring,
    limits: Limits,
    state: State,
    slots: [Slot; REQUESTS],
    /// The number of requests that were ever submitted.
    submitted: u64,
    /// The slots without a request, one bit for each.
    free: u32,
    /// The slots with a request that has failed since the device was reset.
    failed: u32,
}

const _: () = assert!(REQUESTS == u32::BITS as usize);

impl<R: Registers> Disk<R> {
    /// A disk that has not been started.
    pub fn new(structures: Structures<R>, memory: &'static mut Memory) -> Disk<R> {
        Disk {
            registers: Pci::new(structures),
            ring: Ring::new(memory),
            limits: Limits::NONE,
            state: State::Stopped(Cause::Stopped),
            slots: [Slot::EMPTY; REQUESTS],
            submitted: 0,
            free: u32::MAX,
            failed: 0,
        }
    }

    /// Starts the disk, or starts it again. The device must be allowed to run, and reach [`Disk::memory`].
    ///
    /// Requests that are in flight fail: [`Disk::complete`] returns them.
    ///
    /// # Errors
    /// See [`StartError`]. The disk does not run then.
    pub fn start(&mut self) -> Result<(), StartError> {
        if matches!(self.state, State::Running) {
            self.state = State::Resetting(Cause::Stopped);
        }
        let reset = self.registers.reset()?;
        self.settle();
        let started = self.set_up(&reset);
        match started {
            Ok(limits) => (self.limits, self.state) = (limits, State::Running),
            Err(_) => self.registers.give_up(),
        }
        started.map(|_| ())
    }

    fn set_up(&mut self, reset: &Reset) -> Result<Limits, StartError> {
        let features = self.registers.negotiate(reset)?;
        let limits = self.registers.consistent(|registers| Limits::read(registers, features))?;
        self.ring.set_up(&mut self.registers, reset)?;
        self.registers.finish_init();
        Ok(limits)
    }

    /// The limits of the disk. Before the first start, it has no sectors.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The addresses of [`Memory`], which the device must reach before the start.
    pub fn memory(&self) -> Range<Va> {
        self.ring.memory()
    }

    /// The number of requests in flight.
    pub const fn in_flight(&self) -> usize {
        self.free.count_zeros() as usize
    }

    /// Why the disk does not run, if it does not.
    pub const fn stopped(&self) -> Option<Cause> {
        match self.state {
            State::Running => None,
            State::Resetting(cause) | State::Stopped(cause) => Some(cause),
        }
    }

    /// Submits a request. The device may not look at it before the next [`Disk::notify`].
    ///
    /// # Errors
    /// See [`Refused`]. Nothing was submitted then.
    #[inline]
    pub fn submit(&mut self, request: Request) -> Result<Ticket, Refused> {
        if let State::Resetting(cause) | State::Stopped(cause) = self.state {
            return Err(Refused::Stopped(cause));
        }
        let (kind, sector, direction, segments) = match request {
            Request::Read(sector, segments) => (0, Some(sector), Direction::FromDisk, segments),
            Request::Write(sector, _) if self.limits.read_only => return Err(Refused::ReadOnly(sector)),
            Request::Write(sector, segments) => (1, Some(sector), Direction::ToDisk, segments),
            Request::Flush if !self.limits.has_cache => return Err(Refused::NothingToFlush),
            Request::Flush => (4, None, Direction::ToDisk, &[][..]),
        };
        if let Some(sector) = sector {
            self.limits.check(sector, segments)?;
        }
        let index = self.free.trailing_zeros() as usize;
        let slot = self.slots.get_mut(index).ok_or(Refused::Full)?;
        let header = Header { kind, reserved: 0, sector: sector.map_or(0, |sector| sector.0) };
        self.ring.add(index, header, direction, segments).ok_or(Refused::Full)?;
        self.free &= self.free - 1;
        self.submitted += 1;
        slot.ticket = Ticket(self.submitted * REQUESTS as u64 + index as u64);
        slot.sector = sector;
        Ok(slot.ticket)
    }

    /// Tells the device of all requests that were submitted.
    #[inline]
    pub fn notify(&mut self) {
        if matches!(self.state, State::Running) {
            self.ring.notify(&mut self.registers);
        }
    }

    /// Returns the next request that has completed or failed, if there is one.
    ///
    /// A device may report success although the IOMMU has stopped an access. So look first at the number of faults that
    /// the kernel reports with each interrupt, and call [`Disk::fail_all`] if there was one.
    #[inline]
    pub fn complete(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        if self.failed != 0 || !matches!(self.state, State::Running) {
            return self.complete_failed();
        }
        match self.ring.pop() {
            Ok(None) => None,
            Ok(Some(done)) => {
                let slot = &self.slots[done.index];
                let failed = |cause| Err(Failed { cause, sector: slot.sector });
                let result = match done.status {
                    0 => Ok(()),
                    1 => failed(Cause::Io),
                    2 => failed(Cause::Unsupported),
                    status => return self.complete_broken(Violation::BadStatus(status)),
                };
                self.free |= 1 << done.index;
                Some((slot.ticket, result))
            }
            Err(violation) => self.complete_broken(violation),
        }
    }

    #[cold]
    fn complete_broken(&mut self, violation: Violation) -> Option<(Ticket, Result<(), Failed>)> {
        // If the device does not reset, its requests stay in flight.
        let _ = self.fail_all(Cause::Broken(violation));
        self.complete_failed()
    }

    /// The next failed request.
    #[cold]
    fn complete_failed(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        if matches!(self.state, State::Resetting(_)) && self.registers.is_reset().is_some() {
            self.settle();
        }
        let index = self.failed.trailing_zeros() as usize;
        let slot = self.slots.get(index)?;
        self.failed &= !(1 << index);
        self.free |= 1 << index;
        Some((slot.ticket, Err(Failed { cause: slot.cause, sector: slot.sector })))
    }

    /// Resets the device, so that all requests in flight fail for this reason. [`Disk::complete`] returns them.
    ///
    /// Call it when the kernel reports DMA faults ([`Cause::Blocked`]), when a deadline has passed
    /// ([`Cause::TimedOut`]), and to end the work with the disk ([`Cause::Stopped`]). All requests fail, since nobody
    /// knows which one a fault belongs to.
    ///
    /// # Errors
    /// [`StartError::NotReset`] if the device does not confirm the reset. It may still access the memory of the
    /// requests, so they stay in flight until it does, for example because the kernel has stopped it.
    pub fn fail_all(&mut self, cause: Cause) -> Result<(), StartError> {
        if matches!(self.state, State::Stopped(_)) {
            return Ok(());
        }
        self.state = State::Resetting(cause);
        self.registers.reset()?;
        self.settle();
        Ok(())
    }

    /// Ends a reset: what was in flight has failed.
    fn settle(&mut self) {
        let State::Resetting(cause) = self.state else { return };
        let lost = !self.free & !self.failed;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if lost & 1 << index != 0 {
                slot.cause = cause;
            }
        }
        self.failed |= lost;
        self.state = State::Stopped(cause);
    }
}

//! A disk that this program holds: the driver of the crate [`block`], with its registers, memory and interrupts.
//!
//! ```ignore
//! let mut disk = Disk::open(0)?;
//! let mut page = Buffer::new(&disk, 1)?;
//! disk.read(Sector(0), &page.segments())?;
//! println!("{:x?}", &page.bytes()[..16]);
//! ```

use crate::device::{self, Device, Mapped};
use crate::{EnvId, PAGE_SIZE, Perms, Va, layout, sys, windows};
use abi::Error;
use block::config::{self, ConfigError, Structure};
pub use block::{Cause, Failed, Limits, Refused, Request, Sector, Segment, StartError, Ticket};
use block::{Memory, Structures};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

/// The time in which a disk must answer, in nanoseconds.
const PATIENCE_NS: u64 = 20_000_000_000;

/// Why a disk cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The kernel refused a call.
    Kernel(Error),
    /// The device with this index is not a disk.
    NotADisk(usize),
    /// The configuration space is wrong.
    Config(ConfigError),
    /// The registers are not where the driver may access them.
    Outside(Structure),
    /// The disk did not start.
    Start(StartError),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        OpenError::Kernel(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            OpenError::Kernel(error) => fmt::Display::fmt(error, f),
            OpenError::NotADisk(index) => write!(f, "device {index} is not a disk"),
            OpenError::Config(error) => fmt::Display::fmt(error, f),
            OpenError::Outside(place) => write!(f, "the registers {place:?} are not within those of the driver"),
            OpenError::Start(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// The request was not submitted.
    Refused(Refused),
    /// The disk did not do the request.
    Failed(Failed),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            RequestError::Refused(error) => fmt::Display::fmt(error, f),
            RequestError::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for RequestError {}

/// A disk.
pub struct Disk {
    driver: block::Disk<Mapped>,
    device: Device,
    // Unmapped after the driver and the device are gone.
    _rings: Pages,
    /// The refused accesses to memory so far.
    faults: u32,
    /// The ticks in which the disk must answer; 0: there is no timer.
    patience: u32,
}

impl Disk {
    /// Claims the device with this index, and starts it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(index: usize) -> Result<Disk, OpenError> {
        let space = device::config(index).ok_or(Error::BadDevice(index as u64))?;
        if !config::is_disk(&space) {
            return Err(OpenError::NotADisk(index));
        }
        let places = config::find(&space).map_err(OpenError::Config)?;
        let device = Device::claim(index)?;
        let mapped = |place| Mapped::new(&device, place).ok_or(OpenError::Outside(place));
        let structures = Structures {
            common: mapped(places.common)?,
            notify: mapped(places.notify)?,
            multiplier: places.multiplier,
            device: mapped(places.device)?,
        };
        let rings = Pages::new(size_of::<Memory>() as u64 / PAGE_SIZE)?;
        // SAFETY: the pages are zeros, which are valid, and nobody else knows them. They live longer than the driver.
        let memory = unsafe { &mut *(rings.start.0 as *mut Memory) };
        device.share(rings.start, rings.count, Perms::WRITE)?;
        device.start()?;
        let tick = windows::machine().tick_ns.load(Relaxed);
        let patience = PATIENCE_NS.checked_div(tick).map_or(0, |ticks| ticks.clamp(2, u32::MAX.into()) as u32);
        let driver = block::Disk::new(structures, memory);
        let mut disk = Disk { driver, device, _rings: rings, faults: 0, patience };
        disk.driver.start().map_err(OpenError::Start)?;
        Ok(disk)
    }

    /// Starts the disk again, after a failure has stopped it. Requests in flight fail.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn restart(&mut self) -> Result<(), OpenError> {
        self.device.stop()?;
        self.device.start()?;
        self.faults = 0;
        self.driver.start().map_err(OpenError::Start)
    }

    /// Sets the number of ticks in which the disk must answer; 0: it may take any time. At first it has 20 seconds.
    pub fn set_patience(&mut self, ticks: u32) {
        self.patience = ticks;
    }

    /// The limits of the disk.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.driver.limits()
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Why the disk does not run, if it does not.
    #[must_use]
    pub fn stopped(&self) -> Option<Cause> {
        self.driver.stopped()
    }

    /// Submits a request. The disk begins with it at the next [`Disk::notify`].
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub fn submit(&mut self, request: Request) -> Result<Ticket, Refused> {
        self.driver.submit(request)
    }

    /// Tells the disk of all requests that were submitted.
    #[inline]
    pub fn notify(&mut self) {
        self.driver.notify();
    }

    /// Returns a request that has ended, if there is one.
    #[inline]
    pub fn poll(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        self.driver.complete()
    }

    /// Waits until a request has ended. `None`: no request is in flight.
    ///
    /// If the disk interrupts and the IOMMU has refused an access, or if the disk does not answer in time, it is reset, and
    /// all requests in flight fail. A disk reports success for a request whose access was refused: of one that ended before
    /// this was called, only [`Disk::confirm`] tells.
    pub fn wait(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        loop {
            if let Some(ended) = self.driver.complete() {
                return Some(ended);
            }
            if self.driver.in_flight() == 0 {
                return None;
            }
            match self.device.wait(self.patience) {
                Ok(told) if told.faults == self.faults => {}
                Ok(_) => self.fail(self.blocked()),
                Err(Error::TimedOut(_)) => self.fail(Cause::TimedOut),
                Err(_) => self.fail(Cause::Stopped),
            }
        }
    }

    /// Checks that the IOMMU has refused nothing, whatever the disk says about the requests that have ended.
    ///
    /// # Errors
    /// [`Cause::Blocked`] with the first page. Requests in flight fail.
    pub fn confirm(&mut self) -> Result<(), Cause> {
        if self.device.faults().is_ok_and(|faults| faults == self.faults) {
            return Ok(());
        }
        let cause = self.blocked();
        self.fail(cause);
        Err(cause)
    }

    fn blocked(&self) -> Cause {
        Cause::Blocked(Va(self.device.info().fault_page.load(Relaxed)))
    }

    #[cold]
    fn fail(&mut self, cause: Cause) {
        // If the driver cannot reset the device, the kernel may.
        if self.driver.fail_all(cause).is_err() && self.device.stop().is_ok() {
            let _ = self.device.start();
        }
        self.faults = self.device.info().faults.load(Relaxed);
    }

    /// Does a request, and waits for its end. No other request must be in flight.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn execute(&mut self, request: Request) -> Result<(), RequestError> {
        self.submit(request).map_err(RequestError::Refused)?;
        self.notify();
        let sector = match request {
            Request::Read(sector, _) | Request::Write(sector, _) => Some(sector),
            Request::Flush => None,
        };
        let ended = self.wait().map_or(Ok(()), |(_, result)| result);
        let confirmed = ended.and_then(|()| self.confirm().map_err(|cause| Failed { cause, sector }));
        confirmed.map_err(RequestError::Failed)
    }
}

/// Pages of zeros at addresses that devices see. They are always present, and a child does not inherit them.
#[derive(Debug)]
pub struct Pages {
    start: Va,
    count: u64,
}

impl Pages {
    /// Allocates pages.
    ///
    /// # Errors
    /// `NoMemory`; `BadCount` if the addresses are used up, which never become free again.
    pub fn new(count: u64) -> sys::Result<Pages> {
        let range = device::addresses(count)?;
        sys::alloc(EnvId::SELF, range.start, count, Perms::WRITE | Perms::KEEP).inspect_err(|_| {
            let _ = sys::unmap(EnvId::SELF, range.start, count);
        })?;
        Ok(Pages { start: range.start, count })
    }

    /// The addresses.
    #[must_use]
    pub fn range(&self) -> Range<Va> {
        self.start..self.start.add_pages(self.count)
    }

    /// Keeps the pages for as long as the program lives, filled with values of a type.
    #[must_use]
    pub fn leak<T>(self, mut value: impl FnMut() -> T) -> &'static mut [T] {
        let (start, count) = (self.start.0 as *mut T, (self.count * PAGE_SIZE) as usize / size_of::<T>());
        core::mem::forget(self);
        // SAFETY: the pages are mapped for good, writable, and aligned to more than any type; nobody else knows them.
        unsafe {
            (0..count).for_each(|index| start.add(index).write(value()));
            core::slice::from_raw_parts_mut(start, count)
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = sys::unmap(EnvId::SELF, self.start, self.count);
    }
}

/// Memory that a disk reads and writes, for requests that the program waits for.
#[derive(Debug)]
pub struct Buffer(Pages);

impl Buffer {
    /// Allocates pages, and shares them with a disk.
    ///
    /// # Errors
    /// `NoMemory`.
    pub fn new(disk: &Disk, pages: u64) -> sys::Result<Buffer> {
        let pages = Pages::new(pages)?;
        disk.device.share(pages.start, pages.count, Perms::WRITE)?;
        Ok(Buffer(pages))
    }

    /// The contents.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the pages are mapped, and the disk writes only while `Buffer::read` has the buffer exclusively.
        unsafe { core::slice::from_raw_parts(self.0.start.0 as *const u8, (self.0.count * PAGE_SIZE) as usize) }
    }

    /// The contents, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.0.start.0 as *mut u8, (self.0.count * PAGE_SIZE) as usize) }
    }

    fn segment(&self) -> Segment {
        // SAFETY: the pages are mapped. The functions below wait until the disk is done with them.
        unsafe { Segment::new(self.0.start, (self.0.count * PAGE_SIZE) as u32) }
    }

    /// Reads the sectors from this one on into the whole buffer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read(&mut self, disk: &mut Disk, sector: Sector) -> Result<(), RequestError> {
        disk.execute(Request::Read(sector, &[self.segment()]))
    }

    /// Reads the sectors from this one on into the whole buffer, with a request for each page.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read_pages(&mut self, disk: &mut Disk, sector: Sector) -> Result<(), RequestError> {
        self.each_page(disk, sector, |sector, page| Request::Read(sector, page))
    }

    /// Writes the whole buffer to the sectors from this one on, with a request for each page.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn write_pages(&self, disk: &mut Disk, sector: Sector) -> Result<(), RequestError> {
        self.each_page(disk, sector, |sector, page| Request::Write(sector, page))
    }

    fn each_page(
        &self,
        disk: &mut Disk,
        first: Sector,
        request: impl for<'a> Fn(Sector, &'a [Segment]) -> Request<'a>,
    ) -> Result<(), RequestError> {
        let mut outcome = Ok(());
        for number in 0..self.0.count {
            let sector = Sector(first.0 + number * (PAGE_SIZE / u64::from(block::SECTOR_SIZE)));
            // SAFETY: as in `segment`.
            let page = [unsafe { Segment::new(self.0.start.add_pages(number), PAGE_SIZE as u32) }];
            loop {
                match disk.submit(request(sector, &page)) {
                    Ok(_) => break,
                    Err(Refused::Full) => {
                        disk.notify();
                        outcome = outcome.and(disk.wait().map_or(Ok(()), |(_, result)| result));
                    }
                    Err(refused) => {
                        while disk.wait().is_some() {}
                        return Err(RequestError::Refused(refused));
                    }
                }
            }
        }
        disk.notify();
        while let Some((_, result)) = disk.wait() {
            outcome = outcome.and(result);
        }
        let confirmed = outcome.and_then(|()| disk.confirm().map_err(|cause| Failed { cause, sector: Some(first) }));
        confirmed.map_err(RequestError::Failed)
    }

    /// Writes the whole buffer to the sectors from this one on.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn write(&self, disk: &mut Disk, sector: Sector) -> Result<(), RequestError> {
        disk.execute(Request::Write(sector, &[self.segment()]))
    }
}

const _: () = assert!(layout::OF_DEVICES.end.0 <= layout::SLOT_SIZE, "devices see slot 0");

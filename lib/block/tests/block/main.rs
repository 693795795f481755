//! The driver with a simulated disk.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`device`] | a virtio disk that works on the real rings, with switches for everything that devices do wrong |
//! | [`memory`] | the memory that the disk can access: an IOMMU |
//! | [`config`] | configuration spaces, good and bad |
//! | [`start`] | the start, and why it fails |
//! | [`requests`] | requests that succeed, are refused, or fail |
//! | [`failures`] | faults, deadlines and resets |
//! | [`hostile`] | what a device must not write into its rings |
//! | [`model`] | random requests, compared with the contents that the disk must have |

mod config;
mod device;
mod failures;
mod hostile;
mod memory;
mod model;
mod requests;
mod start;

use block::{Disk, Failed, Memory, Refused, Request, Sector, Segment, StartError, Structures, Ticket};
use device::{Device, Place, Port};
use memory::Buffer;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

/// The result of a request.
type Outcome = (Ticket, Result<(), Failed>);

/// Two disks cannot be started at the same time, but tests run at the same time.
static STARTING: Mutex<()> = Mutex::new(());

/// A device, and the driver for it.
struct Machine {
    device: Rc<RefCell<Device>>,
    disk: Disk<Port>,
}

impl Machine {
    /// A disk that has not been started, whose device is changed first.
    fn stopped(change: impl FnOnce(&mut Device)) -> Machine {
        let mut device = Device::new();
        change(&mut device);
        let multiplier = device.multiplier;
        let device = Rc::new(RefCell::new(device));
        let port = |place| Port { device: device.clone(), place };
        let (common, notify, registers) = (port(Place::Common), port(Place::Notify), port(Place::Disk));
        let memory = Box::leak(Box::new(Memory::new()));
        let disk = Disk::new(Structures { common, notify, multiplier, device: registers }, memory);
        let range = disk.memory();
        let [first, second] = [range.start.0, range.start.0 + 4096];
        device.borrow_mut().iommu.map(first..second, false);
        device.borrow_mut().iommu.map(second..range.end.0, true);
        Machine { device, disk }
    }

    fn with(change: impl FnOnce(&mut Device)) -> Machine {
        let mut machine = Machine::stopped(change);
        machine.start().expect("a disk that starts");
        machine
    }

    fn new() -> Machine {
        Machine::with(|_| ())
    }

    fn start(&mut self) -> Result<(), StartError> {
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        self.disk.start()
    }

    /// Memory of the program that the device can access.
    fn buffer(&self, bytes: usize) -> Buffer {
        let buffer = Buffer::new(bytes);
        self.device.borrow_mut().iommu.map(buffer.range(), true);
        buffer
    }

    fn read(&mut self, sector: u64, segments: &[Segment]) -> Result<Ticket, Refused> {
        self.disk.submit(Request::Read(Sector(sector), segments))
    }

    fn write(&mut self, sector: u64, segments: &[Segment]) -> Result<Ticket, Refused> {
        self.disk.submit(Request::Write(Sector(sector), segments))
    }

    /// Notifies the device, lets it complete all requests in order, and takes the results.
    fn run(&mut self) -> Vec<Outcome> {
        self.disk.notify();
        let taken = self.device.borrow().taken.len();
        (0..taken).for_each(|_| self.device.borrow_mut().complete(0));
        self.results()
    }

    /// All results that there are.
    fn results(&mut self) -> Vec<Outcome> {
        let results: Vec<_> = std::iter::from_fn(|| self.disk.complete()).take(1000).collect();
        assert!(results.len() < 1000, "completions without end");
        results
    }
}

//! A program with a pager, and a model: what each page must contain.

use crate::disk::Fake;
use crate::machine::{Host, POOL, fill, words};
use abi::{PAGE_SIZE, Perms, Va};
use pager::{Access, Guard, Order, PageCalls, Region, Touch};
use replacement::{Clock, Lirs, Policy, S3Fifo, TwoQueues, clock, lirs, s3_fifo, two_queues};
use sim::machine::{load, store};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use swap::{Codec, Compressed, Error, Memory, PoolFrame, RESERVE, Record, Request, Room, Settings, Slots, Swap};

/// The first address that the pager serves.
pub const BASE: Va = Va(0x4000_0000);
/// The distance of two regions, in pages. Each has a page table of its own.
pub const APART: u64 = 512;
/// The pages of a region.
pub const PAGES: u64 = 60;

/// The policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    Clock,
    TwoQueues,
    S3Fifo,
    Lirs,
}

impl Name {
    pub const ALL: [Name; 4] = [Name::Clock, Name::TwoQueues, Name::S3Fifo, Name::Lirs];

    /// A policy for this number of frames.
    pub fn make(self, frames: usize) -> Box<dyn Policy> {
        match self {
            Name::Clock => Box::new(Clock::new(vec![clock::Node::EMPTY; Clock::nodes(frames)].leak())),
            Name::TwoQueues => Box::new(TwoQueues::new(vec![two_queues::Node::EMPTY; TwoQueues::nodes(frames)].leak())),
            Name::S3Fifo => Box::new(S3Fifo::new(vec![s3_fifo::Node::EMPTY; S3Fifo::nodes(frames)].leak())),
            Name::Lirs => Box::new(Lirs::new(vec![lirs::Node::EMPTY; Lirs::nodes(frames)].leak())),
        }
    }
}

/// A policy of any name.
pub struct Any(Box<dyn Policy>);

impl Policy for Any {
    fn insert(&mut self, page: replacement::Page) -> Result<(), replacement::Error> {
        self.0.insert(page)
    }

    fn evict(&mut self, look: &mut dyn FnMut(replacement::Page) -> replacement::Seen) -> Option<replacement::Page> {
        self.0.evict(look)
    }

    fn remove(&mut self, page: replacement::Page) {
        self.0.remove(page);
    }

    fn accessed(&mut self, page: replacement::Page) {
        self.0.accessed(page);
    }

    fn scan_interval(&self) -> Option<usize> {
        self.0.scan_interval()
    }

    fn present(&self) -> usize {
        self.0.present()
    }

    fn check(&self) -> Result<(), replacement::Inconsistent> {
        self.0.check()
    }
}

/// The size of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub frames: usize,
    pub slots: u32,
    /// The requests that the pager has, and those that the disk can have in flight.
    pub requests: [usize; 2],
    pub batch: usize,
    pub policy: Name,
    /// The bytes of the log of compressed pages; 0: pages are not compressed.
    pub log: usize,
}

impl Size {
    pub const fn new(frames: usize, slots: u32) -> Size {
        Size { frames, slots, requests: [8, 4], batch: 1, policy: Name::Clock, log: 0 }
    }
}

pub struct World {
    pub host: Host,
    pub disk: Fake,
    pub swap: Swap<'static, Layers, Any>,
    pub size: Size,
    pub regions: Vec<Region<Host>>,
    /// The first and the last word of each page that is not zeros.
    model: BTreeMap<u64, [u64; 2]>,
}

static NOBODY: Guard = Guard("served by the test");

/// The frames that are not in the pool, and that the disk reaches.
const SPARES: usize = 5;

/// Compressed memory above the disk.
pub type Layers = Compressed<'static, Fake, Packer>;

/// Keeps the words of a page that differ from the one before. Some pages are too large.
pub struct Packer(pub Vec<abi::Frame>);

impl Codec for Packer {
    fn compress(&mut self, frame: PoolFrame, out: &mut [u8]) -> Option<usize> {
        let words = words(self.0[frame.0 as usize]);
        let changes = (0..words.len()).filter(|&index| index == 0 || words[index] != words[index - 1]);
        let mut bytes: Vec<u8> = Vec::new();
        for index in changes {
            bytes.extend((index as u16).to_le_bytes());
            bytes.extend(words[index].to_le_bytes());
        }
        // Anything that is good for many sizes, up to those that do not fit.
        let filler = (words[0] >> 32) as usize * 769 % 4096;
        bytes.extend(std::iter::repeat_n(0xff, filler));
        out.get_mut(..bytes.len())?.copy_from_slice(&bytes);
        Some(bytes.len())
    }

    fn restore(&mut self, bytes: &[u8], frame: PoolFrame) {
        let mut words = [0; 512];
        for change in bytes.chunks_exact(10).take_while(|change| change[1] != 0xff) {
            let (index, word) = change.split_at(2);
            let index = usize::from(u16::from_le_bytes(index.try_into().expect("two bytes")));
            words[index..].fill(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        fill(self.0[frame.0 as usize], &words);
    }
}

/// A pager for a pool that is there.
pub fn swap(host: &Host, size: Size, disk: &Fake) -> Swap<'static, Layers, Any> {
    let words = || vec![0u64; size.frames.div_ceil(64)].leak();
    let memory = Memory {
        records: vec![Record::EMPTY; size.frames].leak(),
        index: vec![0; 2 * size.frames].leak(),
        bits: [words(), words()],
        requests: Vec::leak((0..size.requests[0]).map(|_| Request::unused()).collect()),
    };
    let slots = Slots::new(vec![0; Slots::words(size.slots)].leak(), size.slots);
    let room = Room {
        log: vec![0; size.log].leak(),
        places: vec![0; if size.log > 0 { size.slots as usize } else { 0 }].leak(),
        spares: size.frames as u32..(size.frames + SPARES) as u32,
    };
    let disk = Compressed::new(disk.clone(), Packer(disk.inside().pool.clone()), room);
    let policy = Any(size.policy.make(size.frames));
    let settings = Settings { base: BASE, pool: POOL, batch: size.batch };
    Swap::new(host, settings, memory, slots, disk, policy).expect("there is enough memory")
}

impl World {
    /// Two regions of [`PAGES`] pages.
    pub fn new(size: Size) -> World {
        World::with_pages(size, PAGES)
    }

    pub fn with_pages(size: Size, pages: u64) -> World {
        let host = Host::new(size.frames + SPARES);
        let pool = (0..(size.frames + SPARES) as u64).map(|number| host.pte(POOL.add_pages(number)).frame());
        let disk = Fake::new(pool.collect(), size.requests[1]);
        let swap = swap(&host, size, &disk);
        let region = |first: u64| {
            let range = BASE.add_pages(first)..BASE.add_pages(first + pages);
            Region::new(range, Perms::WRITE | Perms::KEEP, &NOBODY)
        };
        let regions = vec![region(0), region(APART.max(pages.next_multiple_of(512)))];
        World { host, disk, swap, size, regions, model: BTreeMap::new() }
    }

    pub fn page(number: u64) -> Va {
        BASE.add_pages(number)
    }

    fn region(&self, va: Va) -> Region<Host> {
        *self.regions.iter().find(|region| region.range().contains(&va)).expect("a region")
    }

    /// An access of the program, with the faults that it takes.
    fn access(&mut self, va: Va, write: Option<u64>) -> Result<u64, Error> {
        let access = if write.is_some() { Access::Write } else { Access::Read };
        for _ in 0..3 {
            let met = match write {
                Some(value) => store(va, value).then_some(value),
                None => load(va, sim::processor::Access::Read),
            };
            if let Some(value) = met {
                return Ok(value);
            }
            let touch = Touch { va, access, entry: self.host.pte(va) };
            let region = self.region(va);
            assert!(self.swap.fault(&mut self.host, &touch, &region)?, "{touch:?} is for somebody else");
        }
        panic!("{va} is not there after two faults");
    }

    /// Reads a page and compares.
    pub fn read(&mut self, number: u64) -> Result<(), Error> {
        let expected = self.model.get(&number).copied().unwrap_or_default();
        let va = World::page(number);
        let found = [self.access(va, None)?, self.access(Va(va.0 + PAGE_SIZE - 8), None)?];
        assert_eq!(found, expected, "page {number}");
        Ok(())
    }

    /// Writes a page.
    pub fn write(&mut self, number: u64, value: u64) -> Result<(), Error> {
        let va = World::page(number);
        let end = Va(va.0 + PAGE_SIZE - 8);
        for (at, index) in [(va, 0), (end, 1)] {
            self.access(at, Some(value + index))?;
            self.model.entry(number).or_default()[index as usize] = value + index;
        }
        Ok(())
    }

    /// Gives pages back: they are zeros then.
    pub fn discard(&mut self, pages: Range<u64>) {
        let range = World::page(pages.start)..World::page(pages.end);
        self.swap.discard(&mut self.host, &range);
        for (va, _) in self.host.entries(range) {
            self.host.unmap(va, 1).expect("it is there");
        }
        self.model.retain(|number, _| !pages.contains(number));
    }

    /// Brings in pages, as advice does.
    pub fn will_need(&mut self, pages: Range<u64>) -> Result<(), Error> {
        for number in pages {
            let va = World::page(number);
            let touch = Touch { va, access: Access::Read, entry: self.host.pte(va) };
            let region = Region { order: Order::Sequential, ..self.region(va) };
            if !touch.entry.is_present() {
                self.swap.fault(&mut self.host, &touch, &region)?;
            }
        }
        Ok(())
    }

    /// Everything that is in flight ends, on a disk that does not fail for good.
    pub fn settle(&mut self) {
        self.swap.settle(&mut self.host).expect("the disk can be written");
    }

    /// Compares what the pager has noted with the page table; every mark names a slot of its own.
    pub fn check(&self) {
        let ranges: Vec<_> = self.regions.iter().map(Region::range).collect();
        assert_eq!(self.swap.check(&self.host, &ranges, self.size.slots), Ok(()));
        let entries = || ranges.iter().flat_map(|range| self.host.entries(range.clone())).map(|(_, entry)| entry);
        assert_eq!(self.swap.disk().check(), Ok(()));
        let marks: Vec<_> = entries().filter(|entry| !entry.is_present()).map(|entry| entry.word()).collect();
        assert_eq!(marks.iter().collect::<BTreeSet<_>>().len(), marks.len(), "marks {marks:x?}");
        let resident = entries().filter(|entry| entry.is_present()).count();
        assert!(resident <= self.size.frames - self.swap.free_frames(), "{resident} pages are resident");
    }

    /// All pages have their contents; then all is given back.
    pub fn end(mut self) {
        for region in self.regions.clone() {
            let first = (region.start.0 - BASE.0) / PAGE_SIZE;
            let pages = first..first + pager::pages(&region.range());
            // Everything that the program has can be reached, whether the disk is full or not.
            let (there, rest): (Vec<_>, Vec<_>) = pages.clone().partition(|number| self.model.contains_key(number));
            there.into_iter().for_each(|number| self.read(number).expect("it can be read"));
            for number in rest {
                let result = self.read(number);
                assert!(matches!(result, Ok(()) | Err(Error::DiskFull)), "{result:?}");
            }
            self.discard(pages);
        }
        self.settle();
        self.check();
        let slots = self.size.slots as usize - 1 - self.swap.slots().set_aside_so_far();
        assert_eq!((self.swap.free_frames(), self.swap.slots().free()), (self.size.frames, slots));
    }

    /// The number of pages that a pager can keep: the rest of the pool is left to page-ins.
    pub const fn room(size: Size) -> u64 {
        (size.frames - RESERVE) as u64 + size.slots as u64 - 1
    }
}

//! The kernel on the simulated machine, for one program whose pool a device has, too.

use abi::layout::{ARCHIVE, USER_LIMIT};
use abi::page::span;
use abi::{Call, Error, Frame, Level, PageOp, Perms, Pte, Va, call::AGE, call::MARK_OVER_PAGE};
use pager::{PageCalls, runs};
use sim::machine::{self, Sim, entry, processor};
use sim::processor::Access;
use std::ops::Range;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use swap::Evict;
use vm::{Machine, Memory, PageMap};

/// The address of the pool in the program and in the page map of the device.
pub const POOL: Va = Va(0x1000_0000);

/// The machine, and what the program has asked of the kernel.
pub struct Host {
    pub memory: &'static Memory<Sim>,
    program: PageMap<Sim>,
    device: PageMap<Sim>,
    /// The number of kernel entries.
    pub calls: usize,
    /// How many operations succeed before one fails for want of memory.
    pub fail_after: Option<usize>,
    /// Only that operation fails.
    pub fails_once: bool,
}

impl Host {
    /// A program with a pool of `frames` frames.
    pub fn new(frames: usize) -> Host {
        let memory = machine::start(machine::FRAMES - machine::kernel_frames(1));
        let (template, _) = machine::template();
        machine::archive(template, 1);
        let map = || PageMap::new(template).expect("a page map");
        let mut host = Host { memory, program: map(), device: map(), calls: 0, fail_after: None, fails_once: false };
        for number in 0..frames as u64 {
            let va = POOL.add_pages(number);
            host.program.edit().alloc(va, Perms::WRITE).expect("a frame");
            let frame = host.program.grant(va, Perms::WRITE).expect("it is writable");
            host.device.edit().accept(va, frame, Perms::WRITE).expect("room for tables");
        }
        processor(|processor| processor.load(Some(host.program.root())));
        host
    }

    /// Gives a page of the program to somebody else, who is the device's page map.
    pub fn lend(&mut self, va: Va, to: Va) {
        let frame = self.program.grant(va, Perms::WRITE).expect("it is writable");
        self.device.edit().accept(to, frame, Perms::WRITE).expect("room for tables");
    }

    /// Takes back what was lent.
    pub fn take_back(&mut self, to: Va) {
        self.device.edit().unmap(to).expect("it was lent");
    }

    /// Whether an address has a page table.
    pub fn has_table(&self, va: Va) -> bool {
        let (covered, _) = look(self.program.root(), va);
        covered == span(Level::L1)
    }

    fn page(&mut self, call: Call, op: PageOp) -> Result<(), Error> {
        assert!(op.va.is_page_aligned() && op.va < USER_LIMIT);
        if let Some(left) = self.fail_after {
            self.fail_after = left.checked_sub(1).or(if self.fails_once { None } else { Some(0) });
            if left == 0 {
                return Err(Error::NoMemory(0));
            }
        }
        let perms = || Perms::checked(op.arg);
        match call {
            Call::Map => {
                let frame = self.program.grant(op.source, perms()?)?;
                self.program.edit().accept(op.va, frame, perms()?)
            }
            Call::Protect => {
                Perms::checked(op.arg & !AGE)?;
                self.program.edit().protect(op.va, Perms::from_bits_retain(op.arg))
            }
            Call::Unmap => self.program.edit().unmap(op.va),
            Call::Mark if op.arg & MARK_OVER_PAGE != 0 => self.program.edit().mark_over(op.va, op.arg).map(drop),
            Call::Mark => self.program.edit().mark(op.va, op.arg),
            _ => panic!("the pager does not make {call:?}"),
        }
    }

    fn run(&mut self, op: PageOp) -> Result<(), Error> {
        let call = Call::from_number(op.call.into()).expect("a call");
        (0..op.count).try_for_each(|page| self.page(call, op.skip(page)))
    }
}

impl PageCalls for Host {
    type Entries = Entries;

    fn pte(&self, va: Va) -> Pte {
        entry(self.program.root(), va)
    }

    fn table(&self, _: Va, _: Level) -> Pte {
        panic!("the pager does not look at tables")
    }

    fn empty_entries(&self, _: Va, _: Level) -> u64 {
        1
    }

    fn count_entries(&self, _: Frame) -> u32 {
        panic!("the pager does not count entries")
    }

    fn is_sole(page: Frame) -> bool {
        machine::refs(page) == 1
    }

    fn entries(&self, range: Range<Va>) -> Entries {
        Entries { root: self.program.root(), rest: range }
    }

    fn op(&mut self, op: PageOp) -> Result<(), Error> {
        self.calls += 1;
        self.run(op)
    }

    fn ops(&mut self, ops: &[PageOp]) -> Result<(), Error> {
        assert!(!ops.is_empty());
        self.calls += 1;
        ops.iter().try_for_each(|op| self.run(*op))
    }

    /// An access of a program: through the processor, and within a page.
    fn copy(&mut self, from: Va, to: Va, bytes: u64) {
        let touch = |va, access| processor(|processor| processor.translate(va, access));
        let source = touch(from, Access::Read).expect("the source can be read");
        let target = touch(to, Access::Write).expect("the target can be written");
        assert_eq!(bytes, abi::PAGE_SIZE);
        fill(target, &words(source));
    }

    fn zeros(&self) -> Va {
        ARCHIVE
    }
}

impl Evict for Host {
    fn references(page: Frame) -> u32 {
        machine::refs(page)
    }
}

/// The contents of a frame.
pub fn words(frame: Frame) -> Words {
    std::array::from_fn(|index| Sim::table(frame)[index].load(Relaxed))
}

/// Changes the contents of a frame.
pub fn fill(frame: Frame, words: &Words) {
    Sim::table(frame).iter().zip(words).for_each(|(place, word)| place.store(*word, Relaxed));
}

/// The words of a page.
pub type Words = [u64; abi::page::TABLE_ENTRIES];

/// Iterator over the pages and marks of a range.
pub struct Entries {
    root: Frame,
    rest: Range<Va>,
}

impl Iterator for Entries {
    type Item = (Va, Pte);

    fn next(&mut self) -> Option<(Va, Pte)> {
        while self.rest.start < self.rest.end {
            let here = self.rest.start;
            let (covered, pte) = look(self.root, here);
            self.rest.start = Va((here.0 / covered + 1) * covered);
            if !pte.is_empty() {
                return Some((here, pte));
            }
        }
        None
    }
}

impl runs::Entries for Entries {}

/// The leaf entry of an address, or the size of the empty part around it.
fn look(root: Frame, va: Va) -> (u64, Pte) {
    let mut table = root;
    for level in Level::DOWN {
        let pte = Pte(Sim::table(table)[va.index(level)].load(SeqCst));
        if level == Level::L1 || !pte.is_present() {
            return (span(level), pte);
        }
        table = pte.frame();
    }
    unreachable!("the last level has returned")
}

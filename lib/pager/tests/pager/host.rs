//! The kernel on the simulated machine: several environments, calls with the checks of the real kernel, and page
//! tables that are read while they change.

use abi::layout::{ARCHIVE, ARCHIVE_END, USER_LIMIT};
use abi::page::{TABLE_ENTRIES, span};
use abi::{Call, EnvId, Error, Frame, Level, PAGE_SIZE, PageOp, Perms, Pte, Va};
use pager::fast::Known;
use pager::fork::{self, Plan};
use pager::{Guard, PageCalls, Region, Regions, Stream, ranges::Table, region::Filled, runs};
use sim::machine::{self, Sim, entry, processor};
use sim::processor::Access;
use std::sync::atomic::Ordering::Relaxed;
use std::{array, cell::RefCell, ops::Range, sync::LazyLock, sync::atomic::Ordering::SeqCst};
use vm::{Machine, Memory, PageMap};

/// The greatest number of environments at a time.
pub const ENVS: usize = 4;
/// The file in the boot archive ends in the middle of its last page.
pub const FILE_BYTES: u64 = 19 * PAGE_SIZE + 1234;
/// The pages of the file, and the page of zeros that ends every archive.
const ARCHIVE_PAGES: usize = FILE_BYTES.div_ceil(PAGE_SIZE) as usize + 1;
/// The greatest number of frames of the environments.
pub const ALL: usize = machine::FRAMES - machine::kernel_frames(ARCHIVE_PAGES);

/// A byte of the file. The bytes behind its end are those of the next file.
pub fn file_byte(at: u64) -> u8 {
    (at % 251 + at / PAGE_SIZE + 1) as u8
}

/// The pages of the file, made once.
static FILE_WORDS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let words = 0..(ARCHIVE_PAGES - 1) as u64 * PAGE_SIZE / 8;
    words.map(|word| u64::from_le_bytes(array::from_fn(|byte| file_byte(8 * word + byte as u64)))).collect()
});

/// The kernel, and the index of the running environment.
pub struct Host {
    pub memory: &'static Memory<Sim>,
    template: Frame,
    pub archive: Vec<Frame>,
    maps: [Option<PageMap<Sim>>; ENVS],
    pub current: usize,
    /// Runs after every page of an operation, as an interrupt might.
    pub between: Option<Interrupt>,
    /// The facts about the addresses around the last fault, if the fast path is used.
    pub known: Known,
}

pub type Interrupt = Box<dyn FnMut(&mut Host)>;

/// The name of an environment, for calls.
pub fn id(env: usize) -> EnvId {
    EnvId::new(1, env)
}

impl Host {
    /// One empty environment on a machine with this many free frames.
    pub fn new(free: usize) -> Host {
        let memory = machine::start(free);
        let (template, _) = machine::template();
        let archive = machine::archive(template, ARCHIVE_PAGES);
        for (&frame, words) in archive.iter().zip(FILE_WORDS.chunks(TABLE_ENTRIES)) {
            Sim::table(frame).iter().zip(words).for_each(|(place, word)| place.store(*word, SeqCst));
        }
        let maps = [const { None }; ENVS];
        let mut host = Host { memory, template, archive, maps, current: 0, between: None, known: Known::nothing() };
        host.create(0).expect("a frame for the first environment");
        host.switch(0);
        host
    }

    /// An environment without memory.
    pub fn create(&mut self, env: usize) -> Result<(), Error> {
        assert!(self.maps[env].is_none(), "environment {env} is there");
        self.maps[env] = Some(PageMap::new(self.template)?);
        Ok(())
    }

    /// Ends an environment. The processor must not have it loaded.
    pub fn tear_down(&mut self, env: usize) {
        let mut map = self.maps[env].take().expect("it is there");
        while !map.tear_down(&mut 10_000) {}
        self.memory.release(map.root());
    }

    /// Switches the processor to this environment.
    pub fn switch(&mut self, env: usize) {
        self.current = env;
        let root = self.root(env);
        processor(|processor| processor.load(Some(root)));
    }

    pub fn root(&self, env: usize) -> Frame {
        self.page_map(env).root()
    }

    pub fn page_map(&self, env: usize) -> &PageMap<Sim> {
        self.maps[env].as_ref().expect("the environment exists")
    }

    fn env(&self, id: EnvId) -> usize {
        if id == EnvId::SELF { self.current } else { id.slot() }
    }

    /// Executes one page of an operation; shared tables are owned first, as libos does.
    fn page_with_own_tables(&mut self, call: Call, op: PageOp) -> Result<(), Error> {
        loop {
            match self.page(call, op) {
                Err(Error::TableShared(value)) => {
                    let (va, level) = (Va(value).page(), Level::from_number(Va(value).offset()).expect("a level"));
                    assert!(self.table(va, level).is_shared_table(), "{va} at level {level}, for {op:?}");
                    self.page(Call::OwnTables, PageOp::own_tables(va, 1, level))?;
                }
                result => return result,
            }
        }
    }

    /// Executes one page or table of an operation, with the checks of the kernel.
    fn page(&mut self, call: Call, op: PageOp) -> Result<(), Error> {
        user_va(op.va)?;
        let (source, env) = (self.env(op.source_env), self.env(op.env));
        let level = || op.level().expect("a level of tables");
        // What is mapped: a frame, or an entry that points to a table.
        let mut table = Pte(0);
        let frame = match call {
            Call::Map => self.grant(source, op)?,
            Call::Copy => self.page_map(source).source(op.source)?,
            Call::ShareTables => {
                let map = self.maps[source].as_mut().expect("the environment exists");
                table = map.edit().grant_table(op.source, level())?;
                table.frame()
            }
            _ => Frame(0),
        };
        let map = self.maps[env].as_mut().expect("the environment exists");
        match call {
            Call::Alloc => map.edit().alloc(op.va, Perms::checked(op.arg)?),
            Call::Map => map.edit().accept(op.va, frame, Perms::checked(op.arg)?),
            Call::Copy => map.edit().copy(op.va, frame, Perms::checked(op.arg)?),
            Call::Protect => map.edit().protect(op.va, Perms::checked(op.arg)?),
            Call::Unmap => map.edit().unmap(op.va),
            Call::Mark => map.edit().mark(op.va, op.arg),
            Call::Own if env != self.current => Err(Error::NotYours(op.env.0.into())),
            Call::Own => map.edit().own(op.va).map(|_copied| ()),
            Call::ShareTables => map.edit().accept_table(op.va, level(), table),
            Call::OwnTables => map.edit().own_table(op.va, level()).map(|_copied| ()),
            Call::UnmapTables => map.edit().unmap_table(op.va, level()),
            Call::ProtectTables => map.edit().protect_table(op.va, level(), Perms::checked(op.source.0)?),
            _ => Err(Error::BadOp(op.call.into())),
        }
    }

    fn grant(&self, source: usize, op: PageOp) -> Result<Frame, Error> {
        let perms = Perms::checked(op.arg)?;
        if op.source < ARCHIVE {
            user_va(op.source)?;
        } else if op.source >= ARCHIVE_END {
            return Err(Error::BadAddress(op.source.0));
        }
        self.page_map(source).grant(op.source, perms)
    }
}

/// The entry of a level, whose table must be present.
fn table_entry(root: Frame, va: Va, level: Level) -> Pte {
    let mut pte = Pte(root.address() | Pte::PRESENT);
    for level in level.down_to() {
        assert!(pte.is_present(), "no table of level {level} at {va}");
        pte = Pte(Sim::table(pte.frame())[va.index(level)].load(SeqCst));
    }
    pte
}

fn user_va(va: Va) -> Result<(), Error> {
    match va {
        _ if !va.is_page_aligned() => Err(Error::Unaligned(va.0)),
        _ if va >= USER_LIMIT => Err(Error::BadAddress(va.0)),
        _ => Ok(()),
    }
}

impl PageCalls for Host {
    type Entries = Entries;

    fn pte(&self, va: Va) -> Pte {
        entry(self.root(self.current), va)
    }

    fn present(&self, va: Va) -> Pte {
        let pte = self.pte(va);
        assert!(pte.is_present(), "nothing is at {va}, and that was not to be expected");
        pte
    }

    fn table(&self, va: Va, level: Level) -> Pte {
        table_entry(self.root(self.current), va, level)
    }

    fn stream<T>(&self, f: impl FnOnce(&Stream) -> T) -> T {
        f(self.known.stream())
    }

    fn count_entries(&self, table: Frame) -> u32 {
        Sim::info(table).entries()
    }

    fn is_sole(page: Frame) -> bool {
        Sim::info(page).refs.load(Relaxed) == 1
    }

    fn entries(&self, range: Range<Va>) -> Entries {
        Entries { root: self.root(self.current), rest: range, last: None }
    }

    fn op(&mut self, op: PageOp) -> Result<(), Error> {
        let call = Call::from_number(op.call.into()).ok_or(Error::BadOp(op.call.into()))?;
        if op.count == 0 {
            return Err(Error::BadCount(0));
        }
        for page in 0..op.count {
            self.page_with_own_tables(call, op.skip(page))?;
            if let Some(mut interrupt) = self.between.take() {
                interrupt(self);
                self.between = Some(interrupt);
            }
        }
        Ok(())
    }

    fn ops(&mut self, ops: &[PageOp]) -> Result<(), Error> {
        if ops.is_empty() {
            return Err(Error::BadCount(0));
        }
        ops.iter().try_for_each(|op| self.op(*op))
    }

    /// An access of a program: through the processor, and within a page.
    fn copy(&mut self, from: Va, to: Va, bytes: u64) {
        let touch = |va, access| processor(|processor| processor.translate(va, access));
        let source = touch(from, Access::Read).expect("the source can be read");
        let target = touch(to, Access::Write).expect("the target can be written");
        let bytes = bytes as usize;
        let first = from.offset() as usize;
        machine::put(target, to.offset() as usize, &machine::contents(source)[first..first + bytes]);
    }

    fn zeros(&self) -> Va {
        ARCHIVE.add_pages(ARCHIVE_PAGES as u64 - 1)
    }
}

/// Iterator over the pages and marks of a range, read from the current tables at each step.
pub struct Entries {
    root: Frame,
    rest: Range<Va>,
    last: Option<Va>,
}

impl Iterator for Entries {
    type Item = (Va, Pte);

    fn next(&mut self) -> Option<(Va, Pte)> {
        if let Some(last) = self.last.take() {
            assert!(!entry(self.root, last).is_empty(), "{last} went away under an iterator");
        }
        while self.rest.start < self.rest.end {
            let (covered, pte) = self.look(self.rest.start);
            let here = self.rest.start;
            self.rest.start = Va((here.0 / covered + 1) * covered);
            if !pte.is_empty() {
                self.last = Some(here);
                return Some((here, pte));
            }
        }
        None
    }
}

impl runs::Entries for Entries {
    fn pass_alike(&mut self, like: Pte) -> u64 {
        let varies = runs::varying(like);
        let mut passed = 0;
        // As far as the table goes.
        while self.rest.start < self.rest.end && self.rest.start.index(Level::L1) != 0 {
            let (_, pte) = self.look(self.rest.start);
            if (pte.0 ^ like.0) & !varies != 0 {
                break;
            }
            self.last = Some(self.rest.start);
            self.rest.start = self.rest.start.add_pages(1);
            passed += 1;
        }
        passed
    }
}

impl Entries {
    /// The leaf entry of an address, or the size of the empty part around it.
    fn look(&self, va: Va) -> (u64, Pte) {
        let mut table = self.root;
        for level in Level::DOWN {
            let pte = Pte(Sim::table(table)[va.index(level)].load(SeqCst));
            if level == Level::L1 || !pte.is_present() {
                return (span(level), pte);
            }
            table = pte.frame();
        }
        unreachable!()
    }
}

/// The way of forking an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Page by page.
    Pages,
    /// By whole tables, except the addresses that this table of level 1 translates.
    Tables(Option<Va>),
}

/// Shares the parent's memory with a child.
pub fn share(
    host: &mut Host,
    by: By,
    child: usize,
    regions: &[Region<Host>],
    except: &[Range<Va>],
) -> Result<(), pager::Error> {
    fork::fill_shared(host, regions)?;
    let private = match by {
        By::Tables(Some(start)) => start..Va(start.0 + span(Level::L2)),
        _ => Va(0)..Va(0),
    };
    let except = [except, std::slice::from_ref(&private)].concat();
    let plan = Plan { child: id(child), regions, except: &except, private };
    match by {
        By::Pages => fork::share_pages(host, &plan),
        By::Tables(_) => fork::share_tables(host, &plan),
    }
}

/// A table of regions with room for a few.
pub struct Book(RefCell<(Vec<Region<Host>>, Filled)>);

/// Regions that an environment may have.
pub const REGIONS: usize = 12;

impl Book {
    pub fn new(room: usize) -> Book {
        static NOBODY: Guard = Guard("a slot that is not in use");
        Book(RefCell::new((vec![Region::new(Va(0)..Va(0), Perms::READ, &NOBODY); room], Filled::new(0))))
    }

    /// The current regions.
    pub fn regions(&self) -> Vec<Region<Host>> {
        self.edit(|regions| regions.all().to_vec())
    }

    /// The table of a child: the inherited regions of this one.
    pub fn inherited(&self) -> Book {
        let child = Book(RefCell::new(self.0.borrow().clone()));
        for region in self.regions() {
            if !region.pager.on_fork().has_region() {
                child.edit(|regions| regions.remove(&region.range())).expect("a whole region");
            }
        }
        child
    }
}

impl Table<Host> for Book {
    fn edit<T>(&self, f: impl FnOnce(&mut Regions<Host>) -> T) -> T {
        let (slots, filled) = &mut *self.0.borrow_mut();
        f(&mut Regions::new(slots, filled))
    }
}

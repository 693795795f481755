//! Carries operations out in a world, and digests all visible state.

use crate::op::{Arg, By, CHILDREN, ITEMS, ME, NAMES, Op, What};
use crate::place::{CODE, DESK, NOWHERE, REACH, is_stack, pages, realm, tables};
use crate::plan::{Mode, Plan, SPARE_SLOTS};
use crate::puppet::{self, CALL, GO, OPERATIONS, PARKED, REGISTERS, RESULTS, corner};
use crate::{EPISODE, draw};
use abi::call::{NO_PAGE, WAIT_NO_BLOCK};
use abi::{Call, Error, Level, PAGE_SIZE, PageOp, Perms, Status};
use core::fmt;

/// Where operations are carried out: the real kernel, or the model.
pub trait World {
    /// Makes a call by the hostile program.
    fn call(&mut self, number: u64, args: [u64; 6]) -> (u64, u64);
    /// Lets the other environments run until none of them can.
    fn settle(&mut self);
    /// Reads a word of the hostile program's memory, or writes one. If that raises a page fault that libos cannot
    /// resolve: the error code and the address.
    fn access(&mut self, at: u64, write: Option<u64>) -> Result<u64, (u64, u64)>;
    /// Reads a word on the desk.
    fn load(&self, at: u64) -> u64;
    /// Writes a word on the desk.
    fn store(&mut self, at: u64, word: u64);
    /// The public part of the environment with this id, from the window.
    fn env(&self, id: u32) -> Option<Env>;
    /// All entries of the hostile program's page map in a range that are not empty.
    fn entries(&self, start: u64, end: u64, f: &mut dyn FnMut(Entry));
    /// The hostile program's page table to which the entry of this level that translates `va` points.
    fn table(&self, va: u64, level: Level) -> Option<Table>;
    /// The number of free page frames.
    fn free(&self) -> u64;
    /// The number of slots for environments.
    fn slots(&self) -> usize;
    /// The id of the hostile program.
    fn me(&self) -> u32;
    /// Prints a line.
    fn print(&mut self, line: fmt::Arguments);
}

/// The public part of an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // as in the window
pub struct Env {
    pub status: u32,
    pub parent: u32,
    pub exit: u32,
}

/// An entry of a page map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The address of the page.
    pub va: u64,
    /// The entry without its frame; or the whole entry, if it is a mark.
    pub bits: u64,
    /// References to the frame.
    pub refs: u32,
    /// A number that only distinguishes frames from each other.
    pub frame: u64,
}

/// A page table, as shown by the entry that points to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Whether the part of the page map below it can be changed.
    pub open: bool,
    /// Whether it is protected against writes as a whole.
    pub sealed: bool,
    /// References to its frame.
    pub refs: u32,
}

/// Plays a plan. Returns how many calls were made.
pub fn play(world: &mut impl World, plan: &Plan) -> u64 {
    let me = world.me();
    let mut stage = Stage { world, plan, me, names: [NOBODY; NAMES], calls: 0, digest: 0 };
    if plan.mode == Mode::Crowd {
        for _ in 0..stage.world.slots() - 1 - SPARE_SLOTS {
            stage.call(Call::Exofork as u64, [0; 6]);
        }
    }
    for episode in plan.first..plan.first + plan.episodes {
        stage.begin();
        for index in plan.keep.indices().take_while(|&index| index < EPISODE) {
            stage.op(index, &draw::op(plan.seed, episode, index));
        }
        stage.end();
        let (calls, digest) = (stage.calls, stage.digest);
        stage.world.print(format_args!("episode {episode}: {calls} calls, digest {digest:016x}"));
    }
    stage.calls
}

/// The number of workers: puppets that are made anew when they are needed and do not wait for a command.
const WORKERS: u8 = 3;

/// An id that is never assigned: the initial value of a name.
const NOBODY: u32 = u32::MAX << abi::EnvId::SLOT_BITS;

struct Stage<'a, W> {
    world: &'a mut W,
    plan: &'a Plan,
    me: u32,
    names: [u32; NAMES],
    calls: u64,
    digest: u64,
}

/// The result of an operation.
#[derive(Clone, Copy, Default)]
struct Outcome {
    /// The number of pages, or of operations of a batch.
    done: u64,
    /// The number of pages of an operation that was not finished.
    part: u64,
    /// The last results; none if the call has not returned, or could not be made.
    last: Option<(u64, u64)>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Outcome { done, part, last } = *self;
        if done > 0 || part > 0 {
            write!(f, "{done} done, {part} of the next; ")?;
        }
        match last.map(|(rax, rdx)| Error::decode(rax, rdx)) {
            None => f.write_str("nothing"),
            Some(Ok((rax, rdx))) => write!(f, "{rax:#x}, {rdx:#x}"),
            Some(Err(error)) => write!(f, "{error}"),
        }
    }
}

impl<W: World> Stage<'_, W> {
    fn fold(&mut self, word: u64) {
        let mixed = (self.digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.digest = mixed ^ mixed >> 29;
    }

    fn call(&mut self, number: u64, args: [u64; 6]) -> (u64, u64) {
        self.calls += 1;
        self.world.call(number, args)
    }

    fn begin(&mut self) {
        self.names = [NOBODY; NAMES];
        self.digest = 0;
        for at in (DESK..DESK + PAGE_SIZE).step_by(8) {
            self.world.store(at, 0);
        }
    }

    fn op(&mut self, index: u32, op: &Op) {
        if self.plan.verbose {
            self.world.print(format_args!("{index} {op}"));
        }
        let outcome = self.carry_out(op);
        self.fold(outcome.done << 32 | outcome.part);
        let (rax, rdx) = outcome.last.unwrap_or((0x5555, 0x5555));
        self.fold(rax);
        self.fold(rdx);
        if self.plan.verbose {
            self.world.print(format_args!("  = {outcome}"));
        }
        self.look_around();
        if self.plan.verbose {
            let (free, digest) = (self.world.free(), self.digest);
            self.world.print(format_args!("  {free} free, digest {digest:016x}"));
        }
    }

    fn carry_out(&mut self, op: &Op) -> Outcome {
        let last = match op.what {
            What::Call(number, args) => {
                let args = args.map(|arg| self.resolve(arg));
                return self.repeat(op.by, number, args);
            }
            What::Touching(number, args, page) => return self.touching(number, args, page),
            What::Batch(items, len) => {
                let ops = items.map(|item| item.resolve(|arg| self.resolve(arg)));
                return self.batch(op.by, &ops[..len]);
            }
            What::Again(len) => {
                let ops: [PageOp; ITEMS] = core::array::from_fn(|index| self.load_op(index));
                return self.batch(op.by, &ops[..len]);
            }
            What::Exofork(name) if op.by == By::Me && self.is_living(name) => None,
            What::Exofork(name) => self.exofork(op.by, name),
            What::Animate(name) => self.animate(name),
            What::Pin(name, page) => self.pin(name, page),
            What::Poke(at, word) => self.access(at, Some(word)),
            What::Peek(at) => self.access(at, None),
        };
        Outcome { last, ..Outcome::default() }
    }

    fn resolve(&self, arg: Arg) -> u64 {
        match arg {
            Arg::Word(word) => word,
            Arg::Env(ME) => self.me.into(),
            Arg::Env(name) => self.names[name as usize].into(),
        }
    }

    /// Makes a call; `None` if it has not returned, or cannot be made.
    fn act(&mut self, by: By, number: u64, mut args: [u64; 6]) -> Option<(u64, u64)> {
        let By::Puppet(name) = by else {
            if number == Call::Wait as u64 && args[1] == 0 && !self.has_ended(args[0]) {
                args[1] = WAIT_NO_BLOCK;
            }
            let results = self.call(number, args);
            if number == Call::Destroy as u64 {
                // A destroyed environment may still be in the run queue. Yield, so that the kernel removes it.
                self.world.call(Call::Yield as u64, [0; 6]);
            }
            if !is_page_call(number) {
                self.world.settle();
            }
            return Some(results);
        };
        if !self.is_parked(name) && (name < WORKERS || !self.is_living(name)) {
            self.exofork(By::Me, name)?;
            self.animate(name)?;
        }
        if !self.is_parked(name) {
            return None;
        }
        let (id, corner) = (self.names[name as usize], corner(name));
        for (word, value) in [number].into_iter().chain(args).enumerate() {
            self.world.store(corner + CALL + 8 * word as u64, value);
        }
        self.world.store(corner + RESULTS + 16, 0);
        // Count the message, and the call of the puppet itself.
        self.calls += 1;
        self.call(Call::Send as u64, [id.into(), GO, NO_PAGE, 0, 0, 0]);
        self.world.settle();
        let done = self.world.load(corner + RESULTS + 16) == 1;
        done.then(|| (self.world.load(corner + RESULTS), self.world.load(corner + RESULTS + 8)))
    }

    fn status(&self, name: u8) -> Option<Status> {
        let env = self.world.env(self.names[name as usize])?;
        Status::from_number(env.status.into())
    }

    fn is_living(&self, name: u8) -> bool {
        self.status(name).is_some_and(Status::is_alive)
    }

    /// Whether this is a puppet that waits for a command.
    fn is_parked(&self, name: u8) -> bool {
        self.status(name) == Some(Status::Receiving) && self.world.load(corner(name) + PARKED) == 1
    }

    /// Whether a wait for this child will return at once.
    fn has_ended(&self, id: u64) -> bool {
        let env = u32::try_from(id).ok().and_then(|id| self.world.env(id));
        env.is_some_and(|env| env.status == Status::Zombie as u32 && env.parent == self.me)
    }

    /// Repeats a call while it reports progress on a run.
    fn repeat(&mut self, by: By, number: u64, args: [u64; 6]) -> Outcome {
        let run: &[usize] = match Call::from_number(number) {
            Some(Call::Alloc | Call::Protect | Call::Unmap | Call::Mark) => &[2, 1],
            Some(Call::UnmapTables | Call::ProtectTables) => &[2, 1],
            Some(Call::Map | Call::Copy | Call::ShareTables) => &[4, 1, 3],
            Some(Call::Own | Call::OwnTables) => &[1, 0],
            _ => &[],
        };
        match *run {
            [count, ref addresses @ ..] => self.in_one(by, |stage| stage.finish(by, number, args, count, addresses)),
            [] => Outcome { last: self.act(by, number, args), ..Outcome::default() },
        }
    }

    /// Counts as one call, whatever number of kernel entries it takes: the kernel may choose that, so only the outcome
    /// is compared.
    fn in_one(&mut self, by: By, f: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let calls = self.calls;
        let outcome = f(self);
        self.calls = calls + 1;
        if let By::Puppet(name) = by {
            [0, 8].into_iter().for_each(|word| self.world.store(corner(name) + RESULTS + word, 0));
        }
        outcome
    }

    /// Calls until all of a run is done: `count` and `addresses` are the indices of these arguments.
    fn finish(&mut self, by: By, number: u64, mut args: [u64; 6], count: usize, addresses: &[usize]) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            outcome.last = self.act(by, number, args);
            let Some((rax, rdx)) = outcome.last else { return outcome };
            let Ok((done, _)) = Error::decode(rax, rdx) else { return outcome };
            outcome.done += done;
            // The model does not know which pages are dirty.
            outcome.last = Some((0, if number == Call::Mark as u64 { 0 } else { rdx }));
            if done == 0 || done >= args[count] {
                return outcome;
            }
            let size = size(number, &args);
            args[count] -= done;
            addresses.iter().for_each(|&at| args[at] += done * size);
        }
    }

    /// A page call with a write to a page before, and a write and a read after it: translations that the processor has
    /// cached must not outlive the call.
    fn touching(&mut self, number: u64, args: [Arg; 6], page: u64) -> Outcome {
        let at = page + PAGE_SIZE / 2;
        let before = self.access(at, Some(number));
        let outcome = self.repeat(By::Me, number, args.map(|arg| self.resolve(arg)));
        for results in [before, self.access(at, Some(!number)), self.access(at, None)] {
            let (rax, rdx) = results.unwrap_or_default();
            self.fold(rax);
            self.fold(rdx);
        }
        outcome
    }

    fn batch(&mut self, by: By, ops: &[PageOp]) -> Outcome {
        let outcome = self.in_one(by, |stage| stage.finish_batch(by, ops));
        ops.iter().enumerate().for_each(|(index, op)| self.store_op(index, op));
        outcome
    }

    fn finish_batch(&mut self, by: By, ops: &[PageOp]) -> Outcome {
        let mut outcome = Outcome::default();
        while (outcome.done as usize) < ops.len() {
            let rest = &ops[outcome.done as usize..];
            for (index, op) in rest.iter().enumerate() {
                self.store_op(index, &if index == 0 { op.skip(outcome.part as u32) } else { *op });
            }
            let count = if outcome.part == 0 { rest.len() } else { 1 };
            let args = [DESK + OPERATIONS, count as u64, 0, 0, 0, 0];
            outcome.last = self.act(by, Call::PageOps as u64, args);
            let Some((rax, rdx)) = outcome.last else { return outcome };
            match Error::decode(rax, rdx) {
                Err(_) | Ok((0, 0)) => return outcome,
                Ok((0, pages)) => outcome.part += pages,
                Ok((whole, pages)) => (outcome.done, outcome.part) = (outcome.done + whole, pages),
            }
            outcome.last = Some((0, 0));
        }
        outcome
    }

    fn store_op(&mut self, index: usize, op: &PageOp) {
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let words = [pair(op.call, op.count), pair(op.source_env.0, op.env.0), op.source.0, op.va.0, op.arg];
        for (word, value) in words.into_iter().enumerate() {
            self.world.store(place(index) + 8 * word as u64, value);
        }
    }

    fn load_op(&self, index: usize) -> PageOp {
        let words = core::array::from_fn(|word| self.world.load(place(index) + 8 * word as u64));
        puppet::page_op(words)
    }

    fn exofork(&mut self, by: By, name: u8) -> Option<(u64, u64)> {
        if by == By::Me {
            let old = self.names[name as usize].into();
            if old != u64::from(NOBODY) {
                self.act(by, Call::Destroy as u64, [old, 0, 0, 0, 0, 0]);
                self.act(by, Call::Wait as u64, [old, WAIT_NO_BLOCK, 0, 0, 0, 0]);
            }
        }
        let results = self.act(by, Call::Exofork as u64, [0; 6])?;
        if let Ok((id, _)) = Error::decode(results.0, results.1) {
            self.names[name as usize] = id as u32;
        }
        Some(results)
    }

    fn animate(&mut self, name: u8) -> Option<(u64, u64)> {
        if !self.is_living(name) {
            self.exofork(By::Me, name)?;
        }
        let id = self.names[name as usize].into();
        for (page, perms) in [(CODE, Perms::EXEC), (DESK, Perms::WRITE)] {
            let args = [0, page, id, page, 1, perms.bits()];
            let (rax, _) = self.act(By::Me, Call::Map as u64, args)?;
            self.fold(rax);
        }
        for (word, value) in words(&puppet::registers(name)).into_iter().enumerate() {
            self.world.store(DESK + REGISTERS + 8 * word as u64, value);
        }
        let (rax, _) = self.act(By::Me, Call::SetRegs as u64, [id, DESK + REGISTERS, 0, 0, 0, 0])?;
        self.fold(rax);
        self.act(By::Me, Call::SetStatus as u64, [id, Status::Runnable as u64, 0, 0, 0, 0])
    }

    fn pin(&mut self, name: u8, page: u64) -> Option<(u64, u64)> {
        let id = self.names[name as usize].into();
        let (rax, _) = self.act(By::Me, Call::Alloc as u64, [id, page, 1, Perms::WRITE.bits(), 0, 0])?;
        self.fold(rax);
        self.act(By::Me, Call::SetUpcall as u64, [id, NOWHERE, page, 1, 0, 0])
    }

    fn access(&mut self, at: u64, write: Option<u64>) -> Option<(u64, u64)> {
        if is_stack(at) {
            return None;
        }
        Some(match self.world.access(at, write) {
            Ok(word) => (0, word),
            Err((code, address)) => (0x100 + code, address),
        })
    }

    /// Digests everything that is visible without a call.
    fn look_around(&mut self) {
        self.fold(self.world.free());
        let show = self.plan.verbose && self.plan.keep != crate::Keep::ALL;
        let mut seen = [0; 96];
        let mut count = 0;
        for (start, end) in pages() {
            for entry in self.entries(start, end) {
                let first = seen[..count].iter().position(|&frame| frame == entry.frame).unwrap_or(count);
                seen[count] = entry.frame;
                count += 1;
                let Entry { va, bits, refs, .. } = entry;
                self.fold(va ^ (first as u64) << 48 ^ u64::from(refs));
                self.fold(bits);
                if show {
                    let line = format_args!("  {va:#x}: {bits:#x}, {refs} references, like {first}");
                    self.world.print(line);
                }
            }
        }
        for (va, level) in tables() {
            let Some(Table { open, sealed, refs }) = self.world.table(va, level) else { continue };
            self.fold(va ^ level as u64 ^ u64::from(open) << 48 ^ u64::from(sealed) << 49 ^ u64::from(refs) << 50);
            if show && !open {
                self.world.print(format_args!("  {va:#x}: entry of level {level} to a table that {refs} have"));
            }
        }
        for name in 0..NAMES {
            let id = self.names[name];
            let Some(env) = self.world.env(id) else { continue };
            self.fold(u64::from(env.status) << 32 | u64::from(env.parent));
            self.fold(u64::from(env.exit) << 32 | u64::from(id));
            let results = if name < CHILDREN { self.results(name as u8) } else { [0; 3] };
            results.into_iter().for_each(|word| self.fold(word));
            if show {
                let line = format_args!("  env{name}: {id:08x} {env:?}, results {results:x?}");
                self.world.print(line);
            }
        }
    }

    /// The entries of one of the ranges.
    fn entries(&self, start: u64, end: u64) -> impl Iterator<Item = Entry> + use<W> {
        let mut found = [None; REACH as usize];
        let mut places = found.iter_mut();
        self.world.entries(start, end, &mut |entry| {
            if let Some(place) = places.next() {
                *place = Some(entry);
            }
        });
        found.into_iter().flatten()
    }

    fn results(&self, name: u8) -> [u64; 3] {
        core::array::from_fn(|word| self.world.load(corner(name) + RESULTS + 8 * word as u64))
    }

    /// Gives everything back.
    fn end(&mut self) {
        for name in 0..CHILDREN {
            let id = self.names[name].into();
            if id != u64::from(NOBODY) {
                self.act(By::Me, Call::Destroy as u64, [id, 0, 0, 0, 0, 0]);
            }
        }
        while let (1.., _) = self.wait_for_any() {}
        for (start, end) in realm() {
            self.clear(start, end);
        }
        self.names = [NOBODY; NAMES];
        self.look_around();
    }

    /// Unmaps everything in a range; shared page tables go first.
    fn clear(&mut self, mut start: u64, end: u64) {
        loop {
            let mut first = None;
            self.world.entries(start, end, &mut |entry| first = first.or(Some(entry.va)));
            let Some(va) = first else { return };
            let (rax, rdx) = self.call(Call::Unmap as u64, [0, va, 1, 0, 0, 0]);
            let Err(Error::TableShared(table)) = Error::decode(rax, rdx) else {
                start = va + PAGE_SIZE;
                continue;
            };
            let (table, level) = (table - table % PAGE_SIZE, table % PAGE_SIZE);
            let (rax, rdx) = self.call(Call::UnmapTables as u64, [0, table, 1, level, 0, 0]);
            if Error::decode(rax, rdx).is_err() {
                self.call(Call::OwnTables as u64, [table, 1, level, 0, 0, 0]);
            }
        }
    }

    fn wait_for_any(&mut self) -> (u64, u64) {
        let (rax, rdx) = self.call(Call::Wait as u64, [0, WAIT_NO_BLOCK, 0, 0, 0, 0]);
        Error::decode(rax, rdx).unwrap_or((0, 0))
    }
}

/// Whether a call leaves all environments as they are.
fn is_page_call(number: u64) -> bool {
    let call = Call::from_number(number);
    call.is_none_or(|call| {
        use Call::{Alloc, Copy, Id, Map, Mark, Own, PageOps, Protect, SetRegs, SetUpcall, Unmap, Write};
        matches!(call, Alloc | Copy | Map | Mark | Own | PageOps | Protect | Unmap)
            || call.is_about_tables()
            || matches!(call, Id | SetRegs | SetUpcall | Write)
    })
}

/// The address of an operation for `page_ops`.
fn place(index: usize) -> u64 {
    DESK + OPERATIONS + (index * size_of::<PageOp>()) as u64
}

/// Bytes of one unit of a call: of a page, or of the range that a page table translates.
fn size(number: u64, args: &[u64; 6]) -> u64 {
    let op = Call::from_number(number).and_then(|call| PageOp::from_registers(call, *args).ok());
    op.map_or(PAGE_SIZE, |op| op.step() * PAGE_SIZE)
}

/// Registers, in their order in memory.
fn words(r: &abi::Registers) -> [u64; 18] {
    [
        r.r15, r.r14, r.r13, r.r12, r.r11, r.r10, r.r9, r.r8, r.rbp, r.rdi, r.rsi, r.rdx, r.rcx, r.rbx, r.rax, r.rsp,
        r.rflags, r.rip,
    ]
}

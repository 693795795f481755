//! The system calls. The order of the checks is the order in which errors are reported.

use super::page_map::{PageMap, Pages, Slot};
use super::{Model, code, env::Context};
use crate::puppet::page_op;
use abi::call::{CONSOLE_MAX, GOT_PAGE, MARK_OVER_PAGE, NO_PAGE, PAGE_OPS_MAX, WAIT_NO_BLOCK};
use abi::layout::{ARCHIVE, ARCHIVE_END, EXCEPTION_STACK_MAX_PAGES, SCRATCH, SLOT_SIZE, USER_LIMIT};
use abi::{Call, EnvId, Error, ExitStatus, Level, PAGE_SIZE, PageOp, Perms, Pte, Registers, Status, page::span};
use alloc::vec::Vec;

type Results = Result<(u64, u64), Error>;

/// How a call ends: it returns now, or later, or never.
enum Way {
    Back(u64, u64),
    Away,
}

type Answer = Result<Way, Error>;

const HALF: u64 = 256 * SLOT_SIZE;

fn env_id(argument: u64) -> Result<u32, Error> {
    u32::try_from(argument).map_err(|_| Error::BadEnv(argument))
}

/// Checks a run of pages, or of other units of this size.
fn within(va: u64, count: u64, size: u64, low: u64, limit: u64) -> Result<(), Error> {
    if !va.is_multiple_of(size) {
        Err(Error::Unaligned(va))
    } else if va < low || va >= limit || count > (limit - va) / size {
        Err(Error::BadAddress(va))
    } else {
        Ok(())
    }
}

fn user_va(va: u64, pages: u64) -> Result<(), Error> {
    within(va, pages, PAGE_SIZE, 0, USER_LIMIT.0)
}

fn source_va(va: u64, pages: u64) -> Result<(), Error> {
    if va < ARCHIVE.0 { user_va(va, pages) } else { within(va, pages, PAGE_SIZE, ARCHIVE.0, ARCHIVE_END.0) }
}

impl Model {
    /// Executes a call by the environment in slot `me`. `None`: it does not return now.
    pub fn dispatch(&mut self, me: usize, number: u64, args: [u64; 6]) -> Option<(u64, u64)> {
        match self.answer(me, number, args) {
            Ok(Way::Back(rax, rdx)) => Some((rax, rdx)),
            Ok(Way::Away) => None,
            Err(error) => Some(error.encode()),
        }
    }

    fn answer(&mut self, me: usize, number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Answer {
        let call = Call::from_number(number).ok_or(Error::BadCall(number))?;
        let (rax, rdx) = match call {
            Call::Id => (self.envs[me].id.into(), 0),
            Call::Write => self.read(me, a, b.min(CONSOLE_MAX)).map(|bytes| (bytes.len() as u64, 0))?,
            Call::Read => return self.console_read(me, a, b),
            Call::Exofork => (self.create(me)?.into(), 0),
            Call::Destroy => return self.destroy(me, env_id(a)?),
            Call::Exit => return self.exit(me, a),
            Call::SetStatus => return self.set_status(me, env_id(a)?, b),
            Call::SetRegs => return self.set_regs(me, env_id(a)?, b),
            Call::SetUpcall => self.set_upcall(me, env_id(a)?, b, c, d)?,
            Call::Wait => return self.wait(me, env_id(a)?, b),
            Call::Yield => self.find(me, env_id(a)?).map(|_| (0, 0))?,
            Call::PageOps => self.page_ops(me, a, b)?,
            Call::Send => {
                self.deliver(me, env_id(a)?, b, c, d)?;
                (0, 0)
            }
            Call::Recv => {
                let from = env_id(b)?;
                self.check_receive(me, a, from)?;
                return Ok(self.receive(me, a, from));
            }
            Call::SendRecv => {
                let from = env_id(f)?;
                let to = env_id(a)?;
                self.check_receive(me, e, from)?;
                self.deliver(me, to, b, c, d)?;
                return Ok(self.receive(me, e, from));
            }
            Call::PowerOff => return self.power_off(me, a),
            // The machine has no devices.
            Call::Claim => return env_id(b).and(Err(Error::BadDevice(a))),
            Call::Mark if c == 1 && d & MARK_OVER_PAGE != 0 => {
                self.mark_over(me, &PageOp::from_registers(call, [a, b, c, d, e, f])?)?
            }
            _ => self.one(me, &PageOp::from_registers(call, [a, b, c, d, e, f])?)?,
        };
        Ok(Way::Back(rax, rdx))
    }

    fn find(&self, me: usize, id: u32) -> Result<usize, Error> {
        if id == 0 {
            return Ok(me);
        }
        let slot = EnvId(id).slot();
        let found = self.envs.get(slot).is_some_and(|env| env.id == id && env.is_living());
        if found { Ok(slot) } else { Err(Error::BadEnv(id.into())) }
    }

    fn find_own(&self, me: usize, id: u32) -> Result<usize, Error> {
        let slot = self.find(me, id)?;
        let own = slot == me || self.envs[slot].parent == self.envs[me].id;
        if own { Ok(slot) } else { Err(Error::NotYours(id.into())) }
    }

    /// The page that is mapped at an address, the boot archive included.
    fn page(&self, slot: usize, va: u64) -> Option<Slot> {
        if va >= ARCHIVE.0 {
            let page = self.archive.get(((va - ARCHIVE.0) / PAGE_SIZE) as usize)?;
            return Some(Slot::shared(*page, Perms::READ));
        }
        self.envs[slot].map?.page(&self.pages, va)
    }

    /// Reads bytes of user memory.
    fn read(&self, me: usize, at: u64, len: u64) -> Result<Vec<u8>, Error> {
        if at >= HALF || len > HALF - at {
            return Err(Error::BadAddress(at.max(HALF)));
        }
        (at..at + len)
            .map(|at| {
                let slot = self.page(me, at).ok_or(Error::Fault(at))?;
                Ok(self.pages.all[slot.page].byte(at % PAGE_SIZE))
            })
            .collect()
    }

    fn words(&self, me: usize, at: u64, words: u64) -> Result<Vec<u64>, Error> {
        let bytes = self.read(me, at, words * 8)?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    fn console_read(&mut self, me: usize, at: u64, len: u64) -> Answer {
        if len == 0 {
            return Err(Error::BadCount(0));
        }
        let len = len.min(CONSOLE_MAX);
        if at >= USER_LIMIT.0 || len > USER_LIMIT.0 - at {
            return Err(Error::BadAddress(at.max(USER_LIMIT.0)));
        }
        let map = self.envs[me].map.ok_or(Error::Fault(at))?;
        for at in at..at + len {
            map.page(&self.pages, at).filter(|slot| slot.has(Pte::WRITABLE)).ok_or(Error::Fault(at))?;
            map.require_open(&self.pages, at, Level::L1)?;
            if map.is_sealed(&self.pages, at) {
                return Err(Error::Fault(at));
            }
            map.change(&mut self.pages, at, |bits| bits | Pte::ACCESSED | Pte::DIRTY);
        }
        self.envs[me].status = Status::Reading;
        Ok(Way::Away)
    }

    fn destroy(&mut self, me: usize, id: u32) -> Answer {
        let slot = self.find_own(me, id)?;
        self.end(me, slot, ExitStatus::DESTROYED, true);
        Ok(if slot == me { Way::Away } else { Way::Back(0, 0) })
    }

    fn exit(&mut self, me: usize, status: u64) -> Answer {
        if status > ExitStatus::PROGRAM_MAX.into() {
            return Err(Error::BadStatus(status));
        }
        self.end(me, me, ExitStatus(status as u8), false);
        Ok(Way::Away)
    }

    fn set_status(&mut self, me: usize, id: u32, status: u64) -> Answer {
        use Status::{Runnable, Running, Stopped};
        let slot = self.find_own(me, id)?;
        match (self.envs[slot].status, Status::from_number(status)) {
            (Stopped, Some(Runnable)) => self.wake(slot),
            (Runnable | Running, Some(Runnable)) | (Stopped, Some(Stopped)) => {}
            (Runnable, Some(Stopped)) => self.envs[slot].status = Stopped,
            (Running, Some(Stopped)) => {
                self.envs[slot].status = Stopped;
                self.envs[slot].results = (0, 0);
                return Ok(Way::Away);
            }
            (now, Some(Runnable | Stopped)) => return Err(Error::BadState(now as u64)),
            _ => return Err(Error::BadStatus(status)),
        }
        Ok(Way::Back(0, 0))
    }

    fn set_regs(&mut self, me: usize, id: u32, at: u64) -> Answer {
        let slot = self.find_own(me, id)?;
        let words = self.words(me, at, size_of::<Registers>() as u64 / 8)?;
        let (r15, r14, rip) = (words[0], words[1], words[17]);
        let status = self.envs[slot].status;
        if !matches!(status, Status::Stopped | Status::Running) {
            return Err(Error::BadState(status as u64));
        }
        if rip >= USER_LIMIT.0 {
            return Err(Error::BadAddress(rip));
        }
        self.envs[slot].context = Context::of(&Registers { r15, r14, rip, ..Registers::default() });
        Ok(if slot == me { Way::Away } else { Way::Back(0, 0) })
    }

    fn set_upcall(&mut self, me: usize, id: u32, entry: u64, stack: u64, pages: u64) -> Results {
        let slot = self.find_own(me, id)?;
        if entry >= USER_LIMIT.0 {
            return Err(Error::BadAddress(entry));
        }
        let most = if entry == 0 { 0 } else { EXCEPTION_STACK_MAX_PAGES };
        if pages > most || (pages == 0 && entry != 0) {
            return Err(Error::BadCount(pages));
        }
        user_va(stack, pages)?;
        for va in (0..pages).map(|page| stack + page * PAGE_SIZE) {
            let page = self.page(slot, va).ok_or(Error::NotMapped(va))?;
            if !self.envs[slot].map.is_some_and(|map| map.is_writable(&self.pages, va)) {
                return Err(Error::NoRight(va));
            }
            if self.pages.all[page.page].refs != 1 {
                return Err(Error::Shared(va));
            }
        }
        self.envs[slot].stack = stack..stack + pages * PAGE_SIZE;
        Ok((0, 0))
    }

    fn wait(&mut self, me: usize, id: u32, flags: u64) -> Answer {
        if flags & !WAIT_NO_BLOCK != 0 {
            return Err(Error::BadFlags(flags));
        }
        let children = &self.envs[me].children;
        let mut wanted = children.iter().copied().filter(|&slot| id == 0 || self.envs[slot].id == id);
        if wanted.clone().next().is_none() {
            return Err(Error::NoChild(id.into()));
        }
        if let Some(ended) = wanted.find(|&slot| self.envs[slot].status == Status::Zombie) {
            let (id, exit) = self.reap(ended);
            return Ok(Way::Back(id, exit));
        }
        if flags & WAIT_NO_BLOCK != 0 {
            return Ok(Way::Back(0, 0));
        }
        self.envs[me].awaits = id;
        self.envs[me].status = Status::Waiting;
        Ok(Way::Away)
    }

    fn power_off(&mut self, me: usize, status: u64) -> Answer {
        if me != self.me {
            return Err(Error::NotFirst(self.envs[self.me].id.into()));
        }
        if status > ExitStatus::PROGRAM_MAX.into() {
            return Err(Error::BadStatus(status));
        }
        Ok(Way::Away)
    }

    fn page_ops(&mut self, me: usize, at: u64, count: u64) -> Results {
        if count == 0 {
            return Err(Error::BadCount(0));
        }
        let count = count.min(PAGE_OPS_MAX);
        let words = self.words(me, at, count * (size_of::<PageOp>() as u64 / 8))?;
        for (done, op) in words.chunks_exact(5).enumerate() {
            let op = page_op(op.try_into().unwrap_or_default());
            match self.one(me, &op) {
                Ok((pages, _)) if pages == op.count.into() => {}
                Ok((pages, _)) => return Ok((done as u64, pages)),
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok((done as u64, 0)),
            }
        }
        Ok((count, 0))
    }

    /// A page call: the whole run is checked, then it is executed page by page up to an error, which is reported only
    /// if it comes at the first page.
    fn one(&mut self, me: usize, op: &PageOp) -> Results {
        let results = self.page_call(me, op);
        *self.reached.entry((op.call, results.err().map(code))).or_default() += 1;
        results
    }

    /// `mark` of one page, with the bit that lets the mark take the place of a page.
    fn mark_over(&mut self, me: usize, op: &PageOp) -> Results {
        let env = self.find_own(me, op.env.0)?;
        user_va(op.va.0, 1)?;
        self.unpinned(env, op.va.0, 1, Level::L1)?;
        self.page_map(env)?.mark_over(&mut self.pages, op.va.0, op.arg)?;
        Ok((1, 0))
    }

    fn page_call(&mut self, me: usize, op: &PageOp) -> Results {
        let call = Call::from_number(op.call.into()).ok_or(Error::BadOp(op.call.into()))?;
        if op.count == 0 {
            return Err(Error::BadCount(0));
        }
        let env = self.find_own(me, op.env.0)?;
        if call.is_about_tables() {
            return self.tables(me, env, call, op);
        }
        let step: fn(PageMap, &mut Pages, u64, u64) -> Result<(), Error> = match call {
            Call::Map | Call::Copy => return self.map(me, env, call, op),
            Call::Alloc => |map, pages, va, arg| map.alloc(pages, va, Perms::checked(arg)?),
            Call::Protect => |map, pages, va, arg| map.protect(pages, va, arg),
            Call::Unmap => |map, pages, va, _| map.unmap(pages, va),
            Call::Mark if op.arg & MARK_OVER_PAGE != 0 => |map, pages, va, arg| map.mark_over(pages, va, arg),
            Call::Mark => |map, pages, va, arg| map.mark(pages, va, arg),
            Call::Own if env != me => return Err(Error::NotYours(op.env.0.into())),
            Call::Own => |map, pages, va, _| map.own(pages, va),
            _ => return Err(Error::BadOp(op.call.into())),
        };
        let count = self.target(env, op)?;
        let map = self.page_map(env)?;
        let pages = &mut self.pages;
        each(count, |page| step(map, pages, op.va.add_pages(page).0, op.arg))
    }

    /// How many pages of a run may be changed.
    fn target(&self, env: usize, op: &PageOp) -> Result<u64, Error> {
        user_va(op.va.0, op.count.into())?;
        self.unpinned(env, op.va.0, op.count.into(), Level::L1)
    }

    fn page_map(&self, slot: usize) -> Result<PageMap, Error> {
        self.envs[slot].map.ok_or(Error::BadEnv(self.envs[slot].id.into()))
    }

    fn map(&mut self, me: usize, env: usize, call: Call, op: &PageOp) -> Results {
        let count = self.target(env, op)?;
        let perms = Perms::checked(op.arg)?;
        let source = self.find_own(me, op.source_env.0)?;
        source_va(op.source.0, op.count.into())?;
        let count = self.unpinned(source, op.source.0, count, Level::L1)?;
        each(count, |page| {
            let (from, to) = (op.source.add_pages(page).0, op.va.add_pages(page).0);
            if call == Call::Map {
                return self.share(source, from, env, to, perms);
            }
            let page = self.page(source, from).ok_or(Error::NotMapped(from))?.page;
            self.page_map(env)?.copy(&mut self.pages, to, page, perms)
        })
    }

    fn share(&mut self, source: usize, from: u64, env: usize, to: u64, perms: Perms) -> Result<(), Error> {
        let page = if from >= ARCHIVE.0 {
            let slot = self.page(source, from).ok_or(Error::NotMapped(from))?;
            if perms.contains(Perms::WRITE) {
                return Err(Error::NoRight(from));
            }
            slot.page
        } else {
            self.page_map(source)?.grant(&self.pages, from, perms)?
        };
        self.page_map(env)?.accept(&mut self.pages, to, page, perms)
    }

    /// A call on page tables: like one on pages, but fewer addresses are permitted.
    fn tables(&mut self, me: usize, env: usize, call: Call, op: &PageOp) -> Results {
        let level = match op.arg {
            2 => Level::L2,
            3 => Level::L3,
            4 => Level::L4,
            other => return Err(Error::BadLevel(other)),
        };
        let shares = call == Call::ShareTables;
        let source = if shares { self.find_own(me, op.source_env.0)? } else { env };
        let mut count = op.count.into();
        within(op.va.0, count, span(level), 0, SCRATCH.0)?;
        if call == Call::OwnTables && env != me {
            return Err(Error::NotYours(op.env.0.into()));
        }
        if shares {
            within(op.source.0, count, span(level), 0, SCRATCH.0)?;
            count = self.unpinned(source, op.source.0, count, level)?;
        }
        if call == Call::ProtectTables && op.source.0 & !Perms::WRITE.bits() != 0 {
            return Err(Error::BadPerms(op.source.0 & !Perms::WRITE.bits()));
        }
        if call != Call::OwnTables {
            count = self.unpinned(env, op.va.0, count, level)?;
        }
        let (source, map, pages) = (self.page_map(source)?, self.page_map(env)?, &mut self.pages);
        each(count, |table| {
            let to = op.va.0 + table * span(level);
            match call {
                Call::OwnTables => map.own_table(pages, to, level),
                Call::UnmapTables => map.unmap_table(pages, to, level),
                Call::ProtectTables => map.protect_table(pages, to, level, op.source.0),
                _ => source.share_table(pages, op.source.0 + table * span(level), (map, to), level),
            }
        })
    }

    /// How many pages or page tables of a run come before the exception stack.
    fn unpinned(&self, slot: usize, va: u64, count: u64, level: Level) -> Result<u64, Error> {
        let stack = &self.envs[slot].stack;
        if stack.is_empty() || va >= stack.end {
            Ok(count)
        } else if va + span(level) > stack.start {
            Err(Error::Pinned(va.max(stack.start)))
        } else {
            Ok(count.min((stack.start - va) / span(level)))
        }
    }

    fn deliver(&mut self, me: usize, to: u32, value: u64, page: u64, bits: u64) -> Result<(), Error> {
        let receiver = self.find(me, to)?;
        if page != NO_PAGE {
            Perms::checked(bits)?;
            source_va(page, 1)?;
            self.unpinned(me, page, 1, Level::L1)?;
        }
        let id = self.envs[me].id;
        let env = &self.envs[receiver];
        if env.status != Status::Receiving || (env.awaits != 0 && env.awaits != id) {
            return Err(Error::NotReceiving(to.into()));
        }
        let at = env.receive_at;
        let with_page = page != NO_PAGE && at != NO_PAGE;
        if with_page {
            self.unpinned(receiver, at, 1, Level::L1)?;
            self.share(me, page, receiver, at, Perms::checked(bits)?)?;
        }
        let flags = if with_page { GOT_PAGE } else { 0 };
        self.envs[receiver].results = (u64::from(id) | flags, value);
        self.wake(receiver);
        Ok(())
    }

    fn check_receive(&self, me: usize, at: u64, from: u32) -> Result<(), Error> {
        if at != NO_PAGE {
            user_va(at, 1)?;
            self.unpinned(me, at, 1, Level::L1)?;
            self.page_map(me)?.require_open(&self.pages, at, Level::L1)?;
        }
        if from != 0 {
            self.find(me, from)?;
        }
        Ok(())
    }

    fn receive(&mut self, me: usize, at: u64, from: u32) -> Way {
        let env = &mut self.envs[me];
        (env.status, env.awaits, env.receive_at) = (Status::Receiving, from, at);
        Way::Away
    }
}

/// Executes a run page by page, up to an error, which is reported only if it comes at the first page.
fn each(count: u64, mut f: impl FnMut(u64) -> Result<(), Error>) -> Results {
    for done in 0..count {
        match f(done) {
            Ok(()) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok((done, 0)),
        }
    }
    Ok((count, 0))
}

//! Draws the operation for (seed, episode, index).
//!
//! Every operation is drawn independently, from these three numbers only: the others stay the same when one is left
//! out.

mod tables;

use crate::op::{Arg, By, CHILDREN, ITEMS, Item, ME, NAMES, Op, What};
use crate::place::{BAD, DESK, FIXTURES, MOST, NOWHERE, RANGES, STARTS, WORDS, is_stack};
use crate::puppet::REGISTERS;
use abi::call::{AGE, MARK_OVER_PAGE, NO_PAGE};
use abi::layout::{KERNEL_HALF, USER_LIMIT, UVPT};
use abi::{Call, PAGE_SIZE, Perms, Pte};

/// A small generator of random numbers (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        ((self.next() >> 32) * n) >> 32
    }

    /// True in `n` percent of all draws.
    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The length of a run from this source: a fixture is known only page by page, so one page is enough.
fn count_from(source: u64, count: u64) -> u64 {
    if FIXTURES.contains(&source) { count.min(1) } else { count }
}

/// Draws an operation.
#[must_use]
pub fn op(seed: u64, episode: u32, index: u32) -> Op {
    let place = u64::from(episode) << 32 | u64::from(index);
    let mut draw = Draw { rng: Rng(mix(seed ^ mix(place))), by: By::Me };
    match draw.rng.below(100) {
        0..6 => Op { by: By::Me, what: What::Exofork(draw.child()) },
        6..8 => Op { by: By::Me, what: What::Animate(draw.child()) },
        8..9 => Op { by: By::Me, what: What::Pin(draw.child(), draw.page(false)) },
        9..20 => draw.access(),
        20..70 => draw.call(),
        _ => {
            draw.by = By::Puppet(draw.child());
            draw.call()
        }
    }
}

struct Draw {
    rng: Rng,
    by: By,
}

const PERMS: [u64; 14] = {
    const W: u64 = Perms::WRITE.bits();
    const SOFT: u64 = Perms::SOFT.bits();
    [
        0,
        W,
        W,
        W,
        W,
        W,
        0,
        W,
        Perms::EXEC.bits(),
        Perms::COW.bits(),
        W | Perms::KEEP.bits(),
        W | SOFT,
        SOFT & SOFT << 3,
        W,
    ]
};

const BAD_PERMS: [u64; 9] = [
    Perms::WRITE.bits() | Perms::EXEC.bits(),
    Pte::MAY,
    Pte::PRESENT,
    Pte::USER | Perms::WRITE.bits(),
    1 << 8,
    1 << 11,
    Pte::ACCESSED,
    Pte::LARGE,
    u64::MAX,
];

/// Ids that no environment has, or not yet, and values that are not ids.
const BOGUS: [u64; 8] = [1, 0xfff, 0x1001, 0x8_0fff, 0xffff_ffff, 1 << 32, 1 << 63 | 0x1000, u64::MAX];

const PAGE_CALLS: [Call; 28] = [
    Call::Alloc,
    Call::Alloc,
    Call::Alloc,
    Call::Alloc,
    Call::Map,
    Call::Map,
    Call::Map,
    Call::Map,
    Call::Protect,
    Call::Protect,
    Call::Unmap,
    Call::Mark,
    Call::Own,
    Call::Own,
    Call::Copy,
    Call::Copy,
    Call::ShareTables,
    Call::ShareTables,
    Call::ShareTables,
    Call::ShareTables,
    Call::ShareTables,
    Call::OwnTables,
    Call::OwnTables,
    Call::OwnTables,
    Call::UnmapTables,
    Call::UnmapTables,
    Call::ProtectTables,
    Call::ProtectTables,
];

impl Draw {
    fn is_me(&self) -> bool {
        self.by == By::Me
    }

    fn child(&mut self) -> u8 {
        // Few of them, so that they make progress.
        self.rng.pick(&[0, 1, 2, 3, 4, 4, self.rng.0 as u8 % CHILDREN as u8])
    }

    fn grandchild(&mut self) -> u8 {
        (CHILDREN as u64 + self.rng.below((NAMES - CHILDREN) as u64)) as u8
    }

    fn access(&mut self) -> Op {
        let at = self.page(true) + self.rng.pick(&WORDS);
        let word = self.rng.pick(&[0, 1, 0x0b0f_0b0f_0b0f_0b0f, self.rng.0]);
        let what = match self.rng.below(10) {
            0..4 => What::Poke(at, word),
            4..6 => What::Peek(at),
            _ => self.touching(),
        };
        Op { by: By::Me, what }
    }

    /// An environment as the target of a call.
    fn env(&mut self) -> Arg {
        let grandchild = self.grandchild();
        let (me, own) = match self.by {
            By::Me => (50, ME),
            By::Puppet(name) => (45, name),
        };
        match self.rng.below(100) {
            n if n < me => Arg::Word(0),
            50..58 => Arg::Env(own),
            58..62 => Arg::Word(self.rng.pick(&BOGUS)),
            62..65 => Arg::Env(ME),
            65..75 => Arg::Env(grandchild),
            _ if self.is_me() => Arg::Env(self.child()),
            75..80 => Arg::Env(self.child()),
            _ => Arg::Env(grandchild),
        }
    }

    /// Whether the argument certainly names the caller.
    fn is_self(&self, env: Arg) -> bool {
        match self.by {
            By::Me => matches!(env, Arg::Word(0) | Arg::Env(ME)),
            By::Puppet(name) => env == Arg::Word(0) || env == Arg::Env(name),
        }
    }

    /// A page in one of the ranges; in the last range only for the hostile program itself.
    fn page(&mut self, mine: bool) -> u64 {
        let ranges = if mine { RANGES.len() } else { RANGES.len() - 1 } as u64;
        let range = self.rng.below(ranges).min(self.rng.below(ranges)).min(self.rng.below(ranges + 2));
        let page = self.rng.pick(&[3, 3, 3, 4, 4, 4, 2, 5, self.rng.0 % STARTS]);
        RANGES[range as usize] + page * PAGE_SIZE
    }

    fn va(&mut self, mine: bool) -> u64 {
        if self.rng.percent(7) { self.rng.pick(&BAD) } else { self.page(mine) }
    }

    fn source(&mut self, mine: bool) -> u64 {
        if self.rng.percent(10) { self.rng.pick(&FIXTURES) } else { self.va(mine) }
    }

    fn perms(&mut self) -> u64 {
        match self.rng.below(100) {
            0..8 => self.rng.pick(&BAD_PERMS),
            8..11 => self.rng.pick(&PERMS) | AGE,
            _ => self.rng.pick(&PERMS),
        }
    }

    fn word(&mut self) -> u64 {
        let word = self.rng.pick(&[0, 0, 1, Pte::MARK_MAX, 0x12_3456_789a, Pte::MARK_MAX + 1, u64::MAX]);
        if self.rng.below(4) == 0 { word | MARK_OVER_PAGE } else { word }
    }

    /// The number of pages of a run. Runs that make pages or tables are short.
    fn count(&mut self, call: Call, va: u64) -> u64 {
        let makes = matches!(call, Call::Alloc | Call::Mark | Call::Map | Call::Copy);
        let beyond = va >= RANGES[5] && va < RANGES[6] || va >= USER_LIMIT.0;
        match self.rng.below(100) {
            0..60 => 1,
            60..90 => 2 + self.rng.below(MOST - 1),
            90..93 => 0,
            93..95 => 1 << 32,
            95..97 => u64::MAX,
            _ if makes && !beyond => MOST,
            _ => self.rng.pick(&[512, 0xffff_ffff]),
        }
    }

    /// A page call on the caller's own memory.
    fn touching(&mut self) -> What {
        let call = self.rng.pick(&PAGE_CALLS);
        if call.is_about_tables() {
            return self.touching_table(call);
        }
        let (own, page) = (Arg::Word(0), self.page(true));
        let va = Arg::Word(page);
        let count = Arg::Word(1 + self.rng.below(2));
        let arg = Arg::Word(if call == Call::Mark { self.word() } else { self.perms() });
        let args = match call {
            Call::Own => [va, count, own, own, own, own],
            Call::Map | Call::Copy => [own, Arg::Word(self.page(true)), own, va, count, arg],
            _ => [own, va, count, arg, own, own],
        };
        What::Touching(call as u64, args, page)
    }

    fn call(&mut self) -> Op {
        let what = match self.rng.below(100) {
            0..42 => self.page_call(),
            42..56 => self.batch(),
            56..76 => self.message(),
            76..92 => self.environment(),
            _ => self.other(),
        };
        Op { by: self.by, what }
    }

    fn page_call(&mut self) -> What {
        let call = self.rng.pick(&PAGE_CALLS);
        if call.is_about_tables() {
            return self.table_call(call);
        }
        let env = if call == Call::Own { Arg::Word(0) } else { self.env() };
        let mine = self.is_me() && self.is_self(env);
        let va = self.va(mine);
        let count = self.count(call, va);
        let perms = Arg::Word(self.perms());
        let va = Arg::Word(va);
        if matches!(call, Call::Map | Call::Copy) {
            let source_env = self.env();
            let mine = self.is_me() && self.is_self(source_env);
            let source = self.source(mine);
            let count = Arg::Word(count_from(source, count));
            return self.make(call, [source_env, Arg::Word(source), env, va, count, perms]);
        }
        let count = Arg::Word(count);
        match call {
            Call::Own => self.make(call, [va, count]),
            Call::Unmap => self.make(call, [env, va, count]),
            Call::Mark => {
                let word = Arg::Word(self.word());
                self.make(call, [env, va, count, word])
            }
            _ => self.make(call, [env, va, count, perms]),
        }
    }

    /// A call. Arguments that it does not take are noise.
    fn make<const N: usize>(&mut self, call: Call, args: [Arg; N]) -> What {
        let args = core::array::from_fn(|n| args.get(n).copied().unwrap_or(Arg::Word(self.rng.next())));
        What::Call(call as u64, args)
    }

    fn batch(&mut self) -> What {
        if self.rng.percent(20) {
            return self.descent();
        }
        let len = 1 + self.rng.below(ITEMS as u64) as usize;
        What::Batch(core::array::from_fn(|_| self.item()), len)
    }

    fn item(&mut self) -> Item {
        let call = self.rng.pick(&PAGE_CALLS);
        if call.is_about_tables() {
            return self.table_item(call);
        }
        let env = if call == Call::Own && self.rng.percent(80) { Arg::Word(0) } else { self.env() };
        let source_env = self.env();
        let mine = self.is_me() && self.is_self(env);
        let source_mine = self.is_me() && self.is_self(source_env);
        let (va, source) = (self.va(mine), self.source(source_mine));
        let count = self.count(call, va);
        Item {
            call: if self.rng.percent(3) { self.rng.pick(&[0, 12, 22, 99, u32::MAX]) } else { call as u32 },
            count: u32::try_from(count_from(source, count)).unwrap_or(0),
            source_env,
            env,
            source,
            va,
            arg: if call == Call::Mark { self.word() } else { self.perms() },
        }
    }

    /// A receiver, or another environment.
    fn receiver(&mut self) -> Arg {
        if self.rng.percent(75) { Arg::Env(self.child()) } else { self.env() }
    }

    /// A page to send, or an address for a received page.
    fn message_page(&mut self) -> u64 {
        if self.rng.percent(35) { NO_PAGE } else { self.source(self.is_me()) }
    }

    fn message(&mut self) -> What {
        let value = Arg::Word(self.rng.pick(&[0, 1, u64::MAX, self.rng.0]));
        let page = Arg::Word(self.message_page());
        let perms = Arg::Word(self.perms());
        // The hostile program itself must not block: its arguments are wrong.
        let at = match self.rng.below(100) {
            _ if self.is_me() => self.rng.pick(&BAD),
            0..10 => self.rng.pick(&BAD),
            10..40 => NO_PAGE,
            _ => self.page(false),
        };
        // Without a deadline: when that passes depends on the host.
        let from = match self.receiver() {
            _ if self.rng.percent(50) => Arg::Word(0),
            Arg::Word(word) => Arg::Word(word & u64::from(u32::MAX)),
            env => env,
        };
        let sends = if self.is_me() { 8 } else { 5 };
        match self.rng.below(10) {
            n if n < sends => {
                let to = self.receiver();
                self.make(Call::Send, [to, value, page, perms])
            }
            5..9 => self.make(Call::Recv, [Arg::Word(at), from]),
            _ => {
                let to = self.receiver();
                self.make(Call::SendRecv, [to, value, page, perms, Arg::Word(at), from])
            }
        }
    }

    fn environment(&mut self) -> What {
        let env = self.env();
        let myself = self.is_me() && self.is_self(env);
        let grandchild = self.grandchild();
        match self.rng.below(100) {
            0..18 if myself => self.make(Call::Id, []),
            18..20 if myself => {
                let device = self.rng.pick(&[0, 1, 8, u64::MAX]);
                self.make(Call::Claim, [Arg::Word(device), env])
            }
            0..35 if !self.is_me() => What::Exofork(grandchild),
            35..40 if !self.is_me() => self.make(Call::Destroy, [env]),
            0..20 => self.make(Call::Destroy, [env]),
            20..40 => {
                let good = if myself { 2 } else { self.rng.pick(&[1, 2]) };
                let status = self.rng.pick(&[good, good, good, 0, 3, 8, 9, u64::MAX]);
                self.make(Call::SetStatus, [env, Arg::Word(status)])
            }
            40..55 => {
                let buffer = if myself { self.bad_buffer() } else { self.buffer() };
                self.make(Call::SetRegs, [env, Arg::Word(buffer)])
            }
            55..80 => self.set_upcall(env, myself),
            _ => {
                let flags = self.rng.pick(&[1, 1, 1, 1, 0, 2, u64::MAX]);
                // Whether a wait without the flag would block is checked when it is played.
                let child = Arg::Env(self.child());
                let env = self.rng.pick(&[env, Arg::Word(0), child]);
                self.make(Call::Wait, [env, Arg::Word(flags)])
            }
        }
    }

    /// A call of `set_upcall`. The hostile program keeps its own upcall: its requests are refused.
    fn set_upcall(&mut self, env: Arg, myself: bool) -> What {
        let bad_entry = self.rng.pick(&[USER_LIMIT.0, UVPT.0, KERNEL_HALF.0, u64::MAX, 1 << 47]);
        let bad_pages = self.rng.pick(&[17, 0x1_0000_0001, u64::MAX]);
        let stack = self.va(self.is_me());
        let (entry, pages) = match self.rng.below(10) {
            0..2 => (bad_entry, 1),
            2..4 => (NOWHERE, bad_pages),
            _ if myself => (NOWHERE, 0),
            4 => (0, 0),
            5 => (0, 1),
            6 => (NOWHERE, 0),
            _ => (NOWHERE, self.rng.pick(&[1, 1, 2, 3])),
        };
        self.make(Call::SetUpcall, [env, Arg::Word(entry), Arg::Word(stack), Arg::Word(pages)])
    }

    /// A buffer at an address that is never readable.
    fn bad_buffer(&mut self) -> u64 {
        self.rng.pick(&[NOWHERE, NOWHERE + 1, 1 << 47, KERNEL_HALF.0, u64::MAX, u64::MAX - 1000])
    }

    /// A buffer, perhaps one that crosses into the next page.
    fn buffer(&mut self) -> u64 {
        match self.rng.below(10) {
            0..3 => self.bad_buffer(),
            3..5 => DESK + REGISTERS,
            5 => self.rng.pick(&FIXTURES),
            _ => {
                let page = self.page(self.is_me());
                let at = page + self.rng.pick(&[256, 4000, 4095]);
                // The contents of the caller's own exception stack are unpredictable.
                if is_stack(page) || is_stack(page + PAGE_SIZE) { NOWHERE } else { at }
            }
        }
    }

    fn other(&mut self) -> What {
        match self.rng.below(11) {
            0 => {
                let len = self.rng.pick(&[0, 1, 256, 257, u64::MAX]);
                let buffer = if len == 0 { self.va(true) } else { self.bad_buffer() };
                self.make(Call::Write, [Arg::Word(buffer), Arg::Word(len)])
            }
            1 => {
                let len = self.rng.pick(&[0, 1, 256, u64::MAX]);
                let puppet = !self.is_me();
                let buffer = if puppet || len == 0 { self.va(false) } else { self.bad_buffer() };
                self.make(Call::Read, [Arg::Word(buffer), Arg::Word(len)])
            }
            2..6 if self.rng.percent(30) => What::Again(self.rng.pick(&[1, 1, 2])),
            2..6 => {
                let (buffer, count) = (self.buffer() & !0xff, self.rng.pick(&[0, 1, 1, 2]));
                self.make(Call::PageOps, [Arg::Word(buffer), Arg::Word(count)])
            }
            6 => {
                let bad = Arg::Word(self.rng.pick(&[64, 255, u64::MAX]));
                let status = if self.is_me() { bad } else { self.rng.pick(&[bad, Arg::Word(7)]) };
                self.make(Call::Exit, [status])
            }
            7 => {
                let status = if self.is_me() { 64 } else { self.rng.pick(&[0, 64]) };
                self.make(Call::PowerOff, [Arg::Word(status)])
            }
            8 => {
                let number = self.rng.pick(&[27, 100, 255, 0x100, 1 << 32, 1 << 63, u64::MAX]);
                What::Call(number, [Arg::Word(self.rng.next()); 6])
            }
            9 => self.make(Call::Id, []),
            _ => {
                let env = self.receiver();
                self.make(Call::Yield, [env])
            }
        }
    }
}

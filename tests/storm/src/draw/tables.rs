//! Calls on whole page tables.

use super::Draw;
use crate::op::{Arg, ITEMS, Item, What};
use crate::place::{BAD, TEXT_TABLE};
use abi::Level;
use abi::{Call, Perms, page::span};

const W: u64 = Perms::WRITE.bits();

/// Levels that do not exist, or that have no page tables.
const BAD_LEVELS: [u64; 6] = [0, 1, 5, 12, 1 << 32 | 2, u64::MAX];

/// The bytes that a page table with entries of the level below translates, if it is a level of tables.
fn bytes(level: u64) -> Option<u64> {
    Level::from_number(level).filter(|level| *level > Level::L1).map(span)
}

/// The first address that the page table around a page translates.
fn around(page: u64, level: u64) -> u64 {
    bytes(level).map_or(page, |bytes| page - page % bytes)
}

/// Whether one of these page tables translates the program's own text and data: a program that shares those cannot go
/// on.
fn is_vital(va: u64, count: u64, level: u64) -> bool {
    let size = bytes(level).unwrap_or(0);
    va <= TEXT_TABLE && va.saturating_add(count.saturating_mul(size)) > TEXT_TABLE
}

impl Draw {
    /// A call on a page table above one of the hostile program's own pages, which is accessed before and after.
    pub fn touching_table(&mut self, call: Call) -> What {
        let level = self.rng.pick(&[2, 2, 3, 4]);
        let page = self.page(true);
        let from = around(page, level);
        let (own, va, one, level_arg) = (Arg::Word(0), Arg::Word(from), Arg::Word(1), Arg::Word(level));
        let args = match call {
            Call::ShareTables | Call::ProtectTables if is_vital(from, 1, level) => return What::Peek(page),
            Call::ShareTables => {
                let (child, elsewhere) = (Arg::Env(self.child()), around(self.page(true), level));
                let to_myself = self.rng.percent(30);
                let (env, to) = if to_myself { (own, Arg::Word(elsewhere)) } else { (child, va) };
                [own, va, env, to, one, level_arg]
            }
            Call::OwnTables => [va, one, level_arg, own, own, own],
            Call::ProtectTables => [own, va, one, level_arg, Arg::Word(self.seal()), own],
            _ => [own, va, one, level_arg, own, own],
        };
        What::Touching(call as u64, args, page)
    }

    /// A call on page tables.
    pub fn table_call(&mut self, call: Call) -> What {
        let (op, count) = self.tables(call);
        let Item { source_env, env, .. } = op;
        let [source, va, level] = [op.source, op.va, op.arg].map(Arg::Word);
        let count = Arg::Word(count);
        match call {
            Call::ShareTables => self.make(call, [source_env, source, env, va, count, level]),
            Call::OwnTables => self.make(call, [va, count, level]),
            Call::ProtectTables => self.make(call, [env, va, count, level, source]),
            _ => self.make(call, [env, va, count, level]),
        }
    }

    /// An operation on page tables for a batch. `What::Again` may repeat it with another caller, the hostile program
    /// included, so it never shares the program's own text.
    pub fn table_item(&mut self, call: Call) -> Item {
        let (mut op, count) = self.tables(call);
        op.count = u32::try_from(count).unwrap_or(0);
        if call == Call::ShareTables && is_vital(op.source, count, op.arg) {
            op.call = Call::OwnTables as u32;
        }
        op
    }

    /// The arguments, and the number of page tables; the count in the item is not set.
    fn tables(&mut self, call: Call) -> (Item, u64) {
        let level = if self.rng.percent(4) { self.rng.pick(&BAD_LEVELS) } else { self.rng.pick(&[2, 2, 2, 3, 3, 4]) };
        let own = call == Call::OwnTables && self.rng.percent(90);
        let env = if own {
            Arg::Word(0)
        } else if self.rng.percent(50) {
            self.own_child()
        } else {
            self.env()
        };
        let source_env = if self.rng.percent(30) { Arg::Word(0) } else { self.env() };
        let va = self.table(level);
        let source = if self.rng.percent(60) { va } else { self.table(level) };
        let source = if call == Call::ProtectTables { self.seal() } else { source };
        let mut count = match self.rng.below(100) {
            0..75 => 1,
            75..93 => 2,
            93..95 => 0,
            95..97 => 1 << 32,
            _ => self.rng.pick(&[3, 512, 0xffff_ffff]),
        };
        if self.is_me() && self.is_self(source_env) && call == Call::ShareTables && is_vital(source, count, level) {
            count = 0;
        }
        // A program cannot go on without its text, and writes to the data beside it.
        let takes = call == Call::UnmapTables && level == 2 || call == Call::ProtectTables;
        if takes && is_vital(va, count, level) {
            count = 0;
        }
        (Item { call: call as u32, count: 0, source_env, env, source, va, arg: level }, count)
    }

    /// The permissions of page tables: sealed, or no longer.
    fn seal(&mut self) -> u64 {
        if self.rng.percent(5) { self.rng.pick(&[Perms::EXEC.bits(), 1, 3, u64::MAX]) } else { self.rng.pick(&[0, W]) }
    }

    /// The first address of a page table, or an address near it.
    fn table(&mut self, level: u64) -> u64 {
        match self.rng.below(100) {
            0..4 => self.rng.pick(&BAD),
            4..6 => self.page(true),
            _ => around(self.page(true), level),
        }
    }

    /// A child of the caller, most likely.
    fn own_child(&mut self) -> Arg {
        if self.is_me() { Arg::Env(self.child()) } else { Arg::Env(self.grandchild()) }
    }

    /// A batch that owns everything above a page, and then changes the page. Or one that shares a page table above with
    /// a child, and then one of the two owns it or unmaps it.
    pub fn descent(&mut self) -> What {
        let (page, last) = (self.page(false), self.item());
        let last = Item { va: page, ..last };
        if self.rng.percent(50) {
            return What::Batch([own(page, 4), own(page, 3), own(page, 2), last], ITEMS);
        }
        let (child, level) = (self.own_child(), self.rng.pick(&[2, 3, 4]));
        let share =
            Item { call: Call::ShareTables as u32, env: child, source: around(page, level), ..own(page, level) };
        let unmap = Item { call: Call::UnmapTables as u32, ..own(page, level) };
        let next = self.rng.pick(&[own(page, level), unmap, Item { env: child, ..unmap }]);
        let seal = Item { call: Call::ProtectTables as u32, source: self.seal(), ..own(page, level) };
        if self.rng.percent(30) {
            // Sealed and shared; or shared, owned and sealed.
            return What::Batch(
                self.rng.pick(&[[seal, share, next, last], [share, own(page, level), seal, last]]),
                ITEMS,
            );
        }
        let below = own(page, self.rng.pick(&[2, 3]));
        What::Batch([share, next, below, last], ITEMS)
    }
}

/// An operation that owns the page table above a page.
fn own(page: u64, level: u64) -> Item {
    let (call, nobody) = (Call::OwnTables as u32, Arg::Word(0));
    Item { call, count: 1, source_env: nobody, env: nobody, source: 0, va: around(page, level), arg: level }
}

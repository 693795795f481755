//! The buffers of calls are taken away and returned while the calls are made.

use crate::kit::{Must, add, board, fail, get, rounds, set, until};
use core::sync::atomic::Ordering::SeqCst;
use libos::abi::{Call, Error};
use libos::{Child, EnvId, PAGE_SIZE, PageOp, Perms, Va, println, raw, sys};

/// The address of a child's buffer: two pages, and the buffers cross the border between them.
pub const BUFFER: Va = Va(0x2000_0000_0000);
pub const BORDER: u64 = BUFFER.0 + PAGE_SIZE;
/// The address where the parent prepares the second page, and the address where it reuses freed frames.
const HERE: Va = Va(0x2100_0000_0000);
const REUSED: Va = Va(0x2200_0000_0000);

/// Words of the board: calls that succeeded, and calls that missed the buffer.
const GOOD: usize = 0;
const MISSED: usize = 1;
const STOP: usize = 2;
/// Set when as many calls succeeded as expected.
const FULL: usize = 4;

const LINE: &str = "buffers: a line in pages that come and go\n";

pub type Results = Result<(u64, u64), Error>;

/// The calls, and the results that are right.
const KINDS: [fn() -> Results; 3] = [
    mark_across,
    || raw_call(Call::SetRegs, [get(CHILD), BORDER - 40]),
    || raw_call(Call::Write, [BORDER - 20, LINE.len() as u64]),
];
pub const OP: u64 = size_of::<PageOp>() as u64;
const RIGHT: [(u64, u64); 3] = [(4, 0), (0, 0), (LINE.len() as u64, 0)];
/// Word of the board: a stopped child of the child.
const CHILD: usize = 3;

fn raw_call(call: Call, args: [u64; 2]) -> Results {
    let (rax, rdx) = raw::syscall(call as u64, [args[0], args[1], 0, 0, 0, 0]);
    Error::decode(rax, rdx)
}

/// Sets marks by four operations, two on either side of the border.
pub fn mark_across() -> Results {
    raw_call(Call::PageOps, [BORDER - 2 * OP, 4])
}

/// Writes two of those operations.
pub fn write_marks(at: Va) {
    (0..2 * OP).for_each(|offset| raw::write_u8(at.0 + offset, contents(0, offset as usize)));
}

/// Byte `offset` of the second page for each kind, when everything is right.
fn contents(kind: usize, offset: usize) -> u8 {
    let op = PageOp::mark(EnvId::SELF, Va(0x2300_0000_0000), 1, 7);
    let words = [u64::from(op.call) | u64::from(op.count) << 32, 0, 0, op.va.0, op.arg];
    match kind {
        0 => words[offset % OP as usize / 8].to_le_bytes()[offset % 8],
        // Registers: rip is the last word, and must be a user address.
        1 => 0,
        _ => LINE.as_bytes().get(offset).copied().unwrap_or(b'!'),
    }
}

/// The second page is unmapped, its frame filled with something else, and mapped again: each call finds all of the
/// buffer, or reports where it is missing.
pub fn come_and_go() {
    for kind in 0..KINDS.len() {
        board()[..8].iter().for_each(|word| word.store(0, SeqCst));
        // Lines appear on the console; a few suffice.
        let (most, calls) = if kind == 2 { (40, 60) } else { (200, u64::MAX) };
        let child = caller(kind, calls);
        until("it calls", || get(MISSED) != 0);
        prepare(kind);
        let mut done = 0;
        for round in rounds(most).take_while(|_| get(FULL) == 0) {
            let good = get(GOOD);
            sys::map(EnvId::SELF, HERE, child.id(), Va(BORDER), 1, Perms::READ).must("map");
            sys::unmap(EnvId::SELF, HERE, 1).must("unmap");
            if round % 4 == 0 {
                until("a good call", || get(GOOD) != good || get(FULL) != 0);
            }
            sys::unmap(child.id(), Va(BORDER), 1).must("unmap");
            sys::alloc(EnvId::SELF, REUSED, 1, Perms::WRITE).must("alloc");
            (0..PAGE_SIZE / 8).for_each(|word| raw::write_u64(REUSED.0 + 8 * word, u64::MAX));
            prepare(kind);
            sys::unmap(EnvId::SELF, REUSED, 1).must("unmap");
            done = round + 1;
        }
        sys::unmap(EnvId::SELF, HERE, 1).must("unmap");
        set(STOP, 1);
        crate::kit::Ends::ends(child);
        println!("buffers: kind {kind}: {done} rounds, {} calls good, {} missed", get(GOOD), get(MISSED));
    }
}

/// Prepares a fresh second page in the parent.
fn prepare(kind: usize) {
    sys::alloc(EnvId::SELF, HERE, 1, Perms::WRITE).must("alloc");
    for offset in 0..256 {
        raw::write_u8(HERE.0 + offset, contents(kind, offset_in(kind, offset as usize)));
    }
}

/// The offset in the buffer of a byte of the second page.
fn offset_in(kind: usize, offset: usize) -> usize {
    offset + [2 * OP as usize, 40, 20][kind]
}

/// A child that repeats the call until `calls` have succeeded, or until it is told to stop.
fn caller(kind: usize, calls: u64) -> Child {
    crate::kit::child(|| {
        sys::alloc(EnvId::SELF, BUFFER, 1, Perms::WRITE).must("alloc");
        let before = offset_in(kind, 0);
        for offset in 0..before {
            raw::write_u8(BORDER - before as u64 + offset as u64, contents(kind, offset));
        }
        let stopped = sys::exofork().must("exofork");
        set(CHILD, stopped.0.into());
        until("the parent has seen enough", || {
            for _ in 0..20 {
                if get(GOOD) < calls {
                    one_call(kind);
                }
            }
            set(FULL, u64::from(get(GOOD) >= calls));
            get(STOP) != 0
        });
        sys::destroy(stopped).must("destroy");
        sys::wait(stopped).must("wait");
    })
}

fn one_call(kind: usize) {
    match KINDS[kind]() {
        Ok(results) if results == RIGHT[kind] => _ = add(GOOD),
        Err(Error::Fault(BORDER)) => _ = add(MISSED),
        other => fail!("kind {kind}: {other:x?}"),
    }
}

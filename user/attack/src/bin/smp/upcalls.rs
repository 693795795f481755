//! The upcall of a child is replaced while that child takes one exception after the other.

use crate::bare::{CODE, Code, RAX, RCX, RSP, Text};
use crate::kit::{Crew, Must, busy, cpus, fail, get, is_running, pause, rounds, until};
use libos::{EnvId, PAGE_SIZE, Perms, Va, println, sys};

/// An address where nothing is mapped.
const NOWHERE: u64 = 0x6000_0000;
/// Two exception stacks, a page each, with nothing around them.
const STACKS: [Va; 2] = [Va(0x2000_0000), Va(0x2020_0000)];
/// Words of the board: exceptions at each of the two entries, and those on the wrong stack.
const WRONG: usize = 2;

/// A loop that faults, and two entries that count, check that they are on their own stack, and return.
fn code() -> (Code, [u64; 2]) {
    let mut code = Code::new();
    code.load(RAX, NOWHERE).add(&[0x8b, 0x08]); // mov ecx, [rax]
    code.jump(0);
    let mut entries = [0; 2];
    for (side, stack) in STACKS.into_iter().enumerate() {
        entries[side] = CODE.0 + code.here() as u64;
        code.load(RCX, stack.0);
        code.add(&[0x48, 0x89, 0xe2, 0x48, 0x29, 0xca]); // mov rdx, rsp; sub rdx, rcx
        code.add(&[0x48, 0x81, 0xfa]).add(&(PAGE_SIZE as u32).to_le_bytes()); // cmp rdx, 4096
        code.add(&[0x72, 5]); // jb over the next instruction
        let wrong = 0x300;
        code.jump(wrong);
        code.count(side).load(RSP, 0).jump(0);
    }
    let gap = 0x300 - code.here();
    code.add(&[0xcc; 0x300][..gap]);
    code.count(WRONG).add(&[0xeb, 0xfe]); // jmp to itself
    (code, entries)
}

/// Exceptions go to the old entry on the old stack or to the new entry on the new one, and no longer to the old one
/// when the call has returned.
pub fn exchanged() {
    let (code, entries) = code();
    let text = code.publish();
    let child = text.child();
    for stack in STACKS {
        sys::alloc(child, stack, 1, Perms::WRITE).must("alloc");
    }
    sys::set_upcall(child, entries[0], STACKS[0], 1).must("set_upcall");
    text.start(child);
    let others = Crew::new(cpus(), |_| busy(sys::yield_now));
    let (mut done, mut elsewhere) = (0, 0);
    for round in rounds(500) {
        let new = 1 - (round % 2) as usize;
        let counted = get(1 - new);
        if round % 3 == 0 {
            until("it faults", || get(1 - new) > counted || get(WRONG) != 0);
        }
        elsewhere += u32::from(is_running(child));
        sys::set_upcall(child, entries[new], STACKS[new], 1).must("set_upcall");
        old_is_out_of_use(&text, child, 1 - new, round);
        done = round + 1;
    }
    others.put_down();
    sys::destroy(child).must("destroy");
    until("its end", || sys::try_wait(child).must("wait").is_some());
    println!("upcalls: {done} exchanged, {elsewhere} while it ran, {} and {} exceptions", get(0), get(1));
}

/// The old stack is no longer pinned, and can be replaced, too.
fn old_is_out_of_use(_: &Text, child: EnvId, old: usize, round: u64) {
    let still = get(old);
    sys::unmap(child, STACKS[old], 1).must("unmap");
    pause(round % 8 * 100);
    sys::alloc(child, STACKS[old], 1, Perms::WRITE).must("alloc");
    // The child may have been on its way: after the exception, but not yet at the instruction that counts.
    if get(old) > still + 1 {
        fail!("{} exceptions went to the old entry", get(old) - still);
    }
    if get(WRONG) != 0 {
        fail!("an exception went to one entry on the other's stack");
    }
}

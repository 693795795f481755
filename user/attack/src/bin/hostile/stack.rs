//! The exception stack: which stacks can be registered, which pages are then pinned, and what happens when it is full.

use crate::checks::Checks;
use crate::family::{self, Family, child};
use crate::values::{bad_pages, bad_targets};
use libos::abi::{Call, Error};
use libos::layout::{ARCHIVE, EXCEPTION_STACK_MAX_PAGES, KERNEL_HALF, MACHINE, TEXT, USER_LIMIT, UVPT};
use libos::upcall::{self, Outcome, STACK_LOW, STACK_PAGES};
use libos::{EnvId, ExitStatus, Fault, PAGE_SIZE, PageOp, Perms, Va, Vector, raw, sys};

const STACK: u64 = 0x2000_0000_0000;
const SECOND: u64 = STACK + PAGE_SIZE;
const ABOVE: u64 = STACK + 2 * PAGE_SIZE;
const MINE: u64 = 0x2100_0000_0000;
const R: u64 = 0;
const W: u64 = Perms::WRITE.bits();
const ENTRY: u64 = TEXT.0;

pub fn rules(checks: &mut Checks) {
    registration(checks);
    pinned_in_a_child(checks);
    pinned_for_oneself(checks);
}

/// A stopped child without memory: only the checks change it.
fn blank() -> EnvId {
    sys::exofork().expect("a child")
}

fn registration(checks: &mut Checks) {
    let (env, id) = {
        let env = blank();
        (env, u64::from(env.0))
    };
    sys::alloc(env, Va(STACK), 2, Perms::WRITE).expect("pages");
    let mut refuse = |what: &str, args: [u64; 3], error| {
        checks.refuse(what, Call::SetUpcall, &[id, args[0], args[1], args[2]], error);
    };
    let wild = [USER_LIMIT.0, MACHINE.0, ARCHIVE.0, UVPT.0, 1 << 47, KERNEL_HALF.0 - 1, KERNEL_HALF.0, u64::MAX];
    wild.into_iter().for_each(|entry| refuse("entry", [entry, STACK, 1], Error::BadAddress(entry)));
    for pages in [0, EXCEPTION_STACK_MAX_PAGES + 1, 1 << 32, u64::MAX] {
        refuse("pages", [ENTRY, STACK, pages], Error::BadCount(pages));
    }
    refuse("pages for nobody", [0, STACK, 1], Error::BadCount(1));
    bad_targets().for_each(|(va, error)| refuse("stack", [ENTRY, va, 1], error));
    bad_pages().for_each(|(va, error)| refuse("stack for nobody", [0, va, 0], error));
    let last = USER_LIMIT.0 - PAGE_SIZE;
    refuse("off the end", [ENTRY, last, 2], Error::BadAddress(last));
    refuse("nothing there", [ENTRY, 0x3000_0000_0000, 1], Error::NotMapped(0x3000_0000_0000));
    refuse("the third is missing", [ENTRY, STACK, 3], Error::NotMapped(ABOVE));

    sys::mark(env, Va(ABOVE), 1, 5).expect("a mark");
    checks.refuse("a mark", Call::SetUpcall, &[id, ENTRY, STACK, 3], Error::NotMapped(ABOVE));
    for perms in [Perms::READ, Perms::EXEC, Perms::COW] {
        sys::protect(env, Va(SECOND), 1, perms).expect("protected");
        checks.refuse("not writable", Call::SetUpcall, &[id, ENTRY, STACK, 2], Error::NoRight(SECOND));
    }
    sys::protect(env, Va(SECOND), 1, Perms::WRITE).expect("protected");
    sys::map(env, Va(SECOND), EnvId::SELF, Va(MINE), 1, Perms::READ).expect("shared");
    checks.refuse("shared", Call::SetUpcall, &[id, ENTRY, STACK, 2], Error::Shared(SECOND));
    sys::unmap(EnvId::SELF, Va(MINE), 1).expect("unmapped");
    checks.allow("now it can be", Call::SetUpcall, &[id, ENTRY, STACK, 2], (0, 0));
    checks.allow("at an address with nothing", Call::SetUpcall, &[id, 0xdead_beef, STACK, 2], (0, 0));
    family::end(env);
}

fn pinned_in_a_child(checks: &mut Checks) {
    let (env, id) = {
        let env = blank();
        (env, u64::from(env.0))
    };
    sys::alloc(env, Va(STACK), 3, Perms::WRITE).expect("pages");
    sys::alloc(EnvId::SELF, Va(MINE), 1, Perms::WRITE).expect("a page");
    checks.allow("register", Call::SetUpcall, &[id, ENTRY, STACK, 2], (0, 0));
    for page in [STACK, SECOND] {
        let calls: [(Call, &[u64]); 7] = [
            (Call::Alloc, &[id, page, 1, W]),
            (Call::Map, &[0, MINE, id, page, 1, W]),
            (Call::Map, &[id, page, 0, MINE, 1, R]),
            (Call::Map, &[id, page, id, page, 1, W]),
            (Call::Protect, &[id, page, 1, W]),
            (Call::Unmap, &[id, page, 1]),
            (Call::Mark, &[id, page, 1, 0]),
        ];
        for (call, args) in calls {
            checks.refuse("pinned", call, args, Error::Pinned(page));
        }
    }
    let ops = [PageOp::unmap(env, Va(ABOVE), 1), PageOp::unmap(env, Va(SECOND), 1)];
    checks.allow("free, then pinned", Call::PageOps, &[&raw const ops as u64, 2], (1, 0));
    let below = STACK - PAGE_SIZE;
    checks.allow("up to it", Call::Alloc, &[id, below, 4, W], (1, 0));
    checks.allow("up to it", Call::Protect, &[id, below, 4, R], (1, 0));
    let last = USER_LIMIT.0 - PAGE_SIZE;
    let args = [0, last, id, below, 4, R];
    checks.refuse("a run is checked as a whole", Call::Map, &args, Error::BadAddress(last));
    checks.refuse("registered, below", Call::SetUpcall, &[id, ENTRY, below, 2], Error::NoRight(below));
    // The number of pages below is a multiple of 2^32, and so 0 in 32-bit arithmetic.
    let far = STACK - (1 << 44);
    checks.allow("far below", Call::Alloc, &[id, far, 1, W], (1, 0));
    checks.allow("far below", Call::Unmap, &[id, far, 1], (1, 0));
    checks.allow("moved", Call::SetUpcall, &[id, ENTRY, SECOND, 1], (0, 0));
    checks.allow("the first is free", Call::Unmap, &[id, STACK, 9], (1, 0));
    checks.refuse("the second not", Call::Unmap, &[id, SECOND, 1], Error::Pinned(SECOND));
    checks.allow("nobody", Call::SetUpcall, &[id, 0, 0, 0], (0, 0));
    checks.allow("the second is free", Call::Unmap, &[id, SECOND, 1], (1, 0));
    checks.allow("register again: nothing is there", Call::Alloc, &[id, STACK, 2, W], (2, 0));
    checks.allow("register again", Call::SetUpcall, &[id, ENTRY, STACK, 2], (0, 0));
    // The child ends with its stack pinned.
    family::end(env);
    sys::unmap(EnvId::SELF, Va(MINE), 1).expect("unmapped");
}

/// Checks the pinning of the stack on which this program runs its handlers; it still works afterwards.
fn pinned_for_oneself(checks: &mut Checks) {
    let family = Family::new();
    for page in (0..STACK_PAGES).map(|page| STACK_LOW.add_pages(page).0) {
        let calls: [(Call, &[u64]); 8] = [
            (Call::Alloc, &[0, page, 1, W]),
            (Call::Map, &[0, page, 0, MINE, 1, R]),
            (Call::Map, &[0, TEXT.0, 0, page, 1, R]),
            (Call::Protect, &[0, page, 1, R]),
            (Call::Unmap, &[0, page, 1]),
            (Call::Mark, &[0, page, 1, 1]),
            (Call::Own, &[page, 1]),
            (Call::Send, &[family.child.0.into(), 0, page, R]),
        ];
        for (call, args) in calls {
            checks.refuse("pinned", call, args, Error::Pinned(page));
        }
    }
    let fault = raw::attempt(touch, 0x3000_0000_0000);
    checks.that("and faults arrive", fault.is_some_and(|fault| fault.address == 0x3000_0000_0000));
}

fn touch(address: u64) {
    raw::write_u8(address, 1);
}

/// Handlers that fault until the stack is full: that environment ends, and no other.
pub fn recursion(checks: &mut Checks) {
    let killed = Ok(ExitStatus::killed_by(Vector::PAGE_FAULT));
    let nowhere = child(|| {
        whole_stack();
        let _ = sys::set_upcall(EnvId::SELF, 0xdead_beef, STACK_LOW, STACK_PAGES);
        touch(0);
    });
    checks.equal("no code at the entry", nowhere.wait(), killed);
    let handler = child(|| {
        upcall::set_handler(faulting);
        touch(0);
    });
    checks.equal("a handler that faults", handler.wait(), killed);
    let nobody = child(|| {
        let _ = upcall::remove();
        touch(0x3000_0000_0000);
    });
    checks.equal("nobody handles it", nobody.wait(), killed);
}

/// Maps the whole stack: a child begins with its first page only.
fn whole_stack() {
    sys::alloc(EnvId::SELF, STACK_LOW, STACK_PAGES - 1, Perms::WRITE).expect("pages");
}

fn faulting(fault: &mut Fault) -> Outcome {
    touch(fault.address + PAGE_SIZE);
    Outcome::Unhandled
}

/// The address of the frame, for a stack pointer on, off, and at the edges of the exception stack.
pub fn placement(checks: &mut Checks) {
    let (low, top) = (STACK_LOW.0, STACK_LOW.add_pages(STACK_PAGES).0);
    let at_the_top = top - Fault::SIZE;
    let below = |rsp: u64| ((rsp - Fault::RED_ZONE) & !15) - Fault::SIZE;
    let least = low + Fault::RED_ZONE + Fault::SIZE;
    for rsp in [0, 8, low - 1, low - 8, top, top + 8, 1 << 47, u64::MAX, MINE] {
        checks.equal("elsewhere", upcall_at(rsp, at_the_top), Ok(ExitStatus(1)));
    }
    for rsp in [top - 1, top - 8, top - 1000, least + 16, least + 15, least + 1, least] {
        checks.equal("on the stack", upcall_at(rsp, below(rsp)), Ok(ExitStatus(1)));
    }
    for rsp in [low, low + 1, low + Fault::SIZE, least - 16, least - 1] {
        let killed = ExitStatus::killed_by(Vector::INVALID_OPCODE);
        checks.equal("no room", upcall_at(rsp, 0), Ok(killed));
    }
}

/// Lets a child raise an exception with this stack pointer. It exits with 1 if the upcall finds the frame at the right
/// address, and with 0 otherwise.
fn upcall_at(rsp: u64, frame: u64) -> sys::Result<ExitStatus> {
    let code = child(|| {
        let mut at = MINE;
        let mut put = |bytes: &[u8]| {
            for byte in bytes {
                raw::write_u8(at, *byte);
                at += 1;
            }
        };
        sys::alloc(EnvId::SELF, Va(MINE), 1, Perms::WRITE).expect("a page");
        put(&[0x48, 0xbc]); // mov rsp, ...
        put(&rsp.to_le_bytes());
        put(&[0x0f, 0x0b]); // ud2
        put(&[0x48, 0xb9]); // the upcall: mov rcx, ...
        put(&frame.to_le_bytes());
        put(&[0x31, 0xff, 0x48, 0x39, 0xcc, 0x40, 0x0f, 0x94, 0xc7]); // xor edi, edi; cmp rsp, rcx; sete dil
        put(&[0xb8, Call::Exit as u8, 0, 0, 0, 0x0f, 0x05]); // mov eax, ...; syscall
        sys::protect(EnvId::SELF, Va(MINE), 1, Perms::EXEC).expect("code");
        whole_stack();
        sys::set_upcall(EnvId::SELF, MINE + 12, STACK_LOW, STACK_PAGES).expect("an upcall");
        raw::call(MINE);
    });
    code.wait()
}

//! The calls about environments: ids, statuses, registers, and the rights of callers.

use crate::checks::{Checks, call};
use crate::family::{self, Family, child, reaches};
use crate::values::BAD_CALLS;
use libos::abi::env::{FIXED_RFLAGS, USER_RFLAGS};
use libos::abi::{Call, Error, call::WAIT_NO_BLOCK};
use libos::layout::{ARCHIVE, KERNEL_HALF, MACHINE, TEXT, USER_LIMIT, UVPT};
use libos::upcall::{self, Outcome};
use libos::{ExitStatus, Fault, Registers, Status, Vector, env, ipc, raw, sys, windows};

/// An address where nothing is mapped.
const NOWHERE: u64 = 0x3000_0000_0000;

/// Calls that act on an environment, with arguments that are valid otherwise.
const FOR_OWN: [(Call, &[u64]); 4] = [
    (Call::Destroy, &[]),
    (Call::SetStatus, &[Status::Runnable as u64]),
    (Call::SetRegs, &[TEXT.0]),
    (Call::SetUpcall, &[0, 0, 0]),
];

pub fn refusals(checks: &mut Checks) {
    for number in BAD_CALLS {
        let (rax, rdx) = raw::syscall(number, [0; 6]);
        checks.equal("bad call", Error::decode(rax, rdx), Err(Error::BadCall(number)));
    }
    let family = Family::new();
    for (call, rest) in FOR_OWN {
        for (what, id, error) in family.not_mine() {
            let mut args = [0; 6];
            args[0] = id;
            args[1..=rest.len()].copy_from_slice(rest);
            checks.refuse(what, call, &args, error);
        }
    }
    for (what, id) in family.nobodies() {
        checks.refuse(what, Call::Yield, &[id], Error::BadEnv(id));
    }
    checks.allow("yield to anybody", Call::Yield, &[family.foreign.0.into()], (0, 0));
    statuses(checks, &family);
    waiting(checks, &family);
    for status in [64, 96, 256, 1 << 32, u64::MAX] {
        checks.refuse("exit", Call::Exit, &[status], Error::BadStatus(status));
    }
    power(checks);
}

/// Statuses that cannot be set, and states in which none can be set.
fn statuses(checks: &mut Checks, family: &Family) {
    let (me, child) = (0, u64::from(family.child.0));
    let settable = [Status::Runnable as u64, Status::Stopped as u64];
    let nonsense = (0..12).chain([1 << 32, 1 << 63, u64::MAX]);
    for status in nonsense.filter(|status| !settable.contains(status)) {
        for env in [me, child] {
            checks.refuse("no such status", Call::SetStatus, &[env, status], Error::BadStatus(status));
        }
    }
    for status in settable {
        let receiving = Error::BadState(Status::Receiving as u64);
        checks.refuse("it waits", Call::SetStatus, &[child, status], receiving);
    }
    let receiving = Error::BadState(Status::Receiving as u64);
    let registers = Registers { rip: TEXT.0, ..Registers::default() };
    checks.refuse("it waits", Call::SetRegs, &[child, &raw const registers as u64], receiving);
    checks.allow("what it is already", Call::SetStatus, &[me, Status::Runnable as u64], (0, 0));
}

fn waiting(checks: &mut Checks, family: &Family) {
    for flags in [2, 3, 1 << 63, u64::MAX] {
        checks.refuse("flags", Call::Wait, &[0, flags], Error::BadFlags(flags));
    }
    let me = u64::from(env::id().0);
    let zombie = u64::from(family.zombie.0);
    for (what, id) in family.nobodies().into_iter().filter(|(_, id)| *id != zombie) {
        let error = if id >> 32 == 0 { Error::NoChild(id) } else { Error::BadEnv(id) };
        checks.refuse(what, Call::Wait, &[id, 0], error);
    }
    for id in [me, family.foreign.0.into()] {
        checks.refuse("no child", Call::Wait, &[id, WAIT_NO_BLOCK], Error::NoChild(id));
    }
    checks.allow("not yet", Call::Wait, &[family.child.0.into(), WAIT_NO_BLOCK], (0, 0));
    // A zombie is found behind children that are younger.
    let young = sys::exofork().expect("a child");
    checks.allow("any, behind a younger one", Call::Wait, &[0, WAIT_NO_BLOCK], (zombie, 0));
    checks.refuse("twice", Call::Wait, &[zombie, 0], Error::NoChild(zombie));
    family::end(young);
    let childless = child(|| {
        let refused = call(Call::Wait, &[0, 0]) == Err(Error::NoChild(0));
        sys::exit(if refused { 7 } else { 1 })
    });
    checks.equal("no child at all", childless.wait(), Ok(ExitStatus(7)));
}

fn power(checks: &mut Checks) {
    let first = u64::from(env::id().0);
    if windows::machine().first_env.load(core::sync::atomic::Ordering::Relaxed) != env::id().0 {
        return;
    }
    for status in [64, 1 << 8, u64::MAX] {
        checks.refuse("power off", Call::PowerOff, &[status], Error::BadStatus(status));
    }
    let other = child(|| {
        let refused = call(Call::PowerOff, &[0]) == Err(Error::NotFirst(first));
        sys::exit(if refused { 7 } else { 1 })
    });
    checks.equal("power off by another", other.wait(), Ok(ExitStatus(7)));
}

/// The registers that a user may set: `rip` is checked, flags are sanitised.
pub fn registers(checks: &mut Checks) {
    let blank = sys::exofork().expect("a child");
    let id = u64::from(blank.0);
    let mut set = |what: &str, rip: u64| {
        let registers = Registers { rip, ..Registers::default() };
        let args = [id, &raw const registers as u64];
        checks.refuse(what, Call::SetRegs, &args, Error::BadAddress(rip));
    };
    set("the limit", USER_LIMIT.0);
    set("a window", MACHINE.0 + 8);
    set("the archive", ARCHIVE.0);
    set("the self map", UVPT.0);
    set("not canonical", 1 << 47);
    set("not canonical", KERNEL_HALF.0 - 1);
    set("the kernel", KERNEL_HALF.0);
    set("the last byte", u64::MAX);
    for (at, error) in [
        (NOWHERE, Error::Fault(NOWHERE)),
        (0, Error::Fault(0)),
        (KERNEL_HALF.0, Error::BadAddress(KERNEL_HALF.0)),
        ((1 << 47) - 8, Error::BadAddress(1 << 47)),
        (u64::MAX, Error::BadAddress(u64::MAX)),
    ] {
        checks.refuse("registers there", Call::SetRegs, &[id, at], error);
    }
    checks.allow("the last address", Call::SetRegs, &[id, &raw const LAST as u64], (0, 0));
    family::end(blank);
    sanitised(checks);
    selectors(checks);
}

static LAST: Registers = {
    let zero = Registers {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rbp: 0,
        rdi: 0,
        rsi: 0,
        rdx: 0,
        rcx: 0,
        rbx: 0,
        rax: 0,
        rsp: 0,
        rflags: 0,
        rip: 0,
    };
    Registers { rip: USER_LIMIT.0 - 1, rsp: u64::MAX, ..zero }
};

/// A child that is started at an unmapped address, with every flag set: its handler sees which flags it had.
fn sanitised(checks: &mut Checks) {
    fn handler(fault: &mut Fault) -> Outcome {
        const RF: u64 = 1 << 16; // the processor's own: set in the saved flags of a fault
        let flags = fault.rflags & !RF == USER_RFLAGS | FIXED_RFLAGS;
        let place = fault.vector() == Vector::PAGE_FAULT && fault.rip == NOWHERE;
        let registers = fault.rsp == 1 << 63 && fault.r15 == 15 && fault.rax == 1;
        // Registers that a call changes, too: the child was stopped in a call.
        let registers = registers && fault.rcx == 2 && fault.r11 == 11;
        sys::exit(u8::from(flags) | u8::from(place) << 1 | u8::from(registers) << 2)
    }
    let me = env::id();
    let runner = child(|| {
        upcall::set_handler(handler);
        let _ = ipc::send(me, 0);
        loop {
            sys::yield_now();
        }
    });
    checks.that("it runs", ipc::recv_from(runner.id()).is_ok());
    let wild = Registers {
        rip: NOWHERE,
        rflags: u64::MAX,
        rsp: 1 << 63,
        r15: 15,
        r11: 11,
        rcx: 2,
        rax: 1,
        ..Registers::default()
    };
    let args = [u64::from(runner.id().0), &raw const wild as u64];
    let runs = [Status::Runnable, Status::Running].map(|status| Error::BadState(status as u64));
    checks.refuse_one_of("it runs", Call::SetRegs, &args, &runs);
    checks.allow("stop", Call::SetStatus, &[args[0], Status::Stopped as u64], (0, 0));
    checks.that("it stops", reaches(runner.id(), Status::Stopped));
    checks.allow("registers of a stopped child", Call::SetRegs, &args, (0, 0));
    checks.allow("start", Call::SetStatus, &[args[0], Status::Runnable as u64], (0, 0));
    checks.equal("flags, place, registers", runner.wait(), Ok(ExitStatus(7)));
}

/// The selectors of one environment are invisible to another, whether it is scheduled by a message or from the run
/// queue.
fn selectors(checks: &mut Checks) {
    const USER_DATA: u16 = 0x18 | 3;
    let me = env::id();
    let other = child(|| {
        let mut answer = ipc::recv();
        while answer.is_ok() {
            raw::load_segment(USER_DATA);
            sys::yield_now();
            raw::load_segment(USER_DATA);
            answer = ipc::call(me, raw::segment().into());
        }
        sys::exit(0)
    });
    // A tick at this moment may spoil one attempt.
    let mut seen = 0;
    for _ in 0..5 {
        checks.equal("the question", ipc::send(other.id(), 0), Ok(()));
        let _ = sys::yield_to(other.id());
        checks.equal("after its turn", raw::segment(), 0);
        let answer = ipc::recv_from(other.id()).map_or(0, |message| message.value);
        checks.equal("after its message", raw::segment(), 0);
        seen += u32::from(answer == USER_DATA.into());
    }
    checks.that("it had a selector", seen != 0);
    family::end(other.id());
}

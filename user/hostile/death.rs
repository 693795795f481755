//! Environments that end while they are in the middle of something.

use crate::checks::Checks;
use crate::family::{self, QUIT, becomes, child, reaches};
use libos::upcall::{self, Outcome};
use libos::{
    EnvId, Error, ExitStatus, Fault, PageOp, Perms, Status, Va, Vector, fork, ipc, raw, sys, windows,
};

const PAGE: Va = Va(0x2000_0000_0000);
const NOWHERE: u64 = 0x3000_0000_0000;

/// A child is ended in every state that there is; all it had comes back.
pub fn at_any_time(checks: &mut Checks) {
    let bodies: [(&str, fn(), Status); 6] = [
        ("receiving", family::listen, Status::Receiving),
        ("reading", read, Status::Reading),
        ("running", spin, Status::Runnable),
        ("stopped", stop, Status::Stopped),
        ("in a handler", handle, Status::Receiving),
        ("large", grow, Status::Receiving),
    ];
    for (what, body, status) in bodies {
        let free = windows::free_frames();
        let victim = child(body);
        checks.that(what, reaches(victim.id(), status));
        checks.equal(what, victim.kill(), Ok(()));
        checks.equal(what, victim.wait(), Ok(ExitStatus::DESTROYED));
        checks.equal(what, windows::free_frames(), free);
    }
    waiting(checks);
    let blank = sys::exofork().expect("a child");
    checks.equal("blank", sys::destroy(blank), Ok(()));
    checks.equal("blank", sys::wait(blank), Ok((blank, ExitStatus::DESTROYED)));
    let empty = sys::exofork().expect("a child");
    checks.equal("started without memory", sys::set_status(empty, Status::Runnable), Ok(()));
    let killed = ExitStatus::killed_by(Vector::PAGE_FAULT);
    checks.equal("started without memory", sys::wait(empty), Ok((empty, killed)));
    let itself = child(|| _ = sys::destroy(EnvId::NONE));
    checks.equal("itself", itself.wait(), Ok(ExitStatus::DESTROYED));
}

fn read() {
    let mut room = [0; 8];
    while sys::read(&mut room).is_ok() {}
}

fn spin() {
    loop {
        core::hint::spin_loop();
    }
}

fn stop() {
    let _ = sys::set_status(EnvId::NONE, Status::Stopped);
}

fn handle() {
    fn handler(_: &mut Fault) -> Outcome {
        family::listen();
        Outcome::Unhandled
    }
    upcall::set_handler(handler);
    raw::write_u8(NOWHERE, 1);
}

fn grow() {
    let _ = sys::alloc(EnvId::NONE, PAGE, 300, Perms::WRITE);
    (0..64).for_each(|n| _ = sys::mark(EnvId::NONE, Va(NOWHERE + (n << 21)), 1, n + 1));
    family::listen();
}

/// The child of one that is ended while it waits lives on, as the kernel's.
fn waiting(checks: &mut Checks) {
    let me = sys::id();
    let victim = child(|| {
        let grandchild = child(family::listen);
        let _ = ipc::send(me, grandchild.id().0.into());
        let _ = grandchild.wait();
    });
    let orphan = EnvId(ipc::recv().expect("the id").value as u32);
    checks.that("waiting", reaches(victim.id(), Status::Waiting));
    family::end(victim.id());
    let parent = windows::env(orphan).map(|env| env.parent());
    checks.equal("the kernel is the parent", parent, Some(EnvId::NONE));
    checks.equal("it listens still", ipc::send(orphan, QUIT), Ok(()));
    checks.that("nobody has to wait for it", reaches(orphan, Status::Free));
}

/// A parent that ends before its children were started takes them with it.
pub fn orphans(checks: &mut Checks) {
    type End = (&'static str, fn(), ExitStatus);
    let ends: [End; 3] = [
        ("exit", || sys::exit(9), ExitStatus(9)),
        ("fault", || raw::write_u8(NOWHERE, 1), ExitStatus::killed_by(Vector::PAGE_FAULT)),
        ("destroyed", || _ = sys::destroy(EnvId::NONE), ExitStatus::DESTROYED),
    ];
    for (what, end, status) in ends {
        let free = windows::free_frames();
        let parent = child(|| {
            (0..3).for_each(|n| _ = half_made(n));
            end();
        });
        checks.equal(what, parent.wait(), Ok(status));
        becomes(is_alone);
        checks.equal(what, windows::free_frames(), free);
        checks.that("nobody is left", is_alone());
    }
    let dying = child(|| _ = fork::with(die));
    checks.equal("in the middle of a fork", dying.wait(), Ok(ExitStatus(9)));
    checks.that("nobody is left", becomes(is_alone));
}

/// Whether this is the only environment.
fn is_alone() -> bool {
    windows::envs().iter().filter(|env| env.status() != Status::Free).count() == 1
}

/// A child with memory that was never started.
fn half_made(pages: u32) -> sys::Result<()> {
    let env = sys::exofork()?;
    let ops = [PageOp::alloc(env, PAGE, pages + 1, Perms::WRITE), PageOp::mark(env, Va(NOWHERE), 1, 1)];
    let _ = sys::page_ops(&ops);
    sys::set_upcall(env, 0x1000, PAGE, 1)
}

fn die(env: EnvId, _: Va) -> Result<(), Error> {
    sys::alloc(env, PAGE, 3, Perms::WRITE)?;
    sys::exit(9)
}

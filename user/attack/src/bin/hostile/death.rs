//! Environments that end in the middle of something.

use crate::checks::Checks;
use crate::family::{self, QUIT, becomes, child, reaches};
use core::sync::atomic::Ordering::Relaxed;
use libos::abi;
use libos::upcall::{self, Outcome};
use libos::{EnvId, Error, ExitStatus, Fault, PageOp, Perms, Status, Va, Vector, env, fork, ipc, raw, sys, windows};

const PAGE: Va = Va(0x2000_0000_0000);
const NOWHERE: u64 = 0x3000_0000_0000;

/// Ends a child in every possible state; all its resources must be freed.
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
    let itself = child(|| _ = sys::destroy(EnvId::SELF));
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
    let _ = sys::set_status(EnvId::SELF, Status::Stopped);
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
    let _ = sys::alloc(EnvId::SELF, PAGE, 300, Perms::WRITE);
    (0..64).for_each(|n| _ = sys::mark(EnvId::SELF, Va(NOWHERE + (n << 21)), 1, n + 1));
    family::listen();
}

/// A child that is destroyed while it waits takes its own child with it.
fn waiting(checks: &mut Checks) {
    let me = sys::id();
    let victim = child(|| {
        let grandchild = child(family::listen);
        let _ = ipc::send(me, grandchild.id().0.into());
        let _ = grandchild.wait();
    });
    let grandchild = EnvId(ipc::recv().expect("the id").value as u32);
    checks.that("waiting", reaches(victim.id(), Status::Waiting));
    family::end(victim.id());
    checks.that("its child is ended too", reaches(grandchild, Status::Free));
    checks.equal("it takes no message", ipc::send(grandchild, QUIT), Err(abi::Error::BadEnv(grandchild.0.into())));
}

/// The children of environments that end: who can act on them afterwards, and whom they outlive.
pub fn families(checks: &mut Checks) {
    type Body = (&'static str, fn(), Status);
    let bodies: [Body; 6] = [
        ("spins", spin, Status::Runnable),
        ("stops itself", stop_as_an_orphan, Status::Stopped),
        ("receives from itself", receive_from_itself, Status::Receiving),
        ("receives from its dead parent's child", receive_from_brother, Status::Receiving),
        ("waits for a child that never ends", wait_for_ever, Status::Waiting),
        ("reads", read, Status::Reading),
    ];
    for (what, body, status) in bodies {
        let free = windows::free_frames();
        for (how, leave) in [("exits", exit as fn()), ("faults", fault)] {
            let orphan = orphan(body, leave);
            checks.equal(how, parent_of(orphan), Some(sys::id()));
            checks.that(what, reaches(orphan, status));
            checks.equal(what, sys::destroy(orphan), Ok(()));
            checks.that("no zombie of it stays", becomes(|| has_gone(orphan)));
            checks.equal("and it is no child any more", sys::wait(orphan), no_child(orphan));
        }
        checks.that(what, becomes(is_alone));
        checks.equal(what, windows::free_frames(), free);
    }
    generations(checks);
    adopted(checks);
}

fn no_child(id: EnvId) -> sys::Result<(EnvId, ExitStatus)> {
    Err(abi::Error::NoChild(id.0.into()))
}

fn exit() {
    sys::exit(9);
}

fn fault() {
    raw::write_u8(NOWHERE, 1);
}

/// A stopped environment is ended when its parent ends.
fn stop_as_an_orphan() {
    // These checks run in the first environment. (It may have adopted this one by now.)
    becomes(|| env::parent().0 == windows::machine().first_env.load(Relaxed));
    stop();
}

fn receive_from_itself() {
    let _ = ipc::recv_from(sys::id());
}

/// Its sibling was made just before it, and waits for it.
fn receive_from_brother() {
    let me = sys::id();
    let brother = child(|| {
        let _ = ipc::recv_from(me);
    });
    let _ = ipc::recv_from(brother.id());
}

fn wait_for_ever() {
    let _ = child(receive_from_itself).wait();
}

fn parent_of(id: EnvId) -> Option<EnvId> {
    windows::env(id).map(|env| env.parent())
}

fn has_gone(id: EnvId) -> bool {
    windows::env(id).is_none_or(|env| env.id() != id || env.status() == Status::Free)
}

/// A grandchild that runs `body`, and whose parent has ended by `end`.
fn orphan(body: fn(), end: fn()) -> EnvId {
    let me = sys::id();
    let parent = child(|| {
        let orphan = child(body);
        let _ = ipc::send(me, orphan.id().0.into());
        end();
    });
    let id = EnvId(ipc::recv().expect("the id").value as u32);
    parent.wait().expect("it ends");
    becomes(|| parent_of(id) == Some(me));
    id
}

/// A whole line of descendants ends with the environment that is destroyed. If one in the middle exits, its descendants
/// are adopted by the environment above it.
fn generations(checks: &mut Checks) {
    const DEPTH: u32 = 6;
    fn grow(depth: u32) {
        if depth > 0 {
            child(|| grow(depth - 1));
        }
        spin();
    }
    let free = windows::free_frames();
    let top = child(|| grow(DEPTH));
    let there = || windows::envs().iter().filter(|env| env.status() != Status::Free).count();
    checks.that("all are there", becomes(|| there() == DEPTH as usize + 2));
    checks.equal("the top is destroyed", top.kill(), Ok(()));
    checks.equal("the top is destroyed", top.wait(), Ok(ExitStatus::DESTROYED));
    checks.that("and all below", becomes(is_alone));
    checks.equal("all frames are back", windows::free_frames(), free);
}

/// An adopted child that ends while its new parent waits for it, or for any child, is reported.
fn adopted(checks: &mut Checks) {
    let me = sys::id();
    for wait_for_any in [false, true] {
        let orphan = orphan(family::listen, exit);
        let waker = child(|| {
            reaches(me, Status::Waiting);
            let _ = ipc::send(orphan, QUIT);
            becomes(|| has_gone(orphan));
        });
        let awaited = if wait_for_any { EnvId::ANY } else { orphan };
        checks.equal("it is reported", sys::wait(awaited), Ok((orphan, ExitStatus(0))));
        checks.equal("the other one", waker.wait(), Ok(ExitStatus(0)));
        checks.that("nobody is left", becomes(is_alone));
    }
}

/// A parent that ends before its children were started takes them with it.
pub fn orphans(checks: &mut Checks) {
    type End = (&'static str, fn(), ExitStatus);
    let ends: [End; 3] = [
        ("exit", || sys::exit(9), ExitStatus(9)),
        ("fault", || raw::write_u8(NOWHERE, 1), ExitStatus::killed_by(Vector::PAGE_FAULT)),
        ("destroyed", || _ = sys::destroy(EnvId::SELF), ExitStatus::DESTROYED),
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
    let dying = child(|| _ = fork::fork_with(die));
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

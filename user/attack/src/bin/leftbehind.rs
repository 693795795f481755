//! The first program ends before its family: who can go on does, and who never could is ended with the machine.
//!
//! Those that nobody could wake any more, each in its own way, must not keep the machine from ending as the first
//! program did.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Args, Child, EnvId, Error, Fork, Status, env, fork, ipc, println, sys};

libos::entry!(main);

const STATUS: u8 = 7;

fn main(mut args: Args) -> Result<(), Error> {
    let me = env::id();
    let worker = args.next() != Some("idle");
    child(|| _ = sys::set_status(EnvId::SELF, Status::Stopped))?;
    child(|| _ = ipc::recv_from(env::id()))?;
    child(|| _ = ipc::recv_from(me))?;
    // Two that wait for each other, and one that waits for its child.
    child(|| {
        let me = env::id();
        if let Ok(other) = child(|| _ = ipc::recv_from(me)) {
            let _ = ipc::recv_from(other.id());
        }
    })?;
    child(|| {
        if let Ok(stuck) = child(|| _ = ipc::recv_from(env::id())) {
            let _ = stuck.wait();
        }
    })?;
    // One that stops itself when nobody is left who could start it.
    child(|| {
        while env::parent() == me {
            sys::yield_now();
        }
        _ = sys::set_status(EnvId::SELF, Status::Stopped);
    })?;
    // The parent of this one ends at once.
    child(|| _ = child(|| _ = sys::set_status(EnvId::SELF, Status::Stopped)))?;
    if worker {
        child(|| {
            while env::parent() == me {
                sys::yield_now();
            }
            println!("the first program has ended, and this one goes on");
        })?;
    }
    println!("the first program ends");
    env::exit(STATUS)
}

/// A child that does this, and ends with 0 if it gets there.
fn child(body: impl FnOnce()) -> Result<Child, Error> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            body();
            env::exit(0)
        }
    }
}

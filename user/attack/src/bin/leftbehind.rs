//! The first program ends before its family: environments that can still run go on; the others end with the machine.
//!
//! Environments that no other can wake any more, each in its own way, must not keep the machine from ending with the
//! status of the first program.
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
    // Two children that wait for each other, and one that waits for its child.
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
    // A child that stops itself when no environment is left that could start it.
    child(|| {
        while env::parent() == me {
            sys::yield_now();
        }
        _ = sys::set_status(EnvId::SELF, Status::Stopped);
    })?;
    // The parent of this child ends at once.
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

/// Forks a child that runs `body`, and then ends with 0.
fn child(body: impl FnOnce()) -> Result<Child, Error> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            body();
            env::exit(0)
        }
    }
}

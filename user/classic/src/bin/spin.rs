//! A child that loops forever does not stop its parent, which destroys it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Error, ExitStatus, Fork, fork, println, sys};

libos::entry!(main);

fn main() -> Result<(), Error> {
    println!("I am the parent.  Forking the child...");
    let Fork::Parent(child) = fork()? else {
        println!("I am the child.  Spinning...");
        loop {
            core::hint::spin_loop();
        }
    };
    println!("I am the parent.  Running the child...");
    for _ in 0..8 {
        sys::yield_now();
    }
    println!("I am the parent.  Killing the child...");
    child.kill()?;
    assert_eq!(child.wait()?, ExitStatus::DESTROYED);
    Ok(())
}

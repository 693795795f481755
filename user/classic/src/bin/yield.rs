//! Three environments take turns.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Error, Fork, env, fork, println, sys};

libos::entry!(main);

fn main() -> Result<(), Error> {
    let mut children = [None; 2];
    for slot in &mut children {
        match fork()? {
            Fork::Child => {
                take_turns();
                return Ok(());
            }
            Fork::Parent(child) => *slot = Some(child),
        }
    }
    take_turns();
    for child in children.into_iter().flatten() {
        let status = child.wait()?;
        assert!(status.is_success(), "{}: {status}", child.id());
    }
    Ok(())
}

fn take_turns() {
    let me = env::id();
    println!("Hello, I am environment {me}.");
    for i in 0..5 {
        sys::yield_now();
        println!("Back in environment {me}, iteration {i}.");
    }
    println!("All done in environment {me}.");
}

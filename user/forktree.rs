//! Copy-on-write forks make a binary tree of environments, three levels deep.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{format, string::String};
use libos::{Error, Fork, env, fork, println};

libos::entry!(main);

const DEPTH: usize = 3;

fn main() -> Result<(), Error> {
    tree(String::new())
}

/// Each node says its name, and lets two children grow, the second when the first has ended.
fn tree(path: String) -> Result<(), Error> {
    println!("{}: I am '{path}'", env::id());
    if path.len() == DEPTH {
        return Ok(());
    }
    for branch in ['0', '1'] {
        match fork()? {
            Fork::Child => return tree(format!("{path}{branch}")),
            Fork::Parent(child) => {
                let status = child.wait()?;
                assert!(status.is_success(), "{path}{branch}: {status}");
            }
        }
    }
    Ok(())
}

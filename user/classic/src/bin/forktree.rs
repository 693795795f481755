//! Copy-on-write forks make a binary tree of environments, three levels deep. `forktree by-page` shares no page tables.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{format, string::String};
use libos::{Args, Error, Fork, env, fork, println};

libos::entry!(main);

const DEPTH: usize = 3;

type Become = fn() -> Result<Fork, Error>;

fn main(mut args: Args) -> Result<(), Error> {
    let by_page = args.next() == Some("by-page");
    tree(String::new(), if by_page { fork::by_page } else { fork })
}

/// Prints the name of a node, and makes two children, the second when the first has ended.
fn tree(path: String, fork: Become) -> Result<(), Error> {
    let me = env::id();
    println!("{me}: I am '{path}'");
    if path.len() == DEPTH {
        return Ok(());
    }
    for branch in ['0', '1'] {
        match fork()? {
            Fork::Child => {
                assert_eq!(env::parent(), me, "a child has an id of its own, and knows its parent");
                return tree(format!("{path}{branch}"), fork);
            }
            Fork::Parent(child) => {
                let status = child.wait()?;
                assert!(status.is_success(), "{path}{branch}: {status}");
            }
        }
    }
    Ok(())
}

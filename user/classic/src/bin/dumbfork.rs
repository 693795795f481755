//! Fork as in the first Unix: every page is copied, at once.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Child, EnvId, Error, Fork, Va, fork, layout, println, sys, upcall, uvpt};

libos::entry!(main);

/// Gives the child a copy of every page but the exception stack, which it gets anyway.
fn copy_everything(child: EnvId, _stack_pointer: Va) -> Result<(), Error> {
    for (va, entry) in uvpt::entries(Va(0)..layout::USER_LIMIT) {
        let is_exception_stack = (upcall::STACK_LOW..layout::EXCEPTION_STACK_TOP).contains(&va);
        if entry.is_present() && !is_exception_stack {
            sys::copy(EnvId::SELF, va, child, va, 1, entry.perms())?;
        }
    }
    Ok(())
}

fn say(who: &str, times: u32) {
    for i in 0..times {
        println!("{i}: I am the {who}!");
        sys::yield_now();
    }
}

fn main() -> Result<(), Error> {
    match fork::fork_with(copy_everything)? {
        Fork::Child => say("child", 20),
        Fork::Parent(child) => {
            say("parent", 10);
            finish(child)?;
        }
    }
    Ok(())
}

fn finish(child: Child) -> Result<(), Error> {
    let status = child.wait()?;
    assert!(status.is_success(), "the child: {status}");
    Ok(())
}

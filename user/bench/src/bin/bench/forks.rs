//! Forks, switches, programs.

use crate::{Dirty, FEW, MANY, PAGES, Result, Samples, frames, run, touch};
use libos::time::ticks;
use libos::{Child, Command, Error, Fork, env, fork, ipc, sys};

// Forks. A page that was forked is copy-on-write; touching it once the child is gone makes it what
// it was before.

/// Fork; the child does this and ends.
#[inline(always)]
fn fork_child(work: impl FnOnce()) -> core::result::Result<Child, Error> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            work();
            sys::exit(0)
        }
    }
}

/// What the parent sees of it: the child does not run before `wait`.
pub fn fork_alone(samples: &mut Samples, pages: u32) -> Result {
    fork_so_often(samples, pages, FEW)
}

/// The same with so much memory that making it dirty again takes long.
pub fn fork_once(samples: &mut Samples, pages: u32) -> Result {
    fork_so_often(samples, pages, 1)
}

fn fork_so_often(samples: &mut Samples, pages: u32, times: u32) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..times {
        dirty.touch();
        let child = samples.time(|| fork_child(|| ()))?;
        child.wait()?;
    }
    Ok(())
}

pub fn fork_exit_wait(samples: &mut Samples, pages: u32) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..FEW {
        dirty.touch();
        samples.time(|| fork_child(|| ())?.wait().map_err(Error::from))?;
    }
    Ok(())
}

/// The same, page by page.
pub fn fork_by_page(samples: &mut Samples, pages: u32) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..FEW {
        dirty.touch();
        let child = samples.time(|| match fork::by_page()? {
            Fork::Parent(child) => Ok::<Child, Error>(child),
            Fork::Child => sys::exit(0),
        })?;
        child.wait()?;
    }
    Ok(())
}

/// The first write after a fork of much memory: no table above the page is private.
pub fn first_write(samples: &mut Samples, pages: u32) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..FEW {
        dirty.touch();
        let child = fork_child(|| {
            let _ = ipc::recv();
        })?;
        samples.time(|| touch(dirty.0));
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// The child writes to every page, and ends: all of it, for each page.
pub fn fork_write_all(
    samples: &mut Samples,
    pages: u32,
    fork: fn() -> core::result::Result<Fork, Error>,
) -> Result {
    let dirty = Dirty::new(PAGES, pages)?;
    for _ in 0..3 {
        dirty.touch();
        let (frames, start) = (frames(), ticks());
        match fork()? {
            Fork::Parent(child) => child.wait()?,
            Fork::Child => {
                dirty.touch();
                sys::exit(0)
            }
        };
        samples.add(ticks() - start, frames, pages);
    }
    Ok(())
}

/// The first write to a page that the child has too.
pub fn cow_break(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    let child = fork_child(|| {
        let _ = ipc::recv();
    })?;
    run(dirty.0, MANY).for_each(|page| samples.time(|| touch(page)));
    ipc::send(child.id(), 0)?;
    child.wait()?;
    Ok(())
}

/// The first write to a page that the child had too.
pub fn cow_break_sole(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    fork_child(|| ())?.wait()?;
    run(dirty.0, MANY).for_each(|page| samples.time(|| touch(page)));
    Ok(())
}

// Switches.

/// A word to the child and one back.
pub fn ipc_round_trip(samples: &mut Samples) -> Result {
    let parent = env::id();
    let child = fork_child(|| {
        let mut answer = ipc::recv();
        while let Ok(message) = answer {
            answer = ipc::call(parent, message.value + 1);
        }
    })?;
    ipc::call(child.id(), 0)?;
    for value in 0..u64::from(MANY) {
        let answer = samples.time(|| ipc::call(child.id(), value))?;
        assert!(answer.value == value + 1, "the child's answer");
    }
    end(child)
}

/// To the child and back.
pub fn yield_there_and_back(samples: &mut Samples) -> Result {
    let parent = env::id();
    let child = fork_child(|| while sys::yield_to(parent).is_ok() {})?;
    sys::yield_to(child.id())?;
    for _ in 0..MANY {
        samples.time(|| sys::yield_to(child.id()))?;
    }
    end(child)
}

fn end(child: Child) -> Result {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A program that does nothing, from the boot archive, waited for.
pub fn spawn(samples: &mut Samples) -> Result {
    let command = Command::new("true");
    for _ in 0..FEW {
        let status = samples.time(|| command.status())?;
        assert!(status.is_success(), "true: {status}");
    }
    Ok(())
}

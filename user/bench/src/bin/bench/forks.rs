//! Forks, context switches, programs.

use crate::{Dirty, FEW, MANY, PAGES, Result, Samples, frames, run, touch};
use libos::{Child, Command, Error, Fork, env, fork, ipc, sys, time::ticks};

// Forks. A page is copy-on-write after a fork; touching it once the child is gone makes it writable again.

/// Forks; the child does this and ends.
#[inline(always)]
pub fn fork_child(work: impl FnOnce()) -> core::result::Result<Child, Error> {
    match fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            work();
            sys::exit(0)
        }
    }
}

/// Times fork in the parent: the child does not run before `wait`.
pub fn fork_alone(samples: &mut Samples, pages: u32) -> Result {
    fork_so_often(samples, pages, FEW)
}

/// Times one fork of a program with so much memory that making it dirty again takes long.
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

/// Times a fork that shares page by page, and no page tables.
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

/// Times the first write after a fork of much memory: no page table above the page is private.
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

/// The child writes to every page, and ends: the total time, for each page.
pub fn fork_write_all(samples: &mut Samples, pages: u32, fork: fn() -> core::result::Result<Fork, Error>) -> Result {
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

/// Times the first write to a page that the child has, too.
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

/// Times the first write to a page that the child had before it ended.
pub fn cow_break_sole(samples: &mut Samples) -> Result {
    let dirty = Dirty::new(PAGES, MANY)?;
    fork_child(|| ())?.wait()?;
    run(dirty.0, MANY).for_each(|page| samples.time(|| touch(page)));
    Ok(())
}

// Context switches.

/// Times a word to the child and one back.
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

/// Times a yield to the child and back.
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

/// Times a program from the boot archive that does nothing, up to the end of the wait.
pub fn spawn(samples: &mut Samples) -> Result {
    let command = Command::new("true");
    for _ in 0..FEW {
        let status = samples.time(|| command.status())?;
        assert!(status.is_success(), "true: {status}");
    }
    Ok(())
}

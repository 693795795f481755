//! New programs, from the boot archive.
//!
//! The kernel can load one program, the first. This module starts all others, and they load themselves: the child gets
//! the memory that must be present before it can serve a fault (libos's own code and data, and a page of stack), and
//! brings in the rest of its pages from its file, on demand. See [`executable`] for the checks of a file, and
//! `user/linker.ld` for the resident sections.

use crate::layout::STACK_TOP;
use crate::pages::{MAX_PAGES, NewPages};
use crate::start::{ArgBlock, check_arg};
use crate::{Child, EnvId, Error, ExitStatus, PAGE_SIZE, Perms, Registers, Status, Va, archive, resident, sys};
use abi::boot::ARG_SEPARATOR;
use alloc::string::String;
use core::ops::Range;
use executable::{Program, Segment};

/// A program to start, in the manner of `std::process::Command`.
#[derive(Clone, Debug)]
pub struct Command {
    program: String,
    /// The arguments as they are passed on, each behind a separator.
    args: String,
    error: Option<Error>,
}

impl Command {
    /// Run this file of the boot archive.
    #[must_use]
    pub fn new(program: &str) -> Command {
        Command { program: program.into(), args: String::new(), error: None }
    }

    /// Add an argument.
    pub fn arg(&mut self, arg: impl AsRef<str>) -> &mut Command {
        self.error = self.error.or(check_arg(arg.as_ref()).err());
        self.args.push(ARG_SEPARATOR);
        self.args.push_str(arg.as_ref());
        self
    }

    /// Add arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item: AsRef<str>>) -> &mut Command {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Start the program as a child.
    ///
    /// # Errors
    /// `NoSuchFile`, `NoArchive`, `BadElf`, `BadArgument`, `InHandler`, and errors of the kernel (`NoEnvs`,
    /// `NoMemory`). There is no child then.
    pub fn spawn(&self) -> Result<Child, Error> {
        let made = self.make()?;
        let started = sys::set_regs(made.child, &made.registers);
        match started.and_then(|()| sys::set_status(made.child, Status::Runnable)) {
            Ok(()) => Ok(Child(made.child)),
            Err(error) => {
                made.undo();
                Err(error.into())
            }
        }
    }

    /// Start the program and wait for it to end.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn status(&self) -> Result<ExitStatus, Error> {
        Ok(self.spawn()?.wait()?)
    }

    /// Makes a stopped child with the program.
    pub(crate) fn make(&self) -> Result<Made, Error> {
        if resident::in_handler() {
            return Err(Error::InHandler);
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let file = archive::find(&self.program)?;
        let program = Program::parse(file.data).map_err(Error::BadElf)?;
        let block = (size_of::<ArgBlock>() + self.args.len()).next_multiple_of(16) as u64;
        // The stack begins below the arguments, with one more page if they leave less than half of the last page.
        let stack_pages = (block + PAGE_SIZE / 2).div_ceil(PAGE_SIZE);
        if stack_pages > MAX_PAGES {
            return Err(Error::BadArgument);
        }
        let rsp = STACK_TOP.0 - block;
        let registers = Registers { rip: program.entry.0, rsp, rdi: rsp, ..Registers::default() };
        let made = Made { child: sys::exofork()?, program, registers, stack_pages };
        match load(&made, file).and_then(|()| self.pass_arguments(&made, file)) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.undo();
                Err(error)
            }
        }
    }

    /// Gives the child its first stack pages, with the arguments at the top.
    fn pass_arguments(&self, made: &Made, file: archive::File) -> Result<(), Error> {
        let mut stack = NewPages::new(made.stack_pages)?;
        let bytes = stack.bytes();
        let at = bytes.len() - (STACK_TOP.0 - made.registers.rsp) as usize;
        let (head, text) = bytes[at..].split_at_mut(size_of::<ArgBlock>());
        let words = [self.args.len() as u64, file.address().0, file.data.len() as u64];
        for (place, word) in head.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        text[..self.args.len()].copy_from_slice(self.args.as_bytes());
        Ok(stack.map(made.child, made.stack().start, Perms::WRITE)?)
    }
}

/// A stopped child that is ready to start.
pub(crate) struct Made {
    pub(crate) child: EnvId,
    /// The child's first registers.
    pub(crate) registers: Registers,
    program: Program,
    stack_pages: u64,
}

impl Made {
    /// The pages of the child, with their rights.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (Range<Va>, Perms)> {
        let resident = self.program.segments().iter().filter(|segment| segment.resident);
        resident.map(|segment| (segment.range(), segment.perms)).chain([(self.stack(), Perms::WRITE)])
    }

    fn stack(&self) -> Range<Va> {
        Va(STACK_TOP.0 - self.stack_pages * PAGE_SIZE)..STACK_TOP
    }

    /// Ends the child and releases its slot.
    pub(crate) fn undo(&self) {
        let _ = sys::destroy(self.child).and_then(|()| sys::wait(self.child));
    }
}

/// Maps the resident segments into the child.
fn load(made: &Made, file: archive::File) -> Result<(), Error> {
    let child = made.child;
    for segment in made.program.segments().iter().filter(|segment| segment.resident) {
        if segment.perms.contains(Perms::WRITE) {
            copy(file, child, segment)?;
        } else {
            let source = Va(file.address().0 + segment.offset);
            let pages = pager::pages(&segment.range());
            sys::map(EnvId::SELF, source, child, segment.start, pages, segment.perms)?;
        }
    }
    Ok(())
}

/// Maps fresh pages into the child, filled from the file and then with zeros.
fn copy(file: archive::File, child: EnvId, segment: &Segment) -> Result<(), Error> {
    let source = Va(file.address().0 + segment.offset);
    let whole = segment.bytes / PAGE_SIZE;
    if whole > 0 {
        sys::copy(EnvId::SELF, source, child, segment.start, whole, Perms::WRITE)?;
    }
    let mut data = &file.data[segment.offset as usize..][..segment.bytes as usize][(whole * PAGE_SIZE) as usize..];
    let mut va = segment.start.add_pages(whole);
    while va < segment.end {
        let pages = pager::pages(&(va..segment.end)).min(MAX_PAGES);
        let mut fresh = NewPages::new(pages)?;
        let room = fresh.bytes();
        let (now, later) = data.split_at(data.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        fresh.map(child, va, Perms::WRITE)?;
        (va, data) = (va.add_pages(pages), later);
    }
    Ok(())
}

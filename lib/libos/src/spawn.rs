//! New programs, from the boot archive.
//!
//! The kernel can load one program, the first. All others are loaded here: code and constants are
//! shared with the archive (and so with everybody who runs the same program), data is copied.

use crate::layout::{HEAP, STACK_TOP, TEXT};
use crate::pages::{MAX_PAGES, NewPages};
use crate::start::{ArgBlock, check_arg};
use crate::{Child, EnvId, Error, ExitStatus, PAGE_SIZE, Perms, Registers, Status, Va, archive, sys, upcall};
use abi::boot::ARG_SEPARATOR;
use alloc::string::String;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use elf::{ElfBytes, file::Class};

/// A program to be started, in the manner of `std::process::Command`.
#[derive(Clone, Debug)]
pub struct Command {
    program: String,
    /// Each argument behind a separator, as they are passed on.
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
    /// `NoSuchFile`, `NoArchive`, `BadElf`, `BadArgument`, `InHandler`, and those of the kernel
    /// (`NoEnvs`, `NoMemory`). There is no child then.
    pub fn spawn(&self) -> Result<Child, Error> {
        if upcall::in_handler() {
            return Err(Error::InHandler);
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let program = Program::parse(archive::find(&self.program)?)?;
        let child = sys::exofork()?;
        let made = program.load(child).and_then(|()| self.start(child, program.entry));
        match made {
            Ok(()) => Ok(Child(child)),
            Err(error) => {
                let _ = sys::destroy(child).and_then(|()| sys::wait(child));
                Err(error)
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

    /// Give the child its first stack, with the arguments at the top, and let it run.
    fn start(&self, child: EnvId, entry: u64) -> Result<(), Error> {
        let block = (size_of::<ArgBlock>() + self.args.len()).next_multiple_of(16) as u64;
        // The stack begins below the arguments, with a whole page if they leave less than half.
        let pages = (block + PAGE_SIZE / 2).div_ceil(PAGE_SIZE);
        if pages > MAX_PAGES {
            return Err(Error::BadArgument);
        }
        let mut stack = NewPages::new(pages)?;
        let bytes = stack.bytes();
        let at = bytes.len() - block as usize;
        let (len, text) = bytes[at..].split_at_mut(size_of::<ArgBlock>());
        len.copy_from_slice(&(self.args.len() as u64).to_le_bytes());
        text[..self.args.len()].copy_from_slice(self.args.as_bytes());
        stack.map(child, Va(STACK_TOP.0 - pages * PAGE_SIZE), Perms::WRITE)?;

        let rsp = STACK_TOP.0 - block;
        let registers = Registers { rip: entry, rsp, rdi: rsp, ..Registers::default() };
        sys::set_regs(child, &registers)?;
        Ok(sys::set_status(child, Status::Runnable)?)
    }
}

/// A file that has been found to be a program.
struct Program {
    file: archive::File,
    elf: ElfBytes<'static, LittleEndian>,
    entry: u64,
}

impl Program {
    /// Check everything that is relied upon later.
    fn parse(file: archive::File) -> Result<Program, Error> {
        let bad = |_| Error::BadElf("the headers make no sense");
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file.data).map_err(bad)?;
        let entry = elf.ehdr.e_entry;
        let program = Program { file, elf, entry };
        let header = program.elf.ehdr;
        require(header.class == Class::ELF64 && header.e_machine == EM_X86_64, "not for x86-64")?;
        require(header.e_type == ET_EXEC, "not linked to fixed addresses")?;
        let mut free_from = TEXT.0;
        let mut entry_found = false;
        for segment in program.segments() {
            check(&segment, file.data.len() as u64, free_from)?;
            let end = segment.p_vaddr + segment.p_memsz;
            free_from = Va(end).page_up().0;
            let inside = (segment.p_vaddr..end).contains(&program.entry);
            entry_found |= inside && segment.p_flags & PF_X != 0;
        }
        require(entry_found, "the entry is not in code")?;
        Ok(program)
    }

    /// The segments that take memory.
    fn segments(&self) -> impl Iterator<Item = ProgramHeader> {
        let all = self.elf.segments().into_iter().flat_map(|table| table.iter());
        all.filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz > 0)
    }

    fn load(&self, child: EnvId) -> Result<(), Error> {
        for segment in self.segments() {
            if segment.p_flags & PF_W == 0 {
                self.share(child, &segment)?;
            } else {
                self.copy(child, &segment)?;
            }
        }
        Ok(())
    }

    /// Map the file's own pages, read-only.
    fn share(&self, child: EnvId, segment: &ProgramHeader) -> Result<(), Error> {
        let executable = segment.p_flags & PF_X != 0;
        let perms = if executable { Perms::EXEC } else { Perms::READ };
        let source = Va(self.file.address().0 + segment.p_offset).page();
        let (va, pages) = pages_of(segment);
        Ok(sys::map(EnvId::NONE, source, child, va, pages, perms)?)
    }

    /// Fill fresh pages from the file; what the file does not fill is zero.
    fn copy(&self, child: EnvId, segment: &ProgramHeader) -> Result<(), Error> {
        let (mut va, mut left) = pages_of(segment);
        let mut data = &self.file.data[segment.p_offset as usize..][..segment.p_filesz as usize];
        let mut skip = (segment.p_vaddr - va.0) as usize;
        while left > 0 && !data.is_empty() {
            let pages = ((skip + data.len()) as u64).div_ceil(PAGE_SIZE).min(MAX_PAGES);
            let mut fresh = NewPages::new(pages)?;
            let room = &mut fresh.bytes()[skip..];
            let (now, later) = data.split_at(data.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            fresh.map(child, va, Perms::WRITE)?;
            (va, left, data, skip) = (va.add_pages(pages), left - pages, later, 0);
        }
        if left > 0 {
            sys::alloc(child, va, left, Perms::WRITE)?;
        }
        Ok(())
    }
}

/// The first page of a segment, and how many pages it touches.
fn pages_of(segment: &ProgramHeader) -> (Va, u64) {
    let first = Va(segment.p_vaddr).page();
    let end = Va(segment.p_vaddr + segment.p_memsz).page_up();
    (first, (end.0 - first.0) / PAGE_SIZE)
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::BadElf(otherwise)) }
}

/// A segment of a file of `file_bytes` that must begin at `free_from` or above.
fn check(segment: &ProgramHeader, file_bytes: u64, free_from: u64) -> Result<(), Error> {
    let ProgramHeader { p_offset, p_vaddr, p_filesz, p_memsz, p_flags, .. } = *segment;
    let file_end = p_offset.checked_add(p_filesz);
    let end = p_vaddr.checked_add(p_memsz);
    require(file_end.is_some_and(|end| end <= file_bytes), "a segment is cut off")?;
    require(end.is_some_and(|end| end <= HEAP.0), "a segment is not below the heap")?;
    let first = Va(p_vaddr).page().0;
    require(first >= free_from, "segments share a page, are out of order or too low")?;
    require(p_filesz <= p_memsz, "a segment is larger in the file than in memory")?;
    require(p_flags & (PF_W | PF_X) != PF_W | PF_X, "a segment is writable and executable")?;
    let (written, aligned) = (p_flags & PF_W != 0, (p_vaddr ^ p_offset) % PAGE_SIZE == 0);
    require(written || aligned, "a segment is not aligned in the file")?;
    require(written || p_filesz == p_memsz, "a segment without data cannot be written")
}

//! Programs in ELF files: parsing and checks.
//!
//! All properties that later code relies on are checked in this crate, once: code that starts a program does not trust
//! the file.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use abi::layout::{HEAP, PRIVATE, RESIDENT, TEXT};
use abi::{Level, PAGE_SIZE, Perms, Va, page::span};
use core::{fmt, ops::Range};
use elf::abi::{ELFOSABI_GNU, ELFOSABI_SYSV, EM_X86_64, ET_EXEC, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_TLS};
use elf::file::{Class, FileHeader};
use elf::{ElfBytes, endian::LittleEndian, parse::ParseError, segment::ProgramHeader};

/// A flag of a program header (a bit that is left to operating systems): the segment must be present before the first
/// fault can be served.
pub const PF_RESIDENT: u32 = 1 << 20;

/// The stacks that libos gives to every program, and the guard below them.
pub const STACKS: Range<Va> = Va(PRIVATE.0 - STACK_GUARD_BYTES)..RESIDENT;
/// The size of the guard below the stack in bytes. Compiled code touches every page of a large frame, so it cannot
/// step over the guard.
pub const STACK_GUARD_BYTES: u64 = 16 * PAGE_SIZE;

/// The greatest number of segments of a program.
pub const MAX_SEGMENTS: usize = 16;

/// A segment of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The first page.
    pub start: Va,
    /// One past the last page.
    pub end: Va,
    /// The offset of the first page in the file, a multiple of the page size.
    pub offset: u64,
    /// The number of bytes from `start` on that come from the file; zeros follow.
    pub bytes: u64,
    /// The permissions of the pages.
    pub perms: Perms,
    /// Whether the segment must be present from the beginning.
    pub resident: bool,
}

impl Segment {
    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> Range<Va> {
        self.start..self.end
    }

    /// Whether the segment is data that libos writes when it serves a fault.
    const fn is_resident_data(&self) -> bool {
        self.resident && self.perms.contains(Perms::WRITE)
    }
}

/// A program, from a file that passed all checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Program {
    /// The first instruction.
    pub entry: Va,
    segments: [Segment; MAX_SEGMENTS],
    len: usize,
}

/// Why a file is not a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadElf {
    /// The file does not begin with the ELF magic number.
    NotElf,
    /// The headers are cut off or make no sense.
    Headers,
    /// The file is not for 64-bit processors; the value is its class.
    Class(u64),
    /// The file is for another byte order, which is the value.
    ByteOrder(u64),
    /// The file is for this machine, not for x86-64.
    Machine(u64),
    /// The file is for this operating system.
    OsAbi(u64),
    /// The file has this type, and is not a program that is linked to fixed addresses.
    Type(u64),
    /// The program needs an interpreter to load it, whose name is at this address.
    Interpreter(u64),
    /// The program needs dynamic linking, by the table at this address.
    Dynamic(u64),
    /// The program has thread-local variables, whose initial values are at this address.
    ThreadLocal(u64),
    /// The program has no segments, or more than [`MAX_SEGMENTS`].
    Segments(u64),
    /// The segment at this address extends beyond the end of the file.
    CutOff(u64),
    /// The segment at this address is larger in the file than in memory.
    TooLarge(u64),
    /// The segment at this address does not lie between the start of programs and the heap.
    Misplaced(u64),
    /// The segment at this address overlaps [`STACKS`].
    Stacks(u64),
    /// The segment at this address shares a page with the one before, or is out of order.
    Overlap(u64),
    /// The segment at this address is writable and executable.
    WriteExec(u64),
    /// The segment at this address has different offsets within a page in memory and in the file.
    Unaligned(u64),
    /// The segment at this address is resident and read-only, so it is mapped from the file; but the file does not
    /// contain all of it.
    Sparse(u64),
    /// The segment at this address is resident and writable, but outside of the table that is never shared.
    ResidentData(u64),
    /// The entry is not in code.
    Entry(u64),
    /// The entry, at this address, is not in a resident segment: nothing would serve the first fault.
    NotResident(u64),
    /// No segment is resident and writable: nothing would serve the faults of the program with this entry.
    NoResidentData(u64),
}

impl BadElf {
    /// The reason in words, without the offending value.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            BadElf::NotElf => "it is not an ELF file",
            BadElf::Headers => "the headers are cut off or make no sense",
            BadElf::Class(_) => "it is not for 64 bits",
            BadElf::ByteOrder(_) => "it is not little-endian",
            BadElf::Machine(_) => "it is for another processor than x86-64",
            BadElf::OsAbi(_) => "it is for another operating system",
            BadElf::Type(_) => "it is not linked to fixed addresses, but position-independent, a library or an object",
            BadElf::Interpreter(_) => "it is for another operating system, and asks for a dynamic linker",
            BadElf::Dynamic(_) => "it is for another operating system, and asks for dynamic linking",
            BadElf::ThreadLocal(_) => "it is for another operating system, and asks for thread-local variables",
            BadElf::Segments(_) => "it has no segments, or too many",
            BadElf::CutOff(_) => "a segment is cut off",
            BadElf::TooLarge(_) => "a segment is larger in the file than in memory",
            BadElf::Misplaced(_) => "a segment is not where programs may be",
            BadElf::Stacks(_) => "a segment is where the stacks are",
            BadElf::Overlap(_) => "a segment shares a page with the one before, or is out of order",
            BadElf::WriteExec(_) => "a segment is writable and executable",
            BadElf::Unaligned(_) => "a segment is not aligned in the file",
            BadElf::Sparse(_) => "a resident segment is only read, and not all of it is in the file",
            BadElf::ResidentData(_) => "resident data is not in its place",
            BadElf::Entry(_) => "the entry is not in code",
            BadElf::NotResident(_) => "it is not linked with libos: the entry is in no resident segment",
            BadElf::NoResidentData(_) => "it is not linked with libos: it has no resident data",
        }
    }

    /// The offending value, if there is one.
    #[must_use]
    pub const fn value(self) -> Option<u64> {
        match self {
            BadElf::NotElf | BadElf::Headers => None,
            BadElf::Class(value)
            | BadElf::ByteOrder(value)
            | BadElf::Machine(value)
            | BadElf::OsAbi(value)
            | BadElf::Type(value)
            | BadElf::Interpreter(value)
            | BadElf::Dynamic(value)
            | BadElf::ThreadLocal(value)
            | BadElf::Segments(value)
            | BadElf::CutOff(value)
            | BadElf::TooLarge(value)
            | BadElf::Misplaced(value)
            | BadElf::Stacks(value)
            | BadElf::Overlap(value)
            | BadElf::WriteExec(value)
            | BadElf::Unaligned(value)
            | BadElf::Sparse(value)
            | BadElf::ResidentData(value)
            | BadElf::Entry(value)
            | BadElf::NotResident(value)
            | BadElf::NoResidentData(value) => Some(value),
        }
    }
}

impl fmt::Display for BadElf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.reason())?;
        match (self, self.value()) {
            (BadElf::Segments(count), _) => write!(f, " ({count}; {MAX_SEGMENTS} are allowed)"),
            (_, Some(value)) => write!(f, " ({value:#x})"),
            (_, None) => Ok(()),
        }
    }
}

impl From<ParseError> for BadElf {
    fn from(error: ParseError) -> BadElf {
        match error {
            ParseError::BadMagic(_) => BadElf::NotElf,
            ParseError::UnsupportedElfClass(class) => BadElf::Class(class.into()),
            ParseError::UnsupportedElfEndianness(order) => BadElf::ByteOrder(order.into()),
            _ => BadElf::Headers,
        }
    }
}

impl Program {
    /// Reads and checks the headers of a file.
    ///
    /// # Errors
    /// The reason why the file is not a program.
    pub fn parse(file: &[u8]) -> Result<Program, BadElf> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        check_kind(&elf.ehdr)?;
        let table = elf.segments().ok_or(BadElf::Segments(0))?;
        let entry = elf.ehdr.e_entry;
        let mut program = Program { entry: Va(entry), segments: [Segment::default(); MAX_SEGMENTS], len: 0 };
        let mut free_from = TEXT;
        for header in table.iter() {
            if header.p_type != PT_LOAD || header.p_memsz == 0 {
                check_needs(&header)?;
                continue;
            }
            let segment = segment(&header, file.len() as u64, free_from)?;
            let slot = program.segments.get_mut(program.len);
            *slot.ok_or(BadElf::Segments(table.len() as u64))? = segment;
            program.len += 1;
            free_from = segment.end;
        }
        let segments = program.segments();
        let is_first = |segment: &&Segment| segment.range().contains(&Va(entry));
        match segments.iter().find(is_first).filter(|segment| segment.perms.contains(Perms::EXEC)) {
            _ if segments.is_empty() => Err(BadElf::Segments(0)),
            None => Err(BadElf::Entry(entry)),
            Some(code) if !code.resident => Err(BadElf::NotResident(entry)),
            Some(_) if !segments.iter().any(Segment::is_resident_data) => Err(BadElf::NoResidentData(entry)),
            Some(_) => Ok(program),
        }
    }

    /// The segments, in ascending order. No two share a page.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.len]
    }
}

/// Checks the platform and the type of a file.
fn check_kind(header: &FileHeader<LittleEndian>) -> Result<(), BadElf> {
    match (header.class, header.osabi, header.e_machine, header.e_type) {
        (Class::ELF32, ..) => Err(BadElf::Class(1)),
        (.., machine, _) if machine != EM_X86_64 => Err(BadElf::Machine(machine.into())),
        // Linkers write `ELFOSABI_GNU` if a file has sections that must be retained, for any system.
        (_, system, ..) if ![ELFOSABI_SYSV, ELFOSABI_GNU].contains(&system) => Err(BadElf::OsAbi(system.into())),
        (.., kind) if kind != ET_EXEC => Err(BadElf::Type(kind.into())),
        _ => Ok(()),
    }
}

/// Checks that a program header asks for nothing that this system does not support.
const fn check_needs(header: &ProgramHeader) -> Result<(), BadElf> {
    match header.p_type {
        PT_INTERP => Err(BadElf::Interpreter(header.p_vaddr)),
        PT_DYNAMIC => Err(BadElf::Dynamic(header.p_vaddr)),
        PT_TLS => Err(BadElf::ThreadLocal(header.p_vaddr)),
        _ => Ok(()),
    }
}

/// Checks a segment of a file of `file_bytes` bytes. The segment must begin at `free_from` or above.
fn segment(header: &ProgramHeader, file_bytes: u64, free_from: Va) -> Result<Segment, BadElf> {
    let ProgramHeader { p_offset, p_vaddr, p_filesz, p_memsz, p_flags, .. } = *header;
    let require = |holds: bool, otherwise: fn(u64) -> BadElf| {
        if holds { Ok(()) } else { Err(otherwise(p_vaddr)) }
    };
    let file_end = p_offset.checked_add(p_filesz);
    let end = p_vaddr.checked_add(p_memsz).filter(|end| *end <= HEAP.0);
    let end = end.ok_or(BadElf::Misplaced(p_vaddr))?;
    require(file_end.is_some_and(|end| end <= file_bytes), BadElf::CutOff)?;
    require(p_filesz <= p_memsz, BadElf::TooLarge)?;
    require(p_vaddr >= TEXT.0, BadElf::Misplaced)?;
    let (start, end) = (Va(p_vaddr).page(), Va(end).page_up());
    require(start >= free_from, BadElf::Overlap)?;
    require(end <= STACKS.start || start >= STACKS.end, BadElf::Stacks)?;
    require(p_flags & (PF_W | PF_X) != PF_W | PF_X, BadElf::WriteExec)?;
    let skip = Va(p_vaddr).offset();
    require(p_filesz == 0 || p_offset % PAGE_SIZE == skip, BadElf::Unaligned)?;
    let mut perms = Perms::READ;
    perms.set(Perms::WRITE, p_flags & PF_W != 0);
    perms.set(Perms::EXEC, p_flags & PF_X != 0);
    let (offset, bytes) = if p_filesz == 0 { (0, 0) } else { (p_offset - skip, skip + p_filesz) };
    let segment = Segment { start, end, offset, bytes, perms, resident: p_flags & PF_RESIDENT != 0 };
    let in_place = start >= RESIDENT && end <= Va(PRIVATE.0 + span(Level::L2));
    require(!segment.is_resident_data() || in_place, BadElf::ResidentData)?;
    require(!segment.resident || segment.is_resident_data() || p_filesz == p_memsz, BadElf::Sparse)?;
    Ok(segment)
}

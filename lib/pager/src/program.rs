//! Programs, as their ELF files say they are.
//!
//! Everything that is relied upon later is checked here, once: whoever starts a program does not
//! trust the file.

use abi::layout::{HEAP, TEXT};
use abi::{PAGE_SIZE, Perms, Va};
use core::fmt;
use core::ops::Range;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;

/// In the flags of a program header (a bit that is left to operating systems): the segment must be there
/// before the first fault can be served.
pub const PF_RESIDENT: u32 = 1 << 20;

/// The most segments that a program may have.
pub const MAX_SEGMENTS: usize = 16;

/// A part of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The first page.
    pub start: Va,
    /// One past the last page.
    pub end: Va,
    /// Where the first page begins in the file, a multiple of the page size.
    pub offset: u64,
    /// How many bytes from `start` on come from the file; then come zeros.
    pub bytes: u64,
    /// What it may be used for.
    pub perms: Perms,
    /// Whether it must be there from the beginning.
    pub resident: bool,
}

impl Segment {
    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> Range<Va> {
        self.start..self.end
    }
}

/// A file that has been found to be a program.
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
    /// The headers are cut off or make no sense.
    Headers,
    /// It is not a 64-bit program for x86-64, linked to fixed addresses.
    Kind,
    /// It has no segments, or more than [`MAX_SEGMENTS`].
    Segments(u64),
    /// The segment at this address reaches behind the end of the file.
    CutOff(u64),
    /// The segment at this address is larger in the file than in memory.
    TooLarge(u64),
    /// The segment at this address does not lie between the start of programs and the heap.
    Misplaced(u64),
    /// The segment at this address shares a page with the one before, or is out of order.
    Overlap(u64),
    /// The segment at this address is writable and executable.
    WriteExec(u64),
    /// The segment at this address does not begin at the same place in a page as in the file.
    Unaligned(u64),
    /// The entry is not in code.
    Entry(u64),
}

impl BadElf {
    /// In words, without the offending value.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            BadElf::Headers => "the headers are cut off or make no sense",
            BadElf::Kind => "it is not for x86-64, or not linked to fixed addresses",
            BadElf::Segments(_) => "it has no segments, or too many",
            BadElf::CutOff(_) => "a segment is cut off",
            BadElf::TooLarge(_) => "a segment is larger in the file than in memory",
            BadElf::Misplaced(_) => "a segment is not where programs may be",
            BadElf::Overlap(_) => "a segment shares a page with the one before, or is out of order",
            BadElf::WriteExec(_) => "a segment is writable and executable",
            BadElf::Unaligned(_) => "a segment is not aligned in the file",
            BadElf::Entry(_) => "the entry is not in code",
        }
    }
}

impl fmt::Display for BadElf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.reason())?;
        match *self {
            BadElf::Headers | BadElf::Kind => Ok(()),
            BadElf::Segments(count) => write!(f, " ({count}; {MAX_SEGMENTS} are allowed)"),
            BadElf::CutOff(at)
            | BadElf::TooLarge(at)
            | BadElf::Misplaced(at)
            | BadElf::Overlap(at)
            | BadElf::WriteExec(at)
            | BadElf::Unaligned(at)
            | BadElf::Entry(at) => write!(f, " ({at:#x})"),
        }
    }
}

impl Program {
    /// Read the headers of a file.
    ///
    /// # Errors
    /// The reason why it is not a program.
    pub fn parse(file: &[u8]) -> Result<Program, BadElf> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| BadElf::Headers)?;
        let header = elf.ehdr;
        let kind = (header.class, header.e_machine, header.e_type);
        if kind != (Class::ELF64, EM_X86_64, ET_EXEC) {
            return Err(BadElf::Kind);
        }
        let table = elf.segments().ok_or(BadElf::Segments(0))?;
        let mut program =
            Program { entry: Va(header.e_entry), segments: [Segment::default(); MAX_SEGMENTS], len: 0 };
        let mut free_from = TEXT;
        for header in table.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0) {
            let segment = segment(&header, file.len() as u64, free_from)?;
            let slot = program.segments.get_mut(program.len);
            *slot.ok_or(BadElf::Segments(table.len() as u64))? = segment;
            program.len += 1;
            free_from = segment.end;
        }
        let is_code = |segment: &Segment| {
            segment.perms.contains(Perms::EXEC) && segment.range().contains(&program.entry)
        };
        match program.segments() {
            [] => Err(BadElf::Segments(0)),
            segments if segments.iter().any(is_code) => Ok(program),
            _ => Err(BadElf::Entry(header.e_entry)),
        }
    }

    /// The segments, upwards. No two share a page.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.len]
    }
}

/// Check a segment of a file of so many bytes, which must begin at `free_from` or above.
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
    let start = Va(p_vaddr).page();
    require(start >= free_from, BadElf::Overlap)?;
    require(p_flags & (PF_W | PF_X) != PF_W | PF_X, BadElf::WriteExec)?;
    let skip = Va(p_vaddr).offset();
    require(p_filesz == 0 || p_offset % PAGE_SIZE == skip, BadElf::Unaligned)?;
    let mut perms = Perms::READ;
    perms.set(Perms::WRITE, p_flags & PF_W != 0);
    perms.set(Perms::EXEC, p_flags & PF_X != 0);
    let (offset, bytes) = if p_filesz == 0 { (0, 0) } else { (p_offset - skip, skip + p_filesz) };
    let resident = p_flags & PF_RESIDENT != 0;
    Ok(Segment { start, end: Va(end).page_up(), offset, bytes, perms, resident })
}

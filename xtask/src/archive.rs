//! The boot archive: a TAR file in which the data of every member starts on a page boundary. So the kernel can map the
//! frames into which the boot loader put it.
//!
//! A header is 512 bytes. The gap up to the boundary is filled with one extra member, called [`FILLER`]. (A pax comment
//! would be less visible, but the kernel's reader takes the text of such an entry for another header.)
//!
//! The first file is an index of the others ([`abi::boot::INDEX`]), where programs look them up.

use crate::{cargo::Executable, symbols};
use abi::boot::{INDEX, INDEX_OFFSET, IndexEntry};
use anyhow::{Context, Result, bail, ensure};
use std::{collections::BTreeMap, fs, path::Path};
use tar::{EntryType, Header};

const PAGE: usize = abi::PAGE_SIZE as usize;
const BLOCK: usize = 512;
/// The name of members that only fill space.
const FILLER: &str = ".filler";

/// A boot archive under construction: files by name.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// An archive of these programs.
    ///
    /// # Errors
    /// A program cannot be read, or the kernel cannot load it.
    pub fn of(programs: &[Executable]) -> Result<Archive> {
        let mut archive = Archive::default();
        for program in programs {
            let data = fs::read(&program.path).with_context(|| format!("cannot read {}", program.path.display()))?;
            let data = strip(data).with_context(|| format!("{}", program.path.display()))?;
            archive.add(&program.name, &data)?;
        }
        Ok(archive)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// The name does not fit into the index, or is taken.
    pub fn add(&mut self, name: &str, data: &[u8]) -> Result<()> {
        ensure!((1..=IndexEntry::NAME_MAX).contains(&name.len()), "bad file name `{name}`");
        ensure!(self.files.insert(name.to_owned(), data.to_vec()).is_none(), "two files have the name `{name}`");
        Ok(())
    }

    /// The bytes of the archive: whole pages, so that its last frame holds nothing else. The last page is all zeros: it
    /// is the page of zeros that programs map.
    ///
    /// # Errors
    /// A name does not fit into a TAR header.
    pub fn finish(&self) -> Result<Vec<u8>> {
        let mut tar = Tar::default();
        let index_at = tar.add(INDEX, &vec![0; self.files.len() * IndexEntry::SIZE])?;
        ensure!(index_at as u64 == INDEX_OFFSET, "the index is at {index_at:#x}");
        let mut index = Vec::new();
        for (name, data) in &self.files {
            let offset = tar.add(name, data)? as u64;
            let entry = IndexEntry { name: name.as_bytes(), offset, bytes: data.len() as u64 };
            index.extend(entry.encode());
        }
        let mut bytes = tar.bytes;
        bytes[index_at..][..index.len()].copy_from_slice(&index);
        bytes.resize(bytes.len().next_multiple_of(PAGE) + PAGE, 0);
        Ok(bytes)
    }

    /// Writes the archive to this file.
    ///
    /// # Errors
    /// The file cannot be written, or [`Archive::finish`] fails.
    pub fn write(self, path: &Path) -> Result<()> {
        fs::write(path, self.finish()?).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A TAR file whose members start on page boundaries.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// Adds a member. Returns the offset of its contents.
    fn add(&mut self, name: &str, data: &[u8]) -> Result<usize> {
        self.fill_to_page_before_header();
        let mut header = Header::new_ustar();
        header.set_path(name).with_context(|| format!("bad file name `{name}`"))?;
        self.put(header, EntryType::Regular, data);
        Ok(self.bytes.len() - data.len().next_multiple_of(BLOCK))
    }

    fn put(&mut self, mut header: Header, kind: EntryType, data: &[u8]) {
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    fn fill_to_page_before_header(&mut self) {
        let missing = (self.bytes.len() + BLOCK).next_multiple_of(PAGE) - (self.bytes.len() + BLOCK);
        if missing > 0 {
            let mut header = Header::new_ustar();
            header.set_path(FILLER).expect("a short name fits");
            self.put(header, EntryType::Regular, &[0; PAGE][..missing - BLOCK]);
        }
    }
}

/// The program without symbols and debug information: everything behind the last loaded byte is removed, the section
/// headers included. A table of its functions replaces it, so that a program can print a backtrace.
fn strip(mut elf: Vec<u8>) -> Result<Vec<u8>> {
    let loaded = loaded_bytes(&elf)?;
    ensure!(loaded <= elf.len(), "a segment ends at {loaded:#x}, after the end of the file");
    let functions = symbols::functions(&elf)?;
    elf.truncate(loaded);
    append_functions(&mut elf, &functions);
    Ok(elf)
}

/// Adds a symbol table with these functions, its strings, and headers for the two.
fn append_functions(elf: &mut Vec<u8>, functions: &[symbols::Function]) {
    const SYMBOL: usize = 24;
    let (mut table, mut strings) = (vec![0; SYMBOL], vec![0]);
    for function in functions {
        table.extend((strings.len() as u32).to_le_bytes());
        // STT_FUNC, local; default visibility; any section but 0, which would mean "undefined".
        table.extend([2, 0, 1, 0]);
        table.extend(function.address.to_le_bytes());
        table.extend(function.bytes.to_le_bytes());
        strings.extend(function.name.bytes().chain([0]));
    }
    elf.resize(elf.len().next_multiple_of(8), 0);
    let table_at = elf.len() as u64;
    let strings_at = table_at + table.len() as u64;
    let symbols = table.len() / SYMBOL;
    elf.extend(table);
    elf.extend(&strings);
    elf.resize(elf.len().next_multiple_of(8), 0);
    let headers_at = elf.len() as u64;
    // Name, type, flags, address, offset, size, link, info (the first global symbol), alignment, entry size.
    let section = |kind: u32, at: u64, bytes: usize, link: u32, info: usize, entry: usize| {
        let words = [0, 0, at, bytes as u64, u64::from(link) | (info as u64) << 32, 8, entry as u64];
        let head = u64::from(kind) << 32;
        [head].into_iter().chain(words).flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
    };
    elf.extend(section(0, 0, 0, 0, 0, 0));
    elf.extend(section(2, table_at, symbols * SYMBOL, 2, symbols, SYMBOL));
    elf.extend(section(3, strings_at, strings.len(), 0, 0, 0));
    // e_shoff; e_shentsize, e_shnum, e_shstrndx: the sections have the empty name.
    elf[0x28..0x30].copy_from_slice(&headers_at.to_le_bytes());
    elf[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
}

/// One past the last byte of the file that a loadable program header covers.
fn loaded_bytes(elf: &[u8]) -> Result<usize> {
    use object::elf::{FileHeader64, PT_LOAD};
    use object::read::elf::{FileHeader as _, ProgramHeader as _};
    let header = FileHeader64::<object::Endianness>::parse(elf).context("not a 64-bit ELF file")?;
    let endian = header.endian().context("not an ELF file of this machine")?;
    let segments = header.program_headers(endian, elf).context("bad program headers")?;
    let ends = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .map(|segment| segment.p_offset(endian) + segment.p_filesz(endian));
    let Some(end) = ends.max() else { bail!("no segment of it is loaded") };
    let headers = header.e_phoff(endian) + 56 * header.e_phnum(endian) as u64;
    Ok(end.max(headers) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sample() -> Vec<(String, Vec<u8>)> {
        let sizes = [0, 1, 10_000, 2560, 3072, 3073, 3584, 4096, 511, 512, 513];
        sizes.iter().map(|&size| (format!("file{size}"), vec![0xa5; size])).collect()
    }

    fn pack() -> Vec<u8> {
        let mut archive = Archive::default();
        for (name, data) in sample() {
            archive.add(&name, &data).unwrap();
        }
        archive.finish().unwrap()
    }

    /// Whether a member is one of the sample files. (The index has a test of its own.)
    fn is_sample(name: &str) -> bool {
        ![FILLER, INDEX].contains(&name)
    }

    /// Reads the functions of a stripped program with an independent ELF reader.
    #[test]
    fn functions_keep_their_names() {
        use object::{Object, ObjectSymbol};
        let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
        let stripped = strip(elf.clone()).unwrap();
        let file = object::File::parse(stripped.as_slice()).unwrap();
        let found: Vec<_> =
            file.symbols().map(|symbol| (symbol.address(), symbol.size(), symbol.name().unwrap().to_owned())).collect();
        let expected = symbols::functions(&elf).unwrap();
        assert!(expected.iter().any(|function| function.name.ends_with("functions_keep_their_names")));
        let expected: Vec<_> = expected.into_iter().map(|f| (f.address, f.bytes, f.name)).collect();
        assert!(found == expected);
    }

    #[test]
    fn members_start_on_page_boundaries() {
        let bytes = pack();
        assert_eq!(bytes.len() % PAGE, 0);
        let mut reader = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in reader.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            if !is_sample(&name) {
                continue;
            }
            assert_eq!(entry.raw_file_position() % PAGE as u64, 0);
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            found.push((name, data));
        }
        assert!(found == sample());
    }

    #[test]
    fn the_kernels_reader_sees_the_files() {
        let bytes = pack();
        let reader = tar_no_std::TarArchiveRef::new(&bytes).unwrap();
        let found: Vec<_> = reader
            .entries()
            .map(|entry| (entry.filename().as_str().unwrap().to_owned(), entry.data().to_vec()))
            .filter(|(name, _)| is_sample(name))
            .collect();
        assert!(found == sample());
    }

    /// The index names every file, in order, with its offset.
    #[test]
    fn the_index_leads_to_the_files() {
        let bytes = pack();
        let index = &bytes[INDEX_OFFSET as usize..][..sample().len() * IndexEntry::SIZE];
        let found: Vec<_> = index
            .as_chunks()
            .0
            .iter()
            .map(IndexEntry::decode)
            .map(|entry| {
                let data = &bytes[entry.offset as usize..][..entry.bytes as usize];
                (String::from_utf8(entry.name.to_vec()).unwrap(), data.to_vec())
            })
            .collect();
        assert!(found == sample());
    }

    #[test]
    fn names_that_cannot_be_looked_up_are_refused() {
        let mut archive = Archive::default();
        let longest = "n".repeat(IndexEntry::NAME_MAX);
        assert!(archive.add(&longest, &[]).is_ok() && archive.add(&longest, &[]).is_err());
        assert!(archive.add(&(longest + "n"), &[]).is_err() && archive.add("", &[]).is_err());
    }

    #[test]
    fn stripping_keeps_the_segments() {
        let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
        let loaded = loaded_bytes(&elf).unwrap();
        let stripped = strip(elf.clone()).unwrap();
        assert_eq!(stripped[0x40..loaded], elf[0x40..loaded]);
        assert!(strip(b"hello".to_vec()).is_err());
    }
}

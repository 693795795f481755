//! The boot archive: a TAR file in which the data of every member starts on a page boundary, so
//! that the kernel can map the very frames that the boot loader put it in.
//!
//! A header is 512 bytes. What is missing to the boundary is filled with entries for the directory
//! `./`, which are headers and nothing else: every reader understands them, and those that look for
//! files skip them. (A pax comment would take one entry only, but the kernel's reader takes the
//! text of such an entry for another header.)

use crate::cargo::Executable;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use tar::{EntryType, Header};

const PAGE: usize = abi::PAGE_SIZE as usize;
const BLOCK: usize = 512;

/// A boot archive that is being put together.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    /// An archive of these programs.
    ///
    /// # Errors
    /// A program cannot be read, or is not what the kernel can load.
    pub fn of(programs: &[Executable]) -> Result<Archive> {
        let mut archive = Archive::default();
        for program in programs {
            let data =
                fs::read(&program.path).with_context(|| format!("cannot read {}", program.path.display()))?;
            let data = strip(data).with_context(|| format!("{}", program.path.display()))?;
            archive.add(&program.name, &data)?;
        }
        Ok(archive)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// The name does not fit into a TAR header (100 bytes).
    pub fn add(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.fill_to_page_before_header();
        let mut header = Header::new_ustar();
        header.set_path(name).with_context(|| format!("bad file name `{name}`"))?;
        self.put(header, EntryType::Regular, data);
        Ok(())
    }

    /// The bytes of the archive: whole pages, so that nothing foreign is in its last frame.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let end = (self.bytes.len() + 2 * BLOCK).next_multiple_of(PAGE);
        self.bytes.resize(end, 0);
        self.bytes
    }

    /// Writes the archive to a file of its own.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(self, path: &Path) -> Result<()> {
        fs::write(path, self.finish()).with_context(|| format!("cannot write {}", path.display()))
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
        while !(self.bytes.len() + BLOCK).is_multiple_of(PAGE) {
            let mut header = Header::new_ustar();
            header.set_path("./").expect("a short name fits");
            self.put(header, EntryType::Directory, &[]);
        }
    }
}

/// The program without symbols and debug information: everything behind the last byte that is
/// loaded goes, and the section headers with it.
fn strip(mut elf: Vec<u8>) -> Result<Vec<u8>> {
    let loaded = loaded_bytes(&elf)?;
    ensure!(loaded <= elf.len(), "a segment ends behind the end of the file ({loaded:#x})");
    elf.truncate(loaded);
    // e_shoff, then e_shnum and e_shstrndx.
    elf[0x28..0x30].fill(0);
    elf[0x3c..0x40].fill(0);
    Ok(elf)
}

/// One past the last byte of the file that a program header names.
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
    let Some(end) = ends.max() else { bail!("nothing in it is to be loaded") };
    let headers = header.e_phoff(endian) + 56 * header.e_phnum(endian) as u64;
    Ok(end.max(headers) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sample() -> Vec<(String, Vec<u8>)> {
        let sizes = [0, 1, 511, 512, 513, 2560, 3072, 3073, 3584, 4096, 10_000];
        sizes.iter().map(|&size| (format!("file{size}"), vec![0xa5; size])).collect()
    }

    fn pack() -> Vec<u8> {
        let mut archive = Archive::default();
        for (name, data) in sample() {
            archive.add(&name, &data).unwrap();
        }
        archive.finish()
    }

    #[test]
    fn members_start_on_page_boundaries() {
        let bytes = pack();
        assert_eq!(bytes.len() % PAGE, 0);
        let mut reader = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in reader.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_dir() {
                continue;
            }
            assert_eq!(entry.raw_file_position() % PAGE as u64, 0);
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            found.push((name, data));
        }
        assert!(found == sample());
    }

    #[test]
    fn the_kernels_reader_sees_the_files_only() {
        let bytes = pack();
        let reader = tar_no_std::TarArchiveRef::new(&bytes).unwrap();
        let found: Vec<_> = reader
            .entries()
            .map(|entry| (entry.filename().as_str().unwrap().to_owned(), entry.data().to_vec()))
            .collect();
        assert!(found == sample());
    }

    #[test]
    fn stripping_keeps_the_segments() {
        let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
        let loaded = loaded_bytes(&elf).unwrap();
        let stripped = strip(elf.clone()).unwrap();
        assert_eq!(stripped.len(), loaded);
        assert_eq!(stripped[0x40..], elf[0x40..loaded]);
        assert!(strip(b"hello".to_vec()).is_err());
    }
}

//! Checks of the directory of a ZIP archive before the archive is read.

use super::meter::Budget;
use anyhow::Result;
use memchr::memmem;
use std::cell::Cell;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;
use zip::ZipArchive;

/// The magic number of the record that holds the number of files of an archive with very many.
const END64: &[u8; 4] = b"PK\x06\x06";
/// The minimal length of that record.
const END64_LEN: usize = 56;
/// How much is searched at once.
const WINDOW: usize = 1 << 16;

/// Reads the directory of an archive. Afterwards `left` holds how much may still be read.
pub fn open<'a, R: Read + Seek>(source: &'a mut R, left: &Rc<Cell<u64>>) -> Result<ZipArchive<Budget<&'a mut R>>> {
    Ok(ZipArchive::new(Budget::new(source, left)?)?)
}

/// Whether an archive claims to have more files than this. The library reserves memory for that many before it reads
/// them. Archives without such a record have fewer than 65,536.
pub fn has_more_than(most: u64, source: &mut (impl Read + Seek)) -> io::Result<bool> {
    let len = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(0))?;
    let mut window = Vec::new();
    loop {
        let read = source.by_ref().take(WINDOW as u64).read_to_end(&mut window)?;
        let says = |record: &[u8]| {
            let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("8 bytes"));
            let is_record = number(4).saturating_add(12) <= len;
            is_record && number(24).max(number(32)) > most
        };
        if memmem::find_iter(&window, END64).any(|at| window.get(at..at + END64_LEN).is_some_and(says)) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        window.drain(..window.len().saturating_sub(END64_LEN - 1));
    }
}

/// How many files of an archive have the name of another one: unpacking keeps only the last. The records of the
/// directory are counted, since the library keeps one for each name.
pub fn twice(source: &mut (impl Read + Seek)) -> Result<Option<usize>> {
    let archive = open(source, &Rc::default())?;
    let (names, start) = (archive.len(), archive.central_directory_start());
    drop(archive);
    source.seek(SeekFrom::Start(start))?;
    let mut directory = BufReader::new(&mut *source);
    let (mut count, mut record) = (0_usize, [0; 46]);
    while directory.read_exact(&mut record).is_ok() && record.starts_with(b"PK\x01\x02") {
        count += 1;
        // Skip the name and the other fields of variable length.
        let lengths = [28, 30, 32].map(|at| i64::from(u16::from_le_bytes([record[at], record[at + 1]])));
        directory.seek_relative(lengths.iter().sum())?;
    }
    drop(directory);
    source.seek(SeekFrom::Start(0))?;
    Ok(count.checked_sub(names).filter(|&more| more > 0 && count < usize::from(u16::MAX)))
}

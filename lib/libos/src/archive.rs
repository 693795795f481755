//! The boot archive: a TAR file in memory, whose files start on page boundaries.
//!
//! The first file is an index of the others. Walking from header to header instead took two thirds of the time of a
//! program start.

use crate::{Error, Va, layout, windows};
use abi::boot::{INDEX, INDEX_OFFSET, IndexEntry};
use core::ops::Range;

/// A file of the boot archive.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// The contents. They start on a page boundary, so they can be the source of a mapping.
    pub data: &'static [u8],
}

impl File {
    /// The address of the contents.
    #[must_use]
    pub fn address(&self) -> Va {
        Va(self.data.as_ptr() as u64)
    }
}

/// The index, sorted by name, as `cargo xtask` has written it.
fn index() -> Result<&'static [[u8; IndexEntry::SIZE]], Error> {
    // The archive begins with the header of the index: the name first, and the size in octal digits.
    let archive = windows::archive();
    let (header, rest) = archive.split_at_checked(INDEX_OFFSET as usize).ok_or(Error::NoArchive)?;
    let header = &header[header.len() - TAR_HEADER..];
    let digits = header.get(TAR_SIZE).filter(|_| header.starts_with(INDEX.as_bytes()));
    let bytes = digits.ok_or(Error::NoArchive)?.iter().fold(0, |size, digit| size * 8 + usize::from(digit & 7));
    Ok(rest.get(..bytes).ok_or(Error::NoArchive)?.as_chunks().0)
}

/// The size of a TAR header in bytes, and the position of the file size in it.
const TAR_HEADER: usize = 512;
const TAR_SIZE: Range<usize> = 124..135;

fn file(entry: &IndexEntry) -> Option<File> {
    let data = windows::archive().get(entry.offset as usize..)?.get(..entry.bytes as usize)?;
    Some(File { data })
}

/// Calls `show` with the name and contents of each file, in the order of their names.
///
/// # Errors
/// `NoArchive`.
pub fn each(mut show: impl FnMut(&str, File)) -> Result<(), Error> {
    for entry in index()?.iter().map(IndexEntry::decode) {
        if let (Ok(name), Some(file)) = (core::str::from_utf8(entry.name), file(&entry)) {
            show(name, file);
        }
    }
    Ok(())
}

/// The file of this name.
///
/// # Errors
/// `NoSuchFile`, `NoArchive`.
pub fn find(name: &str) -> Result<File, Error> {
    let index = index()?;
    let found = index.binary_search_by(|entry| IndexEntry::decode(entry).name.cmp(name.as_bytes()));
    let entry = found.ok().map(|at| IndexEntry::decode(&index[at]));
    let file = entry.and_then(|entry| file(&entry)).ok_or(Error::NoSuchFile)?;
    debug_assert!(file.address().is_page_aligned() && file.address() >= layout::ARCHIVE);
    Ok(file)
}

//! The boot archive: a TAR file in memory, whose files start on page boundaries.

use crate::{Error, Va, layout, windows};
use tar_no_std::{ArchiveHeaderIterator, TarArchiveRef};

/// A file of the boot archive.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// The contents. They start on a page boundary, and may be named as the source of a mapping.
    pub data: &'static [u8],
}

impl File {
    /// Where the contents are.
    #[must_use]
    pub fn address(&self) -> Va {
        Va(self.data.as_ptr() as u64)
    }
}

/// Call `look` with the name of each file, until it returns something.
///
/// Headers are looked at, and no more of the entries than is asked for: this is a part of every program
/// start.
fn scan<T>(mut look: impl FnMut(&str, File) -> Option<T>) -> Result<Option<T>, Error> {
    const BLOCK: usize = 512;
    let archive = windows::archive();
    if TarArchiveRef::new(archive).is_err() {
        return Err(Error::NoArchive);
    }
    // The archive ends with blocks of zeros: no name.
    let headers = ArchiveHeaderIterator::new(archive).take_while(|(_, header)| !header.name.is_empty());
    for (block, header) in headers {
        let size = || header.size.as_number::<usize>().ok();
        let data = || archive.get((block + 1) * BLOCK..)?.get(..size()?);
        let (Ok(name), Some(data)) = (header.name.as_str(), data()) else { continue };
        if let Some(found) = look(name, File { data }) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Call `show` with the name and the contents of each file.
///
/// # Errors
/// `NoArchive`.
pub fn each(mut show: impl FnMut(&str, File)) -> Result<(), Error> {
    scan(|name, file| {
        show(name, file);
        None::<()>
    })
    .map(drop)
}

/// The file of this name.
///
/// # Errors
/// `NoSuchFile`, `NoArchive`.
pub fn find(name: &str) -> Result<File, Error> {
    let file = scan(|other, file| (other == name).then_some(file))?.ok_or(Error::NoSuchFile)?;
    debug_assert!(file.address().is_page_aligned() && file.address() >= layout::ARCHIVE);
    Ok(file)
}

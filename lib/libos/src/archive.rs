//! The boot archive: a TAR file in memory, whose files start on page boundaries.

use crate::{Error, Va, layout, windows};
use tar_no_std::TarArchiveRef;

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
fn scan<T>(mut look: impl FnMut(&str, File) -> Option<T>) -> Result<Option<T>, Error> {
    let archive = TarArchiveRef::new(windows::archive()).map_err(|_| Error::NoArchive)?;
    Ok(archive.entries().find_map(|entry| {
        let name = entry.filename();
        look(name.as_str().ok()?, File { data: entry.data() })
    }))
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

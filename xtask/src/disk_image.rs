//! The files behind disks: images that stay, and scratch files that no crash can leave behind.

use crate::size;
use anyhow::{Context, Error, Result, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

/// The bytes of a sector. A disk consists of whole sectors.
pub const SECTOR: u64 = 512;

/// The size of a disk in bytes: whole sectors, at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(u64);

impl Size {
    /// The size of a new disk if nobody says another.
    pub const DEFAULT: Size = Size(64 << 20);
    /// The largest file that ext4 stores.
    const MOST: u64 = 16 << 40;

    /// This number of bytes.
    ///
    /// # Errors
    /// No disk can have this size.
    pub fn of_bytes(bytes: u64) -> Result<Size> {
        ensure!(bytes > 0, "a disk of 0 bytes has no sector");
        ensure!(bytes.is_multiple_of(SECTOR), "{bytes} bytes are not a multiple of {SECTOR}, the size of a sector");
        ensure!(bytes <= Size::MOST, "{bytes} bytes are more than {}, the most for a disk", Size(Size::MOST));
        Ok(Size(bytes))
    }

    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Size> {
        let bytes = size::bytes(text);
        let bytes = bytes.with_context(|| format!("{text:?} is not a size, such as 512K, 64M or 1G"))?;
        Size::of_bytes(bytes).with_context(|| format!("{text:?} is not the size of a disk"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let unit = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        match unit.into_iter().find(|(shift, _)| self.0.is_multiple_of(1 << shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Opens the image of a disk. If it is missing, it is made, unless the disk is read-only. A new image is sparse.
///
/// # Errors
/// The file cannot be a disk, or not one of this size.
pub fn open(path: &Path, size: Option<Size>, read_only: bool) -> Result<File> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) => {
            // Opening anything else could wait forever, or have an effect.
            ensure!(found.is_file(), "{shown} is not a regular file, so it cannot be the image of a disk");
            let file = OpenOptions::new().read(true).write(!read_only).open(path).with_context(|| match read_only {
                true => format!("cannot read {shown}"),
                false => format!("cannot write {shown}; `ro` attaches it read-only"),
            })?;
            let has = Size::of_bytes(found.len()).with_context(|| format!("{shown} cannot be the image of a disk"))?;
            ensure!(
                size.is_none_or(|size| size == has),
                "{shown} has {has}, and size={} asks for another size; leave `size=` out, or remove the file",
                size.unwrap_or(has)
            );
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::NotFound && !read_only => create(path, size.unwrap_or(Size::DEFAULT)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::new(error).context(format!("{shown} does not exist, and a disk with `ro` is not made")))
        }
        Err(error) => Err(Error::new(error).context(format!("cannot use {shown} as the image of a disk"))),
    }
}

fn create(path: &Path, size: Size) -> Result<File> {
    let shown = path.display();
    let file = create_new(path)?;
    file.set_len(size.0).with_context(|| format!("cannot make {shown} with a size of {size}")).inspect_err(|_| {
        // An empty file would be in the way of the next attempt.
        let _ = fs::remove_file(path);
    })?;
    Ok(file)
}

/// Creates an empty file, and never replaces one.
///
/// # Errors
/// The file exists, or cannot be created.
pub fn create_new(path: &Path) -> Result<File> {
    let created = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    created.with_context(|| format!("cannot create {}", path.display()))
}

/// A file without a name, which vanishes with the last process that has it open.
#[derive(Debug)]
pub struct ScratchFile(File);

impl ScratchFile {
    /// An empty file on the file system of this directory.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn new(directory: &Path) -> Result<ScratchFile> {
        let file = fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory));
        Ok(ScratchFile(file.with_context(|| format!("cannot write to {}", directory.display()))?))
    }

    /// A file with this many zeros, which take no room.
    ///
    /// # Errors
    /// The directory cannot be written, or stores no file of this size.
    pub fn of_size(directory: &Path, size: Size) -> Result<ScratchFile> {
        let file = ScratchFile::new(directory)?;
        let shown = || format!("cannot make a scratch disk of {size} in {}", directory.display());
        file.0.set_len(size.0).with_context(shown)?;
        Ok(file)
    }

    /// A path under which other processes find the file while this one has it open.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(result: Result<T>) -> String {
        format!("{:#}", result.err().expect("an error"))
    }

    #[test]
    fn sizes_of_disks() {
        for (text, bytes) in [("1K", 1 << 10), ("64M", 64 << 20), ("16T", 16 << 40)] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("2048K".parse::<Size>().unwrap().to_string(), "2M");
        assert_eq!(Size::of_bytes(1536).unwrap().to_string(), "1536 bytes");
        for (text, told) in [
            ("64", "\"64\" is not a size, such as"),
            ("", "\"\" is not a size"),
            ("-1M", "\"-1M\" is not a size"),
            ("0M", "\"0M\" is not the size of a disk: a disk of 0 bytes"),
            ("17T", "\"17T\" is not the size of a disk: 18691697672192 bytes are more than 16T"),
            ("99999999999999T", "\"99999999999999T\" is not the size of a disk"),
        ] {
            let error = message(text.parse::<Size>());
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_image_is_made_and_an_existing_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.img");
        open(&path, None, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), Size::DEFAULT.bytes());
        let small = directory.path().join("small.img");
        open(&small, Some("4K".parse().unwrap()), false).unwrap();
        fs::write(&small, [7; 4096]).unwrap();
        for (size, read_only) in [(None, false), (Some("4K".parse().unwrap()), false), (None, true)] {
            open(&small, size, read_only).unwrap();
            assert_eq!(fs::read(&small).unwrap(), [7; 4096]);
        }
    }

    #[test]
    fn a_new_image_is_sparse() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.img");
        open(&path, Some("1G".parse().unwrap()), false).unwrap();
        assert!(fs::metadata(&path).unwrap().blocks() < 2048);
    }

    #[test]
    fn files_that_cannot_be_disks() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("odd"), [0; 700]).unwrap();
        fs::write(path("empty"), []).unwrap();
        fs::write(path("fine"), [0; 4096]).unwrap();
        let cases = [
            (path("none"), None, true, "none does not exist, and a disk with `ro` is not made"),
            (path("none/none"), None, false, "cannot create"),
            (path("fine/none"), None, false, "fine/none as the image of a disk: Not a directory"),
            (path("."), None, false, "is not a regular file"),
            ("/dev/null".into(), None, false, "/dev/null is not a regular file"),
            // A program that runs can be written by nobody, not even by root.
            ("/proc/self/exe".into(), None, false, "cannot write /proc/self/exe; `ro` attaches it read-only"),
            (path("odd"), None, false, "odd cannot be the image of a disk: 700 bytes are not a multiple of 512"),
            (path("empty"), None, true, "empty cannot be the image of a disk: a disk of 0 bytes"),
            (path("fine"), Some("8K"), false, "fine has 4K, and size=8K asks for another size"),
        ];
        for (path, size, read_only, told) in cases {
            let error = message(open(&path, size.map(|size| size.parse().unwrap()), read_only));
            assert!(error.contains(told), "{}: {error}", path.display());
        }
        let error = message(create_new(&path("fine")));
        assert!(error.contains("cannot create") && error.contains("exists"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "no attempt left a file");
    }

    #[test]
    fn a_scratch_file_has_no_name_and_can_be_opened() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("target");
        let file = ScratchFile::of_size(&inside, "1M".parse().unwrap()).unwrap();
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
        OpenOptions::new()
            .write(true)
            .open(file.path())
            .and_then(|mut it| std::io::Write::write_all(&mut it, b"x"))
            .unwrap();
        let bytes = fs::read(file.path()).unwrap();
        assert_eq!((bytes.len(), bytes[0]), (1 << 20, b'x'));
    }
}

//! The disks of a run: what is on them before it, what they do wrong, and what is on them afterwards.

use anyhow::{Context, Result};
use std::{fs, num::NonZeroU32, path::Path};
use xtask::disk::{self, Faults, InjectedError};
use xtask::disk_image::{ScratchFile, Size};
use xtask::disk_option::{DiskOption, Image};

/// A disk that a run begins with.
#[derive(Clone, Debug)]
pub struct Disk {
    size: Size,
    /// The bytes; none if all are 0.
    bytes: Option<Vec<u8>>,
    read_only: bool,
    logged: bool,
    faults: Faults,
}

impl Disk {
    /// A disk of this size, as on the command line, with zeros.
    ///
    /// # Panics
    /// No disk can have this size.
    #[must_use]
    pub fn empty(size: &str) -> Disk {
        Disk::new(size.parse(), None)
    }

    /// A disk with these bytes.
    ///
    /// # Panics
    /// They are no whole sectors.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Disk {
        Disk::new(Size::of_bytes(bytes.len() as u64), Some(bytes))
    }

    fn new(size: Result<Size>, bytes: Option<Vec<u8>>) -> Disk {
        let size = size.unwrap_or_else(|error| panic!("a test has a bad disk: {error:#}"));
        Disk { size, bytes, read_only: false, logged: false, faults: Faults::default() }
    }

    /// Permits reads only.
    #[must_use]
    pub fn read_only(self) -> Disk {
        Disk { read_only: true, ..self }
    }

    /// Records all writes and flushes: [`UsedDisk::log`] returns them.
    #[must_use]
    pub fn logged(self) -> Disk {
        Disk { logged: true, ..self }
    }

    /// Makes requests fail.
    #[must_use]
    pub fn failing(mut self, error: InjectedError) -> Disk {
        self.faults.errors.push(error);
        self
    }

    /// Serves at most this many requests in a second.
    #[must_use]
    pub fn limited(mut self, iops: NonZeroU32) -> Disk {
        self.faults.iops = Some(iops);
        self
    }

    /// The option with which `cargo xtask run` attaches such a disk. The bytes of a test are in no file: the option
    /// names the one into which the reader must write them.
    pub(crate) fn option(&self, index: usize) -> DiskOption {
        let log = self.logged.then(|| format!("disk{index}.log").into());
        DiskOption {
            image: match &self.bytes {
                Some(_) => Image::File(format!("disk{index}.img").into()),
                None => Image::Scratch,
            },
            size: self.bytes.is_none().then_some(self.size),
            read_only: self.read_only,
            faults: Faults { log, ..self.faults.clone() },
        }
    }

    /// Makes the files of the disk on the file system of this directory.
    pub(crate) fn prepare(&self, directory: &Path) -> Result<UsedDisk> {
        let image = ScratchFile::of_size(directory, self.size)?;
        if let Some(bytes) = &self.bytes {
            fs::write(image.path(), bytes).context("cannot write the image of a disk")?;
        }
        let log = self.logged.then(|| ScratchFile::new(directory)).transpose()?;
        Ok(UsedDisk { image, log })
    }

    /// The disk of the machine.
    pub(crate) fn attached(&self, files: &UsedDisk) -> disk::Disk {
        let log = files.log.as_ref().map(ScratchFile::path);
        let faults = Faults { log, ..self.faults.clone() };
        disk::Disk { image: files.image.path(), read_only: self.read_only, faults }
    }
}

/// A disk after a run.
#[derive(Debug)]
pub struct UsedDisk {
    image: ScratchFile,
    log: Option<ScratchFile>,
}

impl UsedDisk {
    /// All bytes of the disk.
    ///
    /// # Panics
    /// They cannot be read.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        contents(&self.image)
    }

    /// The log of a disk that was [logged](Disk::logged), in the format of Linux's `dm-log-writes`. It is empty if
    /// there was no request.
    ///
    /// # Panics
    /// The disk was not logged, or the log cannot be read.
    #[must_use]
    pub fn log(&self) -> Vec<u8> {
        contents(self.log.as_ref().expect("a test reads the log of a disk that has none"))
    }
}

fn contents(file: &ScratchFile) -> Vec<u8> {
    fs::read(file.path()).expect("a file that this process has open can be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_bytes_and_the_machine_has_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::of([7; 1024].to_vec()).read_only().logged();
        let used = disk.prepare(directory.path()).unwrap();
        assert_eq!((used.bytes(), used.log()), ([7; 1024].to_vec(), Vec::new()));
        let attached = disk.attached(&used);
        assert!(attached.read_only);
        assert_eq!(fs::read(&attached.image).unwrap(), [7; 1024]);
        fs::write(attached.faults.log.unwrap(), "x").unwrap();
        assert_eq!(used.log(), b"x");
        let empty = Disk::empty("4K");
        let used = empty.prepare(directory.path()).unwrap();
        assert_eq!(used.bytes(), [0; 4096]);
        assert_eq!(empty.attached(&used).faults, Faults::default());
    }
}

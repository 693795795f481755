//! The option `--disk FILE[,size=SIZE][,ro]`: what can be written, and the disks that it attaches.
//!
//! Fault injection has options, too, so that the command for a failed test repeats it; `docs/testing.md` has them.

use crate::disk::{Disk, Faults, InjectedError, MOST, with_double_commas};
use crate::disk_image::{self, ScratchFile, Size};
use crate::machine::Memory;
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

/// The file name that means a scratch disk. (`./scratch` is a file of this name.)
const SCRATCH: &str = "scratch";

/// How many times the memory of the machine a disk holds that nobody asked for.
const TIMES: u64 = 8;

/// The disk that the user asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskOption {
    /// The place of the bytes.
    pub image: Image,
    /// The size of a new disk, or the size that an existing one must have.
    pub size: Option<Size>,
    /// Whether the machine can only read.
    pub read_only: bool,
    /// Fault injection. Its log does not exist yet.
    pub faults: Faults,
}

/// The place of the bytes of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Image {
    /// A file, which stays.
    File(PathBuf),
    /// A file that lasts as long as the run.
    Scratch,
}

/// Splits at single commas. A comma that is written twice belongs to the text.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let doubled = c == ',' && rest.next_if_eq(&',').is_some();
        match fields.last_mut() {
            Some(last) if c != ',' || doubled => last.push(c),
            _ => fields.push(String::new()),
        }
    }
    fields
}

impl FromStr for DiskOption {
    type Err = Error;

    fn from_str(text: &str) -> Result<DiskOption> {
        // The command line shows one message, and not its causes.
        DiskOption::read(text).map_err(|error| anyhow!("{error:#}"))
    }
}

impl DiskOption {
    fn read(text: &str) -> Result<DiskOption> {
        let fields = fields(text);
        let (name, options) = fields.split_first().context("there is always a first field")?;
        ensure!(!name.is_empty(), "the name of the file is empty");
        let image = if name == SCRATCH { Image::Scratch } else { Image::File(name.into()) };
        let mut disk = DiskOption { image, size: None, read_only: false, faults: Faults::default() };
        options.iter().try_for_each(|option| disk.set(option))?;
        ensure!(
            disk.faults.log.is_none() || !disk.read_only,
            "a log needs writes, and `ro` permits none; leave out one of them"
        );
        Ok(disk)
    }

    fn set(&mut self, option: &str) -> Result<()> {
        let twice = || format!("`{}` is given twice", option.split('=').next().unwrap_or(option));
        match option.split_once('=') {
            Some(("size", size)) => ensure!(self.size.replace(size.parse()?).is_none(), twice()),
            None if option == "ro" => ensure!(!std::mem::replace(&mut self.read_only, true), twice()),
            Some(("fail", error)) => self.faults.errors.push(InjectedError::parse(error, false)?),
            Some(("fail-once", error)) => self.faults.errors.push(InjectedError::parse(error, true)?),
            Some(("iops", number)) => {
                let iops = number.parse().with_context(|| format!("iops={number}: not a number above 0"))?;
                ensure!(self.faults.iops.replace(iops).is_none(), twice());
            }
            Some(("log", "")) => bail!("the name of the log is empty"),
            Some(("log", path)) => ensure!(self.faults.log.replace(path.into()).is_none(), twice()),
            _ => bail!(
                "{option:?} is not an option of a disk; there are `size=SIZE` and `ro`, and a comma in the name of a \
                 file is written twice"
            ),
        }
        Ok(())
    }
}

/// The form in which `--disk` takes it.
impl fmt::Display for DiskOption {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.image {
            Image::File(path) => f.write_str(&with_double_commas(path))?,
            Image::Scratch => f.write_str(SCRATCH)?,
        }
        if let Some(size) = self.size {
            write!(f, ",size={size}")?;
        }
        f.write_str(if self.read_only { ",ro" } else { "" })?;
        self.faults.fmt(f)
    }
}

/// The disks that the user asks for; or, for a program that needs one, a disk that vanishes with the run and has room for
/// many times the memory of the machine. (It takes only as much as is written.)
///
/// # Errors
/// No disk can be so large.
pub fn or_scratch(asked: &[DiskOption], needs_disk: bool, memory: Memory) -> Result<Vec<DiskOption>> {
    if !asked.is_empty() || !needs_disk {
        return Ok(asked.to_vec());
    }
    let size = Size::of_bytes(TIMES * memory.bytes())?;
    Ok(vec![DiskOption { image: Image::Scratch, size: Some(size), read_only: false, faults: Faults::default() }])
}

/// Disks whose images exist as long as this value.
#[derive(Default, Debug)]
pub struct Attached {
    /// The disks.
    pub disks: Vec<Disk>,
    /// The images that vanish with this value.
    scratch: Vec<ScratchFile>,
}

impl Attached {
    /// Opens or makes the images and the logs. Scratch images are on the file system of this directory.
    ///
    /// # Errors
    /// A file cannot be used, or there are too many disks.
    pub fn new(options: &[DiskOption], directory: &Path) -> Result<Attached> {
        ensure!(options.len() <= MOST, "{} disks are too many; a machine has at most {MOST}", options.len());
        let mut attached = Attached::default();
        let mut seen = HashMap::new();
        for option in options {
            let image = match &option.image {
                Image::File(path) => {
                    let file = disk_image::open(path, option.size, option.read_only)?;
                    let before = seen.insert(identity(&file)?, option.read_only);
                    ensure!(
                        before.is_none_or(|read_only| read_only && option.read_only),
                        "{} is attached twice; that needs `ro` for both disks",
                        path.display()
                    );
                    path.clone()
                }
                Image::Scratch => attached.add_scratch(directory, option.size)?,
            };
            // A log that exists is an older one, or a mistake: the image, even.
            option.faults.log.as_deref().map(disk_image::create_new).transpose()?;
            attached.disks.push(Disk { image, read_only: option.read_only, faults: option.faults.clone() });
        }
        Ok(attached)
    }

    fn add_scratch(&mut self, directory: &Path, size: Option<Size>) -> Result<PathBuf> {
        let file = ScratchFile::of_size(directory, size.unwrap_or(Size::DEFAULT))?;
        let path = file.path();
        self.scratch.push(file);
        Ok(path)
    }
}

/// The file, whatever name it was opened by.
fn identity(file: &File) -> Result<(u64, u64)> {
    let metadata = file.metadata().context("cannot read the metadata of an open file")?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RequestKind;
    use rustix::io::Errno;
    use std::fs;

    fn parse(text: &str) -> Result<DiskOption> {
        text.parse()
    }

    #[test]
    fn a_program_that_needs_a_disk_gets_one() {
        let memory = "32M".parse().unwrap();
        assert!(or_scratch(&[], false, memory).unwrap().is_empty());
        let [disk] = &or_scratch(&[], true, memory).unwrap()[..] else { panic!("one disk") };
        assert_eq!((&disk.image, disk.to_string().as_str()), (&Image::Scratch, "scratch,size=256M"));
        let asked = [parse("d.img").unwrap()];
        assert_eq!(or_scratch(&asked, true, memory).unwrap(), asked);
    }

    #[test]
    fn options_are_read() {
        let disk = parse("d.img").unwrap();
        assert_eq!((disk.image, disk.size, disk.read_only), (Image::File("d.img".into()), None, false));
        assert_eq!(disk.faults, Faults::default());
        let disk = parse("a,,b,,,size=2M,ro").unwrap();
        assert_eq!((disk.image, disk.read_only), (Image::File("a,b,".into()), true));
        assert_eq!(disk.size.map(Size::bytes), Some(2 << 20));
        assert_eq!(parse("scratch,size=1G").unwrap().image, Image::Scratch);
        assert_eq!(parse("./scratch").unwrap().image, Image::File("./scratch".into()));
        let faults = parse("d,fail=write@7:28,fail-once=flush,iops=12,log=l").unwrap().faults;
        let write = InjectedError { request: RequestKind::Write, sector: Some(7), errno: Errno::NOSPC, once: false };
        let flush = InjectedError { request: RequestKind::Flush, sector: None, errno: Errno::IO, once: true };
        assert_eq!(faults.errors, [write, flush]);
        assert_eq!((faults.iops.map(|iops| iops.get()), faults.log), (Some(12), Some("l".into())));
    }

    #[test]
    fn options_are_written_as_they_are_read() {
        for text in [
            "d.img",
            "a,,b,,,size=2M,ro",
            "scratch,size=1G",
            "scratch,fail=write-zeroes@7:28,fail-once=flush,iops=12,log=x,,y",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        for (text, told) in [
            ("", "the name of the file is empty"),
            (",ro", "the name of the file is empty"),
            ("d,", "\"\" is not an option of a disk"),
            ("d,rw", "\"rw\" is not an option of a disk; there are `size=SIZE` and `ro`"),
            ("d,ro=1", "\"ro=1\" is not an option"),
            ("d,ro,ro", "`ro` is given twice"),
            ("d,size=1M,size=1M", "`size` is given twice"),
            ("d,size=1", "\"1\" is not a size"),
            ("d,size=0K", "\"0K\" is not the size of a disk: a disk of 0 bytes"),
            ("d,fail=erase", "\"erase\" is not a kind of request: read, write, flush, discard, write-zeroes"),
            ("d,fail=read@x", "\"x\" is not the number of a sector"),
            ("d,fail=read:0", "\"0\" is not an error number"),
            ("d,iops=0", "iops=0: not a number above 0"),
            ("d,log=", "the name of the log is empty"),
            ("d,log=l,ro", "a log needs writes, and `ro` permits none"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    /// Attaches disks in this directory.
    fn attach(directory: &Path, options: &[&str]) -> Result<Attached> {
        let options = options
            .iter()
            .map(|option| parse(&format!("{}/{option}", directory.display())))
            .collect::<Result<Vec<_>>>();
        Attached::new(&options?, directory)
    }

    #[test]
    fn images_and_logs_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let option = format!("a,size=4K,log={}", path("log").display());
        let attached = attach(directory.path(), &[&option, "b,size=1M"]).unwrap();
        assert_eq!(attached.disks[0].image, path("a"));
        assert_eq!(["a", "b", "log"].map(|name| fs::metadata(path(name)).unwrap().len()), [4 << 10, 1 << 20, 0]);
        let again = format!("{:#}", attach(directory.path(), &[&option]).unwrap_err());
        assert!(again.contains("cannot create") && again.contains("log"), "{again}");
        let image = format!("b,log={}", path("b").display());
        assert!(attach(directory.path(), &[&image]).is_err(), "a log over the image");
        assert_eq!(fs::metadata(path("b")).unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_file_is_attached_once_unless_nothing_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        attach(directory.path(), &["a,size=4K"]).unwrap();
        fs::hard_link(directory.path().join("a"), directory.path().join("b")).unwrap();
        for twice in [["a", "a"], ["a", "b"], ["a", "b,ro"], ["a,ro", "b"]] {
            let error = format!("{:#}", attach(directory.path(), &twice).expect_err(twice[1]));
            assert!(error.contains("is attached twice"), "{error}");
        }
        assert_eq!(attach(directory.path(), &["a,ro", "b,ro"]).unwrap().disks.len(), 2);
    }

    #[test]
    fn scratch_disks_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let option = parse("scratch,size=1M").unwrap();
        let attached = Attached::new(&[option.clone(), option.clone()], directory.path()).unwrap();
        let [one, two] = attached.disks.as_slice() else { panic!("{attached:?}") };
        assert_ne!(one.image, two.image);
        assert_eq!(fs::metadata(&one.image).unwrap().len(), 1 << 20);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let many = vec![option; MOST + 1];
        let error = format!("{:#}", Attached::new(&many, directory.path()).unwrap_err());
        assert!(error.contains("17 disks are too many; a machine has at most 16"), "{error}");
    }
}

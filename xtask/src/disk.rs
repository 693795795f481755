//! The disks of a machine: virtio block devices behind the IOMMU, and the emulator's arguments for them.
//!
//! The emulator builds a disk from layers. The image is at the bottom. Above it are, where they are wanted, a log of
//! all writes, injected errors, and a limit on the number of requests. A request that an injected error fails has not
//! reached the log.

use anyhow::{Context, Error, Result, bail};
pub use rustix::io::Errno;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::{fmt, num::NonZeroU32, str::FromStr};

/// The most disks of one machine.
pub const MOST: usize = 16;
/// The number of the first disk's device on PCI bus 0; the other disks follow. Device 0 is the host bridge.
const FIRST_DEVICE: usize = 1;

/// A disk of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The file with the bytes of the disk, which exists.
    pub image: PathBuf,
    /// Whether the machine can only read.
    pub read_only: bool,
    /// Fault injection.
    pub faults: Faults,
}

/// Fault injection in a disk, for tests.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Faults {
    /// The requests that fail.
    pub errors: Vec<InjectedError>,
    /// How many requests the disk serves in a second.
    pub iops: Option<NonZeroU32>,
    /// The file, existing and empty, that gets every write and flush in order, in the format of Linux's
    /// `dm-log-writes`.
    pub log: Option<PathBuf>,
}

/// An error that requests to a disk get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InjectedError {
    /// The kind of the requests.
    pub request: RequestKind,
    /// Only requests that touch this sector of 512 bytes.
    ///
    /// The emulator itself reads sector 0 when it starts, and that read can be the one that fails.
    pub sector: Option<u64>,
    /// The error of the host. (The guest sees only that the request failed.)
    pub errno: Errno,
    /// Whether only the first such request fails.
    pub once: bool,
}

/// A kind of request to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush of what was written.
    Flush,
    /// The release of sectors.
    Discard,
    /// A write of zeros, without data.
    WriteZeroes,
}

impl RequestKind {
    const ALL: [RequestKind; 5] =
        [RequestKind::Read, RequestKind::Write, RequestKind::Flush, RequestKind::Discard, RequestKind::WriteZeroes];

    /// The emulator's word for it.
    fn word(self) -> &'static str {
        match self {
            RequestKind::Read => "read",
            RequestKind::Write => "write",
            RequestKind::Flush => "flush",
            RequestKind::Discard => "discard",
            RequestKind::WriteZeroes => "write-zeroes",
        }
    }
}

impl Disk {
    /// The emulator's arguments for the disk with this index. Serial number and PCI address follow from the index, so
    /// they are the same with every version of the emulator.
    #[must_use]
    pub fn arguments(&self, index: usize) -> Vec<String> {
        let name = format!("disk{index}");
        let mut words = Vec::new();
        let mut node = self.image_and_log();
        if !self.faults.errors.is_empty() {
            let errors: Vec<Value> = self.faults.errors.iter().map(InjectedError::rule).collect();
            node = json!({ "driver": "blkdebug", "image": node, "inject-error": errors });
        }
        if let Some(iops) = self.faults.iops {
            let group = format!("{name}-limits");
            let limits = json!({ "qom-type": "throttle-group", "id": group, "limits": { "iops-total": iops } });
            words.extend(["-object".to_owned(), limits.to_string()]);
            node = json!({ "driver": "throttle", "file": node, "throttle-group": group });
        }
        node["node-name"] = json!(name);
        // The layers below inherit this.
        node["read-only"] = json!(self.read_only);
        let device = FIRST_DEVICE + index;
        // Without `report` a full disk of the host would stop the machine, which nobody could see.
        let device = format!(
            "virtio-blk-pci,drive={name},serial={name},addr={device:#x},disable-legacy=on,iommu_platform=on,\
             werror=report,rerror=report"
        );
        words.extend(["-blockdev".to_owned(), node.to_string(), "-device".to_owned(), device]);
        words
    }

    /// The lower layers. JSON needs no rule for commas in file names, and a named driver never guesses the format from
    /// what the guest has written.
    fn image_and_log(&self) -> Value {
        let file = |path: &Path| json!({ "driver": "file", "filename": path.to_string_lossy() });
        let image = json!({ "driver": "raw", "file": file(&self.image) });
        match &self.faults.log {
            Some(log) => json!({ "driver": "blklogwrites", "file": image, "log": file(log) }),
            None => image,
        }
    }
}

impl InjectedError {
    /// The emulator's rule. Its event `none` makes the rule valid from the beginning.
    fn rule(&self) -> Value {
        let mut rule = json!({
            "event": "none", "iotype": self.request.word(), "errno": self.errno.raw_os_error(), "once": self.once
        });
        if let Some(sector) = self.sector {
            rule["sector"] = json!(sector);
        }
        rule
    }

    /// Reads `KIND[@SECTOR][:ERRNO]`.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str, once: bool) -> Result<InjectedError> {
        let (rest, errno) = match text.split_once(':') {
            Some((rest, number)) => (rest, errno(number)?),
            None => (text, Errno::IO),
        };
        let (word, sector) = match rest.split_once('@') {
            Some((word, sector)) => {
                let number = sector.parse().with_context(|| format!("{sector:?} is not the number of a sector"))?;
                (word, Some(number))
            }
            None => (rest, None),
        };
        Ok(InjectedError { request: word.parse()?, sector, errno, once })
    }
}

fn errno(text: &str) -> Result<Errno> {
    match text.parse() {
        // The numbers that Linux reserves for errors.
        Ok(number @ 1..=4095) => Ok(Errno::from_raw_os_error(number)),
        _ => bail!("{text:?} is not an error number, such as 5 for EIO"),
    }
}

impl FromStr for RequestKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<RequestKind> {
        let found = RequestKind::ALL.into_iter().find(|kind| kind.word() == text);
        let words = RequestKind::ALL.map(RequestKind::word).join(", ");
        found.with_context(|| format!("{text:?} is not a kind of request: {words}"))
    }
}

/// The form in which `--disk` takes it.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let read_only = if self.read_only { ",ro" } else { "" };
        write!(f, "{}{read_only}{}", with_double_commas(&self.image), self.faults)
    }
}

/// The options of `--disk`, each with a comma before it.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for error in &self.errors {
            write!(f, ",{}={}", if error.once { "fail-once" } else { "fail" }, error.request.word())?;
            if let Some(sector) = error.sector {
                write!(f, "@{sector}")?;
            }
            if error.errno != Errno::IO {
                write!(f, ":{}", error.errno.raw_os_error())?;
            }
        }
        if let Some(iops) = self.iops {
            write!(f, ",iops={iops}")?;
        }
        if let Some(log) = &self.log {
            write!(f, ",log={}", with_double_commas(log))?;
        }
        Ok(())
    }
}

/// A path as `--disk` takes it: a comma that does not end it is written twice.
#[must_use]
pub fn with_double_commas(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(disk: &Disk) -> Value {
        let words = disk.arguments(3);
        let at = words.iter().position(|word| word == "-blockdev").unwrap();
        serde_json::from_str(&words[at + 1]).unwrap()
    }

    #[test]
    fn a_disk_without_faults_is_its_image() {
        let disk = Disk { image: "a,\"b".into(), read_only: true, faults: Faults::default() };
        let expected = json!({
            "driver": "raw", "node-name": "disk3", "read-only": true,
            "file": { "driver": "file", "filename": "a,\"b" },
        });
        assert_eq!(layers(&disk), expected);
        let device = "virtio-blk-pci,drive=disk3,serial=disk3,addr=0x4,disable-legacy=on,iommu_platform=on,\
             werror=report,rerror=report";
        assert_eq!(disk.arguments(3)[2..], ["-device", device]);
    }

    #[test]
    fn faults_are_layers_above_the_image() {
        let once = InjectedError { request: RequestKind::Read, sector: Some(8), errno: Errno::NOSPC, once: true };
        let always = InjectedError { request: RequestKind::WriteZeroes, sector: None, errno: Errno::IO, once: false };
        let log = Some("log".into());
        let faults = Faults { errors: vec![once, always], iops: NonZeroU32::new(12), log };
        let disk = Disk { image: "image".into(), read_only: false, faults };
        let errors = json!([
            { "event": "none", "iotype": "read", "errno": 28, "once": true, "sector": 8 },
            { "event": "none", "iotype": "write-zeroes", "errno": 5, "once": false },
        ]);
        let image = json!({ "driver": "raw", "file": { "driver": "file", "filename": "image" } });
        let logged = json!({
            "driver": "blklogwrites", "file": image, "log": { "driver": "file", "filename": "log" },
        });
        let failing = json!({ "driver": "blkdebug", "image": logged, "inject-error": errors });
        let expected = json!({
            "driver": "throttle", "throttle-group": "disk3-limits", "file": failing,
            "node-name": "disk3", "read-only": false,
        });
        assert_eq!(layers(&disk), expected);
        let group: Value = serde_json::from_str(&disk.arguments(3)[1]).unwrap();
        let expected = json!({ "qom-type": "throttle-group", "id": "disk3-limits", "limits": { "iops-total": 12 } });
        assert_eq!((disk.arguments(3)[0].as_str(), group), ("-object", expected));
    }
}

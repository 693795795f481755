//! Reads directories and archives as data, including archives in archives. Nothing is unpacked to disk. All names are
//! in plain form, with slashes; an archive is named like a directory.

use crate::names::{HEAD, Kind};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use walkdir::WalkDir;

mod meter;
mod zips;
use meter::{HEADER_MOST, Metered, UNPACKED_MOST};

/// The size limit of a file: larger ones are not source code.
pub const FILE_MOST: u64 = 4 << 20;
/// The total size of all kept files. An archive in an archive has no more, either.
pub const MOST: u64 = 64 << 20;
/// The limit of kept files.
pub const COUNT_MOST: usize = 20_000;
/// The limit of names in all archives and directories together.
const NAMES_MOST: usize = 500_000;
/// The length limit of a name: longer ones make no sense, and take too long to match.
const NAME_MOST: usize = 1024;
/// The limit of components in a name.
const PARTS_MOST: usize = 64;
/// The limit of archives nested in each other.
const DEEPEST: u32 = 2;

/// The files of a tree, by their paths with slashes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A file that was not read, with the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its path in the submission.
    pub path: String,
    /// The reason.
    pub why: String,
    /// The kind of the refusal.
    pub what: Refused,
}

/// The kind of a file that was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A file that may not be handed in in this form.
    File,
    /// An archive of a kind that is not accepted, with unknown content.
    Archive,
    /// A damaged archive or file, or one that the system does not let the grader read.
    Unreadable,
}

/// The treatment of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// The file is kept.
    Keep,
    /// The file is an archive, and is opened.
    Open,
    /// The file is ignored.
    Pass,
    /// The file is ignored, with everything below it.
    Skip,
}

/// Reads a submission, within limits for all of it together.
pub struct Unpacker<'a> {
    wants: &'a dyn Fn(&str) -> Use,
    /// The files that were kept.
    pub found: Files,
    /// The files that were not read.
    pub refused: Vec<Refusal>,
    /// Remarks about what was read.
    pub notes: Vec<String>,
    kept: u64,
    names: usize,
    unpacked: Rc<Cell<u64>>,
}

impl<'a> Unpacker<'a> {
    /// An unpacker that has read nothing yet; `wants` decides what to do with each name.
    pub fn new(wants: &'a dyn Fn(&str) -> Use) -> Unpacker<'a> {
        Unpacker {
            wants,
            found: Files::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            kept: 0,
            names: 0,
            unpacked: Rc::default(),
        }
    }

    /// Reads all of a directory, or a file. `front` is prepended to names.
    ///
    /// # Errors
    /// The submission is too large.
    pub fn path(&mut self, front: &str, path: &Path) -> Result<()> {
        let wants = self.wants;
        let name_in = |at: &Path| join(front, &at.strip_prefix(path).unwrap_or(at).to_string_lossy());
        let stays = |at: &Path| plain(&name_in(at)).is_ok_and(|name| wants(&name) == Use::Skip);
        let walk = WalkDir::new(path).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !stays(entry.path())) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let name = error.path().map_or_else(|| front.to_owned(), name_in);
                    let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    self.refuse(&name, &format!("cannot be listed: {why}"), Refused::Unreadable);
                    continue;
                }
            };
            let kind = entry.file_type();
            if kind.is_dir() || entry.depth() == 0 && path.is_dir() {
                continue;
            }
            let Some(name) = self.name("", &name_in(entry.path()))? else { continue };
            if kind.is_file() || entry.depth() == 0 {
                self.file(&name, entry.path())?;
            } else {
                let why = if kind.is_symlink() { "a symbolic link" } else { "not a file" };
                self.refuse_if_wanted(&name, why);
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &str, path: &Path) -> Result<()> {
        let what = (self.wants)(name);
        if !matches!(what, Use::Keep | Use::Open) {
            return Ok(());
        }
        match File::open(path) {
            Ok(file) if what == Use::Open => self.archive_at(name, name, file, 1),
            Ok(file) => self.keep(name, file, None),
            Err(error) => {
                self.unreadable(name, error);
                Ok(())
            }
        }
    }

    /// Reads an archive, and records if it cannot be read. `front` is prepended to names.
    ///
    /// # Errors
    /// The submission is too large.
    pub fn archive_at(&mut self, front: &str, name: &str, mut source: impl Read + Seek, depth: u32) -> Result<()> {
        if depth > DEEPEST {
            self.refuse(name, "an archive in an archive in an archive: pack it once", Refused::Archive);
            return Ok(());
        }
        if let Err(error) = self.archive(front, name, &mut source, depth) {
            self.is_within()?;
            if error.is::<TooMuch>() {
                return Err(error);
            }
            let what =
                if error.is::<Foreign>() || error.is::<OnlyGzip>() { Refused::Archive } else { Refused::Unreadable };
            self.refuse(name, &format!("{error:#}"), what);
        }
        Ok(())
    }

    /// Records that the system does not let the grader read this file.
    pub fn unreadable(&mut self, name: &str, why: impl std::fmt::Display) {
        self.refuse(name, &format!("cannot be opened: {why}"), Refused::Unreadable);
    }

    /// The number of names so far.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names
    }

    fn archive(&mut self, front: &str, name: &str, source: &mut (impl Read + Seek), depth: u32) -> Result<()> {
        let mut head = Vec::new();
        source.by_ref().take(HEAD as u64).read_to_end(&mut head).context("cannot be read")?;
        source.seek(SeekFrom::Start(0)).context("cannot be read")?;
        ensure!(!head.is_empty(), "an empty file");
        let named = Kind::by_name(name).map(|(_, kind)| kind);
        match Kind::by_content(&head).or(named) {
            Some(Kind::Zip) => self.zip(front, name, source, depth),
            Some(Kind::Tar) => self.tar(front, source, depth),
            Some(Kind::TarGz) => {
                let mut start = Vec::new();
                let read = MultiGzDecoder::new(&mut *source).take(HEAD as u64).read_to_end(&mut start);
                ensure!(read.is_err() || is_tar(&start), OnlyGzip);
                source.seek(SeekFrom::Start(0)).context("cannot be read")?;
                self.tar(front, MultiGzDecoder::new(source), depth)
            }
            Some(Kind::Foreign(kind)) => bail!(Foreign(kind)),
            _ => bail!("neither a ZIP nor a TAR archive"),
        }
    }

    fn tar(&mut self, front: &str, source: impl Read, depth: u32) -> Result<()> {
        let source = Metered::new(source, &self.unpacked);
        let left = Rc::clone(&source.header);
        let mut archive = tar::Archive::new(source);
        let mut entries = archive.entries().context("not a TAR archive")?;
        let mib = HEADER_MOST >> 20;
        let too_large = || TooMuch(format!("a name in an archive, or what belongs to it, takes more than {mib} MiB"));
        let mut most = HEADER_MOST;
        loop {
            left.set(most);
            let Some(entry) = entries.next() else { return Ok(()) };
            ensure!(left.get() > 0, too_large());
            left.set(u64::MAX);
            let mut entry = entry.context("the archive is broken or cut off")?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if let Some(name) = self.name(front, &path)? {
                self.tar_entry(&name, &mut entry, depth)?;
            }
            // The data that is left is not a header. The holes of a sparse file have no end, but the library skips the
            // entry's data.
            most = HEADER_MOST;
            if entry.header().entry_type().is_gnu_sparse() {
                most = most.saturating_add(entry.header().entry_size().unwrap_or(0));
            } else {
                io::copy(&mut entry, &mut io::sink()).context("the archive is broken or cut off")?;
            }
        }
    }

    fn tar_entry(&mut self, name: &str, entry: &mut tar::Entry<impl Read>, depth: u32) -> Result<()> {
        let size = entry.size();
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                return self.member(name, entry, size, depth);
            }
            tar::EntryType::Symlink | tar::EntryType::Link => self.refuse_if_wanted(name, "a link"),
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => {}
            _ => self.refuse_if_wanted(name, "not a file"),
        }
        Ok(())
    }

    fn zip(&mut self, front: &str, own: &str, source: &mut (impl Read + Seek), depth: u32) -> Result<()> {
        let broken = "not a ZIP archive, or one that is broken or cut off";
        let search = Rc::new(Cell::new(0));
        let is_large = zips::has_more_than(NAMES_MOST as u64, source).context("cannot be read")?;
        ensure!(!is_large, TooMuch(format!("more than {NAMES_MOST} names")));
        if let Some(twice) = zips::twice(source).context(broken)? {
            self.notes.push(format!("{own}: {twice} of its files have the name of another one; the last counts"));
        }
        let mut archive = zips::open(source, &search).context(broken)?;
        search.set(u64::MAX);
        for index in 0..archive.len() {
            let path = archive.name_for_index(index).unwrap_or_default().to_owned();
            let Some(name) = self.name(front, &path)? else { continue };
            if path.ends_with(['/', '\\']) || !self.is_wanted(&name) {
                continue;
            }
            match archive.by_index(index) {
                Ok(entry) if entry.is_symlink() => self.refuse_if_wanted(&name, "a link"),
                Ok(entry) => {
                    let (size, source) = (entry.size(), Metered::new(entry, &self.unpacked));
                    self.member(&name, source, size, depth)?;
                }
                Err(zip::result::ZipError::UnsupportedArchive(why)) => {
                    self.refuse(&name, &format!("cannot be unpacked: {why}"), Refused::File);
                }
                Err(error) => self.refuse(&name, &format!("cannot be unpacked: {error}"), Refused::Unreadable),
            }
        }
        Ok(())
    }

    /// Reads a file in an archive, which may itself be an archive.
    fn member(&mut self, name: &str, mut source: impl Read, size: u64, depth: u32) -> Result<()> {
        match (self.wants)(name) {
            Use::Keep => return self.keep(name, source, Some(size)),
            Use::Pass | Use::Skip => return Ok(()),
            Use::Open => {}
        }
        let mut data = Vec::new();
        if let Err(error) = source.by_ref().take(MOST + 1).read_to_end(&mut data) {
            self.is_within()?;
            self.refuse(name, &format!("cannot be unpacked: {error}"), Refused::Unreadable);
        } else if data.len() as u64 > MOST {
            self.refuse(name, &format!("an archive of more than {} MiB", MOST >> 20), Refused::Archive);
        } else {
            self.archive_at(name, name, Cursor::new(data), depth + 1)?;
        }
        Ok(())
    }

    /// Keeps a file, if it is not too large. `size` is the size that the archive claims.
    fn keep(&mut self, name: &str, source: impl Read, size: Option<u64>) -> Result<()> {
        let mut data = Vec::new();
        if let Err(error) = source.take(FILE_MOST + 1).read_to_end(&mut data) {
            self.is_within()?;
            self.refuse(name, &format!("cannot be read: {error}"), Refused::Unreadable);
            return Ok(());
        }
        let len = data.len() as u64;
        if len > FILE_MOST {
            self.refuse(name, "larger than any source file", Refused::File);
            return Ok(());
        }
        if let Some(size) = size.filter(|&size| size > len) {
            self.refuse(name, &format!("cut off: {len} bytes of {size}"), Refused::Unreadable);
            return Ok(());
        }
        self.kept += len;
        ensure!(self.kept <= MOST, TooMuch(format!("more than {} MiB of source files", MOST >> 20)));
        ensure!(self.found.len() < COUNT_MOST, TooMuch(format!("more than {COUNT_MOST} source files")));
        if self.found.get(name).is_some_and(|known| *known != data) {
            self.notes.push(format!("{name}: found twice; the last one counts"));
        }
        self.found.insert(name.to_owned(), data);
        Ok(())
    }

    /// The plain form of a name, with `front` before it, if it has a plain form and is of use. A name of use without a
    /// plain form is refused.
    fn name(&mut self, front: &str, raw: &str) -> Result<Option<String>> {
        self.names += 1;
        ensure!(self.names <= NAMES_MOST, TooMuch(format!("more than {NAMES_MOST} names")));
        match plain(raw) {
            Ok(name) if name.is_empty() => Ok(None),
            Ok(name) => Ok(Some(join(front, &name)).filter(|name| (self.wants)(name) != Use::Skip)),
            Err(why) => {
                self.refuse(raw, why, Refused::File);
                Ok(None)
            }
        }
    }

    /// Fails if the total of unpacked data is too large.
    fn is_within(&self) -> Result<()> {
        let why = format!("it unpacks to more than {} MiB: leave out what is built", UNPACKED_MOST >> 20);
        ensure!(self.unpacked.get() <= UNPACKED_MOST, TooMuch(why));
        Ok(())
    }

    fn refuse_if_wanted(&mut self, name: &str, why: &str) {
        if self.is_wanted(name) {
            self.refuse(name, why, Refused::File);
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        matches!((self.wants)(name), Use::Keep | Use::Open)
    }

    fn refuse(&mut self, path: &str, why: &str, what: Refused) {
        self.refused.push(Refusal { path: shown(path), why: shown(why), what });
    }
}

/// The error that the submission is too large as a whole.
#[derive(Debug)]
struct TooMuch(String);

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooMuch {}

/// The error for an archive that the grader does not read.
#[derive(Debug)]
struct Foreign(&'static str);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "packed by {}, which the grader does not read: pack it as .zip or .tar.gz", self.0)
    }
}

impl std::error::Error for Foreign {}

/// The error for a file that is compressed by gzip, but is not an archive.
#[derive(Debug)]
struct OnlyGzip;

impl std::fmt::Display for OnlyGzip {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("packed by gzip alone, without tar: pack it as .zip or .tar.gz")
    }
}

impl std::error::Error for OnlyGzip {}

/// Whether a file with these first bytes can be a TAR archive. Old archives have no magic number, but their headers
/// have a checksum; zeros are the end.
fn is_tar(start: &[u8]) -> bool {
    if start.len() < HEAD {
        return start.is_empty();
    }
    if Kind::by_content(start) == Some(Kind::Tar) || start.iter().all(|&byte| byte == 0) {
        return true;
    }
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    // The checksum field itself counts as eight spaces.
    let sum = sum(&start[..148]) + 8 * 32 + sum(&start[156..]);
    tar::Header::from_byte_slice(start).cksum().is_ok_and(|said| said == sum)
}

fn join(front: &str, name: &str) -> String {
    match (front, name) {
        ("", name) => name.to_owned(),
        (front, "") => front.to_owned(),
        (front, name) => format!("{front}/{name}"),
    }
}

fn is_drive(name: &str) -> bool {
    matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// The path with slashes, if every component is a name. Some archives have backslashes, and some have components `.`.
fn plain(raw: &str) -> Result<String, &'static str> {
    let is_part = |part: &&str| !part.is_empty() && *part != ".";
    if raw.len() > NAME_MOST || raw.split(['/', '\\']).filter(is_part).count() > PARTS_MOST {
        return Err("a name that is too long");
    }
    let path = raw.replace('\\', "/");
    if path.starts_with('/') || is_drive(&path) || path.split('/').any(|part| part == "..") {
        return Err("a path that leads elsewhere");
    }
    if path.chars().any(char::is_control) {
        return Err("a name with control characters");
    }
    let parts: Vec<&str> = path.split('/').filter(is_part).collect();
    Ok(parts.join("/"))
}

/// A text of a submission, for messages: on one line, and shortened.
#[must_use]
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(300).collect();
    short.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Reads a tree as it is: everything but links, build output, and Git's files.
///
/// # Errors
/// The tree cannot be read, or is too large.
pub fn tree(root: &Path) -> Result<Files> {
    let wants = |path: &str| match path {
        "target" | ".git" => Use::Skip,
        _ => Use::Keep,
    };
    let mut unpacker = Unpacker::new(&wants);
    fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))?;
    unpacker.path("", root)?;
    let unreadable = unpacker.refused.iter().find(|refusal| refusal.what != Refused::File);
    match unreadable {
        Some(refusal) => bail!("{}: {}", refusal.path, refusal.why),
        None => Ok(unpacker.found),
    }
}

#[cfg(test)]
mod tests;

//! The entries of a directory of submissions: the student of each, and the entries that are not submissions.

use crate::names::{self, Kind, platform};
use crate::place::Wanted;
use crate::result::Status;
use crate::submission::{KINDS, Submission, kind_of, name_of};
use crate::unpack::{Files, shown};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, ffi::OsString, fs};

/// The submission of one student.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandedIn {
    /// The name of the student.
    pub name: String,
    /// The units that could each be the whole submission. There should be one.
    units: Vec<Unit>,
}

/// A unit: entries that belong together, each with its name in messages.
type Unit = Vec<(String, PathBuf)>;

/// A directory of submissions.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The submissions, by name.
    pub handed_in: Vec<HandedIn>,
    /// Entries that are not submissions, with the reason.
    pub left_out: Vec<String>,
}

/// Lists a directory. The result accounts for every entry.
///
/// # Errors
/// The directory cannot be listed, or has no submission.
pub fn list(directory: &Path, wanted: &Wanted) -> Result<Listed> {
    let mut listed = Listed::default();
    let mut units: BTreeMap<(bool, OsString), Unit> = BTreeMap::new();
    let unlisted = || format!("cannot list {}", directory.display());
    let entries = fs::read_dir(directory).with_context(unlisted)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>().with_context(unlisted)?;
    paths.sort();
    for path in paths {
        let entry = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match why_not(&path, &entry) {
            Some(why) => listed.left_out.push(format!("{}: {why}", shown(&entry))),
            // A unit of several entries is named by their common part; other entries are units of their own.
            None => match together(&path, &entry, wanted) {
                Some((who, piece)) => units.entry((true, who.into())).or_default().push((piece, path)),
                None => {
                    let own = path.file_name().unwrap_or_default().to_owned();
                    units.entry((false, own)).or_default().push((entry, path));
                }
            },
        }
    }
    let mut by_name: BTreeMap<String, Vec<Unit>> = BTreeMap::new();
    for ((is_group, who), unit) in units {
        let alone = || unit.first().and_then(|(_, path)| name_of(path));
        let name = if is_group && unit.len() > 1 { who.into_string().ok() } else { alone() };
        by_name.entry(name.unwrap_or_default()).or_default().push(unit);
    }
    let left_out = listed.left_out.join("\n");
    ensure!(!by_name.is_empty(), "there is no submission in {}\n{left_out}", directory.display());
    listed.handed_in = by_name.into_iter().map(|(name, units)| HandedIn { name, units }).collect();
    Ok(listed)
}

/// The reason why this entry is not a submission, if it is not.
fn why_not(path: &Path, entry: &str) -> Option<String> {
    if let Some(why) = names::made(entry) {
        return Some(why.to_owned());
    }
    if entry.starts_with('.') {
        return Some("hidden".to_owned());
    }
    let kind = match fs::metadata(path) {
        Ok(data) if data.is_dir() => return None,
        Ok(data) if data.is_file() => kind_of(path),
        Ok(_) => return Some("neither a file nor a directory".to_owned()),
        Err(_) if path.is_symlink() => return Some("a symbolic link that leads nowhere".to_owned()),
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    match kind {
        // An archive that cannot be opened is still a submission.
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("none of these: {KINDS}")),
        Err(error) => Some(format!("cannot be read: {error:#}")),
    }
}

/// The student of this entry and the rest of its name, if a platform gave it a name like that of other entries of the
/// same student. People may also choose names like those of one platform; with such names only sources of the lab
/// count.
fn together(path: &Path, entry: &str, wanted: &Wanted) -> Option<(String, String)> {
    // Names that are not UTF-8 may look alike, and belong to two students.
    path.file_name()?.to_str()?;
    let platform = platform(entry)?;
    let is_source = matches!(Kind::by_name(entry), Some((_, Kind::Source))) && path.is_file();
    let is_ours = is_source && wanted.is_name(&platform.file);
    let piece = if is_source { platform.file } else { entry.to_owned() };
    (platform.is_certain || is_ours).then_some((platform.who, piece))
}

impl HandedIn {
    /// The path of the submission, for the command that repeats a test.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.units.iter().flatten().map(|(_, path)| &**path).next().unwrap_or(Path::new(""))
    }

    /// Reads the submission. Units of the same name must have the same content.
    #[must_use]
    pub fn read(&self, wanted: &Wanted) -> Submission {
        let read = |unit: &Unit| {
            let pieces: Vec<_> = unit.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
            Submission::of_pieces(&pieces, wanted)
        };
        let mut all: Vec<Submission> = self.units.iter().map(read).collect();
        let names: Vec<&str> = self.units.iter().flatten().map(|(name, _)| name.as_str()).collect();
        let ours = |submission: &Submission| -> Files {
            let files = submission.files.iter().filter(|(path, _)| wanted.allows(path));
            files.map(|(path, data)| (path.clone(), data.clone())).collect()
        };
        let first = ours(&all[0]);
        let alike = all.iter().all(|other| other.problem.is_none() && ours(other) == first);
        if all.len() > 1 && !alike {
            let why = format!("several submissions have the name {}: {}", self.name, names.join(", "));
            return Submission::without(Status::Refused, format!("{why}: remove all but one"));
        }
        let mut submission = all.swap_remove(0);
        if !all.is_empty() {
            let note = format!("of these, which hold the same files, the first counts: {}", names.join(", "));
            submission.read_as.push(note);
        }
        submission
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permitted::Permitted;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    const FORK: &str = "lib/pager/src/fork.rs";
    const FAULT: &str = "lib/pager/src/fault.rs";

    /// The listing of a class with these entries: names with their submissions, and the entries that are left out.
    fn of(entries: &[(&str, &str)], change: impl Fn(&Path)) -> (Vec<(String, Submission)>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, data) in entries {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
        change(directory.path());
        let reference = Files::from([FORK, FAULT].map(|path| (path.to_owned(), b"reference".to_vec())));
        let permitted = Permitted::new(&[FORK.to_owned(), FAULT.to_owned()]).unwrap();
        let wanted = Wanted::new(&reference, &permitted, false);
        let listed = list(directory.path(), &wanted).unwrap();
        let read = |one: HandedIn| (one.name.clone(), one.read(&wanted));
        (listed.handed_in.into_iter().map(read).collect(), listed.left_out)
    }

    fn names(submissions: &[(String, Submission)]) -> Vec<&str> {
        submissions.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn data(submission: &Submission, path: &str) -> String {
        String::from_utf8_lossy(&submission.files[path]).into_owned()
    }

    #[test]
    fn every_entry_is_a_row_or_left_out() {
        let entries =
            ["ann/x", "bob.zip", "cid.7z", "dan.patch", "eve.rs", "notes.txt", ".DS_Store", ".git/x", "bob.zip~"];
        let entries = entries.map(|name| (name, "data"));
        let (rows, left_out) = of(&entries, |directory| symlink("nowhere", directory.join("fay")).unwrap());
        assert_eq!(names(&rows), ["ann", "bob", "cid", "dan", "eve"]);
        let expected = [
            ".DS_Store: a file that a tool made".to_owned(),
            ".git: a directory that a tool made".to_owned(),
            "bob.zip~: a backup of an editor".to_owned(),
            "fay: a symbolic link that leads nowhere".to_owned(),
            format!("notes.txt: none of these: {KINDS}"),
        ];
        assert_eq!(left_out, expected);
        assert!(rows.iter().all(|(_, submission)| submission.problem.is_some()));
    }

    #[test]
    fn entries_of_the_same_name() {
        let good = [("ann/fork.rs", "1"), ("ann/fault.rs", "2")];
        let twice = |text: &str| {
            let tree = [("ann.patch", text)];
            of(&[&good[..], &tree].concat(), |_| ()).0
        };
        let patch = format!("--- a/{FORK}\n+++ b/{FORK}\n@@ -1 +1 @@\n-reference\n+1\n");
        let rows = twice(&patch);
        let problem = rows[0].1.problem.clone().unwrap();
        assert_eq!((names(&rows), problem.status), (vec!["ann"], Status::Refused));
        let said = "several submissions have the name ann: ann, ann.patch: remove all but one";
        assert_eq!(problem.why, said);
        let (rows, _) = of(&good, |directory| symlink("ann", directory.join("ann.zip")).unwrap());
        assert_eq!(names(&rows), ["ann", "ann.zip"], "a directory has all of its name");
    }

    #[test]
    fn entries_that_a_platform_took_apart() {
        let moodle = "Ann Lee_77_assignsubmission";
        let (file, text) = (format!("{moodle}_file_/fork.rs"), format!("{moodle}_onlinetext_/onlinetext.html"));
        let (rows, _) = of(&[(&file, "ann"), (&text, "<p>"), ("Bob_8_assignsubmission_file_/fork.rs", "bob")], |_| ());
        assert_eq!(names(&rows), ["Ann Lee_77", "Bob_8_assignsubmission_file_"]);
        assert_eq!([data(&rows[0].1, FORK), data(&rows[1].1, FORK)], ["ann", "bob"]);
        let canvas = [("leeann_1_22_fork.rs", "1"), ("leeann_1_23_fault-1.rs", "2"), ("bob_LATE_2_24_fork.rs", "3")];
        let (rows, _) = of(&canvas, |_| ());
        assert_eq!(names(&rows), ["bob_LATE_2_24_fork", "leeann_1"]);
        assert_eq!([data(&rows[1].1, FORK), data(&rows[1].1, FAULT)], ["1", "2"]);
        // Two students' names that look like names by Canvas.
        let (rows, _) = of(&[("lab_3_2026_ann.zip", ""), ("lab_3_2026_bob.zip", "")], |_| ());
        assert_eq!(names(&rows), ["lab_3_2026_ann", "lab_3_2026_bob"]);
        let attempt = "Lab_ann_attempt_2026-01-31-23-59-00";
        let (rows, _) = of(&[(&format!("{attempt}_fork.rs"), "1"), (&format!("{attempt}.txt"), "Name: Ann")], |_| ());
        assert_eq!(names(&rows), [format!("{attempt}_fork")]);
    }

    #[test]
    fn names_that_are_no_text() {
        let odd = |byte: u8| OsString::from_vec([b"Ann_77_assignsubmission_file_", &[byte][..]].concat());
        let (rows, _) = of(&[("bob/fork.rs", "1")], |directory| {
            for (byte, name) in [(0xfe, "fork.rs"), (0xff, "fault.rs")] {
                let path = directory.join(odd(byte));
                fs::create_dir(&path).unwrap();
                fs::write(path.join(name), [byte]).unwrap();
            }
        });
        let row = |name: &str| rows.iter().find(|(known, _)| known.contains(name)).map(|(_, row)| row);
        let problem = row("Ann").and_then(|row| row.problem.clone()).expect("two directories are two submissions");
        assert!(problem.why.starts_with("several submissions have the name Ann"), "{problem:?}");
    }
}

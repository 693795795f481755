//! What handouts do without although it is no exercise: see `tests/course/left-out.toml`.

use super::parts::{Part, whole_lines};
use super::{code, tree::File};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use std::{fs, path::Path};

/// Where the list is, in the workspace.
pub const PATH: &str = "tests/course/left-out.toml";

/// The list.
#[derive(Clone, Default, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Files, and directories with a `/` at the end, that no handout has.
    #[serde(default)]
    pub files: Vec<String>,
    /// Parts of files.
    #[serde(default, rename = "part")]
    parts: Vec<Entry>,
}

/// Parts of a file.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The lab that does without; all of them if there is none.
    lab: Option<String>,
    /// The file, in the workspace.
    file: String,
    /// Items of a Rust file: kind and name, as [`code::Item::name`] has it.
    #[serde(default)]
    items: Vec<String>,
    /// Whole lines instead of items; they must be in the file exactly once.
    text: Option<String>,
    /// The lines that come in place of `text`.
    #[serde(default)]
    instead: String,
}

impl LeftOut {
    /// The list of a workspace.
    ///
    /// # Errors
    /// It cannot be read, or see [`LeftOut::parse`].
    pub fn load(root: &Path) -> Result<LeftOut> {
        let text = fs::read_to_string(root.join(PATH)).with_context(|| format!("cannot read {PATH}"))?;
        LeftOut::parse(&text)
    }

    /// The list, from the text of its file.
    ///
    /// # Errors
    /// It has a mistake.
    pub fn parse(text: &str) -> Result<LeftOut> {
        toml::from_str(text).with_context(|| format!("{PATH} has a mistake"))
    }

    /// All files that it names parts of are there.
    ///
    /// # Errors
    /// One is not.
    pub fn check_files(&self, solution: &[File]) -> Result<()> {
        let is_there = |entry: &&Entry| solution.iter().any(|file| file.path == entry.file);
        match self.parts.iter().find(|entry| !is_there(entry)) {
            None => Ok(()),
            Some(entry) => bail!("{PATH}: there is no file {}", entry.file),
        }
    }

    /// The parts of a file.
    ///
    /// # Errors
    /// One of them is not there, or not once.
    pub fn of(&self, file: &File) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for entry in self.parts.iter().filter(|entry| entry.file == file.path) {
            let path = &file.path;
            let text = file.text().with_context(|| format!("{PATH}: {path} is not text"))?;
            let mut added = match (&entry.text, entry.items.is_empty()) {
                (None, false) => entry.items_of(file, text)?,
                (Some(lines), true) => vec![entry.lines_of(text, lines)?],
                _ => bail!("{PATH}: a part of {path} has either `items` or a `text`"),
            };
            added.iter_mut().for_each(|part| part.lab.clone_from(&entry.lab));
            parts.extend(added);
        }
        Ok(parts)
    }
}

impl Entry {
    fn items_of(&self, file: &File, text: &str) -> Result<Vec<Part>> {
        let path = &file.path;
        let items = code::items(text).map_err(|error| anyhow!("{path}:{error}"))?;
        let part = |name: &String| {
            let mut called = items.iter().filter(|item| item.name == *name);
            let item = called.next().with_context(|| format!("{PATH}: {path} has no `{name}`"))?;
            ensure!(called.next().is_none(), "{PATH}: {path} has several `{name}`");
            let lines = whole_lines(text, &item.range);
            Ok(Part::new(text, lines, String::new(), format!("{PATH}: {path}: `{name}`")))
        };
        self.items.iter().map(part).collect()
    }

    fn lines_of(&self, text: &str, lines: &str) -> Result<Part> {
        let place = format!("{PATH}: {}: `{}`", self.file, lines.lines().next().unwrap_or_default().trim());
        let found: Vec<usize> = text.match_indices(lines).map(|(start, _)| start).collect();
        let [start] = found[..] else { bail!("{place}: the file has this text {} times, not once", found.len()) };
        let cut = start..start + lines.len();
        let is_whole = lines.ends_with('\n') && (start == 0 || text[..start].ends_with('\n'));
        ensure!(is_whole, "{place}: these are not whole lines");
        Ok(Part::new(text, cut, self.instead.clone(), place))
    }
}

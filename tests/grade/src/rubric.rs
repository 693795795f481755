//! The rubric, as it is written down: see `tests/rubric.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// Where it is, in the workspace.
pub const PATH: &str = "tests/rubric.toml";

/// All that can be graded.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// The labs, in the order in which a course has them.
    #[serde(rename = "lab")]
    pub labs: Vec<Lab>,
}

/// A lab: what students change, and which tests say how well.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    /// How it is called on the command line.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// Its text, in the workspace.
    pub text: String,
    /// The files that students may change, in the workspace.
    pub files: Vec<String>,
    /// The tests that are graded.
    pub tests: Vec<String>,
}

impl Rubric {
    /// Reads it from this workspace.
    ///
    /// # Errors
    /// It cannot be read, or has a mistake, which the message names with its line.
    pub fn load(root: &Path) -> Result<Rubric> {
        let path = root.join(PATH);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} has a mistake", path.display()))
    }
}

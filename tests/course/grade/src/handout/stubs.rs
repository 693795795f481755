//! What stands in handouts in place of an answer, where `todo!` does not do.
//!
//! `docs/labs/README.md` says how stubs are written. They are parsed, and never compiled.

use super::code;
use super::tree::{self, File};
use anyhow::{Context, Result, anyhow, ensure};
use std::path::Path;

/// Where they are, in the workspace.
pub const PATH: &str = "tests/course/stubs/";

/// The body of a function.
struct Stub {
    /// Its file and line.
    place: String,
    lab: String,
    /// The file in the solution that it is for.
    file: String,
    /// The function, as `fn Editable::walk`.
    function: String,
    body: String,
}

impl Stub {
    fn is_for(&self, lab: &str, file: &str, function: &str) -> bool {
        (self.lab.as_str(), self.file.as_str(), self.function.as_str()) == (lab, file, function)
    }
}

/// All of them.
pub struct Stubs(Vec<Stub>);

impl Stubs {
    /// Reads the stubs of a workspace.
    ///
    /// # Errors
    /// A file cannot be read, or see [`Stubs::parse`].
    pub fn load(root: &Path) -> Result<Stubs> {
        Stubs::parse(&tree::read_directory(root, PATH)?)
    }

    /// Reads the stubs in these files.
    ///
    /// # Errors
    /// One is not Rust, or has something else than functions, or the same function twice.
    pub fn parse(files: &[File]) -> Result<Stubs> {
        let mut stubs: Vec<Stub> = Vec::new();
        for stub_file in files {
            let path = &stub_file.path;
            let place = path.strip_prefix(PATH).and_then(|path| path.split_once('/'));
            let (lab, file) = place.with_context(|| format!("{path}: this is not in the folder of a lab"))?;
            let text = stub_file.text().with_context(|| format!("{path}: this is not text"))?;
            let items = code::items(text).map_err(|error| anyhow!("{path}:{error}"))?;
            ensure!(items.iter().any(|item| item.function.is_some()), "{path}: there is no function in it");
            for item in items {
                let line = text[..item.range.start].matches('\n').count() + 1;
                let name = &item.name;
                let Some(function) = item.function else {
                    let is_frame = ["impl ", "trait ", "mod "].iter().any(|kind| name.starts_with(kind));
                    ensure!(is_frame, "{path}:{line}: `{name}` is not a function: handouts would not have it");
                    continue;
                };
                let place = format!("{path}:{}", function.line);
                let other = stubs.iter().find(|stub| stub.is_for(lab, file, name));
                ensure!(other.is_none(), "{place}: `{name}` is there twice");
                stubs.push(Stub {
                    place,
                    lab: lab.to_owned(),
                    file: file.to_owned(),
                    function: item.name,
                    body: text[function.body].to_owned(),
                });
            }
        }
        Ok(Stubs(stubs))
    }

    /// The body that students of a lab get of a function, if it is not the usual one.
    pub fn body(&self, lab: &str, file: &str, function: &str) -> Option<&str> {
        self.0.iter().find(|stub| stub.is_for(lab, file, function)).map(|stub| stub.body.as_str())
    }

    /// Each of them is for a function that has a marker: `marked` are labs, files and functions.
    ///
    /// # Errors
    /// One is for nothing.
    pub fn check_all_used(&self, marked: &[(&str, &str, &str)]) -> Result<()> {
        let is_used = |stub: &Stub| marked.iter().any(|(lab, file, function)| stub.is_for(lab, file, function));
        match self.0.iter().find(|stub| !is_used(stub)) {
            None => Ok(()),
            Some(Stub { place, lab, file, function, .. }) => {
                Err(anyhow!("{place}: {file} has no `{function}` that is an exercise of `{lab}`"))
            }
        }
    }
}

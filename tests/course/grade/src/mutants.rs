//! Mistakes that students make, each as a patch against the solution, and correct variants of fork: the grader itself
//! is tested with them.
//!
//! A patch begins with a description in plain words. Then come `lab:` and, for a mistake, `killed-by:` with the guest
//! test that must fail; then the files, as a unified diff.

use crate::submission::{Files, Submission};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path};

/// The directory of the patches in the workspace; correct variants are in its subdirectory `correct`.
pub const PATH: &str = "tests/course/mutants";

/// A patch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// A description of the change.
    pub about: String,
    /// The lab in which it could be handed in; `kernel` if no lab lets students change such files.
    pub lab: String,
    /// The guest test that must fail; `None` if all must pass.
    pub killed_by: Option<String>,
    /// The unified diff.
    diff: String,
}

/// Reads all patches of a workspace, by name.
/// Reads all patches of a workspace, by name.
///
/// # Errors
/// One of them cannot be read, or its header is not complete.
pub fn load(root: &Path) -> Result<Vec<Mutant>> {
    let mut all = of_directory(&root.join(PATH))?;
    let correct = of_directory(&root.join(PATH).join("correct"))?;
    for mutant in &all {
        ensure!(mutant.killed_by.is_some(), "the header of {} lacks a line `killed-by: TEST`", mutant.name);
    }
    for mutant in &correct {
        ensure!(
            mutant.killed_by.is_none(),
            "{} is a correct variant, but its header has a line `killed-by`",
            mutant.name
        );
    }
    all.extend(correct);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn of_directory(directory: &Path) -> Result<Vec<Mutant>> {
    let unreadable = || format!("cannot read {}", directory.display());
    let mut mutants = Vec::new();
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        mutants.push(Mutant::parse(&name, &text).with_context(|| path.display().to_string())?);
    }
    Ok(mutants)
}

impl Mutant {
    /// A patch, from the text of its file.
    ///
    /// # Errors
    /// The header is not complete, or there is no diff.
    pub fn parse(name: &str, text: &str) -> Result<Mutant> {
        let start = text.find("\n--- ").context("there is no line `--- a/FILE`: is that a unified diff?")?;
        let (header, diff) = text.split_at(start + 1);
        let (keys, about): (Vec<&str>, Vec<&str>) =
            header.lines().filter(|line| !line.is_empty()).partition(|line| key(line).is_some());
        ensure!(!about.is_empty(), "the header does not say in words what the patch changes");
        let find = |wanted: &str| {
            keys.iter().filter_map(|line| key(line)).find_map(|(key, value)| (key == wanted).then_some(value))
        };
        Ok(Mutant {
            name: name.to_owned(),
            about: about.join(" "),
            lab: find("lab").context("the header lacks a line `lab: NAME`")?.to_owned(),
            killed_by: find("killed-by").map(str::to_owned),
            diff: diff.to_owned(),
        })
    }

    /// The submission of a student who made this mistake.
    ///
    /// # Errors
    /// The patch does not apply: the solution has changed since the patch was made.
    pub fn submission(&self, reference: &Files) -> Result<Submission> {
        Submission::of_patch(&self.diff, reference)
            .with_context(|| format!("{}: make the patch again, for the current files", self.name))
    }
}

/// The key and value of a header line that is not part of the description.
fn key(line: &str) -> Option<(&str, &str)> {
    line.split_once(": ").filter(|(key, _)| ["lab", "killed-by"].contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rubric::Rubric;
    use crate::tree;
    use std::path::PathBuf;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
    }

    fn all() -> Vec<Mutant> {
        load(&root()).expect("all patches can be read")
    }

    #[test]
    fn each_fits_and_changes_something() {
        let reference = tree::reference(&root()).expect("the reference");
        for mutant in all() {
            let Submission { files, refused, .. } = mutant.submission(&reference).expect("it fits");
            assert!(!files.is_empty() && refused.is_empty(), "{}: {refused:?}", mutant.name);
            for (path, text) in files {
                assert_ne!(reference[&path], text, "{} leaves {path} as it is", mutant.name);
                let is_code = path.starts_with("lib/") || path.starts_with("kern/");
                assert!(is_code, "{} changes {path}, which is not part of the solution", mutant.name);
            }
        }
    }

    #[test]
    fn each_belongs_to_a_lab() {
        let all = all();
        for lab in ["fork", "upcalls", "page-tables", "pagers", "kernel"] {
            assert!(all.iter().any(|mutant| mutant.lab == lab), "no mistake in the lab {lab}");
        }
        assert!(all.iter().filter(|mutant| mutant.killed_by.is_some()).count() >= 30, "too few mistakes");
        assert!(all.iter().filter(|mutant| mutant.killed_by.is_none()).count() >= 3, "too few correct forks");
        for mutant in all {
            let known = ["fork", "upcalls", "page-tables", "pagers", "kernel"].contains(&mutant.lab.as_str());
            assert!(known, "{}: there is no lab {}", mutant.name, mutant.lab);
        }
    }

    #[test]
    fn each_is_killed_by_a_test_of_the_rubric() {
        let rubric = Rubric::load(&root()).expect("the rubric");
        for mutant in all() {
            let Some(test) = &mutant.killed_by else { continue };
            let known = rubric.tests().any(|(_, known)| known.name == *test);
            assert!(known, "{}: there is no test {test}", mutant.name);
        }
    }

    #[test]
    fn headers_must_be_complete() {
        let diff = "--- a/lib/x.rs\n+++ b/lib/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let parse = |header: &str| Mutant::parse("m", &format!("{header}\n{diff}"));
        let mutant = parse("Words: two\nlines.\n\nlab: fork\nkilled-by: hello\n").expect("complete");
        assert_eq!((mutant.about.as_str(), mutant.lab.as_str()), ("Words: two lines.", "fork"));
        assert_eq!(mutant.killed_by.as_deref(), Some("hello"));
        let wrong = |text: &str| parse(text).unwrap_err().to_string();
        assert!(wrong("lab: fork\n").contains("in words"));
        assert!(wrong("Words.\n").contains("lab: NAME"));
        assert!(Mutant::parse("m", "Words.\nlab: fork\n").unwrap_err().to_string().contains("unified diff"));
    }

    #[test]
    fn a_patch_that_does_not_fit_is_named() {
        let diff = "--- a/lib/x.rs\n+++ b/lib/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let mutant = Mutant::parse("m", &format!("Words.\nlab: fork\n\n{diff}")).expect("complete");
        let of = |text: &str| mutant.submission(&Files::from([("lib/x.rs".to_owned(), text.into())]));
        assert_eq!(of("a\n").expect("it fits").files["lib/x.rs"], b"b\n");
        let error = format!("{:#}", of("c\n").unwrap_err());
        assert!(error.contains("m: make the patch again") && error.contains("lib/x.rs"), "{error}");
    }
}

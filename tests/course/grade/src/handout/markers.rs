//! The markers in the solution's source that say what students write. `docs/labs/README.md` has their form.

use anyhow::{Result, bail};

/// A marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its line, from 1.
    pub line: usize,
    /// Which exercise, from 1.
    pub exercise: u32,
    /// Of which lab.
    pub lab: String,
    /// The task, in words.
    pub text: String,
}

impl Marker {
    /// The title that a student sees: number, lab and task.
    pub fn title(&self) -> String {
        format!("exercise {} of {}: {}", self.exercise, self.lab, self.text)
    }
}

/// All markers of a file.
///
/// # Errors
/// One is wrong; the message begins with its line.
pub fn find(text: &str) -> Result<Vec<Marker>> {
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let comment = content.trim().strip_prefix("// ").map(str::trim);
        let Some(rest) = comment.and_then(|comment| comment.strip_prefix("exercise ")) else { continue };
        match parse(line, rest) {
            Ok(marker) => found.push(marker),
            Err(error) => bail!("{line}: {error}"),
        }
    }
    Ok(found)
}

fn parse(line: usize, rest: &str) -> Result<Marker> {
    const FORM: &str = "a marker reads `exercise NUMBER of LAB: WHAT`";
    let parts = rest.split_once(" of ").and_then(|(number, rest)| {
        let (lab, text) = rest.split_once(": ")?;
        Some((number, lab, text))
    });
    let Some((number, lab, text)) = parts else { bail!("`exercise {rest}`: {FORM}") };
    let Some(exercise) = number.parse().ok().filter(|number| *number > 0) else {
        bail!("`{number}` is not the number of an exercise: {FORM}, and numbers begin with 1");
    };
    if text.contains(['"', '\\', '{', '}']) {
        bail!("`{text}` becomes a message in Rust: it cannot have quotes, backslashes or braces");
    }
    Ok(Marker { line, exercise, lab: lab.to_owned(), text: text.to_owned() })
}

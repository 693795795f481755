//! The markers in the solution's source that say what students write.
//!
//! A marker is a comment that has its line to itself:
//!
//! ```text
//! // exercise 2 of fork: what the child gets in place of an entry
//! ...the answer...
//! // end of exercise
//! ```
//!
//! In the handout of that lab `todo!("exercise 2 of fork: what the child ...")` stands in its place; in the handouts
//! of other labs the answer stays, and the markers go. Where `todo!` does not fit, the lines that do come first, and
//! the word `EXERCISE` in them becomes the text in quotes:
//!
//! ```text
//! // exercise 4 of fork: a write to a page that is shared
//! // instead: kernel.unfinished(EXERCISE)
//! ```
//!
//! What is no exercise, but would give the answer away, or is of no use without it, is left out:
//!
//! ```text
//! // left out of fork: the quick way
//! // end of what is left out
//! ```
//!
//! `left out of every lab` is for what no student needs. In files where comments begin with `#`, so do markers.

use anyhow::{Result, bail};

/// A part of a file that a handout does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The line of its first marker, from 1.
    pub line: usize,
    /// The lab, or none for all of them.
    pub lab: Option<String>,
    /// Which exercise; none if it is just left out.
    pub exercise: Option<u32>,
    /// What is to be written, in words.
    pub text: String,
    /// What comes in its place; `EXERCISE` in it stands for the title.
    instead: Vec<String>,
    /// What is left out.
    pub answer: Vec<String>,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line that everybody gets.
    Line(String),
    /// What some do not get.
    Part(Part),
}

impl Piece {
    /// The part, if it is one.
    pub fn part(&self) -> Option<&Part> {
        match self {
            Piece::Line(_) => None,
            Piece::Part(part) => Some(part),
        }
    }
}

/// What a marker says.
enum Marker<'a> {
    Exercise(u32, &'a str, &'a str),
    LeftOut(&'a str, &'a str),
    Instead(&'a str),
    EndOfExercise,
    EndOfLeftOut,
}

/// What follows the comment sign, if a line is a comment and nothing else.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("// ").or_else(|| line.strip_prefix("# ")).map(str::trim)
}

fn marker(line: &str) -> Result<Option<Marker<'_>>> {
    let Some(comment) = comment(line) else { return Ok(None) };
    let marker = match comment.split_once(' ').unwrap_or((comment, "")) {
        ("exercise", _) => exercise(comment)?,
        ("left", rest) if rest.starts_with("out of ") => {
            let rest = &rest["out of ".len()..];
            let (lab, text) = rest.split_once(':').unwrap_or((rest, ""));
            Marker::LeftOut(lab.trim(), text.trim())
        }
        ("instead:", code) => Marker::Instead(code),
        ("end", "of exercise") => Marker::EndOfExercise,
        ("end", "of what is left out") => Marker::EndOfLeftOut,
        _ => return Ok(None),
    };
    Ok(Some(marker))
}

fn exercise(comment: &str) -> Result<Marker<'_>> {
    const FORM: &str = "a marker reads `exercise NUMBER of LAB: WHAT`";
    let parts = comment.strip_prefix("exercise ").and_then(|rest| {
        let (number, rest) = rest.split_once(" of ")?;
        let (lab, text) = rest.split_once(": ")?;
        Some((number, lab, text))
    });
    let Some((number, lab, text)) = parts else { bail!("`{comment}`: {FORM}") };
    let Some(number) = number.parse().ok().filter(|number| *number > 0) else {
        bail!("`{number}` is no number of an exercise: {FORM}, and numbers begin with 1");
    };
    if text.contains(['"', '\\', '{', '}']) {
        bail!("`{text}` becomes a message in Rust: it cannot have quotes, backslashes or braces");
    }
    Ok(Marker::Exercise(number, lab, text))
}

/// Takes a file apart.
///
/// # Errors
/// A marker is wrong; the message begins with its line.
pub fn parse(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut open: Option<Part> = None;
    for (line, content) in (1..).zip(text.lines()) {
        let marker = match marker(content) {
            Ok(marker) => marker,
            Err(error) => bail!("{line}: {error}"),
        };
        match (marker, open.take()) {
            (None, None) => pieces.push(Piece::Line(content.to_owned())),
            (None, Some(mut part)) => {
                part.answer.push(content.to_owned());
                open = Some(part);
            }
            (Some(Marker::Exercise(number, lab, what)), None) => {
                open = Some(Part::new(line, lab, Some(number), what));
            }
            (Some(Marker::LeftOut(lab, what)), None) => open = Some(Part::new(line, lab, None, what)),
            (Some(Marker::Instead(code)), Some(mut part)) if part.answer.is_empty() => {
                part.instead.push(code.to_owned());
                open = Some(part);
            }
            (Some(Marker::EndOfExercise), Some(part)) if part.exercise.is_some() => {
                pieces.push(Piece::Part(part.indented(content)));
            }
            (Some(Marker::EndOfLeftOut), Some(part)) if part.exercise.is_none() => {
                pieces.push(Piece::Part(part.indented(content)));
            }
            (Some(_), Some(part)) => bail!(
                "{line}: `{}` does not fit here, inside what began in line {}",
                content.trim(),
                part.line
            ),
            (Some(_), None) => bail!("{line}: `{}` without anything that it belongs to", content.trim()),
        }
    }
    match open {
        Some(part) => bail!("{}: this has no end", part.line),
        None => Ok(pieces),
    }
}

impl Part {
    fn new(line: usize, lab: &str, exercise: Option<u32>, text: &str) -> Part {
        let lab = (lab != "every lab").then(|| lab.to_owned());
        Part { line, lab, exercise, text: text.to_owned(), instead: Vec::new(), answer: Vec::new() }
    }

    /// Whether the handout of this lab does not have it.
    pub fn is_missing_in(&self, lab: &str) -> bool {
        self.lab.as_ref().is_none_or(|of| of == lab)
    }

    /// What a student is told: which exercise this is.
    pub fn title(&self) -> String {
        let lab = self.lab.as_deref().unwrap_or("every lab");
        self.exercise.map_or_else(String::new, |number| format!("exercise {number} of {lab}: {}", self.text))
    }

    /// What comes in its place.
    pub fn replacement(&self) -> Vec<String> {
        let title = format!("\"{}\"", self.title());
        self.instead.iter().map(|line| line.replace("EXERCISE", &title)).collect()
    }

    /// What comes in its place is as far to the right as its last marker.
    fn indented(mut self, marker: &str) -> Part {
        let indent = &marker[..marker.len() - marker.trim_start().len()];
        if self.instead.is_empty() && self.exercise.is_some() {
            self.instead.push("todo!(EXERCISE)".to_owned());
        }
        self.instead.iter_mut().for_each(|line| line.insert_str(0, indent));
        self
    }
}

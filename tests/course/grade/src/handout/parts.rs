//! The parts of a file that a handout does not have, and the file without them.

use super::tree::File;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::ops::Range;

/// A part of a file that a handout does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is written that it is one.
    pub place: String,
    /// The lab, or none for all of them.
    pub lab: Option<String>,
    /// The exercise that it answers; none if it is just left out.
    pub exercise: Option<Exercise>,
    /// The lines that the handout does not have, with their numbers.
    pub answer: Vec<(usize, String)>,
    cut: Range<usize>,
    instead: String,
}

/// The task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exercise {
    /// Which exercise, from 1.
    pub number: u32,
    /// The task, in words.
    pub text: String,
    /// The function in which, as `fn Editable::walk`.
    pub function: String,
    /// The bytes of its marker, which no handout has.
    pub marker: Range<usize>,
}

impl Part {
    /// The part with these bytes of a text; `instead` comes in its place.
    pub fn new(text: &str, cut: Range<usize>, instead: String, place: String) -> Part {
        let stays: BTreeSet<&str> = instead.lines().map(str::trim).collect();
        let first = text[..cut.start].matches('\n').count() + 1;
        let lines = (first..).zip(text[cut.clone()].lines());
        let gone = lines.filter(|(_, line)| !stays.contains(line.trim()));
        let answer = gone.map(|(number, line)| (number, line.to_owned())).collect();
        Part { place, lab: None, exercise: None, answer, cut, instead }
    }

    /// The lab, the file and the function, if it is an exercise in this file.
    pub fn marked<'a>(&'a self, file: &'a File) -> Option<(&'a str, &'a str, &'a str)> {
        Some((self.lab.as_deref()?, &file.path, &self.exercise.as_ref()?.function))
    }

    /// Whether the handout of this lab does not have it.
    pub fn is_missing_in(&self, lab: &str) -> bool {
        self.lab.as_ref().is_none_or(|of| of == lab)
    }
}

/// A part that a handout does not have, and the file that it is in.
pub type Missing<'a> = (&'a File, &'a Part);

/// The whole lines that these bytes are in.
pub fn whole_lines(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = text[..range.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[range.end..].find('\n').map_or(text.len(), |newline| range.end + newline + 1);
    start..end
}

/// The file as the handout of this lab has it. Markers of other labs go, too.
///
/// # Errors
/// Two parts have something in common.
pub fn without(file: &File, parts: &[Part], lab: &str) -> Result<File> {
    let Some(text) = file.text().filter(|_| !parts.is_empty()) else { return Ok(file.clone()) };
    let mut cuts: Vec<(&Range<usize>, &str, &str)> = Vec::new();
    for part in parts {
        let marker = part.exercise.as_ref().map(|exercise| &exercise.marker);
        cuts.extend(marker.map(|marker| (marker, "", part.place.as_str())));
        if part.is_missing_in(lab) {
            cuts.push((&part.cut, &part.instead, &part.place));
        }
    }
    cuts.sort_by_key(|(cut, ..)| cut.start);
    for pair in cuts.windows(2) {
        let [(above, _, one), (below, _, other)] = pair else { continue };
        ensure!(above.end <= below.start, "{one}: a handout cannot be without this and without {other}");
    }
    let mut text = text.to_owned();
    for (cut, instead, _) in cuts.into_iter().rev() {
        text.replace_range(cut.clone(), instead);
        if instead.is_empty() {
            close_gap(&mut text, cut.start);
        }
    }
    Ok(File::new(&file.path, text))
}

/// Something went at this place: no two blank lines are left there, and none at the edge of a block.
fn close_gap(text: &mut String, at: usize) {
    let (above, below) = text.split_at(at);
    let starts = above.is_empty() || above.ends_with("\n\n") || above.ends_with("{\n");
    let ends = below.is_empty() || below.trim_start_matches(' ').starts_with('}');
    if starts && below.starts_with('\n') {
        text.remove(at);
    } else if ends && above.ends_with("\n\n") {
        text.remove(at - 1);
    }
}

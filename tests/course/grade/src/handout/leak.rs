//! No line of an answer stands anywhere else in the handout: neither in documents nor in other code.

use super::parts::Missing;
use super::tree::File;
use anyhow::{Result, bail};
use std::collections::HashMap;

/// Lines with fewer letters and digits than this say too little to give an answer away.
const TELLING: usize = 24;
/// The limit for lines of code: short ones are written by everybody.
const TELLING_CODE: usize = 32;

/// A line without what its place adds to it.
fn bare(line: &str) -> &str {
    line.trim().trim_start_matches("///").trim_start_matches("//").trim().trim_end_matches([',', ';'])
}

fn weight(line: &str) -> usize {
    line.chars().filter(|char| char.is_alphanumeric()).count()
}

/// Compares the answers with the handout.
///
/// # Errors
/// A line is in both; the message says where.
pub fn check(missing: &[Missing], handout: &[File]) -> Result<()> {
    let answers = missing.iter().flat_map(|(file, part)| {
        let lines = part.answer.iter();
        lines.map(move |(line, text)| (bare(text), (&file.path, line)))
    });
    let answers: HashMap<&str, _> = answers.filter(|(text, _)| weight(text) >= TELLING).collect();
    let mut found = Vec::new();
    for file in handout {
        let least = if file.path.ends_with(".rs") { TELLING_CODE } else { TELLING };
        for (line, text) in (1..).zip(file.text().unwrap_or_default().lines()) {
            let text = bare(text);
            if let Some((path, place)) = answers.get(text)
                && weight(text) >= least
            {
                found.push(format!("  {}:{line} has what is missing near {path}:{place}: {}", file.path, bare(text)));
            }
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => bail!("the handout would give answers away:\n{}", found.join("\n")),
    }
}

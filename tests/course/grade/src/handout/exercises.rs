//! The exercises of a file: the functions that have a marker.

use super::code::{self, Function, Item};
use super::markers::{self, Marker};
use super::parts::{Exercise, Part, whole_lines};
use super::stubs::Stubs;
use super::tree::File;
use anyhow::{Result, anyhow, bail, ensure};

/// One part for each marker: the body of the function below it.
///
/// # Errors
/// A marker is wrong, or is above no function; the message begins with file and line.
pub fn of(file: &File, stubs: &Stubs) -> Result<Vec<Part>> {
    let path = &file.path;
    let Some(text) = file.text().filter(|_| path.ends_with(".rs")) else { return Ok(Vec::new()) };
    let in_file = |error| anyhow!("{path}:{error}");
    let markers = markers::find(text).map_err(in_file)?;
    if markers.is_empty() {
        return Ok(Vec::new());
    }
    let items = code::items(text).map_err(in_file)?;
    markers.iter().map(|marker| part(file, text, &items, marker, stubs)).collect()
}

fn part(file: &File, text: &str, items: &[Item], marker: &Marker, stubs: &Stubs) -> Result<Part> {
    let place = format!("{}:{}", file.path, marker.line);
    let below = |item: &Item| item.function.clone().filter(|function| function.line == marker.line + 1);
    let Some((name, Function { body, .. })) = items.iter().find_map(|item| Some((&item.name, below(item)?))) else {
        bail!("{place}: no function begins directly below this marker");
    };
    let title = format!("\"{}\"", marker.title());
    let instead = match stubs.body(&marker.lab, &file.path, name) {
        Some(stub) => {
            let is_only_one = items.iter().filter(|item| item.name == *name).count() == 1;
            ensure!(is_only_one, "{place}: there are several `{name}`: which one has a stub?");
            stub.replace("EXERCISE", &title)
        }
        None => {
            let line = &text[whole_lines(text, &(body.start..body.start))];
            let indent = &line[..line.len() - line.trim_start().len()];
            format!("\n{indent}    todo!({title})\n{indent}")
        }
    };
    let start = text.split_inclusive('\n').take(marker.line - 1).map(str::len).sum();
    let mut part = Part::new(text, body, instead, place);
    part.lab = Some(marker.lab.clone());
    part.exercise = Some(Exercise {
        number: marker.exercise,
        text: marker.text.clone(),
        function: name.clone(),
        marker: whole_lines(text, &(start..start)),
    });
    Ok(part)
}

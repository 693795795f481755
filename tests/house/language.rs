//! Plain technical English: how summaries must not begin, and names in comments that must exist.

use crate::{shown, size::files};
use regex::Regex;
use std::{fs, path::Path};

/// A summary that begins with one of these makes no sense alone: rustdoc sorts items.
const OPENINGS: &str = "^(The same|As (there|above|in|with|for)|Who(ever)?|Those|So (many|much)\
    |What (is|was|were|are|has|have|comes|came|goes|stays|remains|a|an|the)|It|They|This one|That one|And|But|Or|Then\
    |Otherwise|Here|There|Now|From (here|now) on)\\b";

/// Words for which the field has others: docs/words.md has those.
const WORDS: [(&str, &str); 6] = [
    ("whoever", "name the actor"),
    ("so many", "this many, n"),
    ("at the most", "at most"),
    ("for ever", "forever, for good"),
    ("bug of the kernel's", "kernel bug"),
    ("dearer", "more expensive"),
];

/// The text of a line, if that is a doc comment.
fn doc(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("//").filter(|rest| rest.starts_with(['/', '!'])).map(|rest| rest[1..].trim())
}

/// The doc comments of a file: the line where each begins, and its first line.
fn summaries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let begins = doc(line).filter(|_| !inside);
        inside = doc(line).is_some();
        begins.map(|summary| (index + 1, summary))
    })
}

/// All source files: their paths from the root of the repository, and their texts.
fn sources() -> Vec<(String, String)> {
    let text = |path: &Path| fs::read_to_string(path).expect("a source file");
    files().iter().map(|path| (shown(path), text(path))).collect()
}

/// The comments of a file, with their lines.
fn comments(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| Some((index + 1, line.trim_start().strip_prefix("//")?)))
}

#[test]
fn summaries_make_sense_alone() {
    let bad = Regex::new(OPENINGS).expect("a regular expression");
    let mut found = Vec::new();
    for (path, text) in sources() {
        let bad = summaries(&text).filter(|(_, summary)| bad.is_match(summary));
        found.extend(bad.map(|(line, summary)| format!("{path}:{line}: {summary}")));
    }
    let list = found.join("\n");
    assert!(found.is_empty(), "{} summaries that need others to make sense:\n{list}", found.len());
}

#[test]
fn comments_use_the_words_of_the_field() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (line, comment) in comments(&text) {
            let comment = comment.to_lowercase();
            // (`for every` is fine.)
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
            let is_there = |word: &str| comment.match_indices(word).any(|(at, _)| ends(&comment[at + word.len()..]));
            let words = WORDS.iter().filter(|(word, _)| is_there(word));
            found.extend(words.map(|(word, better)| format!("{path}:{line}: `{word}`: {better}")));
        }
    }
    assert!(found.is_empty(), "{} comments with words that nobody else uses:\n{}", found.len(), found.join("\n"));
}

#[test]
fn openings_are_found() {
    let text =
        "/// The same for two.\n/// It is second.\nfn a() {}\n//! Whose it is.\n    /// Whether it is.\n/// So many.\n";
    let found: Vec<_> = summaries(text).collect();
    assert_eq!(found, [(1, "The same for two."), (4, "Whose it is.")]);
    let bad = Regex::new(OPENINGS).expect("a regular expression");
    assert!(bad.is_match("The same for two.") && !bad.is_match("Whose it is.") && !bad.is_match("Items."));
}

/// Where the functions of a module may be written: files with its name, and those of a crate or folder with it.
fn is_in_module(path: &Path, module: &str) -> bool {
    let stem = path.file_stem().is_some_and(|stem| stem == module);
    stem || path.parent().is_some_and(|folder| folder.iter().any(|part| part == module))
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The pairs of module and function that stand in backquotes in a comment.
fn pairs(comment: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = comment.split('`').skip(1).step_by(2);
    quoted.filter_map(move |name| name.split_once("::").filter(|(module, name)| is_word(module) && is_word(name)))
}

#[test]
fn functions_named_in_comments_exist() {
    // rustdoc looks after paths that begin with `crate`.
    const FOREIGN: [&str; 5] = ["core", "std", "alloc", "loom", "crate"];
    let sources = sources();
    let exists = |module: &str, name: &str| {
        let word = Regex::new(&format!(r"\b{name}\b")).expect("a regular expression");
        let is_code = |text: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && word.is_match(line));
        sources.iter().any(|(path, text)| is_in_module(Path::new(path), module) && is_code(text))
    };
    let mut missing = Vec::new();
    for (path, text) in &sources {
        for (line, comment) in comments(text) {
            let absent = pairs(comment).filter(|(module, name)| !FOREIGN.contains(module) && !exists(module, name));
            missing.extend(absent.map(|(module, name)| format!("{path}:{line}: there is no `{module}::{name}`")));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

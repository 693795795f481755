//! Checks that the documents agree with the code: all calls and errors are described, quoted code is in a source file,
//! and all named files, links and programs exist.

use abi::{Call, Error};
use regex::Regex;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, fs};
use xtask::workspace::{Workspace, root};
use xtask::{
    comparison, doc, picture,
    row::{PER_FRAME, Row},
};

/// A document, with its path from the root of the repository.
struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    fn read(path: impl Into<PathBuf>) -> Document {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path)).expect("a document can be read");
        Document { path, text }
    }

    /// Its code blocks in this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let start = format!("```{language}\n");
        let blocks = self.text.split(&start).skip(1);
        blocks.map(|rest| rest.split("\n```").next().unwrap_or(rest).to_owned()).collect()
    }

    /// Its lines outside code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let parts = self.text.split("```").step_by(2);
        parts.flat_map(str::lines)
    }

    /// The texts between backquotes in its prose.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2))
    }

    /// The anchors of its headings, as links name them.
    fn anchors(&self) -> impl Iterator<Item = String> {
        let headings = self
            .prose()
            .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        headings.map(move |heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
    }

    /// The cells of the table rows in a section that begin with a name in backquotes.
    fn table(&self, heading: &str) -> Vec<Vec<&str>> {
        let section = self.sections().into_iter().find(|(other, _)| *other == heading);
        let (_, text) = section.unwrap_or_else(|| panic!("{} has no {heading}", self.path.display()));
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect()
    }

    /// The sections under `## `: heading and text.
    fn sections(&self) -> Vec<(&str, &str)> {
        let sections = self.text.split("\n## ").skip(1);
        sections.map(|section| section.split_once('\n').unwrap_or((section, ""))).collect()
    }
}

/// README.md, the book, and the labs.
fn documents() -> Vec<Document> {
    let inside = |directory: &'static str| {
        let entries = fs::read_dir(root().join(directory)).expect("a directory of documents");
        let names = entries.map(|entry| entry.expect("a directory entry").file_name());
        let names = names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"));
        names.map(move |name| Document::read(Path::new(directory).join(name)))
    };
    inside("").chain(inside("docs")).chain(inside("docs/labs")).collect()
}

/// The text of every source file under these directories.
fn sources() -> Vec<String> {
    fn collect(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a source directory") {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    let mut found = Vec::new();
    for directory in ["user", "lib", "kern", "tests"] {
        collect(&root().join(directory), &mut found);
    }
    found
}

/// The ids of the counted rows.
fn rows() -> Vec<String> {
    let of = |file: &str| {
        let source = fs::read_to_string(root().join("user/bench/src/bin").join(file)).expect("the measuring program");
        xtask::bench::row_names(&source).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    [of("bench/main.rs"), of("swapbench.rs")].concat()
}

/// The lines without their indentation, so that a quotation may be indented less.
fn flat(code: &str) -> String {
    code.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_call_has_its_heading() {
    let document = Document::read("docs/syscalls.md");
    let headings: Vec<_> = document.sections().into_iter().map(|(heading, _)| heading).collect();
    let calls = headings.iter().filter(|heading| heading.ends_with(')'));
    let expected: Vec<_> = Call::ALL.iter().map(|call| format!("{} ({})", call.name(), *call as u64)).collect();
    assert!(calls.eq(&expected), "headings {headings:?}\nshould have {expected:?}");
}

/// The tables of each call name its arguments and results, with their registers, as `calls!` states them.
#[test]
fn arguments_are_as_stated() {
    const ARGUMENTS: [&str; 6] = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];
    const RESULTS: [&str; 2] = ["rax", "rdx"];
    let document = Document::read("docs/syscalls.md");
    for call in Call::ALL {
        let heading = format!("{} ({})", call.name(), *call as u64);
        // Rows of errors have two cells.
        let rows = document.table(&heading).into_iter().filter(|cells| cells.len() == 3);
        let told: Vec<(&str, &str)> = rows.map(|cells| (cells[0], cells[1])).collect();
        let arguments = ARGUMENTS.into_iter().zip(call.arguments().iter().copied());
        let results = RESULTS.into_iter().zip(call.results().iter().copied());
        let stated: Vec<(&str, &str)> = arguments.chain(results).collect();
        assert_eq!(told, stated, "docs/syscalls.md, {heading}, and lib/abi/src/call.rs");
    }
}

#[test]
fn calls_are_counted() {
    for document in documents() {
        for before in document.text.split(" system calls") {
            let count = before.rsplit(char::is_whitespace).next().and_then(|word| word.parse().ok());
            let right = count.is_none_or(|count: usize| count == Call::ALL.len());
            assert!(right, "{}: there are {} system calls", document.path.display(), Call::ALL.len());
        }
    }
}

#[test]
fn every_error_is_explained() {
    let document = Document::read("docs/syscalls.md");
    for error in Error::all(0) {
        let name = format!("{error:?}").replace("(0)", "");
        assert!(document.names().any(|word| word == name), "docs/syscalls.md does not tell of {name}");
    }
}

#[test]
fn every_word_of_the_command_line_is_explained() {
    let read = |path| fs::read_to_string(root().join(path)).expect("a source file");
    let (kernel, contract) = (read("kern/src/boot/command_line.rs"), read("lib/abi/src/boot.rs"));
    let words: Vec<&str> = kernel.split("word(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(words.len() > 5, "{words:?}");
    for word in words {
        assert!(contract.contains(&format!("`{word}")), "lib/abi/src/boot.rs does not tell of {word}");
    }
}

#[test]
fn quoted_code_is_real() {
    let sources: Vec<String> = sources().iter().map(|source| flat(source)).collect();
    for document in documents() {
        for block in document.blocks("rust") {
            let known = sources.iter().any(|source| source.contains(&flat(&block)));
            assert!(known, "{}: no source file has this:\n{block}", document.path.display());
        }
    }
}

#[test]
fn the_first_program_is_whole() {
    let readme = Document::read("README.md");
    let program = fs::read_to_string(root().join("user/demo/src/bin/squares.rs")).expect("the first program");
    let blocks = readme.blocks("rust");
    assert!(
        blocks.iter().any(|block| block.trim() == program.trim()),
        "README.md should have user/demo/src/bin/squares.rs"
    );
}

#[test]
fn named_files_exist() {
    const PLACES: [&str; 8] = ["kern/", "lib/", "user/", "tests/", "xtask/", "docs/", ".ci/", ".cargo/"];
    for document in documents() {
        let paths = document.names().filter(|name| PLACES.iter().any(|place| name.starts_with(place)));
        for path in paths.filter(|path| !path.contains([' ', '*', '{', 'X'])) {
            assert!(root().join(path).exists(), "{}: there is no {path}", document.path.display());
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let here = root().join(&document.path).parent().expect("a directory").to_owned();
        for link in doc::links(&document.text).filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&document.path) } else { here.join(file) };
            assert!(target.exists(), "{}: there is no {file}", document.path.display());
            let leads = anchor.is_empty() || Document::read(target).anchors().any(|known| known == anchor);
            assert!(leads, "{}: no heading is meant by {link}", document.path.display());
        }
    }
}

#[test]
fn named_programs_exist() {
    let programs = Workspace::load().expect("a workspace").programs;
    for document in documents() {
        for line in document.text.lines() {
            let words = line.split("cargo xtask run ").skip(1).filter_map(|rest| {
                let ends = |c: char| !c.is_ascii_alphanumeric() && c != '-';
                rest.split(ends).next().filter(|word| !word.is_empty() && !word.starts_with('-'))
            });
            for name in words.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())) {
                let exists = programs.iter().any(|program| program.name == name);
                assert!(exists, "{}: there is no program {name}", document.path.display());
            }
        }
    }
}

/// Documents refer to code as "`function` in `path`".
#[test]
fn named_functions_exist() {
    for document in documents() {
        let prose = document.prose().collect::<Vec<_>>().join(" ");
        let words: Vec<&str> = prose.split('`').collect();
        for triple in words.windows(3).skip(1).step_by(2) {
            let [name, between, path] = triple else { continue };
            if between.trim() == "in" && path.contains('/') {
                let source = fs::read_to_string(root().join(path)).unwrap_or_default();
                let known = source.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name);
                assert!(known, "{}: there is no {name} in {path}", document.path.display());
            }
        }
    }
}

#[test]
fn every_row_is_explained() {
    let testing = Document::read("docs/testing.md");
    for id in rows() {
        // Rows for several sizes are explained together.
        let (stem, size) = id.rsplit_once('-').unwrap_or((&id, ""));
        let is_size = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        let name = if is_size { format!("{stem}-N") } else { id.clone() };
        let is_told = testing.names().any(|word| word == name || word == id);
        assert!(is_told, "docs/testing.md does not tell of {name}");
    }
}

/// The tables of counted rows: document, heading, column and figure.
const COSTS: [(&str, &str, usize, &str); 2] = [
    ("docs/lecture.md", "What it costs", 1, "net"),
    ("docs/costs.md", "Rows that have become more expensive, and why", 2, "gross"),
];

fn record(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).expect("a record");
    serde_json::from_str(&text).expect("a record is JSON")
}

/// The figure of a row in `tests/counts.json`, for one operation or one page.
fn recorded(counts: &Value, id: &str, figure: &str) -> Option<f64> {
    let row = counts["rows"].as_array()?.iter().find(|row| row["id"] == id)?;
    let pages = row.get("pages").map_or(Some(1), Value::as_u64)?;
    Some(row[figure].as_u64()? as f64 / pages as f64)
}

/// A figure as `cargo xtask bench` prints it: with at most one decimal.
fn rounded(figure: f64) -> f64 {
    format!("{figure:.1}").parse().expect("a number")
}

fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

/// Counts are stated in tables, and in sentences as "`row` takes N" or "`row` gross N". Without the word "gross" they
/// are net.
#[test]
fn costs_are_as_recorded() {
    let (counts, rows) = (record("tests/counts.json"), rows());
    let mut told: Vec<(PathBuf, String, String, String)> = Vec::new();
    for (path, heading, column, figure) in COSTS {
        let document = Document::read(path);
        for cells in document.table(heading) {
            told.push((path.into(), cells[0].into(), figure.into(), cells[column].into()));
        }
    }
    let sentence = Regex::new(r"`([a-z0-9-]+)`(?: (gross|net))?(?: takes)? (\d[\d,]*(?:\.\d+)?)").expect("a pattern");
    for document in documents() {
        let prose = document.prose().collect::<Vec<_>>().join(" ");
        for found in sentence.captures_iter(&prose) {
            let figure = found.get(2).map_or("net", |word| word.as_str());
            told.push((document.path.clone(), found[1].into(), figure.into(), found[3].into()));
        }
    }
    told.retain(|(_, id, ..)| rows.contains(id));
    assert!(told.len() > 30, "only {} costs are told", told.len());
    for (path, id, figure, count) in told {
        let count = number(&count);
        assert_eq!(count, recorded(&counts, &id, &figure).map(rounded), "{}: {id}, {figure}", path.display());
    }
}

/// The costs in the picture of README.md are those that are recorded, to within three hundredths: a row that is counted
/// without the others begins in a slightly different state, and a timer tick falls into a row of one sample or does not.
#[test]
fn the_picture_shows_recorded_costs() {
    let picture = fs::read_to_string(root().join(picture::FILE)).expect("the picture");
    let counts = record("tests/counts.json");
    let shown = picture::COSTS.shown_in(&picture);
    let row = |id: &str| {
        let count = |figure| recorded(&counts, id, figure).expect("a count") as u64;
        let (gross, frames) = (count("gross"), (count("gross") - count("net")) / PER_FRAME);
        Row {
            id: id.to_owned(),
            gross,
            min: gross,
            max: gross,
            samples: 1,
            pages: None,
            frames,
            surcharge: None,
            tolerance: 0,
        }
    };
    let rows: Vec<Row> = picture::COSTS.command.split(' ').skip(4).map(row).collect();
    let others = comparison::load(&Workspace::load().expect("a workspace")).expect("the costs of others");
    let table = picture::COSTS.part(&comparison::table(&others, &rows));
    assert_eq!(table.len(), rows.len() + 1);
    let near = |(shown, word): (&str, &str)| match (shown.parse::<f64>(), word.parse::<f64>()) {
        (Ok(shown), Ok(number)) => (shown - number).abs() <= number * 0.03,
        _ => shown == word,
    };
    let (shown, table) = (shown.join("\n"), table.join("\n"));
    let same = shown.split_whitespace().zip(table.split_whitespace()).all(near);
    let as_many = shown.split_whitespace().count() == table.split_whitespace().count();
    assert!(same && as_many, "`cargo xtask picture` draws it anew:\n{shown}\nis now\n{table}");
}

#[test]
fn rows_above_target_are_explained() {
    let (counts, others) = (record("tests/counts.json"), record("tests/comparison.json"));
    let mut above = BTreeMap::new();
    for other in others.as_array().expect("an array") {
        let (id, figure) = (other["row"].as_str().expect("a row"), other["figure"].as_str().expect("a figure"));
        let aim = other["aim"].as_f64().expect("a number");
        if recorded(&counts, id, figure).is_some_and(|count| count > aim) {
            above.insert(id.to_owned(), (figure.to_owned(), aim));
        }
    }
    let costs = Document::read("docs/costs.md");
    let sections = costs.sections();
    let (_, section) = sections.iter().find(|(heading, _)| *heading == "Rows above target").expect("a section");
    let title = Regex::new(r"\*\*[^`*]*`([a-z0-9-]+)`( gross)? [\d.,]+ instead of ([\d.,]+)\.\*\*").expect("a pattern");
    let explained: BTreeMap<_, _> = title
        .captures_iter(section)
        .map(|found| {
            let figure = if found.get(2).is_some() { "gross" } else { "net" };
            (found[1].to_owned(), (figure.to_owned(), number(&found[3]).expect("a number")))
        })
        .collect();
    assert_eq!(explained, above, "docs/costs.md and the counts above the aims of tests/comparison.json");
}

/// The lecture's costs of other systems are those that `cargo xtask bench` prints, for rows that are counted.
#[test]
fn costs_of_other_systems_are_as_recorded() {
    let others = record("tests/comparison.json");
    let others = others.as_array().expect("the record is an array");
    let text = |other: &Value, key: &str| other[key].as_str().expect("a text").to_owned();
    let recorded = |other| {
        let [row, linux, huge, jos, figure] = ["row", "linux", "huge", "jos", "figure"].map(|key| text(other, key));
        [row, linux, huge, jos, figure, other["aim"].to_string()]
    };
    let lecture = Document::read("docs/lecture.md");
    let told = lecture.table("What it costs elsewhere").into_iter().map(|cells| {
        let [row, linux, huge, jos, figure, aim] = cells[..] else { panic!("a row of six cells: {cells:?}") };
        let aim = aim.replace(',', "");
        [row, linux, huge, jos, figure, &aim].map(str::to_owned)
    });
    let (told, recorded): (Vec<_>, Vec<_>) = (told.collect(), others.iter().map(recorded).collect());
    assert_eq!(told, recorded, "docs/lecture.md and tests/comparison.json");
    let counted = rows();
    for [row, ..] in recorded {
        assert!(counted.contains(&row), "tests/comparison.json: {row} is not counted");
    }
}

/// The table of page-ins is what the tests of `lib/replacement` compare with.
#[test]
fn page_ins_are_as_recorded() {
    let policies = record("tests/page-ins.json");
    let policies = policies.as_array().expect("an array");
    let counts = |policy: &Value| -> Vec<f64> {
        policy["page_ins"].as_array().expect("counts").iter().filter_map(Value::as_f64).collect()
    };
    let least = counts(&policies[0]);
    let mean = |counts: &[f64]| {
        let logarithms = counts.iter().zip(&least).map(|(count, least)| (count / least).ln());
        (logarithms.sum::<f64>() / counts.len() as f64).exp()
    };
    let document = Document::read("docs/replacement.md");
    let told: Vec<(String, Vec<f64>)> = document
        .table("Page-ins")
        .into_iter()
        .map(|cells| (cells[0].to_owned(), cells[1..].iter().filter_map(|cell| number(cell)).collect()))
        .collect();
    let recorded: Vec<(String, Vec<f64>)> = policies
        .iter()
        .map(|policy| {
            let mut row = counts(policy);
            row.push((mean(&row) * 100.0).round() / 100.0);
            (policy["policy"].as_str().expect("a name").to_owned(), row)
        })
        .collect();
    assert_eq!(told, recorded, "docs/replacement.md and tests/page-ins.json");
}

/// Lines of the picture are an address and, in some, the name of the constant for it.
#[test]
fn the_picture_of_memory_is_right() {
    use abi::layout;
    let constants = [
        ("KERNEL_REGISTERS", layout::KERNEL_REGISTERS),
        ("KERNEL_IMAGE", layout::KERNEL_IMAGE),
        ("KERNEL_WINDOWS", layout::KERNEL_WINDOWS),
        ("DIRECT_MAP", layout::DIRECT_MAP),
        ("UVPT", layout::UVPT),
        ("USER_LIMIT", layout::USER_LIMIT),
        ("SCRATCH", layout::SCRATCH),
        ("HEAP_END", layout::HEAP_END),
        ("HEAP", layout::HEAP),
        ("OF_DEVICES", layout::OF_DEVICES.start),
        ("RESIDENT", layout::RESIDENT),
        ("STACK_TOP", layout::STACK_TOP),
        ("PRIVATE", layout::PRIVATE),
        ("TEXT", layout::TEXT),
    ];
    let memory = Document::read("docs/memory.md");
    let line = Regex::new(r"(?m)^([0-9a-f_]{19}) \+-+ ([A-Z_]+) --\+").expect("a pattern");
    let drawn: Vec<(String, u64)> = line
        .captures_iter(&memory.text)
        .map(|found| {
            let digits = found[1].replace('_', "");
            (found[2].to_owned(), u64::from_str_radix(&digits, 16).expect("an address"))
        })
        .collect();
    let expected = constants.map(|(name, va)| (name.to_owned(), va.0));
    assert_eq!(drawn, expected, "docs/memory.md and lib/abi/src/layout.rs");
}

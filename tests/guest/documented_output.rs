//! Output of programs that documents describe: README.md shows what `squares` prints, docs/testing.md the rows of
//! `bench`.

use regex::Regex;
use std::fs;
use tests::{Case, Run, guest, named};
use xtask::{images::Flavor, picture, workspace::root};

/// Rows that are fast enough for a kernel that checks everything after every call.
const QUICK: [&str; 8] = ["null-call", "trap-entry", "trap", "prot1", "appel1", "fork-0", "ipc", "spawn"];

pub fn cases() -> Vec<Case> {
    vec![
        guest("squares").check(|run| {
            let printed: Vec<&str> = run.lines().filter(|line| !line.starts_with('[')).collect();
            let shown = shown_by("squares");
            run.expect(printed == shown.lines().collect::<Vec<_>>(), format!("README.md shows\n{shown}"));
        }),
        named("picture", "tour").quiet().icount().only(Flavor::Plain).check(|run| {
            let printed = picture::TOUR.part(&run.lines().collect::<Vec<_>>().join("\n"));
            let shown = picture::TOUR.shown_in(&read(picture::FILE));
            let same = printed.iter().map(|line| masked(line)).eq(shown.iter().map(|line| masked(line)));
            let whole = same && shown.len() > 10;
            run.expect(whole, "README.md shows another tour; `cargo xtask picture` draws it anew");
        }),
        guest("bench").args(&QUICK).check(|run| rows(run, &QUICK.map(String::from))),
        named("bench-all", "bench").only(Flavor::Plain).icount().check(|run| rows(run, &all_rows())),
        named("bench-unknown-row", "bench").args(&["trap", "trip"]).exits(1).check(|run| {
            run.once("^there is no row `trip`$").never("^row ");
        }),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a file of the repository")
}

/// A line without addresses and numbers of frames: they differ with every build.
fn masked(line: &str) -> String {
    Regex::new(r"0x[0-9a-f]+|[0-9a-f]*[0-9][0-9a-f]{4,}").expect("a pattern").replace_all(line, "#").into_owned()
}

/// The output in README.md that follows the command for the program.
fn shown_by(program: &str) -> String {
    let readme = read("README.md");
    let after = readme.split_once(&format!("cargo xtask run {program}\n")).expect("the command").1;
    let block = after.split_once("```text\n").expect("its output").1;
    block.split_once("\n```").expect("the end of a block").0.to_owned()
}

/// The ids in the table of `bench`.
fn all_rows() -> Vec<String> {
    let source = read("user/bench/src/bin/bench/main.rs");
    let table = source.split_once("const ROWS").expect("the table").1;
    let rows = table.split_once("];").expect("its end").0.lines();
    let ids = rows.filter_map(|row| row.trim().strip_prefix("(\"")?.split('"').next());
    // The machine is too small for `fork-1g`.
    ids.filter(|id| *id != "fork-1g").map(str::to_owned).collect()
}

/// Expects each row once, and no other row.
fn rows(run: &Run, ids: &[String]) {
    for id in ids {
        run.once(&format!(r"^row {id} gross \d+ min \d+ max \d+ samples \d+( pages \d+)?$"));
    }
    run.count("^row ", ids.len());
}

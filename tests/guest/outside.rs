//! Crates outside the checkout, on a path that contains a blank: made, checked, tested, and booted in both ways.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::{fs, os::unix::fs::symlink};
use tests::Testbed;
use xtask::new::{self, Args};
use xtask::session::scratch;
use xtask::workspace::{HOST, cargo};

type Check = fn(&Path, &Path) -> Result<()>;

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let all: [(&str, bool, Check); 3] =
        [("program", false, program), ("pager", true, pager), ("broken", false, broken)];
    let directory = Arc::new(OnceLock::new());
    let trial = |(name, pager, check): (&'static str, bool, Check)| {
        let (checkout, directory) = (testbed.workspace.root.clone(), Arc::clone(&directory));
        Trial::test(format!("outside-{name}"), move || {
            let directory = directory.get_or_init(|| scratch().map_err(|error| format!("{error:#}")));
            let directory = directory.as_ref().map_err(String::clone)?.path().join("a directory");
            let path = directory.join(format!("my-{name}"));
            Ok(judge(&checkout, &path, pager, check).map_err(|error| format!("{error:#}"))?)
        })
    };
    all.into_iter().map(trial).collect()
}

/// Makes a crate and checks it. All crates in a directory are built in one place, so that libos is compiled once.
fn judge(checkout: &Path, path: &Path, pager: bool, check: Check) -> Result<()> {
    new::main(&Args { path: path.to_owned(), pager, git: None })?;
    let target = path.with_file_name("target");
    let linked = fs::create_dir_all(&target).and_then(|()| symlink(&target, path.join("target")));
    linked.context("cannot make a link")?;
    check(checkout, path)
}

/// A fresh crate is clean for editors; `cargo run` boots it, with its arguments.
fn program(_: &Path, crate_: &Path) -> Result<()> {
    let checked = succeed(cargo_in(crate_, &["check", "--offline"]))?;
    ensure!(!text(&checked.stderr).contains("warning"), "{}", text(&checked.stderr));
    let ran = succeed(cargo_in(crate_, &["run", "--offline", "--quiet", "--", "one", "two three"]))?;
    for line in ["hello, world", "argument: one", "argument: two three"] {
        ensure!(text(&ran.stdout).lines().any(|found| found == line), "no `{line}` in:\n{}", text(&ran.stdout));
    }
    Ok(())
}

/// A pager has a test on the host, and the checkout boots the program by the path of the crate.
fn pager(checkout: &Path, crate_: &Path) -> Result<()> {
    let tested = succeed(cargo_in(crate_, &["test", "--offline"]))?;
    ensure!(text(&tested.stdout).contains("test result: ok. 1 passed"), "{}", text(&tested.stdout));
    let ran = succeed(run_in(checkout, &[crate_.as_os_str().to_owned()]))?;
    ensure!(text(&ran.stdout).contains("12 * 12 = 144"), "{}", text(&ran.stdout));
    Ok(())
}

/// A program that does not compile does not affect the other programs of its crate, and is named when it is wanted.
fn broken(checkout: &Path, crate_: &Path) -> Result<()> {
    put(&crate_.join("src/bin/broken.rs"), "fn main() -> u32 {\n    \"no number\"\n}\n")?;
    let path = crate_.as_os_str().to_owned();
    let options = |name: &str| ["--bin".into(), name.into(), path.clone()];
    let ran = succeed(run_in(checkout, &options("my-broken")))?;
    ensure!(text(&ran.stdout).contains("hello, world"), "{}", text(&ran.stdout));
    ensure!(text(&ran.stderr).contains("left out"), "{}", text(&ran.stderr));
    let refused = run_in(checkout, &options("broken")).output().context("cannot run cargo")?;
    let told = text(&refused.stderr);
    ensure!(!refused.status.success() && told.contains("the program `broken` does not build"), "{told}");
    let unnamed = run_in(checkout, &[path]).output().context("cannot run cargo")?;
    ensure!(text(&unnamed.stderr).contains("--bin NAME"), "{}", text(&unnamed.stderr));
    Ok(())
}

/// Cargo in a crate, as its author would run it.
fn cargo_in(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(words).current_dir(directory).stdin(Stdio::null());
    // An author's shell does not have the variables with which cargo started this test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command
}

/// `cargo xtask run` in the checkout.
fn run_in(checkout: &Path, words: &[std::ffi::OsString]) -> Command {
    let mut command = cargo_in(checkout, &["run", "--quiet", "--package", "xtask", "--target", HOST, "--", "run"]);
    command.args(words);
    command
}

fn succeed(mut command: Command) -> Result<Output> {
    let output = command.output().context("cannot run cargo")?;
    let shown = || format!("{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}", shown());
    Ok(output)
}

fn put(path: &PathBuf, content: &str) -> Result<()> {
    let directory = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(directory).and_then(|()| fs::write(path, content)).context("cannot write a program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

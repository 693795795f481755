//! The permitted uses between crates, folders and files.

use crate::graph::{self, Graph};
use crate::{root, shown};
use serde_json::Value;
use std::path::{Path, PathBuf};
use xtask::workspace;

/// The folders of the kernel, from the bottom up. A file may use its own folder and those below.
const FOLDERS: [&str; 6] = ["machine", "env", "calls", "entry", "boot", "main.rs"];

/// The crates of this repository that each crate may use, from the bottom up. Tests may use more.
const CRATES: [(&str, &[&str]); 24] = [
    ("mem", &[]),
    ("abi", &[]),
    ("replacement", &[]),
    ("block", &["abi"]),
    ("executable", &["abi"]),
    ("smp", &["abi"]),
    ("sched", &["abi"]),
    ("vm", &["abi", "smp"]),
    ("devices", &["abi"]),
    ("firmware", &["abi", "devices", "vm"]),
    ("checker", &["abi", "vm"]),
    ("counter", &["abi"]),
    ("kern", &["abi", "checker", "counter", "devices", "executable", "firmware", "mem", "sched", "smp", "vm"]),
    ("pager", &["abi"]),
    ("swap", &["abi", "pager", "replacement"]),
    ("libos", &["abi", "block", "executable", "mem", "pager", "replacement", "swap"]),
    ("classic", &["libos"]),
    ("demo", &["libos"]),
    ("attack", &["libos", "storm"]),
    ("bench", &["libos"]),
    ("xtask", &["abi"]),
    ("engine", &["abi", "xtask"]),
    ("grade", &["abi", "engine", "xtask"]),
    ("tests", &["abi", "engine", "grade", "storm", "xtask"]),
];

/// The packages of the workspace, as cargo lists them.
fn packages() -> Vec<Value> {
    let metadata = workspace::metadata(&root().join("Cargo.toml")).expect("cargo knows the workspace");
    list(&metadata["packages"]).clone()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn name(value: &Value) -> &str {
    value["name"].as_str().expect("a name")
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let is_code = |target: &&Value| target["kind"][0] == "lib" || target["kind"][0] == "bin";
    let path = |target: &Value| PathBuf::from(target["src_path"].as_str().expect("a path"));
    let packages = packages();
    let targets = packages.iter().flat_map(|package| list(&package["targets"]));
    let roots: Vec<PathBuf> = targets.filter(is_code).map(path).collect();
    assert!(roots.len() > 20, "only {} crates", roots.len());
    let circles = roots.iter().filter_map(|root| {
        let graph = Graph::read(root);
        let edges = graph.edges();
        graph::cycle(&edges).map(|circle| circle.into_iter().map(shown).collect::<Vec<_>>().join("\n    uses "))
    });
    let circles: Vec<String> = circles.collect();
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n"));
}

#[test]
fn the_kernel_has_layers() {
    let source = root().join("kern/src");
    let level = |path: &Path| {
        let folder = path.strip_prefix(&source).ok()?.iter().next()?.to_str()?;
        FOLDERS.iter().position(|&name| name == folder)
    };
    let graph = Graph::read(&source.join("main.rs"));
    let mut seen = [false; FOLDERS.len()];
    for (file, uses) in graph.edges() {
        let from = level(file).unwrap_or_else(|| panic!("{} is in no layer", shown(file)));
        seen[from] = true;
        for used in uses {
            assert!(level(used) <= Some(from), "{} may not use {}", shown(file), shown(used));
        }
    }
    assert_eq!(seen, [true; FOLDERS.len()], "layers without files");
}

#[test]
fn crates_use_what_is_below_them() {
    let packages = packages();
    let known: Vec<&str> = packages.iter().map(name).collect();
    for (package, allowed) in CRATES {
        let found = packages.iter().find(|found| found["name"] == package);
        let found = found.unwrap_or_else(|| panic!("there is no package {package}"));
        for dependency in list(&found["dependencies"]) {
            let used = name(dependency);
            let is_ours = dependency["kind"].is_null() && known.contains(&used);
            assert!(!is_ours || allowed.contains(&used), "{package} may not use {used}");
        }
    }
}

/// The code that serves page faults must be resident, since a page fault in it would never end (`user/linker.ld`).
#[test]
fn what_libos_is_made_of_is_resident() {
    let script = std::fs::read_to_string(root().join("user/linker.ld")).expect("the linker script");
    let (_, libos) = CRATES.into_iter().find(|(package, _)| *package == "libos").expect("there is libos");
    for package in libos.iter().chain(["libos"].iter()) {
        let code = format!("*lib{package}-*.rlib:*(.text .text.*)");
        let constants = format!("*lib{package}-*.rlib:*(.rodata .rodata.*)");
        assert!(script.contains(&code) && script.contains(&constants), "{package} is not resident");
    }
}

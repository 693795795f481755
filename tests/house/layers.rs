//! The permitted uses between crates, folders and files.

use crate::graph::{self, Graph};
use crate::root;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders of the kernel, from the bottom up. A file may use its own folder and those below.
const FOLDERS: [&str; 6] = ["machine", "env", "calls", "entry", "boot", "main.rs"];

/// The crates of this repository that each crate may use, from the bottom up. Tests may use more.
const CRATES: [(&str, &[&str]); 14] = [
    ("mem", &[]),
    ("abi", &[]),
    ("executable", &["abi"]),
    ("smp", &["abi"]),
    ("sched", &["abi"]),
    ("vm", &["abi", "smp"]),
    ("firmware", &["abi", "vm"]),
    ("kern", &["abi", "executable", "firmware", "mem", "sched", "smp", "vm"]),
    ("pager", &["abi"]),
    ("libos", &["abi", "executable", "mem", "pager"]),
    ("classic", &["libos"]),
    ("demo", &["libos"]),
    ("attack", &["libos", "storm"]),
    ("bench", &["libos"]),
];

/// The root files of all crates.
fn crates() -> Vec<PathBuf> {
    targets().into_values().flatten().collect()
}

/// The packages of the workspace, and the root files of their libraries and programs.
fn targets() -> BTreeMap<String, Vec<PathBuf>> {
    let mut targets = BTreeMap::new();
    for package in metadata()["packages"].as_array().expect("a list of packages") {
        let roots = package["targets"].as_array().expect("a list of targets").iter();
        let is_code = |target: &&serde_json::Value| target["kind"][0] == "lib" || target["kind"][0] == "bin";
        let path = |target: &serde_json::Value| PathBuf::from(target["src_path"].as_str().expect("a path"));
        targets.insert(name(package), roots.filter(is_code).map(path).collect());
    }
    targets
}

fn name(value: &serde_json::Value) -> String {
    value["name"].as_str().expect("a name").to_owned()
}

fn metadata() -> serde_json::Value {
    let mut cargo = Command::new(env!("CARGO"));
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = cargo.args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let roots = crates();
    assert!(roots.len() > 20, "only {} crates", roots.len());
    let circles = roots.iter().filter_map(|root| {
        let graph = Graph::read(root);
        let edges = graph.edges();
        graph::cycle(&edges)
            .map(|circle| circle.into_iter().map(shown).collect::<Vec<_>>().join("\n    uses "))
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
    let packages = metadata()["packages"].as_array().expect("a list of packages").clone();
    let known: Vec<String> = packages.iter().map(name).collect();
    for (package, allowed) in CRATES {
        let found = packages.iter().find(|found| found["name"] == package);
        let found = found.unwrap_or_else(|| panic!("there is no package {package}"));
        for dependency in found["dependencies"].as_array().expect("a list of dependencies") {
            let used = name(dependency);
            let is_ours = dependency["kind"].is_null() && known.contains(&used);
            assert!(!is_ours || allowed.contains(&&*used), "{package} may not use {used}");
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

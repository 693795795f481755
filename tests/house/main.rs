//! The structure of the code base: which file may use which, and the sizes of files and functions.

mod graph;
mod language;
mod layers;
mod size;

use std::path::Path;
use xtask::workspace::root;

/// The path of a file, from the root of the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Whether a source file belongs to the tests of its package.
fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

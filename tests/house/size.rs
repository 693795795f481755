//! Size limits. A line of code is neither blank, nor only a comment or an attribute.

use crate::{is_test, root};
use proc_macro2::Span;
use quote::ToTokens;
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The folders of the code that runs in ring 0: the kernel, its crates, and the memory functions that programs have,
/// too.
const RING_0: [&str; 2] = ["kern", "lib/mem"];
const RING_0_MOST: usize = 6_450;
/// What only a checking kernel has, which the tests run.
const OF_CHECKING_KERNEL: &str = "kern/src/env/check.rs";
/// The limit of lines of a file, comments and blank lines included.
const FILE_MOST: usize = 600;
/// The limit of lines of a function. (Functions in assembly are exempt.)
const FUNCTION_MOST: usize = 60;

/// All `.rs` and `.s` files of the repository.
pub fn files() -> Vec<PathBuf> {
    let folders = ["kern", "lib", "user", "tests", "xtask"].map(|folder| root().join(folder));
    let mut found: Vec<PathBuf> = Vec::new();
    let mut open: Vec<PathBuf> = folders.into();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the repository") {
            let path = entry.expect("an entry of a directory").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "s") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn code_lines(path: &Path) -> usize {
    let is_code = |line: &&str| {
        let line = line.trim();
        let is_attribute = line.starts_with("#[") && line.ends_with(']') || line.starts_with("#![");
        let is_comment =
            line.starts_with("//") || line.starts_with('#') && path.extension().is_some_and(|kind| kind == "s");
        !line.is_empty() && !is_attribute && !is_comment
    };
    text(path).lines().filter(is_code).count()
}

#[test]
fn ring_0_is_small() {
    let folders = RING_0.map(|folder| root().join(folder));
    let counts = |path: &PathBuf| !is_test(path) && !path.ends_with(OF_CHECKING_KERNEL);
    let is_code = |path: &PathBuf| folders.iter().any(|folder| path.starts_with(folder)) && counts(path);
    let files = files().into_iter().filter(is_code);
    let lines: usize = files.map(|path| code_lines(&path)).sum();
    println!("ring 0: {lines} lines of code");
    assert!((3_000..=RING_0_MOST).contains(&lines), "{lines} lines of code run in ring 0");
}

#[test]
fn no_file_is_long() {
    let long = files().into_iter().map(|path| (text(&path).lines().count(), path));
    let long: Vec<_> = long.filter(|(lines, _)| *lines > FILE_MOST).collect();
    assert!(long.is_empty(), "files of more than {FILE_MOST} lines: {long:#?}");
}

/// Functions, with their lengths in lines.
#[derive(Default)]
struct Functions(Vec<(usize, String)>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, attributes: &[syn::Attribute], span: Span) {
        if !is_naked(attributes) {
            self.0.push((span.end().line + 1 - span.start().line, name.to_string()));
        }
    }
}

fn is_naked(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.to_token_stream().to_string().contains("naked"))
}

/// The lines of a function, from the signature to the end, without attributes and comments above it.
fn lines(signature: &syn::Signature, block: &syn::Block) -> Span {
    signature.fn_token.span.join(block.span()).unwrap_or(block.span())
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig.ident, &function.attrs, lines(&function.sig, &function.block));
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig.ident, &function.attrs, lines(&function.sig, &function.block));
        visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn no_function_is_long() {
    let (mut lengths, mut long) = (Vec::new(), Vec::new());
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let mut functions = Functions::default();
        functions.visit_file(&syn::parse_file(&text(&path)).expect("the compiler reads it, too"));
        for (lines, name) in functions.0 {
            lengths.push(lines);
            if lines > FUNCTION_MOST {
                long.push(format!("{lines} lines: {name} in {}", path.display()));
            }
        }
    }
    lengths.sort_unstable();
    let at = |percent: usize| lengths[lengths.len() * percent / 100];
    println!("{} functions: median {} lines, 90th percentile {}", lengths.len(), at(50), at(90));
    assert!(lengths.len() > 1_000, "only {} functions", lengths.len());
    assert!(long.is_empty(), "functions of more than {FUNCTION_MOST} lines:\n{}", long.join("\n"));
}

//! The files of a crate, and the uses between them.
//!
//! An edge is a path in the code, `crate::a::b` or one relative to the module: in a `use`, in an expression, or in the
//! tokens of a macro. It leads to the file in which the path ends. A re-export (`pub use`) in the file that declares
//! the module is followed and is not an edge itself. Code that only tests compile is left out.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::{fs, iter};
use syn::{Attribute, Item, UseTree, Visibility};

/// A module path: the names, starting at the root of the crate.
type Name = Vec<String>;

/// A file, which is also a module.
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// Names that this file re-exports, and their paths as written.
    exports: BTreeMap<String, Name>,
    /// Paths that its code names, as written.
    paths: Vec<Name>,
}

/// The files of a crate.
pub struct Graph {
    modules: BTreeMap<Name, Module>,
}

impl Graph {
    /// Reads a crate, starting at its root file.
    pub fn read(root: &Path) -> Graph {
        let mut graph = Graph { modules: BTreeMap::new() };
        graph.add(Vec::new(), root);
        graph
    }

    fn add(&mut self, name: Name, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut module =
            Module { file: file.to_owned(), children: BTreeSet::new(), exports: BTreeMap::new(), paths: Vec::new() };
        for item in syntax.items {
            self.add_item(&mut module, &name, file, item);
        }
        self.modules.insert(name, module);
    }

    fn add_item(&mut self, module: &mut Module, name: &Name, file: &Path, item: Item) {
        match item {
            Item::Mod(child) if child.content.is_none() => {
                if !is_for_tests(&child.attrs) {
                    let word = child.ident.to_string();
                    module.children.insert(word.clone());
                    let name = name.iter().cloned().chain([word.clone()]).collect();
                    self.add(name, &file_of(file, &word));
                }
            }
            Item::Mod(child) if is_for_tests(&child.attrs) => {}
            Item::Use(import) if !matches!(import.vis, Visibility::Inherited) => {
                exports(&import.tree, &mut Vec::new(), &mut module.exports);
            }
            item => paths(item.to_token_stream(), &mut module.paths),
        }
    }

    /// The module in which a path ends, if it is one of this crate.
    fn resolve(&self, from: &Name, path: &[String]) -> Option<Name> {
        let (first, rest) = path.split_first()?;
        let (mut at, rest) = match first.as_str() {
            "crate" => (Vec::new(), rest),
            "self" => (from.clone(), rest),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), rest),
            // (A single word may be a variable of that name.)
            child if path.len() > 1 && self.modules[from].children.contains(child) => (from.clone(), path),
            _ => return None,
        };
        for (index, word) in rest.iter().enumerate() {
            let module = &self.modules[&at];
            if word == "super" {
                at.pop();
            } else if module.children.contains(word) {
                at.push(word.clone());
            } else if let Some(export) = module.exports.get(word) {
                let path: Name = export.iter().chain(&rest[index + 1..]).cloned().collect();
                return Some(self.resolve(&at, &path).unwrap_or(at));
            } else {
                break;
            }
        }
        Some(at)
    }

    /// The files that each file uses.
    pub fn edges(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut edges: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for (name, module) in &self.modules {
            let used = module.paths.iter().filter_map(|path| self.resolve(name, path));
            let used = used.filter(|used| used != name).map(|used| self.modules[&used].file.as_path());
            edges.entry(&module.file).or_default().extend(used);
        }
        edges
    }
}

/// A path from a file back to itself, if there is one.
pub fn cycle<'a>(edges: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Option<Vec<&'a Path>> {
    edges.keys().find_map(|start| way(edges, start, start))
}

/// The shortest path from one file to another, along at least one edge.
fn way<'a>(edges: &BTreeMap<&'a Path, BTreeSet<&'a Path>>, from: &'a Path, to: &Path) -> Option<Vec<&'a Path>> {
    let mut before: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        for &used in edges.get(at)? {
            if used == to {
                let back = iter::successors(Some(at), |at| before.get(at).copied());
                let mut way: Vec<&Path> = iter::once(used).chain(back).collect();
                way.reverse();
                return Some(way);
            }
            if used != from && !before.contains_key(used) {
                before.insert(used, at);
                next.push_back(used);
            }
        }
    }
    None
}

fn file_of(parent: &Path, child: &str) -> PathBuf {
    let stem = parent.file_stem().expect("a file has a name").to_string_lossy();
    let directory = parent.parent().expect("a file is in a directory");
    let below = if ["main", "lib", "mod"].contains(&&*stem) { directory.to_owned() } else { directory.join(&*stem) };
    let flat = below.join(format!("{child}.rs"));
    if flat.exists() { flat } else { below.join(child).join("mod.rs") }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("test"))
}

/// The names that a `pub use` defines, with the paths to which they refer.
fn exports(tree: &UseTree, before: &mut Name, found: &mut BTreeMap<String, Name>) {
    let mut add = |name: String, last: String| {
        let path = before.iter().cloned().chain([last]).filter(|word| word != "self").collect();
        found.insert(name, path);
    };
    match tree {
        UseTree::Name(name) => add(name.ident.to_string(), name.ident.to_string()),
        UseTree::Rename(name) => add(name.rename.to_string(), name.ident.to_string()),
        UseTree::Glob(_) => {}
        UseTree::Group(group) => group.items.iter().for_each(|tree| exports(tree, before, found)),
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            exports(&path.tree, before, found);
            before.pop();
        }
    }
}

/// The paths in some tokens: names with `::` between them, with the names of a group behind the last `::`.
fn paths(tokens: TokenStream, found: &mut Vec<Name>) {
    collect(&tokens.into_iter().collect::<Vec<_>>(), &Name::new(), found);
}

fn collect(tokens: &[TokenTree], before: &Name, found: &mut Vec<Name>) {
    let is_colon = |index: usize| matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let (mut path, outside) = (before.clone(), Name::new());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        index += 1;
        match token {
            TokenTree::Ident(word) => {
                path.push(word.to_string());
                if is_colon(index) && is_colon(index + 1) {
                    index += 2;
                    continue;
                }
                found.push(std::mem::replace(&mut path, before.clone()));
            }
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let is_tree = group.delimiter() == Delimiter::Brace && path.len() > before.len();
                collect(&inner, if is_tree { &path } else { &outside }, found);
                path.clone_from(before);
            }
            _ => path.clone_from(before),
        }
    }
}

/// Sample crates with known edges, to test the graph itself.
#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> (tempfile::TempDir, Graph) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let graph = Graph::read(&directory.path().join("main.rs"));
        (directory, graph)
    }

    fn names(graph: &Graph) -> Option<Vec<String>> {
        let edges = graph.edges();
        let name = |path: &&Path| path.file_stem().unwrap().to_string_lossy().into_owned();
        cycle(&edges).map(|cycle| cycle.iter().map(name).collect())
    }

    #[test]
    fn a_chain_is_no_cycle() {
        let (_files, graph) = graph(&[
            ("main.rs", "mod a; mod b; mod c; pub use c::C;"),
            ("a.rs", "use crate::b::{self, B}; fn f() { b::f() }"),
            ("b.rs", "pub struct B; pub fn f() { println!(\"{}\", crate::C::x()) }"),
            ("c.rs", "pub struct C; #[cfg(test)] mod tests { use crate::a; }"),
        ]);
        assert_eq!(names(&graph), None);
        let edges: usize = graph.edges().values().map(BTreeSet::len).sum();
        assert_eq!(edges, 2);
    }

    #[test]
    fn a_cycle_is_found_in_uses_expressions_macros_and_folders() {
        for last in [
            "use crate::a::A;",
            "use crate::{c, a::A};",
            "use super::super::a;",
            "fn f() { crate::a::f() }",
            "fn f() { println!(\"{}\", crate::a::f()) }",
            "fn f() { crate::A }",
        ] {
            let (_files, graph) = graph(&[
                ("main.rs", "mod a; mod b; mod c; pub use a::A;"),
                ("a.rs", "use crate::b::x;"),
                ("b/mod.rs", "pub mod x;"),
                ("b/x.rs", last),
                ("c.rs", ""),
            ]);
            assert_eq!(names(&graph), Some(vec!["a".into(), "x".into(), "a".into()]), "{last}");
        }
    }
}

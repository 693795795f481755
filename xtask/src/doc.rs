//! `cargo xtask doc`: the API documentation, with README.md as its front page.
//!
//! Cargo documents the crates, and every warning is an error: a broken link fails the build. rustdoc has no stable
//! option for a front page above several crates, but it renders Markdown. So README.md is rendered to `index.html`
//! beside the crates, followed by a list of them. The pages that it links to are rendered too, and so on; other linked
//! files are copied. All files keep their paths in the repository, so relative links stay valid and the directory can
//! be published as it is. Only the endings of links to pages change.

use crate::say;
use crate::workspace::{self, HOST, Workspace};
use abi::ExitStatus;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::{collections::BTreeMap, ffi::OsStr, fs};

/// The crates that authors of programs use, and the crates of the kernel: their public items are documented.
const LIBRARIES: [&str; 12] = [
    "libos",
    "pager",
    "replacement",
    "block",
    "swap",
    "abi",
    "executable",
    "vm",
    "sched",
    "smp",
    "devices",
    "firmware",
];

/// The kernel. It has no public items, so all of it is documented.
const KERNEL: &str = "kern";

/// The source of the front page.
const FRONT: &str = "README.md";

/// A style sheet: rustdoc renders Markdown without one.
const STYLE: &str = "<style>
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; font-family: sans-serif; line-height: 1.5; }
pre { overflow-x: auto; padding: 0.75rem; background: #f5f5f5; line-height: 1.3; }
table { border-collapse: collapse; }
th, td { padding: 0.25rem 0.75rem; border: 1px solid #ccc; vertical-align: top; }
</style>
";

/// The pages, by their paths in the repository.
type Pages = BTreeMap<PathBuf, String>;

/// Builds the documentation, and prints the path of the front page.
///
/// # Errors
/// Cargo or rustdoc cannot be run, or a page has a broken link.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let Some(_) = document(&workspace, &LIBRARIES, &[])? else { return Ok(ExitStatus::FAILURE) };
    let kernel = document(&workspace, &[KERNEL], &["--document-private-items"])?;
    let Some(directory) = kernel else { return Ok(ExitStatus::FAILURE) };
    let (pages, files) = collect(&workspace.root)?;
    render(&pages, &directory)?;
    for file in files {
        let to = directory.join(&file);
        create_parent(&to)?;
        fs::copy(workspace.root.join(&file), &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    println!("{}", directory.join("index.html").display());
    Ok(ExitStatus::SUCCESS)
}

/// Documents packages. Returns the directory that has one directory for each crate; nothing if rustdoc complained.
fn document(workspace: &Workspace, packages: &[&str], options: &[&str]) -> Result<Option<PathBuf>> {
    let output = Command::new(workspace::cargo())
        .args(["doc", "--quiet", "--no-deps", "--target", HOST, "--message-format=json-render-diagnostics"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .args(options)
        .env("RUSTDOCFLAGS", "-Dwarnings")
        .env_remove("CARGO_ENCODED_RUSTDOCFLAGS")
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        say!("cargo doc failed for {}", packages.join(", "));
        return Ok(None);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let directory = messages.lines().find_map(directory_of_crates);
    directory.context("cargo does not say where the documentation is").map(Some)
}

/// The directory above that of a crate, if this message of cargo reports the documentation of a crate.
fn directory_of_crates(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let index = Path::new(message["filenames"][0].as_str()?);
    let is_front_of_crate = index.file_name() == Some(OsStr::new("index.html"));
    is_front_of_crate.then(|| index.parent()?.parent().map(Path::to_owned)).flatten()
}

/// The front page and all pages that can be reached from it, and the other files to which they link.
fn collect(root: &Path) -> Result<(Pages, Vec<PathBuf>)> {
    let mut pages = Pages::new();
    let mut files = Vec::new();
    let mut open = vec![PathBuf::from(FRONT)];
    while let Some(path) = open.pop() {
        if pages.contains_key(&path) || files.contains(&path) {
            continue;
        }
        if !is_page(&path) {
            files.push(path);
            continue;
        }
        let text = fs::read_to_string(root.join(&path));
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        for link in links(&text).filter(|link| is_local(link)) {
            let target = target(&path, link)?;
            if !root.join(&target).is_file() {
                bail!("{}: {link} is not a file", path.display());
            }
            open.push(target);
        }
        pages.insert(path, text);
    }
    Ok((pages, files))
}

/// Lets rustdoc render all pages.
fn render(pages: &Pages, directory: &Path) -> Result<()> {
    let sources = tempfile::tempdir().context("cannot make a temporary directory")?;
    let style = sources.path().join("style.html");
    fs::write(&style, STYLE).context("cannot write a temporary file")?;
    for (path, text) in pages {
        let mut text = with_links_to_html(text);
        if path == Path::new(FRONT) {
            text.push_str(&list_of_crates());
        }
        let source = sources.path().join(path).with_file_name(file_name(path));
        create_parent(&source)?;
        fs::write(&source, text).context("cannot write a temporary file")?;
        let mut rustdoc = Command::new(std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into()));
        rustdoc.args(["--markdown-no-toc", "--html-in-header"]).arg(&style).arg("--output");
        rustdoc.arg(directory.join(path).with_file_name("")).arg(&source);
        let status = rustdoc.status().context("cannot run rustdoc")?;
        if !status.success() {
            bail!("rustdoc failed for {}", path.display());
        }
    }
    Ok(())
}

/// The file name of a page. The README of a directory becomes its index.
fn file_name(page: &Path) -> &OsStr {
    let name = page.file_name().unwrap_or_default();
    if name == FRONT { OsStr::new("index.md") } else { name }
}

fn is_page(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("md"))
}

fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

fn list_of_crates() -> String {
    let link = |name: &&str| format!("[`{name}`]({name}/index.html)");
    let libraries = LIBRARIES.iter().map(link).collect::<Vec<_>>().join(", ");
    let kernel = link(&KERNEL);
    format!("\n## API documentation\n\nLibraries: {libraries}.\n\nThe kernel, with its private items: {kernel}.\n")
}

/// The pieces of a page: text and link targets, alternating, text first. Links in code blocks are text.
fn pieces(text: &str) -> Vec<&str> {
    const OPEN: &str = "](";
    let mut pieces = Vec::new();
    let (mut from, mut at, mut in_code) = (0, 0, false);
    for line in text.split_inclusive('\n') {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        let mut rest = if in_code { "" } else { line };
        while let Some(open) = rest.find(OPEN) {
            let target = &rest[open + OPEN.len()..];
            let Some(length) = target.find(')') else { break };
            let begin = at + line.len() - target.len();
            pieces.extend([&text[from..begin], &target[..length]]);
            from = begin + length;
            rest = &target[length..];
        }
        at += line.len();
    }
    pieces.push(&text[from..]);
    pieces
}

/// Whether a link leads to a file of this repository: neither to another site nor to a heading of the same page.
fn is_local(link: &str) -> bool {
    !link.contains("://") && !link.starts_with('#')
}

/// The targets of the links of a page.
pub fn links(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().skip(1).step_by(2)
}

/// The file that a link of a page leads to, by its path in the repository.
fn target(page: &Path, link: &str) -> Result<PathBuf> {
    let file = link.split('#').next().unwrap_or(link);
    let mut target = page.parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(file).components() {
        match component {
            Component::Normal(name) => target.push(name),
            Component::CurDir => {}
            Component::ParentDir if target.pop() => {}
            _ => bail!("{}: {link} leads out of the repository", page.display()),
        }
    }
    Ok(target)
}

/// The page with links to the rendered pages.
fn with_links_to_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (index, piece) in pieces(text).into_iter().enumerate() {
        let (file, heading) = piece.split_once('#').map_or((piece, None), |(file, word)| (file, Some(word)));
        if index % 2 == 0 || !is_local(piece) || !is_page(Path::new(file)) {
            html.push_str(piece);
            continue;
        }
        let page = Path::new(file);
        let page = page.with_file_name(file_name(page)).with_extension("html");
        html.push_str(&page.to_string_lossy());
        if let Some(heading) = heading {
            html.push('#');
            html.push_str(heading);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
See [a](docs/a.md), [b](docs/b.md#c) and [the start](../README.md#d).
```rust
let x = table[0](docs/code.md);
```
[Here](#e), [there](https://example.org/x.md), and [a file](user/x.rs).
";

    #[test]
    fn links_in_code_are_left_out() {
        let links: Vec<_> = links(PAGE).collect();
        let expected = ["docs/a.md", "docs/b.md#c", "../README.md#d", "#e", "https://example.org/x.md", "user/x.rs"];
        assert_eq!(links, expected);
        assert_eq!(links.into_iter().map(is_local).collect::<Vec<_>>(), [true, true, true, false, false, true]);
    }

    #[test]
    fn pieces_are_the_whole_page() {
        assert_eq!(pieces(PAGE).concat(), PAGE);
        assert_eq!(pieces("[no end](here\nnor](there").concat(), "[no end](here\nnor](there");
    }

    #[test]
    fn only_links_to_pages_change() {
        let html = "\
See [a](docs/a.html), [b](docs/b.html#c) and [the start](../index.html#d).
```rust
let x = table[0](docs/code.md);
```
[Here](#e), [there](https://example.org/x.md), and [a file](user/x.rs).
";
        assert_eq!(with_links_to_html(PAGE), html);
    }

    #[test]
    fn links_lead_from_the_directory_of_their_page() {
        let page = Path::new("docs/labs/fork.md");
        assert_eq!(target(page, "../memory.md#rights").unwrap(), Path::new("docs/memory.md"));
        assert_eq!(target(page, "pagers.md").unwrap(), Path::new("docs/labs/pagers.md"));
        assert_eq!(target(page, "../../README.md").unwrap(), Path::new("README.md"));
        for outside in ["../../../x.md", "/x.md"] {
            assert!(target(page, outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn cargo_tells_where_the_crates_are() {
        let message = |file: &str| format!("{{\"reason\":\"compiler-artifact\",\"filenames\":[\"{file}\"]}}");
        assert_eq!(directory_of_crates(&message("/t/doc/abi/index.html")), Some("/t/doc".into()));
        assert_eq!(directory_of_crates(&message("/t/debug/libabi.rmeta")), None);
        assert_eq!(directory_of_crates("{\"reason\":\"build-finished\",\"success\":true}"), None);
        assert_eq!(directory_of_crates("no JSON"), None);
    }

    #[test]
    fn what_the_front_page_leads_to_is_collected() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            create_parent(&root.path().join(path)).unwrap();
            fs::write(root.path().join(path), text).unwrap();
        };
        write(FRONT, "# Title\n[a](docs/a.md)\n");
        write("docs/a.md", "# A\n[back](../README.md), [code](../user/x.rs)\n");
        write("docs/b.md", "# Nothing leads here\n");
        write("user/x.rs", "[no page](missing.md)\n");
        let (pages, files) = collect(root.path()).unwrap();
        assert!(pages.keys().eq([Path::new(FRONT), Path::new("docs/a.md")]), "{pages:?}");
        assert_eq!(files, [Path::new("user/x.rs")]);

        fs::remove_file(root.path().join("user/x.rs")).unwrap();
        let error = collect(root.path()).unwrap_err().to_string();
        assert_eq!(error, "docs/a.md: ../user/x.rs is not a file");
    }
}

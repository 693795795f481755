//! `cargo xtask picture`: draws the picture of README.md, a terminal in which two commands have run.
//!
//! The commands run as somebody would type them, and the picture has a part of what they print, as text. Tests compare
//! that text with what a machine prints and with the recorded counts, so the picture cannot grow old.

use crate::say;
use crate::workspace::{self, Workspace};
use abi::ExitStatus;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

/// The picture, by its path in the repository.
pub const FILE: &str = "docs/images/session.svg";

/// A command, and the part of its output that the picture shows.
pub struct Scene {
    /// The command line.
    pub command: &'static str,
    /// The words with which the first line begins.
    begin: &'static str,
    /// The words with which the line behind the last begins.
    end: &'static str,
}

/// A fault, lazy memory and a fork, without the costs in ticks.
pub const TOUR: Scene = Scene { command: "cargo xtask run", begin: "Faultline is", end: "4. What that costs" };

/// Counted instructions beside those of other systems.
pub const COSTS: Scene = Scene {
    command: "cargo xtask bench --no-cycles trap demand-zero-write cow-break fork-0 fork-64m fork-1g",
    begin: "Linux",
    end: "(the end)",
};

/// The prompt before each command.
const PROMPT: &str = "$ ";
/// The height of a line, in the units of the picture.
const LINE: usize = 17;
/// The width of ten characters.
const TEN_CHARACTERS: usize = 73;
/// The space around the text.
const MARGIN: usize = 16;

/// Fonts and colors, for bright and for dark pages. (A picture in a page has no access to the fonts of the page.)
const STYLE: &str = "<style>
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; fill: #1f2328; }
rect { fill: #f6f8fa; stroke: #d1d9e0; }
.command { font-weight: bold; fill: #0550ae; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
rect { fill: #151b23; stroke: #3d444d; }
.command { fill: #79c0ff; }
}
</style>";

/// Runs the commands, and writes the picture.
///
/// # Errors
/// A command fails, or the picture cannot be written.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let mut lines = Vec::new();
    for scene in [TOUR, COSTS] {
        lines.push(format!("{PROMPT}{}", scene.command));
        lines.extend(scene.part(&output(&workspace, scene.command)?));
        lines.push(String::new());
    }
    lines.pop();
    let path = workspace.root.join(FILE);
    fs::write(&path, draw(&lines)).with_context(|| format!("cannot write {}", path.display()))?;
    say!("wrote {}", path.display());
    Ok(ExitStatus::SUCCESS)
}

/// The standard output of a command line of cargo.
fn output(workspace: &Workspace, command: &str) -> Result<String> {
    let words = command.split(' ').skip(1);
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(words).current_dir(&workspace.root).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "`{command}` failed");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Scene {
    /// The part of an output that the picture shows.
    #[must_use]
    pub fn part(&self, output: &str) -> Vec<String> {
        let lines = output.lines().skip_while(|line| !line.trim_start().starts_with(self.begin));
        let part: Vec<&str> = lines.take_while(|line| !line.starts_with(self.end)).map(str::trim_end).collect();
        part.join("\n").trim_end().lines().map(str::to_owned).collect()
    }

    /// The lines that a picture shows below the command.
    #[must_use]
    pub fn shown_in(&self, picture: &str) -> Vec<String> {
        let texts = picture.split("</text>").filter_map(|text| text.rsplit_once('>'));
        let lines: Vec<String> = texts.map(|(_, text)| unescape(text)).collect();
        let first = lines.iter().position(|line| line.strip_prefix(PROMPT) == Some(self.command));
        let below = lines.into_iter().skip(first.map_or(usize::MAX, |first| first + 1));
        let below: Vec<String> = below.take_while(|line| !line.starts_with(PROMPT)).collect();
        self.part(&below.join("\n"))
    }
}

/// The picture of these lines.
fn draw(lines: &[String]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let (width, height) = (columns * TEN_CHARACTERS / 10 + 2 * MARGIN, lines.len() * LINE + 2 * MARGIN);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" xml:space=\"preserve\" role=\"img\">\n{STYLE}\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n",
        width - 1,
        height - 1
    );
    for (index, line) in lines.iter().enumerate() {
        let class = if line.starts_with(PROMPT) { " class=\"command\"" } else { "" };
        let y = MARGIN + LINE * index + LINE * 3 / 4;
        let _ = writeln!(picture, "<text x=\"{MARGIN}\" y=\"{y}\"{class}>{}</text>", escape(line));
    }
    picture + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_can_be_read() {
        let output = "before\n\nFaultline is <new> & small\n\n  x\n\n4. What that costs\nmore\n";
        let part = TOUR.part(output);
        assert_eq!(part, ["Faultline is <new> & small", "", "  x"]);
        let command = |scene: &Scene| format!("{PROMPT}{}", scene.command);
        let lines = [&[command(&TOUR)], &part[..], &[String::new(), command(&COSTS)]].concat();
        let picture = draw(&lines);
        assert_eq!(TOUR.shown_in(&picture), part);
        assert_eq!(COSTS.shown_in(&picture), Vec::<String>::new());
    }
}

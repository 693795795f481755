//! Runs cargo for bare-metal code.
//!
//! The caller's configuration and environment may set flags, profiles and targets; those are for host code
//! ([`crate::config`]). Cargo's messages are read as JSON: they name the executables, and a few warnings that do not
//! apply here can be left out.

use crate::config::{self, Home};
use crate::{machine, say, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The target. The precompiled `core` and `alloc` of every x86-64 Linux toolchain also work on bare metal.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Warnings that do not apply: the kernel is built without vector registers, and rustc warns that its precompiled
/// `core` was not. With fat LTO that `core` is generated anew under the kernel's flags.
const SETTLED: &[&str] = &[
    "must be enabled to ensure that the ABI of the current target can be implemented correctly",
    "must be disabled to ensure that the ABI of the current target can be implemented correctly",
    "target feature `soft-float` cannot be enabled with `-Ctarget-feature`",
    "unstable feature specified for `-Ctarget-feature`",
];

/// One run of cargo.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// `build`, `clippy`, ...
    pub command: &'static str,
    /// The manifest of the workspace, or of a crate outside the checkout.
    pub manifest: PathBuf,
    /// The packages; empty: those that the manifest selects.
    pub packages: Vec<String>,
    /// The profile.
    pub profile: &'static str,
    /// Features of the package.
    pub features: Vec<&'static str>,
    /// Where to build.
    pub target_dir: PathBuf,
    /// Flags for rustc.
    pub flags: Vec<String>,
    /// The root of the checkout, which pins the toolchain.
    pub root: PathBuf,
    /// Whether a warning is an error. (No flag of rustc says so: cargo would compile everything once more for it.)
    pub strict: bool,
    /// Print the command.
    pub verbose: bool,
}

/// A binary that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The result of a run of cargo.
struct Built {
    executables: Vec<Executable>,
    /// The number of diagnostics that were shown.
    problems: usize,
    succeeded: bool,
}

impl Cargo {
    /// Runs cargo, and returns the executables.
    ///
    /// # Errors
    /// Cargo cannot be run or fails. Its messages have been printed by then.
    pub fn run(&self) -> Result<Vec<Executable>> {
        let built = self.listen_to(self.command_line()?)?;
        match (built.succeeded, built.problems) {
            (false, _) => bail!("cargo {} failed for {}", self.command, self.subject()),
            (true, count) if count > 0 && self.strict => {
                bail!("cargo {} found {count} problems in {}", self.command, self.subject())
            }
            _ => Ok(built.executables),
        }
    }

    /// Builds as many programs as possible, and returns those that were built.
    ///
    /// # Errors
    /// Cargo cannot be run, or the wanted program was not built. Cargo's messages have been printed by then.
    pub fn run_for(&self, wanted: &str) -> Result<Vec<Executable>> {
        let mut command = self.command_line()?;
        command.arg("--keep-going");
        let built = self.listen_to(command)?;
        let has_wanted = built.executables.iter().any(|executable| executable.name == wanted);
        ensure!(has_wanted, "the program `{wanted}` does not build");
        if !built.succeeded {
            say!("programs that do not build are left out");
        }
        Ok(built.executables)
    }

    /// The name of what is built, for messages.
    fn subject(&self) -> String {
        if self.packages.is_empty() { self.manifest.display().to_string() } else { self.packages.join(", ") }
    }

    fn listen_to(&self, mut command: Command) -> Result<Built> {
        if self.verbose {
            say!("{}", printable(&command));
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", workspace::cargo().display()))?;
        let (executables, problems) = listen(&mut child)?;
        let status = child.wait().context("cannot wait for cargo")?;
        Ok(Built { executables, problems, succeeded: status.success() })
    }

    /// The command, for callers that read its messages themselves.
    ///
    /// # Errors
    /// [`Home::prepare`] fails.
    pub fn command_line(&self) -> Result<Command> {
        let beside = self.target_dir.parent().context("the target directory is in none")?;
        let home = Home::prepare(&beside.join("cargo-home"), &self.root)?;
        let flags: Vec<String> = self.flags.iter().cloned().chain(home.remaps()?).collect();
        let pinned = workspace::pinned_toolchain(&self.root);
        let (toolchain, is_callers) = config::toolchain(&pinned, std::env::var_os("RUSTUP_TOOLCHAIN"));
        // The cargo in the path is rustup's, which uses the toolchain that `RUSTUP_TOOLCHAIN` names.
        let mut command = Command::new(if is_callers { workspace::cargo() } else { "cargo".into() });
        home.apply(&mut command, &toolchain)?;
        command
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .arg(self.command)
            .arg("--manifest-path")
            .arg(&self.manifest)
            .args(self.packages.iter().flat_map(|package| ["--package", package]))
            .args(["--profile", self.profile, "--target", TARGET])
            .arg("--target-dir")
            .arg(&self.target_dir)
            .arg(message_format());
        if !self.features.is_empty() {
            command.arg("--features").arg(self.features.join(","));
        }
        Ok(command)
    }
}

/// The command as one would type it, with its directory and its variables.
fn printable(command: &Command) -> String {
    let mut words = vec!["cd / &&".to_owned(), "env".to_owned()];
    for (name, value) in command.get_envs() {
        let name = name.to_string_lossy();
        words.push(match value {
            Some(value) => format!("{name}={}", machine::shell_word(value)),
            None => format!("-u {name}"),
        });
    }
    words.push(machine::shell_words(command));
    words.join(" ")
}

fn message_format() -> &'static str {
    if std::io::stderr().is_terminal() {
        "--message-format=json-diagnostic-rendered-ansi"
    } else {
        "--message-format=json"
    }
}

/// Reads both outputs of cargo to their ends.
fn listen(child: &mut Child) -> Result<(Vec<Executable>, usize)> {
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;
    std::thread::scope(|scope| {
        scope.spawn(|| relay_progress(stderr));
        let mut executables = Vec::new();
        let mut problems = 0;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read cargo's output")?;
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            executables.extend(executable(&message));
            problems += usize::from(show_diagnostic(&message));
        }
        Ok((executables, problems))
    })
}

/// Shows cargo's progress, except the closing line, which comes even if there was nothing to do, and the count of
/// warnings, which includes those that are left out.
fn relay_progress(stderr: impl Read) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let words = line.trim_start();
        let counts = words.starts_with("warning: `") && words.contains("generated");
        // Two cargos at once wait for each other for a moment.
        let brief = words.ends_with("file lock on package cache");
        if !words.starts_with("Finished") && !counts && !brief {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// The executable that this message of cargo reports, if any.
#[must_use]
pub fn executable(message: &Value) -> Option<Executable> {
    let path = PathBuf::from(message["executable"].as_str()?);
    let name = message["target"]["name"].as_str()?.to_owned();
    (message["reason"] == "compiler-artifact").then_some(Executable { name, path })
}

/// Prints a diagnostic unless it is in [`SETTLED`]. Returns whether it was printed.
fn show_diagnostic(message: &Value) -> bool {
    let diagnostic = &message["message"];
    let text = diagnostic["message"].as_str().unwrap_or("");
    let rendered = diagnostic["rendered"].as_str().unwrap_or("");
    // Without the settled warnings the count is wrong, so the closing line is left out, too.
    let closing = text.ends_with("warnings emitted") || text.ends_with("warning emitted");
    if rendered.is_empty() || closing || SETTLED.iter().any(|settled| text.contains(settled)) {
        return false;
    }
    let _ = write!(std::io::stderr(), "{rendered}");
    if lacks_linker(text) {
        say!("`cargo xtask doctor` shows what is missing");
    }
    matches!(diagnostic["level"].as_str(), Some("warning" | "error"))
}

/// Whether the linker is missing: only the toolchains of rustup have it.
fn lacks_linker(text: &str) -> bool {
    text.starts_with("linker `") && text.ends_with("` not found")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn executables_are_found() {
        let artifact = json!({
            "reason": "compiler-artifact",
            "target": {"name": "hello"},
            "executable": "/t/hello",
        });
        let expected = Executable { name: "hello".into(), path: "/t/hello".into() };
        assert_eq!(executable(&artifact), Some(expected));
        assert_eq!(executable(&json!({"reason": "compiler-artifact", "executable": null})), None);
    }

    #[test]
    fn only_settled_warnings_are_left_out() {
        let warning = |text: &str| json!({"message": {"message": text, "level": "warning", "rendered": " "}});
        let settled = "target feature `sse2` must be enabled to ensure that the ABI of the current \
                       target can be implemented correctly";
        assert!(!show_diagnostic(&warning(settled)));
        assert!(show_diagnostic(&warning("unused variable")));
    }

    #[test]
    fn a_missing_linker_is_recognised() {
        assert!(lacks_linker("linker `rust-lld` not found"));
        assert!(!lacks_linker("linking with `rust-lld` failed: exit status: 1"));
    }
}

//! Builds the programs of a tree. Students' code is compiled, and never run on the host: build scripts and procedural
//! macros are the reference's. But the compiler itself can be made to read files and to run forever, and its messages
//! can show what it read. So it gets only a small part of the environment, it has a time limit, and its messages may
//! not name files outside the tree.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use xtask::cargo::{Cargo, Executable, TARGET, executable};
use xtask::images::{Builder, Flavor};
use xtask::{interrupt, workspace::Workspace};

/// The time limit of the compiler: after this time it will never end.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// The environment variables that cargo and rustc need.
const NEEDED: [&str; 8] =
    ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_NET_OFFLINE", "TMPDIR", "LANG"];
/// The directories of the sources of other crates and of the standard library.
const PUBLIC: [&str; 2] = ["/registry/src/", "/rustlib/src/"];
/// How many messages of the compiler are kept.
const SHOWN: usize = 20;

/// The result of a build.
#[derive(Debug)]
pub enum Built {
    /// The programs, and the kernel if it was asked for.
    Images(Vec<Executable>, Option<PathBuf>),
    /// The messages of the compiler, if the tree does not build.
    Broken(String),
}

/// Builds these programs of this tree, and its kernel if that is wanted, with `jobs` compilers at a time.
///
/// # Errors
/// Cargo cannot be run, or was interrupted.
pub fn build(workspace: &Workspace, programs: &[String], kernel: bool, jobs: usize) -> Result<Built> {
    let builder = Builder::of(workspace);
    let mut programs = match one(&builder.programs("build"), programs, jobs)? {
        Ok(programs) => programs,
        Err(broken) => return Ok(Built::Broken(broken)),
    };
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    if !kernel {
        return Ok(Built::Images(programs, None));
    }
    Ok(match one(&builder.kernel("build", Flavor::Plain), &[], jobs)? {
        Ok(built) => Built::Images(programs, built.into_iter().map(|kernel| kernel.path).next()),
        Err(broken) => Built::Broken(broken),
    })
}

/// Runs cargo; returns the executables, or the reason why there are none.
fn one(cargo: &Cargo, binaries: &[String], jobs: usize) -> Result<Result<Vec<Executable>, String>> {
    let mut command = cargo.command_line()?;
    let kept: Vec<_> =
        command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    command.env_clear().envs(NEEDED.iter().filter_map(|key| Some((key, std::env::var_os(key)?)))).envs(kept);
    binaries.iter().for_each(|name| _ = command.arg("--bin").arg(name));
    command.arg("--jobs").arg(jobs.max(1).to_string());
    let said = listen(&mut command, &cargo.root)?;
    if !said.success {
        return Ok(Err(said.errors));
    }
    Ok(match foreign(&cargo.root, &cargo.target_dir.join(TARGET).join(cargo.profile).join("deps"))? {
        Some(path) => Err(format!("the sources include a file from outside the submission: {path}")),
        None => Ok(said.programs),
    })
}

/// The output of cargo.
struct Said {
    success: bool,
    programs: Vec<Executable>,
    errors: String,
}

fn listen(command: &mut Command, root: &Path) -> Result<Said> {
    use std::os::unix::process::CommandExt;
    interrupt::arm();
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;
    let over = AtomicBool::new(false);
    let (programs, mut errors, of_cargo, in_time) = thread::scope(|scope| {
        let of_cargo = scope.spawn(|| errors_of_cargo(stderr));
        let guard = scope.spawn(|| watch(&child, &over));
        let mut programs = Vec::new();
        let mut errors = Vec::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            programs.extend(executable(&message));
            errors.extend(error(&message, root));
        }
        over.store(true, Relaxed);
        (programs, errors, of_cargo.join().unwrap_or_default(), guard.join().unwrap_or(false))
    });
    let status = child.wait().context("cannot wait for cargo")?;
    if let Some(signal) = interrupt::pending() {
        anyhow::bail!("interrupted by signal {signal}");
    }
    if !in_time {
        errors.push(format!("the compiler did not end within {} minutes", TIMEOUT.as_secs() / 60));
    } else if errors.is_empty() {
        errors.extend(of_cargo);
    }
    errors.truncate(SHOWN);
    Ok(Said { success: status.success(), programs, errors: errors.join("\n") })
}

/// Kills a cargo that takes too long, or whose grader is interrupted. Returns whether cargo ended in time.
fn watch(child: &Child, over: &AtomicBool) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    while !over.load(Relaxed) {
        let late = Instant::now() > deadline;
        if late || interrupt::pending().is_some() {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return !late;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The errors of cargo itself.
fn errors_of_cargo(stderr: impl Read) -> Vec<String> {
    let lines: Vec<String> = BufReader::new(stderr).lines().map_while(Result::ok).collect();
    let start = lines.iter().position(|line| line.starts_with("error")).unwrap_or(0);
    lines[start..].to_vec()
}

/// An error of the compiler. It is not shown if it quotes a file that is not the student's.
fn error(message: &Value, root: &Path) -> Option<String> {
    let diagnostic = &message["message"];
    let rendered = diagnostic["rendered"].as_str()?;
    let summary = diagnostic["message"].as_str()?;
    if diagnostic["level"] != "error" || summary.starts_with("aborting due to") {
        return None;
    }
    let names = file_names(&diagnostic["spans"]);
    match names.iter().find(|name| !stays(root, Path::new(name)) && !is_public(root, name)) {
        Some(name) => Some(format!("error in a file that is not the submission's: {name}")),
        None => Some(rendered.trim_end().to_owned()),
    }
}

/// Whether a file is public: macros of the compiler and of other crates may be read by anybody.
fn is_public(root: &Path, name: &str) -> bool {
    let place = lexical(root, Path::new(name));
    let place = place.to_string_lossy();
    name.starts_with('<') || place.starts_with("/rustc/") || PUBLIC.iter().any(|part| place.contains(part))
}

/// All files that the spans of a diagnostic name, including those behind macros.
fn file_names(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(file_names).collect(),
        Value::Object(map) => {
            let own = map.get("file_name").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(file_names)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the path, relative to the tree, leads into its `lib/` or `user/`: programs may read nothing else.
fn stays(root: &Path, path: &Path) -> bool {
    let place = lexical(root, path);
    ["lib", "user"].iter().any(|part| place.starts_with(root.join(part)))
}

/// The path, relative to the tree, without `..`.
fn lexical(root: &Path, path: &Path) -> PathBuf {
    let mut place = PathBuf::new();
    for component in root.join(path).components() {
        match component {
            Component::ParentDir => _ = place.pop(),
            Component::CurDir => {}
            other => place.push(other),
        }
    }
    place
}

/// A file outside the tree that one of its libraries includes (by `include_str!`, say): rustc records all of them.
fn foreign(root: &Path, directory: &Path) -> Result<Option<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry.context("a directory entry")?.path();
        if path.extension().is_some_and(|end| end == "d") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let sources: Vec<String> = dependencies(&text).collect();
            let is_ours = sources.iter().any(|path| path.starts_with("lib/"));
            let found = sources.into_iter().find(|path| !stays(root, Path::new(path)));
            if let Some(found) = found.filter(|_| is_ours) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The sources in rustc's dependency file for `make`: each has a line of its own without dependencies.
fn dependencies(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| line.strip_suffix(':')).map(|path| path.replace("\\ ", " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_of_others_are_noticed() {
        let root = Path::new("/r/tree");
        assert!(stays(root, Path::new("lib/libos/src/lib.rs")) && stays(root, Path::new("/r/tree/lib/a")));
        for out in
            ["/etc/passwd", "lib/libos/src/../../../../x", "tests/course/rubric.toml", "/r/tree2/lib/a", "Cargo.toml"]
        {
            assert!(!stays(root, Path::new(out)), "{out}");
        }
        let text =
            "/t/libos-1.d: lib/libos/src/lib.rs /etc/a\\ b\n\nlib/libos/src/lib.rs:\n/etc/a\\ b:\n\n# env-dep:X=y\n";
        assert_eq!(dependencies(text).collect::<Vec<_>>(), ["lib/libos/src/lib.rs", "/etc/a b"]);
    }

    #[test]
    fn errors_do_not_show_files_of_others() {
        let error_in = |name: &str| {
            let span = json!({"file_name": "lib/a.rs", "expansion": {"span": {"file_name": name}}});
            let message = json!({"level": "error", "message": "bad", "rendered": "error: SECRET\n", "spans": [span]});
            error(&json!({"message": message}), Path::new("/r/tree")).unwrap()
        };
        for fine in ["lib/b.rs", "/rustc/1/library/core/src/lib.rs", "/c/registry/src/x/y.rs", "<println macros>"] {
            assert_eq!(error_in(fine), "error: SECRET");
        }
        assert!(!error_in("/c/registry/src/../../secret").contains("SECRET"));
        assert!(!error_in("/etc/passwd").contains("SECRET"));
        assert!(!error_in("lib/../../secret").contains("SECRET"));
    }
}

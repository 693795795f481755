//! The emulator, the kernels and the programs with which requests are booted. They are built once.

use crate::disk::Disk;
use crate::failure::Failure;
use crate::request::Request;
use crate::run::{End, Run};
use abi::ExitStatus;
use anyhow::{Context, Result};
use regex::Regex;
use std::path::{Path, PathBuf};
use xtask::images::{Builder, Flavor, Images};
use xtask::session::{Options, Session, scratch};
use xtask::{archive::Archive, install, interrupt, machine::Boot, report::Reset, symbols, workspace::Workspace};

/// How many lines of the console a failure shows.
const TAIL: usize = 25;
/// How many places a failure shows.
const PLACES: usize = 8;
/// How much of the console is kept, in bytes: at least this, at most twice this.
const KEPT: usize = 8 << 20;

/// The emulator, the kernels and the programs with which requests are booted.
pub struct Testbed {
    /// The emulator.
    pub qemu: PathBuf,
    /// The kernels, in the order of [`Flavor::ALL`], and the programs.
    images: Images,
    /// The programs, packed.
    archive: Archive,
    /// The workspace from which they were built.
    pub workspace: Workspace,
}

impl Testbed {
    /// Builds these kernels, which must be the first ones of [`Flavor::ALL`], and the programs of a workspace. If
    /// `strict`, a warning is an error.
    ///
    /// # Errors
    /// Something does not compile, or there is no emulator.
    pub fn build(workspace: Workspace, flavors: &[Flavor], strict: bool) -> Result<Testbed> {
        let qemu = install::qemu()?;
        let images = Builder { strict, ..Builder::of(&workspace) }.build(flavors)?;
        Testbed::of(workspace, qemu, images)
    }

    /// Packs images that were built from this workspace.
    ///
    /// # Errors
    /// A program cannot be read.
    pub fn of(workspace: Workspace, qemu: PathBuf, images: Images) -> Result<Testbed> {
        Ok(Testbed { qemu, archive: Archive::of(&images.programs)?, images, workspace })
    }

    /// The image of a kernel.
    #[must_use]
    pub fn kernel(&self, flavor: Flavor) -> &PathBuf {
        let index = Flavor::ALL.iter().position(|&other| other == flavor);
        &self.images.kernels[index.unwrap_or(0)]
    }

    /// The file of a program, in the form in which the linker made it.
    ///
    /// # Errors
    /// There is no such program.
    pub fn program(&self, name: &str) -> Result<&Path> {
        Ok(&self.images.program(name)?.path)
    }

    /// The images for counting: the plain and the counting kernel, and the programs.
    #[must_use]
    pub fn counting_images(&self) -> Images {
        let kernels = [Flavor::Plain, Flavor::Count].map(|flavor| self.kernel(flavor).clone());
        Images { kernels: kernels.to_vec(), programs: self.images.programs.clone() }
    }

    /// Boots a program, and waits for the end of the machine. If there is no verdict, it is tried again, as often as
    /// the request says.
    ///
    /// # Errors
    /// The emulator failed, or there is no verdict.
    pub fn boot(&self, flavor: Flavor, request: &Request) -> Result<Run> {
        let mut attempt = 1;
        loop {
            match self.boot_once(flavor, request) {
                Err(_) if attempt < request.tries && interrupt::pending().is_none() => attempt += 1,
                done => return done.with_context(|| format!("running {}", request.line.init)),
            }
        }
    }

    fn boot_once(&self, flavor: Flavor, request: &Request) -> Result<Run> {
        let scratch = scratch()?;
        let path = scratch.path().join("archive.tar");
        let mut archive = self.archive.clone();
        request.files.iter().try_for_each(|(name, data)| archive.add(name, data))?;
        archive.write(&path)?;
        let boot = Boot { kernel: self.kernel(flavor).clone(), archive: path, line: request.line.clone() };
        let options = Options { timeout: Some(request.timeout), verbose: false };
        let prepare = |disk: &Disk| disk.prepare(&self.workspace.target);
        let disks = request.disks.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let mut machine = request.machine.clone();
        machine.disks.extend(request.disks.iter().zip(&disks).map(|(disk, files)| disk.attached(files)));
        let session = Session::start(&self.qemu, &machine, &boot, &options)?;
        if let Some(input) = &request.input {
            session.pipe_in(input.clone());
        }
        let signature = request.line.sign.then(|| session.nonce().to_owned());
        let mut console = Vec::new();
        let done = session.run(|bytes| {
            console.extend_from_slice(bytes);
            if console.len() > 2 * KEPT {
                console.drain(..console.len() - KEPT);
            }
            Ok(())
        });
        let (end, report) = match done {
            Ok(outcome) if outcome.report.is_none() && outcome.status == ExitStatus::TIMEOUT => {
                (End::Stuck(request.timeout), None)
            }
            Ok(outcome) => (End::Status(outcome.status), outcome.report),
            Err(error) if error.is::<Reset>() => (End::Reset, None),
            Err(error) => return Err(error),
        };
        Ok(Run::new(&console, end, report, signature).with_disks(disks))
    }

    /// Explains a run of this request that did not meet its demands.
    #[must_use]
    pub fn explain(&self, flavor: Flavor, request: &Request, run: &Run) -> Failure {
        let lines: Vec<String> = run.lines().map(str::to_owned).collect();
        let skipped = lines.len().saturating_sub(TAIL);
        Failure {
            unmet: run.unmet(),
            hints: Vec::new(),
            places: self.places(flavor, &request.line.init, run),
            console: lines[skipped..].to_vec(),
            skipped,
            repeat: vec![request.command(flavor)],
        }
    }

    /// The places where things were: the kernel when it panicked, the program when it was killed, all environments when
    /// the time was up.
    fn places(&self, flavor: Flavor, program: &str, run: &Run) -> Vec<String> {
        let lines: Vec<&str> = run.kernel_lines().collect();
        let mut places = Vec::new();
        let addresses = symbols::backtrace(&lines.join("\n"));
        if !addresses.is_empty() {
            let text = self.symbolise(self.kernel(flavor), &addresses);
            places.push(format!("the kernel was here:\n{}", text.trim_end()));
        }
        let Ok(image) = self.program(program) else { return places };
        let pattern = Regex::new(r"ip ([0-9a-f]{16})\b").expect("a pattern");
        let address = |line| u64::from_str_radix(&pattern.captures(line)?[1], 16).ok();
        let found = lines.iter().filter_map(|line| Some((line, address(line)?)));
        places.extend(found.take(PLACES - places.len()).map(|(line, address)| {
            // For an environment that waits, the address is already one past a call; for a running one it is close
            // enough.
            let text = self.symbolise(image, &[address.saturating_add(1)]);
            format!("{}\n{}", line.trim(), text.lines().skip(1).collect::<Vec<_>>().join("\n"))
        }));
        places
    }

    /// Functions and lines for addresses of an image. The place of the tree does not matter.
    fn symbolise(&self, image: &Path, addresses: &[u64]) -> String {
        let root = format!("{}/", self.workspace.root.display());
        symbols::symbolise(image, addresses).unwrap_or_default().replace(&root, "")
    }
}

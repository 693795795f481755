//! The resources that all tests share: the emulator, the kernels, the boot archive. They are built once.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use xtask::archive::Archive;
use xtask::images::{Builder, Flavor, Images};
use xtask::machine::{Boot, Machine};
use xtask::session::{Options, Outcome, Session, scratch};
use xtask::workspace::Workspace;
use xtask::{install, say};

/// The resources that all tests share.
pub struct Lab {
    /// The emulator.
    pub qemu: PathBuf,
    /// The kernels, in the order of [`Flavor::ALL`], and the programs.
    images: Images,
    /// The programs, packed.
    archive: Archive,
    /// The workspace.
    pub workspace: Workspace,
}

impl Lab {
    /// Builds the kernels and programs of this workspace.
    ///
    /// # Errors
    /// Something does not compile, or there is no emulator.
    pub fn open() -> Result<Lab> {
        say!("building the kernels and the programs");
        Lab::of(Workspace::load()?, &Flavor::ALL, false)
    }

    /// Builds these kernels, which must be the first ones of [`Flavor::ALL`], and the programs of a workspace. If
    /// `strict`, a warning is an error.
    ///
    /// # Errors
    /// See [`Lab::open`].
    pub fn of(workspace: Workspace, flavors: &[Flavor], strict: bool) -> Result<Lab> {
        let qemu = install::qemu()?;
        let images = Builder { strict, ..Builder::of(&workspace) }.build(flavors)?;
        let archive = Archive::of(&images.programs)?;
        Ok(Lab { qemu, images, archive, workspace })
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
    /// There is no such program, or it cannot be read.
    pub fn program(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.program_file(name)?;
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The path of a program's file.
    ///
    /// # Errors
    /// There is no such program.
    pub fn program_file(&self, name: &str) -> Result<&Path> {
        Ok(&self.images.program(name)?.path)
    }

    /// The images for counting: the plain and the counting kernel, and the programs.
    #[must_use]
    pub fn counting_images(&self) -> Images {
        let kernels = [Flavor::Plain, Flavor::Count].map(|flavor| self.kernel(flavor).clone());
        Images { kernels: kernels.to_vec(), programs: self.images.programs.clone() }
    }

    /// Boots a program, and waits for the end of the machine.
    ///
    /// # Errors
    /// The emulator failed, or there is no verdict.
    pub fn boot(&self, flavor: Flavor, machine: &Machine, request: &Request) -> Result<Outcome> {
        let scratch = scratch()?;
        let path = scratch.path().join("archive.tar");
        let mut archive = self.archive.clone();
        for (name, data) in &request.files {
            archive.add(name, data)?;
        }
        archive.write(&path)?;
        let boot = Boot {
            kernel: self.kernel(flavor).clone(),
            archive: path,
            init: request.program.clone(),
            args: request.args.clone(),
            trace: request.trace,
            tick_us: request.tick_us,
            provoke: request.provoke,
            limit: None,
            sign: false,
        };
        let options = Options { timeout: Some(request.timeout), verbose: false };
        let session = Session::start(&self.qemu, machine, &boot, &options)?;
        if let Some(input) = &request.input {
            session.pipe_in(input.clone());
        }
        session.run(|_| Ok(())).with_context(|| format!("running {}", request.program))
    }
}

/// The program to boot, and its surroundings.
#[derive(Clone, Debug)]
pub struct Request {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// More members for the boot archive.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The bytes that are piped to the console, before its input ends.
    pub input: Option<Vec<u8>>,
    /// Whether the kernel prints the creation and end of environments.
    pub trace: bool,
    /// Microseconds between timer ticks.
    pub tick_us: Option<u64>,
    /// A word for fault injection on the kernel's command line.
    pub provoke: Option<&'static str>,
    /// The time limit of the run.
    pub timeout: std::time::Duration,
}

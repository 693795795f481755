//! The kernel image and the programs: the flags that they need, and where they are built.

use crate::cargo::{Cargo, Executable};
use crate::{outside::Outside, simd, workspace::Workspace};
use anyhow::{Context, Result, anyhow};
use std::{fs, path::PathBuf, thread};

/// Flags for all bare-metal code: linked by the toolchain's own linker, at fixed addresses, with frame pointers for
/// backtraces.
const BARE_METAL: &[&str] = &[
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
    "-Crelocation-model=static",
    "--cfg=bare_metal",
    "-Cforce-frame-pointers=yes",
];

/// Additional flags for the kernel: linked into the top 2 GiB, no red zone (an interrupt would overwrite it), and no
/// vector registers (so that a system call or a fault need not save any).
const KERNEL: &[&str] = &[
    "-Ccode-model=kernel",
    "-Cno-redzone=yes",
    "-Ctarget-feature=-mmx,-sse,-sse2,-sse3,-ssse3,-sse4.1,-sse4.2,-avx,-avx2,+soft-float",
];

/// The purpose of a kernel image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavor {
    /// The kernel for normal use.
    Plain,
    /// Walks all page tables after every call, and compares them with the metadata.
    Check,
    /// Counts frames zeroed and copied, and times every entry.
    Count,
}

impl Flavor {
    /// All of them.
    pub const ALL: [Flavor; 3] = [Flavor::Plain, Flavor::Check, Flavor::Count];

    fn feature(self) -> Option<&'static str> {
        match self {
            Flavor::Plain => None,
            Flavor::Check => Some("check"),
            Flavor::Count => Some("count"),
        }
    }

    /// The build directory of a flavor: each has its own, so that they do not evict each other.
    fn directory(self) -> &'static str {
        match self {
            Flavor::Plain => "kernel",
            Flavor::Check => "kernel-check",
            Flavor::Count => "kernel-count",
        }
    }
}

/// A builder of kernels and programs.
#[derive(Clone, Debug)]
pub struct Builder<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
    /// Whether to print the commands.
    pub verbose: bool,
    /// Whether a warning is an error.
    pub strict: bool,
}

/// The files that a machine needs.
#[derive(Clone, Debug)]
pub struct Images {
    /// The kernels, in the order asked for.
    pub kernels: Vec<PathBuf>,
    /// The programs, with symbols.
    pub programs: Vec<Executable>,
}

impl<'a> Builder<'a> {
    /// A builder for this workspace that prints no commands.
    #[must_use]
    pub fn of(workspace: &'a Workspace) -> Builder<'a> {
        Builder { workspace, verbose: false, strict: false }
    }

    /// Cargo, set up for the kernel.
    #[must_use]
    pub fn kernel(&self, command: &'static str, flavor: Flavor) -> Cargo {
        let features = flavor.feature().into_iter().collect();
        let kernel = self.cargo(command, vec!["kern".to_owned()], "kernel", flavor.directory());
        let flags = kernel.flags.iter().cloned().chain(KERNEL.iter().map(ToString::to_string)).collect();
        Cargo { flags, features, ..kernel }
    }

    /// Cargo, set up for the programs.
    #[must_use]
    pub fn programs(&self, command: &'static str) -> Cargo {
        self.cargo(command, self.workspace.program_packages.clone(), "program", "user")
    }

    /// Cargo, set up for the programs of a crate outside the checkout.
    #[must_use]
    pub fn outside(&self, outside: &Outside) -> Cargo {
        let inside = self.programs("build");
        let script = self.workspace.root.join("user/linker.ld");
        let script = format!("-Clink-arg=-T{}", script.display());
        Cargo {
            manifest: outside.manifest.clone(),
            packages: Vec::new(),
            profile: "release",
            target_dir: outside.target.clone(),
            flags: inside.flags.iter().cloned().chain([script]).collect(),
            ..inside
        }
    }

    fn cargo(&self, command: &'static str, packages: Vec<String>, profile: &'static str, directory: &str) -> Cargo {
        Cargo {
            command,
            manifest: self.workspace.root.join("Cargo.toml"),
            packages,
            profile,
            features: Vec::new(),
            target_dir: self.workspace.target.join(directory),
            flags: BARE_METAL.iter().map(ToString::to_string).collect(),
            root: self.workspace.root.clone(),
            strict: self.strict,
            verbose: self.verbose,
        }
    }

    /// Builds these kernels and all programs, at the same time.
    ///
    /// # Errors
    /// Something does not compile. The compiler's messages have been printed by then.
    pub fn build(&self, flavors: &[Flavor]) -> Result<Images> {
        self.build_both(flavors, || self.programs("build").run())
    }

    /// Builds these kernels, and as many programs as possible: the wanted one at least.
    ///
    /// # Errors
    /// A kernel or the wanted program does not build. The compiler's messages have been printed by then.
    pub fn build_for(&self, flavors: &[Flavor], wanted: &str) -> Result<Images> {
        self.build_both(flavors, || self.programs("build").run_for(wanted))
    }

    fn build_both(
        &self,
        flavors: &[Flavor],
        programs: impl FnOnce() -> Result<Vec<Executable>> + Send,
    ) -> Result<Images> {
        thread::scope(|scope| {
            let programs = scope.spawn(programs);
            let kernels: Result<Vec<PathBuf>> = flavors.iter().map(|&flavor| self.build_kernel(flavor)).collect();
            let mut programs = programs.join().map_err(|_| anyhow!("building the programs panicked"))??;
            // Cargo reports them in the order in which it happened to finish them. The archive must be the same every
            // time, since looking up a file in it is part of what is counted.
            programs.sort_by(|a, b| a.name.cmp(&b.name));
            programs.iter().try_for_each(check)?;
            Ok(Images { kernels: kernels?, programs })
        })
    }

    /// Builds one kernel.
    ///
    /// # Errors
    /// The kernel does not compile.
    pub fn build_kernel(&self, flavor: Flavor) -> Result<PathBuf> {
        let built = self.kernel("build", flavor).run()?;
        let kernel = built.into_iter().find(|executable| executable.name == "kern");
        Ok(kernel.context("cargo built no kernel")?.path)
    }
}

/// Refuses a program with a fast handler that changes a vector register: such a handler would now and then corrupt the
/// interrupted code.
///
/// # Errors
/// There is such a handler, or the file cannot be read.
pub fn check(program: &Executable) -> Result<()> {
    let path = program.path.display();
    let image = fs::read(&program.path).with_context(|| format!("cannot read {path}"))?;
    simd::check_program(&image).with_context(|| format!("the program `{}` ({path})", program.name))
}

impl Images {
    /// The executable of a program.
    ///
    /// # Errors
    /// The program was not built.
    pub fn program(&self, name: &str) -> Result<&Executable> {
        let found = self.programs.iter().find(|program| program.name == name);
        found.with_context(|| format!("cargo built no program `{name}`"))
    }
}

//! `cargo xtask gdb`: a machine that waits, and gdb attached to it with the symbols of the kernel
//! and of the program.

use crate::disk_option::{self, Attached, DiskOption};
use crate::images::{Builder, Flavor, Images};
use crate::install::{self, Manager};
use crate::machine::{Boot, CommandLine, Debugger, Machine, Memory};
use crate::session::{Options, Session, Step, scratch};
use crate::{archive::Archive, interrupt, say, terminal, workspace::Workspace};
use abi::{ExitStatus, window::CpuInfo};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The command line of `gdb`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How many processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CpuInfo::MAX as i64))]
    cpus: u32,
    /// How much memory: 32M, 1G, ...
    #[arg(long, value_name = "SIZE", default_value_t = Memory::DEFAULT)]
    memory: Memory,
    /// Attach a disk, as `run` does
    #[arg(long = "disk", value_name = "FILE[,size=SIZE][,ro]")]
    disks: Vec<DiskOption>,
    /// More commands for gdb, which it runs when it has reached the machine
    #[arg(long, short = 'x', value_name = "COMMAND")]
    ex: Vec<String>,
    /// Run these commands, and exit
    #[arg(long)]
    batch: bool,
    /// The program to boot, and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    #[arg(default_value = "hello")]
    command: Vec<String>,
}

/// Starts the machine and gdb, and ends the machine with gdb.
///
/// # Errors
/// The tool could not do its work.
pub fn main(args: &Args) -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let program = args.command[0].as_str();
    let needs_disk = workspace.program(program)?.needs_disk;
    let gdb = find_gdb()?;
    let disks = disk_option::or_scratch(&args.disks, needs_disk, args.memory)?;
    let attached = Attached::new(&disks, &workspace.target)?;
    let qemu = install::qemu()?;
    let images = Builder::of(&workspace).build(&[Flavor::Plain])?;
    let scratch = scratch()?;
    let archive = scratch.path().join("archive.tar");
    Archive::of(&images.programs)?.write(&archive)?;
    let socket = scratch.path().join("gdb");
    let machine = Machine {
        cpus: args.cpus,
        memory: args.memory,
        disks: attached.disks.clone(),
        debugger: Some(Debugger::Socket(socket.clone())),
        ..Machine::default()
    };
    let line = CommandLine {
        init: program.to_owned(),
        args: args.command[1..].to_vec(),
        trace: true,
        ..CommandLine::default()
    };
    let boot = Boot { kernel: images.kernels[0].clone(), archive, line };
    let session = Session::start(&qemu, &machine, &boot, &Options::default())?;
    let transcript = workspace.target.join("gdb-console.txt");
    say!("the console of the machine goes to {}", transcript.display());
    let session = wait_for(&socket, session)?;
    let gdb = gdb_command(&gdb, &images, program, &socket, args)?.spawn().context("cannot run gdb")?;
    accompany(session, gdb, &transcript)
}

fn find_gdb() -> Result<PathBuf> {
    install::find("gdb".as_ref()).with_context(|| how_to_install(Manager::of_host()))
}

fn how_to_install(manager: Option<Manager>) -> String {
    match manager {
        Some(manager) => format!("gdb is missing. This installs it:\n  {}", manager.gdb_line()),
        None => "gdb is missing; install it with your system's package manager".to_owned(),
    }
}

/// Waits for the emulator to make the socket.
fn wait_for(socket: &Path, mut session: Session) -> Result<Session> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        if matches!(session.step()?, Step::Ended) {
            session.finish()?;
            bail!("the emulator ended before gdb could reach it");
        }
        if Instant::now() > deadline {
            bail!("the emulator did not wait for gdb within 20 s");
        }
    }
    Ok(session)
}

fn gdb_command(gdb: &Path, images: &Images, program: &str, socket: &Path, args: &Args) -> Result<Command> {
    let symbols = format!("add-symbol-file {}", images.program(program)?.path.display());
    let remote = format!("target remote {}", socket.display());
    let mut command = Command::new(gdb);
    command.args(["-q", "-ex", "set confirm off", "-ex", &symbols, "-ex", &remote]);
    for line in &args.ex {
        command.args(["-ex", line]);
    }
    if args.batch {
        command.arg("-batch");
    }
    command.arg(&images.kernels[0]);
    if terminal::in_background() {
        // In the background gdb would be stopped when it first touches the terminal, and the machine with it.
        command.stdin(Stdio::null());
    }
    Ok(command)
}

/// Drains the console while gdb runs. Ctrl-C is for gdb, which gets it from the terminal.
fn accompany(mut session: Session, mut gdb: Child, transcript: &Path) -> Result<ExitStatus> {
    let mut console = File::create(transcript).with_context(|| format!("cannot write {}", transcript.display()))?;
    let mut ended = false;
    loop {
        interrupt::forget(signal_hook::consts::SIGINT);
        match session.step() {
            Ok(Step::Console(bytes)) => console.write_all(&bytes)?,
            Ok(Step::Ended) => ended = true,
            Ok(_) => {}
            Err(error) => {
                let _ = gdb.kill();
                return Err(error);
            }
        }
        if ended {
            // Nothing more will happen, and no step waits any longer.
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Some(status) = gdb.try_wait().context("cannot wait for gdb")? {
            return Ok(ExitStatus(u8::from(!status.success())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_known_package_manager_is_told_something_too() {
        assert!(how_to_install(None).ends_with("package manager"));
    }
}

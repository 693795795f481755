//! No emulator outlives the tool that started it, not even if the tool is killed by SIGKILL.
//!
//! The host's kernel can send a process a signal when its parent's thread ends. The process must ask for that itself,
//! so the tool starts a copy of itself; the copy asks, and then becomes the emulator. (Asking between `fork` and `exec`
//! would take unsafe code.)

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The first argument of the copy that becomes another program.
const WORD: &str = "__kill_on_exit";

/// The path of this executable, set once `main` has announced that it handles [`WORD`].
static SELF: OnceLock<OsString> = OnceLock::new();

/// Must be called first in `main` of every program that boots machines.
pub fn init() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == WORD) {
        become_program(args.collect());
    }
    // The link stays valid when a new build replaces the file.
    let own = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && own.exists() {
        let _ = SELF.set(own.into());
    }
}

/// The command, changed so that the process dies with this tool, if the host supports that.
///
/// The thread that starts it must live as long as the program.
#[must_use]
pub fn wrap(command: &Command) -> Command {
    let Some(own) = SELF.get() else { return copy(Command::new(command.get_program()), command) };
    let mut wrapped = Command::new(own);
    wrapped.arg(WORD).arg(std::process::id().to_string()).arg(command.get_program());
    copy(wrapped, command)
}

fn copy(mut onto: Command, command: &Command) -> Command {
    onto.args(command.get_args());
    onto
}

#[cfg(target_os = "linux")]
fn become_program(args: Vec<OsString>) -> ! {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt;
    let [parent, program, rest @ ..] = args.as_slice() else { std::process::exit(125) };
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have ended before we asked.
    let parent = parent.to_string_lossy().parse().ok().and_then(Pid::from_raw);
    if asked.is_ok() && getppid() == parent {
        let error = Command::new(program).args(rest).exec();
        eprintln!("cannot run {}: {error}", program.to_string_lossy());
    }
    std::process::exit(125)
}

#[cfg(not(target_os = "linux"))]
fn become_program(_: Vec<OsString>) -> ! {
    std::process::exit(125)
}

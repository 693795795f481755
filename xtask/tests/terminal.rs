//! Tests of a tool in the background: a terminal belongs to the foreground process group. A process in the background
//! that reads from it, or changes its settings, is stopped for good; so the tool must not try.
//!
//! Each test starts this executable anew as the leader of a session on a pseudoterminal. The leader starts it once
//! more, as the job under test.

use rustix::process::{Pid, getppid, ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr, tcsetpgrp};
use std::fs::{File, OpenOptions};
use std::io::{Write, stdin};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::OpenOptionsExt, os::unix::process::CommandExt, thread};
use xtask::{input, terminal};

/// The terminal must not become the controlling terminal of this session.
const NOCTTY: i32 = rustix::fs::OFlags::NOCTTY.bits() as i32;
/// The variable that says which role a copy of this executable plays.
const ROLE: &str = "TERMINAL_TEST_ROLE";
/// A job that takes longer than this was stopped. It needs a fraction of a second.
const TIMEOUT: Duration = Duration::from_secs(60);

fn copy(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]).env(ROLE, role);
    command
}

/// The exit status of a job on its own terminal, with a user who types all the time; none if it never ends.
fn end_of(job: &str) -> Option<ExitStatus> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    let slave = OpenOptions::new().read(true).write(true).custom_flags(NOCTTY).open(name).unwrap();
    let mut leader = copy(&format!("leader {job}"));
    leader.stdin(slave.try_clone().unwrap()).stdout(slave);
    let mut leader = leader.spawn().unwrap();
    let mut screen = File::from(master);
    let mut keyboard = screen.try_clone().unwrap();
    thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
    thread::spawn(move || {
        while keyboard.write_all(b"key\n").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    wait(&mut leader)
}

/// Waits for the child; kills it if it was stopped.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if is_stopped(child.id()) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

/// The roles of copies of this executable; does nothing in the ordinary run.
#[test]
fn role() {
    match std::env::var(ROLE).unwrap_or_default().as_str() {
        "" => {}
        "background" => background(),
        "foreground" => foreground(),
        "sent away" => sent_away(),
        leader => lead(leader.strip_prefix("leader ").unwrap()),
    }
}

/// Takes the terminal, and runs the job in a process group of its own, as a shell does.
fn lead(job: &str) {
    setsid().unwrap();
    ioctl_tiocsctty(stdin()).unwrap();
    let mut child = copy(job).process_group(0).spawn().unwrap();
    if job != "background" {
        tcsetpgrp(stdin(), Pid::from_child(&child)).unwrap();
    }
    let status = wait(&mut child).expect("the job was stopped");
    assert!(status.success(), "{status}");
}

/// Waits until the leader has given this process the terminal.
fn wait_for_terminal() {
    let deadline = Instant::now() + TIMEOUT;
    while terminal::in_background() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(terminal::is_attended() && terminal::is_interactive());
}

fn background() {
    assert!(terminal::in_background());
    assert!(!terminal::is_attended() && !terminal::is_interactive());
    assert!(terminal::Raw::enter().is_none());
    let ended = input::stdin().recv_timeout(TIMEOUT);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "what is typed is not for a job in the background");
}

fn is_raw() -> bool {
    !tcgetattr(stdin()).unwrap().local_modes.contains(LocalModes::ICANON)
}

fn foreground() {
    wait_for_terminal();
    let raw = terminal::Raw::enter().expect("a terminal");
    assert!(is_raw());
    assert!(input::stdin().recv_timeout(TIMEOUT).unwrap().starts_with(b"key"));
    drop(raw);
    assert!(!is_raw());
}

/// Starts in the foreground; then the leader takes the terminal back.
fn sent_away() {
    wait_for_terminal();
    let raw = terminal::Raw::enter().expect("a terminal");
    let keys = input::stdin();
    assert!(keys.recv_timeout(TIMEOUT).unwrap().starts_with(b"key"));
    tcsetpgrp(stdin(), getppid().unwrap()).unwrap();
    // Drain the input that was read before, and the result of a read that had already begun.
    while keys.recv_timeout(Duration::from_millis(500)).is_ok() {}
    drop(raw);
    assert!(is_raw(), "the settings are the other group's by now");
}

#[test]
fn in_the_background_there_is_no_terminal() {
    let status = end_of("background").expect("the job in the background was stopped");
    assert!(status.success(), "{status}");
}

#[test]
fn in_the_foreground_there_is_one() {
    let status = end_of("foreground").expect("the job in the foreground was stopped");
    assert!(status.success(), "{status}");
}

#[test]
fn a_job_that_is_sent_into_the_background_leaves_the_terminal_alone() {
    let status = end_of("sent away").expect("the job was stopped when it lost the terminal");
    assert!(status.success(), "{status}");
}

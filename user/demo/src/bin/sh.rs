//! A small shell: runs programs by name, and knows help, ps, free, pagemap, echo, exec, exit.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use core::sync::atomic::Ordering::Relaxed;
use libos::{Args, Command, Error, ExitCode, PAGE_SIZE, Status, archive, console, pagemap, windows};
use libos::{print, println};

libos::entry!(main);

/// Runs the shell. Arguments are a first command, to be run before anything is read.
fn main(args: Args) -> ExitCode {
    let first: Vec<&str> = args.collect();
    if !first.is_empty()
        && let Some(code) = run(&first)
    {
        return code;
    }
    loop {
        print!("$ ");
        let line = match console::edit_line() {
            Ok(Some(line)) => line,
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => {
                println!("cannot read the next command: {error}");
                return ExitCode::FAILURE;
            }
        };
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(code) = run(&words) {
            return code;
        }
    }
}

/// Executes a command. `Some` leaves the shell.
fn run(words: &[&str]) -> Option<ExitCode> {
    let (&name, args) = words.split_first()?;
    match name {
        "help" => help(),
        "ps" => ps(),
        "free" => free(),
        "pagemap" => pagemap::print(args.first() == Some(&"pages")),
        "echo" => println!("{}", args.join(" ")),
        "exit" => match args.first().map_or(Ok(0), |status| status.parse()) {
            Ok(status @ 0..=63) => return Some(ExitCode::from(status)),
            _ => println!("exit [STATUS], from 0 to 63"),
        },
        "exec" if !args.is_empty() => {
            println!("{}: {}", args[0], Command::new(args[0]).args(&args[1..]).exec());
        }
        _ => match Command::new(name).args(args).status() {
            Ok(status) if status.is_success() => {}
            Ok(status) => println!("{name}: {status}"),
            Err(Error::NoSuchFile) => println!("{name}: no such program (try help)"),
            Err(error) => println!("{name}: {error}"),
        },
    }
    None
}

fn help() {
    println!("help, ps, free, pagemap [pages], echo [TEXT], exec PROGRAM, exit [STATUS], or one of these programs:");
    let mut column = 0;
    let listed = archive::each(|name, _| {
        if name.starts_with('.') {
            return;
        }
        let end = if column % 5 == 0 && column > 0 { "\n" } else { "" };
        print!("{end}  {name:<16}");
        column += 1;
    });
    println!();
    if let Err(error) = listed {
        println!("{error}");
    }
}

fn ps() {
    println!("id       parent   status          runs");
    for env in windows::envs().iter().filter(|env| env.status() != Status::Free) {
        let runs = env.runs.load(Relaxed);
        let status = alloc::format!("{:?}", env.status());
        println!("{} {} {status:<10} {runs:>9}", env.id(), env.parent());
    }
}

fn free() {
    let (total, free) = (windows::machine().total_frames.load(Relaxed), windows::free_frames());
    let kib = |frames: u64| frames * PAGE_SIZE / 1024;
    println!("           frames        KiB");
    for (what, frames) in [("total", total), ("used", total - free), ("free", free)] {
        println!("{what:<6} {frames:>10} {:>10}", kib(frames));
    }
}

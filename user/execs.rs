//! A program that becomes another one, in the same environment: itself, a few times.
//!
//! `execs [TIMES [ID]]`
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{format, vec};
use libos::windows::free_frames;
use libos::{Args, Command, Error, ExitCode, Fork, env, fork, println};

libos::entry!(main);

fn main(mut args: Args) -> ExitCode {
    let left: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(5);
    println!("{left} left, i am {}, {} frames are free", env::id(), free_frames());
    if args.next().is_some_and(|id| id != format!("{}", env::id())) {
        println!("the id has changed");
        return ExitCode::FAILURE;
    }
    // Something of everything, that must not survive.
    let mut memory = vec![1_u8; 1 << 20];
    memory.push(2);
    if left == 0 {
        return ExitCode::SUCCESS;
    }
    let error = Command::new("no-such-program").exec();
    if error != Error::NoSuchFile || memory.len() != (1 << 20) + 1 {
        println!("an exec that cannot be: {error}");
        return ExitCode::FAILURE;
    }
    // A child that becomes another program is still this one's child.
    match fork() {
        Ok(Fork::Child) => println!("child: {}", Command::new("true").exec()),
        Ok(Fork::Parent(child)) => println!("the child became `true`: {:?}", child.wait()),
        Err(error) => println!("fork: {error}"),
    }
    let next = format!("{}", left - 1);
    println!("not become: {}", Command::new("execs").arg(next).arg(format!("{}", env::id())).exec());
    ExitCode::FAILURE
}

//! A program that becomes another one, in the same environment: itself, a few times.
//!
//! `execs [TIMES [ID]]`
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{format, vec};
use core::hint::black_box;
use libos::windows::free_frames;
use libos::{Args, Command, Error, ExitCode, Fork, PAGE_SIZE, Va, env, fork, mmap::MmapOptions, println, stack};

libos::entry!(main);

const PAGE: usize = PAGE_SIZE as usize;

fn main(mut args: Args) -> ExitCode {
    let left: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(5);
    println!("{left} left, i am {}, {} frames are free", env::id(), free_frames());
    if args.next().is_some_and(|id| id != format!("{}", env::id())) {
        println!("the id has changed");
        return ExitCode::FAILURE;
    }
    // Data of every kind that must not survive.
    let mut memory = vec![1_u8; 1 << 20];
    memory.push(2);
    if left == 0 {
        return ExitCode::SUCCESS;
    }
    // An address that other programs do not use, and every other page: each page must be freed separately.
    let Ok(mut low) = MmapOptions::new().at(Va(0x5000_0000)).len(256 * PAGE).map_anon() else {
        return ExitCode::FAILURE;
    };
    low.iter_mut().step_by(2 * PAGE).for_each(|byte| *byte = 1);
    let error = Command::new("no-such-program").exec();
    if error != Error::NoSuchFile || memory.len() != (1 << 20) + 1 {
        println!("an exec that cannot be: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = stack::set_limit(16 << 20).and_then(|()| child_far_down(100)) {
        println!("a child: {error}");
        return ExitCode::FAILURE;
    }
    let next = format!("{}", left - 1);
    println!("not become: {}", Command::new("execs").arg(next).arg(format!("{}", env::id())).exec());
    ExitCode::FAILURE
}

/// A child that becomes another program is still this one's child. It has a deep stack, and shares most of it.
fn child_far_down(depth: u64) -> Result<(), Error> {
    let here = black_box([1_u8; 64 << 10]);
    if depth > 0 {
        child_far_down(depth - 1)?;
    } else {
        match fork()? {
            Fork::Child => println!("child: {}", Command::new("true").exec()),
            Fork::Parent(child) => println!("the child became `true`: {:?}", child.wait()),
        }
    }
    black_box(&here);
    Ok(())
}

//! Shows console input, line by line, and the results after its end.
//!
//! `input [bytes | late]`: `bytes` counts each value instead; `late` reads when everything has arrived.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Args, Error, Fork, console, fork, println, sys, time};

libos::entry!(main);

fn main(mut args: Args) -> Result<(), Error> {
    match args.next() {
        Some("bytes") => count_bytes()?,
        Some("late") => {
            // Longer than it takes to fill all buffers on the way.
            let start = time::ticks();
            while time::ticks() - start < 300_000_000 {
                sys::yield_now();
            }
            show_lines()?;
        }
        _ => show_lines()?,
    }
    // The end stays the end, for other environments too.
    for _ in 0..3 {
        println!("after the end: {:?} {:?}", console::read_line()?, console::read_byte()?);
    }
    match fork()? {
        Fork::Child => println!("the child: {:?}", console::read_line()?),
        Fork::Parent(child) => println!("the child ended: {:?}", child.wait()?),
    }
    Ok(())
}

fn show_lines() -> Result<(), Error> {
    let mut lines = 0;
    while let Some(line) = console::read_line()? {
        lines += 1;
        match line.len() {
            ..100 => println!("line {lines}: \"{}\"", line.escape_ascii()),
            bytes => {
                println!("line {lines}: {bytes} bytes, {} of them `x`", line.iter().filter(|&&b| b == b'x').count())
            }
        }
    }
    println!("{lines} lines");
    Ok(())
}

fn count_bytes() -> Result<(), Error> {
    let mut counts = [0_u32; 256];
    let (mut bytes, mut last, mut ascending) = (0, 255_u8, 0);
    while let Some(byte) = console::read_byte()? {
        counts[usize::from(byte)] += 1;
        ascending += u32::from(byte == last.wrapping_add(1));
        (bytes, last) = (bytes + 1, byte);
    }
    let (least, most) = (counts.iter().min(), counts.iter().max());
    println!("{bytes} bytes, {ascending} of them one more than the one before; each value {least:?} to {most:?} times");
    Ok(())
}

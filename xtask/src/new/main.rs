//! Says hello.

#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Args, env, println};

libos::entry!(main);

fn main(args: Args) {
    println!("hello, world");
    println!("i am environment {}", env::id());
    for arg in args {
        println!("argument: {arg}");
    }
}

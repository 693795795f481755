//! Says hello: the smallest program.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{env, println};

libos::entry!(main);

fn main() {
    println!("hello, world");
    println!("i am environment {}", env::id());
}
